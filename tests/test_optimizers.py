"""Optimisers through their door: a program of a prompt, examples and a score, on scripted and simulated models."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab import Example, Prompt, run
from promptlab.backends.wrappers import Budget, Budgeted
from promptlab.errors import DataError, ModelError, Refused, SetupError, Unavailable
from promptlab.optimizers import ape, mipro, pool, templates
from promptlab.optimizers.sections import grouped, looks, sections
from promptlab.strategies import zero_shot
from promptlab.task import exact
from promptlab.testing import Script
from promptlab.types import Request

WORDS = "cough rash fever pond barn ice smoke home water red sun tree stone day night bed hand word light".split()


def lists(n: int, seed: int = 0) -> list[Example]:
    """Lists of three words, each with its second word as the target."""
    rng = Random(seed)
    drawn = dict.fromkeys(tuple(rng.sample(WORDS, 3)) for _ in range(2 * n))
    return [Example(" ".join(words), words[1]) for words in list(drawn)[:n]]


def obedient(request: Request) -> str:
    """A model that gives the second word if it is told to, else the first; and infers what it is told in turn."""
    if request.to == "proposer":
        return f"Give the second word. ({sum(request.branch)})" if sum(request.branch) % 3 == 0 else "Say something."
    told = request.messages[0].content
    words = request.messages[-1].content.split()
    return words[1] if "second" in told else words[0]


def test_a_better_instruction_is_found_and_confirmed_on_fresh_examples():
    found = run(ape(Prompt("Give a word."), lists(120), calls=600, proposals=6), Script(obedient))
    assert "second" in found.instruction
    assert found.found.accepted
    assert found.found.verdict.wins == found.found.verdict.n
    assert found.found.calls <= 600


def test_a_prompt_that_nothing_beats_stays_with_the_reason():
    found = run(ape(Prompt("Give a word."), lists(120), calls=600), Script(lambda r: "nothing new"))
    assert found.instruction == "Give a word."
    assert not found.found.accepted
    assert "out of reach" in found.found.why


def test_too_few_calls_or_examples_are_refused_with_the_smallest_that_is_enough():
    with pytest.raises(SetupError, match="Give 50 or more"):
        run(ape(Prompt("Give a word."), lists(120), calls=49), Script(obedient))
    with pytest.raises(SetupError, match="Give 25 or more"):
        run(ape(Prompt("Give a word."), lists(24), calls=600), Script(obedient))
    with pytest.raises(SetupError, match="4 groups or different texts"):
        run(ape(Prompt("Give a word."), lists(10) * 6, calls=600), Script(obedient))


@pytest.mark.parametrize("calls", [60, 75, 100, 150, 200, 250])
def test_where_calls_are_few_fewer_are_raced_and_the_best_so_far_is_confirmed(calls):
    found = run(ape(Prompt("Give a word."), lists(120), calls=calls), Script(obedient)).found
    assert found.accepted, found.why
    assert found.calls <= calls


@pytest.mark.parametrize(
    ("calls", "told"), [(60, "ask 0 of 43 combinations"), (90, "items each, and nothing was right")]
)
def test_a_task_is_not_called_out_of_reach_where_the_calls_sufficed_for_hardly_any_prompt(calls, told):
    found = run(mipro(Prompt("Give a word."), lists(120), calls=calls), Script(obedient)).found
    assert told in found.why
    assert "out of reach" not in found.why


def test_graded_scores_and_bets_are_refused_where_groups_suffice_for_right_and_wrong_alone():
    def tuned(score: Any = exact, **options: Any) -> Any:
        return run(ape(Prompt("Give a word."), lists(15) * 6, score, calls=600, **options), Script(obedient))

    assert tuned().found.verdict.n == 6
    for unlike in ({"score": lambda value, target: 0.99 * (value == target)}, {"test": "betting"}):
        with pytest.raises(SetupError, match="on 6 groups or different texts, and on fewer than 7 "):
            tuned(**unlike)


def test_a_score_may_be_of_any_type_of_number_and_nothing_else():
    import numpy as np

    def found(score: Any) -> Any:
        return run(ape(Prompt("Give a word."), lists(120), score, calls=600, proposals=6), Script(obedient)).found

    plain = found(lambda value, target: value == target)
    assert plain.accepted
    assert found(lambda value, target: np.bool_(value == target)).verdict == plain.verdict
    for wrong in (float("nan"), None, "1", 1.5):
        with pytest.raises(SetupError, match="A score is a number from 0 to 1"):
            found(lambda value, target, wrong=wrong: wrong)
    with pytest.raises(SetupError, match=r"The score raised TypeError: .* \(test_optimizers\.py, line \d+\) for the "):
        found(lambda value, target: value / target)
    with pytest.raises(SetupError, match="examples are Example"):
        run(ape(Prompt("Give a word."), ["ice red sun"] * 60), Script(obedient))
    with pytest.raises(SetupError, match=r"examples are Example\(input, target\) in a list, got 60"):
        run(ape(Prompt("Give a word."), 60), Script(obedient))


def test_examples_may_come_from_a_generator():
    def found(examples):
        return run(ape(Prompt("Give a word."), examples, calls=600), Script(obedient)).found

    assert found(each for each in lists(120)).events == found(lists(120)).events


def test_an_unknown_test_is_refused_before_anything_is_asked():
    model = Script(obedient)
    with pytest.raises(SetupError, match="exact, betting"):
        run(ape(Prompt("Give a word."), lists(120), calls=600, test="t"), model)
    assert not model.requests


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12) | st.none()), min_size=5, max_size=80), st.integers())
def test_no_text_or_group_is_in_two_of_the_parts_and_one_may_look_between_groups_only(drawn, seed):
    examples = [Example(f"Text {text}", "", group=None if g is None else f"g{g}") for text, g in drawn]
    try:
        parts = sections(examples, Prompt("Give a word."), seed)
    except DataError:  # all are of one group
        return
    sides = (parts.feed, parts.race, parts.confirm)
    assert sorted(item.number for side in sides for item in side) == list(range(len(examples)))
    for name in ("input", "group"):
        said = [{getattr(item.example, name) for item in side} - {None} for side in sides]
        assert sum(map(len, said)) == len(set.union(*said))
    of = grouped(parts.confirm)
    assert sum(a != b for a, b in pairwise(of)) == len(set(of)) - 1  # groups stand together
    assert all(of[end - 1] != of[end] for end in looks(parts.confirm, 2)[:-1])


def accepted(examples: list[Example], says: Callable[[int, str], str], rivals: int, **options: Any) -> int:
    """In how many of 40 runs a rival (1, 2, …) replaces prompt 0: each says what `says(which, input)` gives."""
    task: Any = Prompt("prompt 0", Literal["a", "b"])
    model = Script(lambda r: says(int(r.messages[0].content.split()[1]), r.messages[-1].content))
    others = [f"prompt {i + 1}" for i in range(rivals)]
    runs = (run(pool(task, examples, instructions=others, seed=seed, **options), model) for seed in range(40))
    return sum(tuned.found.accepted for tuned in runs)


@pytest.mark.parametrize("test", ["exact", "betting"])
def test_a_prompt_that_suits_one_class_does_not_win_because_the_file_is_sorted_by_class(test):
    examples = [Example(f"text {i}", "ab"[i // 200]) for i in range(400)]

    def always_a_or_a_coin(which: int, text: str) -> str:
        return "a" if which else Random(text).choice("ab")

    assert accepted(examples, always_a_or_a_coin, 1, calls=160, test=test) <= 5


@pytest.mark.parametrize("test", ["exact", "betting"])
def test_what_is_alike_in_a_group_counts_once(test):
    examples = [Example(f"g{k} text {i}", "a", group=f"g{k}") for k in range(40) for i in range(8)]

    def right_on_whole_groups(which: int, text: str) -> str:
        return Random(f"{which}/{text.split()[0]}").choice("ab")

    assert accepted(examples, right_on_whole_groups, 8, calls=700, test=test) <= 5


@pytest.mark.parametrize("allowed", [30, 70, 199])
def test_a_budget_of_somebody_else_that_runs_out_leaves_what_was_paid_for_and_the_right_count(allowed):
    model = Script(obedient)
    found = run(ape(Prompt("Give a word."), lists(120), calls=600, proposals=6), Budgeted(model, Budget(calls=allowed)))
    assert found.found.calls == len(model.requests) == allowed
    assert "budget was spent" in found.found.why
    answered = [request for request in model.requests if request.to != "proposer"]
    assert sum(event["event"] == "scored" for event in found.found.events) == len(answered)


class Cold(Script):
    """A model that takes no temperature."""

    can = frozenset({"stop"})


def test_a_proposer_that_takes_no_temperature_is_asked_without_one():
    found = run(ape(Prompt("Give a word."), lists(120), calls=600, proposals=6), Cold(obedient)).found
    assert found.accepted


def test_ape_works_on_each_of_several_prompts():
    async def solve(question, prompts):
        first = await zero_shot(question, prompts["first"])
        return await zero_shot(question if first.value else "", prompts["second"])

    prompts = {"first": Prompt("Say something."), "second": Prompt("Give a word.")}
    found = run(ape(prompts, lists(120), calls=1_200, proposals=6, solve=solve), Script(obedient)).found
    for slot, prompt in prompts.items():
        changed = {each.slot(slot).instruction for each in found.candidates} - {prompt.instruction}
        assert changed, slot


@pytest.mark.parametrize(("error", "wins"), [(Unavailable("503 for a moment"), 0), (Refused("I would rather not"), 7)])
def test_an_outage_decides_no_comparison_and_a_refusal_which_the_prompt_may_be_the_cause_of_does(error, wins):
    examples = lists(120)
    right = {each.input: each.target for each in examples}
    hit = set(Random(5).sample(list(right), 18))

    def alike(request: Request) -> str | ModelError:
        asked = request.messages[-1].content
        if "old" in request.messages[0].content and asked in hit:
            return error
        return right[asked] if len(asked) % 3 else "nothing"

    found = run(pool(Prompt("The old words."), examples, instructions=["New words."], calls=1_000), Script(alike)).found
    assert (found.accepted, found.verdict.wins, found.verdict.losses) == (wins > 0, wins, 0)
    assert found.verdict.n == 57
    assert ("answers were not to be had, which counts as no difference" in found.why) == (wins == 0)


def test_the_best_prompt_wins_the_race_though_some_of_its_answers_were_lost():
    examples = lists(120)
    lost = set(Random(5).sample([each.input for each in examples], 14))

    def patchy(request: Request) -> str | ModelError:
        words, told = request.messages[-1].content.split(), request.messages[0].content
        if "second" in told and request.messages[-1].content in lost:
            return Unavailable("503 for a moment")
        return words["second" in told or ("middle" in told and words[0] != "cough")]

    given = ["Give the second word.", "Give the middle one."]
    found = run(pool(Prompt("Say a word."), examples, instructions=given, calls=1_000), Script(patchy)).found
    assert found.accepted
    assert found.best.slot().instruction == "Give the second word."


FORM = "Answer in this form:\n```\nWord: ice\n```"
ALONE = "Give the second word."


@pytest.mark.parametrize(
    ("reply", "instruction"),
    [
        (text := 'Extract the word. Reply with JSON such as {"word": "ice"} and nothing else.', text),
        (text := f"{FORM}\nDo not explain.", text),
        (FORM, FORM),
        ("<prompt>Finish with the tag <end>. Never explain.</prompt>", "Finish with the tag <end>. Never explain."),
        (f"<START>{ALONE}<END>", ALONE),
        (f"Sure! Here is it:\n```text\n{ALONE}\n```\nThis is clearer.", ALONE),
        (f"```\n{ALONE}\n```", ALONE),
        (f'```json\n{{"instruction": "{ALONE}", "why": "clearer"}}\n```', ALONE),
        (f'The new instruction:\n\n{{"text": "{ALONE}"}}', ALONE),
    ],
)
def test_an_instruction_may_hold_json_fences_and_tags_and_is_found_where_it_is_wrapped_in_them(reply, instruction):
    model = Script(lambda request: reply if request.to == "proposer" else obedient(request))
    found = run(ape(Prompt("Give a word."), lists(120), calls=400, proposals=2, rounds=1), model).found
    assert [each.slot().instruction for each in found.candidates[1:]] == [instruction]


def inventive(request: Request) -> str:
    """Proposes what is always new, and answers rightly by chance, more often where it is told nothing."""
    asked = request.messages[-1].content
    rng = Random(f"{request.messages[0].content} {asked} {request.branch}")
    if request.to == "proposer":
        return f"<prompt>Say a word, {' or '.join(rng.sample(WORDS, 5))}.</prompt>"
    return asked.split()[1] if rng.random() < (0.8 if len(request.messages) == 1 else 0.5) and asked else "-"


def test_ape_varies_each_of_several_prompts_however_few_the_calls():
    async def solve(question, prompts):
        first = await zero_shot(question, prompts["first"])
        return await zero_shot(question if first.value else "", prompts["second"])

    prompts = {"first": Prompt("Say something."), "second": Prompt("Give a word.")}
    found = run(ape(prompts, lists(120), calls=600, solve=solve), Script(inventive)).found
    known = {each.key: each for each in found.candidates}
    children = [(known[each.parents[0]], each) for each in found.candidates if each.op == "varied"]
    assert {slot for a, b in children for slot in prompts if a.slot(slot) != b.slot(slot)} == set(prompts)


def test_ape_asks_for_no_variation_of_nothing():
    model = Script(inventive)
    found = run(ape(Prompt(""), lists(120), calls=1_500), model).found
    assert any(each.op == "varied" for each in found.candidates)
    assert not any("(none)" in request.messages[-1].content for request in model.requests)


RUSSIAN = [Example(f"вода {i} дерево", "да" if i % 2 else "нет") for i in range(80)]


@pytest.mark.parametrize("instruction", ["", "Ответь, есть ли здесь дерево."])
def test_the_bank_is_tried_whatever_the_language_of_the_task(instruction):
    prompt: Any = Prompt(instruction, Literal["да", "нет"])
    found = run(templates(prompt, RUSSIAN, calls=600), Script(lambda request: "да")).found
    assert "it is in another script" not in found.rejected
    assert len(found.candidates) > 20


def proposals(seed: str, *said: str) -> dict[str, int]:
    """Why proposals are not tried that say these, for a prompt that says `seed`."""
    replies = [f"<prompt>{text}</prompt>" for text in said]
    model = Script(lambda request: replies[sum(request.branch) % len(said)] if request.to == "proposer" else "да")
    prompt: Any = Prompt(seed, Literal["да", "нет"])
    return dict(run(ape(prompt, RUSSIAN, calls=300, proposals=8, rounds=1), model).found.rejected)


def test_japanese_is_one_language_in_kanji_and_kana_and_a_prompt_without_a_word_may_be_put_in_any():
    japanese = ("これはよいですか", "カタカナデコタエテ", "ｶﾅﾃﾞ", "コーヒー", "良否")
    assert "it is in another script" not in proposals("良否判定", *japanese)
    assert "it is in another script" not in proposals("", "Say yes or no.", "Скажи да или нет.")
    assert proposals("良否判定", "Say yes or no.")["it is in another script"] == 16
