"""Prompts without labels: duels judged both ways round, and a judge that may like places more than answers."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from searches import called, write_lists

from promptlab import Example, ModelError, Prompt, Reply, ask, run
from promptlab.backends.routed import Routed
from promptlab.cli import main
from promptlab.errors import SetupError
from promptlab.optimizers import duels, position_bias
from promptlab.testing import Script
from promptlab.types import Request

WORDS = "cough rash fever pond barn ice smoke home water red sun tree stone day night bed hand word light".split()


def inputs(n: int, seed: int = 0) -> list[str]:
    rng = Random(seed)
    return list(dict.fromkeys(" ".join(rng.sample(WORDS, 3)) for _ in range(2 * n)))[:n]


def answers(request: Request) -> str:
    """The second word where the instruction says so, else the first."""
    words = request.messages[-1].content.split()
    return words[1] if "second" in request.messages[0].content else words[0]


def proposes(request: Request) -> str:
    i = request.branch[-1]
    return f"<prompt>Give the {'second' if i % 3 == 0 else 'first'} word, {WORDS[i]} or {WORDS[-i]}.</prompt>"


def parts(request: Request) -> tuple[str, str, str]:
    found = re.search(r"Input:\n(.*)\n\nAnswer A:\n(.*)\n\nAnswer B:\n(.*)\n\n", request.messages[-1].content)
    assert found
    return found[1], found[2], found[3]


def honest(request: Request) -> str:
    """Prefers the second word, wherever it stands."""
    given, a, b = parts(request)
    wanted = given.split()[1]
    return "tie" if (a == wanted) == (b == wanted) else "A" if a == wanted else "B"


def searched(judge, n=100, calls=1_500, model=answers, **options):
    router = Routed(Script(model), proposer=Script(proposes), judge=Script(judge))
    return run(duels(Prompt("Give a word."), inputs(n), calls=calls, proposals=6, **options), router)


def test_the_prompt_that_the_judge_prefers_is_found_without_a_label():
    found = searched(honest)
    assert "second" in found.instruction
    assert found.found.accepted
    assert found.found.verdict.losses == 0
    assert found.found.calls <= 1_500
    assert position_bias(found.found).contradicted == 0


def test_a_judge_that_always_prefers_the_first_place_decides_nothing():
    found = searched(lambda request: "A")
    bias = position_bias(found.found)
    assert not found.found.accepted
    assert found.instruction == "Give a word."
    assert bias.judged > 20
    assert (bias.contradicted, bias.first) == (bias.judged, 1.0)


def test_a_judge_that_tosses_a_coin_replaces_nothing():
    def coin(request: Request) -> str:
        return Random(repr((request.messages, request.branch))).choice(["A", "B"])

    assert sum(searched(coin, seed=seed).found.accepted for seed in range(8)) <= 2


def test_equal_answers_are_a_tie_that_no_judge_is_asked_about():
    judge = Script(honest)
    model = Routed(Script(lambda request: "pond"), proposer=Script(proposes), judge=judge)
    found = run(duels(Prompt("Give a word."), inputs(100), calls=1_500, proposals=6), model)
    assert not judge.requests
    assert not found.found.accepted


@pytest.mark.parametrize("judge", [lambda r: "I like both!", lambda r: ModelError("down"), lambda r: Reply("")])
def test_a_judge_that_says_nothing_of_use_ends_nothing_and_decides_nothing(judge):
    found = searched(judge)
    assert not found.found.accepted
    assert position_bias(found.found).first == 0.5


def test_a_search_takes_the_same_way_twice():
    first, again = searched(honest, seed=3), searched(honest, seed=3)
    assert first.found.events == again.found.events


@pytest.mark.parametrize("calls", [300, 700])
def test_the_budget_is_never_exceeded(calls):
    sent = [Script(answers), Script(proposes), Script(honest)]
    model = Routed(sent[0], proposer=sent[1], judge=sent[2])
    found = run(duels(Prompt("Give a word."), inputs(100), calls=calls, proposals=6), model)
    assert sum(len(each.requests) for each in sent) == found.found.calls <= calls


def test_no_input_of_the_last_comparison_was_fought_on_before():
    events = searched(honest).found.events
    last = next(event for event in events if event["event"] == "confirmed")
    n = len(last["items"])
    fought = [event["item"] for event in events if event["event"] == "duel"]
    assert not set(fought[:-n]) & set(last["items"])
    assert sorted(fought[-n:]) == sorted(last["items"])


def test_a_duel_is_won_or_lost_so_few_different_inputs_suffice():
    model = Routed(Script(answers), proposer=Script(proposes), judge=Script(honest))
    found = run(duels(Prompt("Give a word."), inputs(15) * 6, calls=1_500, proposals=6), model).found
    assert (found.verdict.test, found.verdict.n, found.accepted) == ("exact", 6, True)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(SetupError, match="A judge has to know what is wanted"):
        run(duels(Prompt(), inputs(100)), Script(answers))
    with pytest.raises(SetupError, match="inputs without labels"):
        run(duels(Prompt("Give."), [Example("a", "b")] * 50), Script(answers))
    with pytest.raises(SetupError, match="Give 100 or more"):
        run(duels(Prompt("Give."), inputs(100), calls=99), Script(answers))


def test_the_command_finds_a_prompt_without_labels_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_lists(Path("lists.csv"))
    models = ["--model", "searches:Words/calls", "--judge", "searches:Judge/calls", "--out", "run"]
    options = ["--option", "proposals=6", "--calls", "1200"]
    command = ["duels", "lists.csv", "--instruction", "Give a word.", *options, *models]
    said, asked = [], []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
        asked.append(len(called(Path("calls"))))
    assert said[0] == said[1]
    assert asked[0] == asked[1] <= 1_200
    assert "Instruction: Give the second word" in said[0]
    assert "contradicted itself in 0 %" in said[0]
    assert said[0].splitlines()[-1].startswith("Take the new prompt: preferred on fresh inputs: ")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--seed", "1"])
    assert (ended.value.code, "holds another run" in capsys.readouterr().err) == (2, True)
    with pytest.raises(SystemExit) as ended:
        main(["report", "run"])
    told = "run holds a run of `promptlab duels`, which has no page: see its results.json.\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, told)


def test_a_command_that_was_refused_leaves_its_folder_to_the_one_that_is_mended(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_lists(Path("lists.csv"))
    models = ["--model", "searches:Words/calls", "--judge", "searches:Judge/calls", "--out", "run", "--quiet"]
    for calls, code, told in (("60", 2, "Give 100 or more"), ("150", 0, "")):
        with pytest.raises(SystemExit) as ended:
            main(["duels", "lists.csv", "--instruction", "Give a word.", "--calls", calls, *models])
        assert ended.value.code == code
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("calls", [100, 150, 300])
def test_no_budget_is_exceeded_by_a_judge_whose_turn_comes_after_answers_that_cost_more_than_any_before(calls):
    hard: set[str] = set()

    async def solve(question, prompt):
        for _ in range(3 if question in hard else 1):
            reply = await ask(prompt.render(question))
        return prompt.parse(reply.text)

    def found(model):
        return run(duels(Prompt("Give a word."), inputs(60), calls=calls, proposals=1, solve=solve), model).found

    def asked(request: Request) -> str:
        of = {"judge": honest, "proposer": proposes}.get(request.to, answers)
        return of(request)

    [last] = [event for event in found(Script(asked)).events if event["event"] == "confirmed"]
    hard |= {inputs(60)[number] for number in last["items"]}
    model = Script(asked)
    assert found(model).calls == len(model.requests) <= calls
