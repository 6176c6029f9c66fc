"""How a prompt's answers hang on what should not matter, on models that are known to hang on one thing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import WORDS, write_lists

from promptlab import Answer, Example, Prompt, run
from promptlab.backends.routed import Routed
from promptlab.cli import main
from promptlab.compare.optimizing import reporter
from promptlab.compare.optimizing.fragility import Cell, fragility, interval
from promptlab.compare.optimizing.results import sentence
from promptlab.compare.optimizing.variants import mistyped, variants
from promptlab.compare.statistics import accuracy, pooled, resample
from promptlab.errors import SetupError
from promptlab.optimizers import save_prompt
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.found import Found
from promptlab.strategies import zero_shot
from promptlab.task import Task, exact
from promptlab.testing import Script

SHOTS = (Example("red pond", "no"), Example("red sun", "yes"), Example("blue sun", "no"), Example("sun red", "yes"))
PROMPT = Prompt("Say yes where it names the sun.", Literal["yes", "no"], SHOTS)
SYNONYM = {"yes": "true", "no": "false"}


def items(n: int = 120) -> list[Example]:
    rng = Random(0)
    texts = list(dict.fromkeys(" ".join(rng.sample(WORDS, 4)) for _ in range(3 * n)))[:n]
    return [Example(text, "yes" if "sun" in text.split() or i % 2 else "no", str(i)) for i, text in enumerate(texts)]


def answers_on(spoiled):
    """A model that is right in whatever words the prompt has for the labels, but where `spoiled` says so of a request:
    there it says the other label."""
    truth = {item.input: item.target for item in items()}

    def answer(request):
        told = request.messages[0].content
        names = told.split("Answer with one of: ")[-1].removesuffix(".").split(", ")
        asked = " ".join(request.messages[-1].content.casefold().split())
        found = next((target for text, target in truth.items() if " ".join(text.split()) in asked), "no")
        names = names if "Answer with one of" in told else ["yes", "no"]  # in the order of PROMPT's own
        right = names[["yes", "no"].index(found)]
        wrong = next(name for name in names if name != right)
        return wrong if spoiled(request) else right

    return answer


def measured(spoiled=lambda request: False, prompt=PROMPT, **options):
    model = Routed(Script(answers_on(spoiled)), proposer=Script(lambda r: "Where the sun is named, say so with yes."))
    options = {"calls": 500, "pool": items(160)[120:], **options}
    return run(fragility(prompt, items(), solve=zero_shot, score=exact, **options), model)


def test_a_prompt_that_nothing_can_shake_has_no_spread():
    found = measured(prompt=Prompt("Say it.", Literal["yes", "no"]))
    quiet = [axis for axis in found.axes if axis.axis not in ("noise in inputs", "format")]
    assert {axis.axis for axis in quiet} == {"names of labels", "wording of the instruction"}
    assert all(axis.flips == 0 and axis.drop.value == 0 for axis in quiet)


def test_the_second_look_is_at_groups_that_the_first_has_not_seen():
    asked = Counter[str]()

    async def solve(question, prompt):
        asked[question] += 1
        return Answer("yes")

    grouped = [replace(item, group=f"patient{i // 5}") for i, item in enumerate(items())]
    run(fragility(PROMPT, grouped, solve=solve, score=exact, calls=500, reword=0), Script([]))
    group_of = {item.input: item.group for item in grouped}
    often = max(asked.values())  # by every variant, so in the first look
    first = {group_of[text] for text, times in asked.items() if text in group_of and times == often}
    second = {group_of[text] for text, times in asked.items() if text in group_of and times < often}
    assert first
    assert second
    assert not first & second


def test_a_model_that_breaks_on_capitals_is_told_by_the_axis_of_noise():
    def shouted(request):
        return request.messages[-1].content.isupper() or "  " in request.messages[-1].content

    found = measured(shouted)
    noise = next(axis for axis in found.axes if axis.axis == "noise in inputs")
    order = next(axis for axis in found.axes if axis.axis == "order of demonstrations")
    assert noise.drop.high < 0
    assert noise.flips > 0.2
    assert "blanks doubled" in noise.worst
    assert (order.flips, order.drop.value) == (0, 0)
    assert "noise in inputs" in found.worst


def test_a_model_that_reads_the_last_demonstration_is_told_by_the_axis_of_order():
    def last(request):
        return request.messages[-3].content != "sun red"

    order = next(axis for axis in measured(last).axes if axis.axis == "order of demonstrations")
    assert order.drop.high < 0
    assert order.flips > 0.3


def test_all_axes_fit_into_the_calls_and_the_extremes_are_asked_on_other_items():
    model = Script(answers_on(lambda request: False))
    program = fragility(PROMPT, items(), solve=zero_shot, score=exact, pool=items(160)[120:], calls=500)
    found = run(program, Routed(model, proposer=Script(lambda r: "Say yes for the sun.")))
    assert len(found.axes) == 6
    assert len(model.requests) + 3 == found.calls <= 500
    assert found.axes[0].n + found.fresh.n_items <= 120
    asked = [r.messages[-1].content for r in model.requests if r.messages[:-1] == tuple(PROMPT.render("")[:-1])]
    assert len(asked) >= found.axes[0].n + found.fresh.n_items
    plain = asked[: found.axes[0].n]
    assert len(set(plain)) == found.axes[0].n


def test_of_very_many_items_no_more_are_resampled_than_need_be():
    """One by one, 100,000 would take 1.6 GB."""
    many = [Example(f"text {i}", "yes", str(i)) for i in range(10_050)]
    right = np.arange(10_050)[None] % 4 > 0
    drawn = resample(10_000)
    handfuls, _ = pooled(np.arange(10_050), 10_050)
    expected = replace(accuracy(right, handfuls, drawn), n_clusters=10_050)
    assert interval([Cell(None, float(ok), False) for ok in right[0]], many) == expected

    async def solve(question, prompt):
        ok = right[0, int(question.split()[1])] or prompt == PROMPT
        return Answer("yes" if ok else "no")

    task, before = Task("t", PROMPT, (), many), Prompt("Say.")
    found = reporter.tested(task, many, lambda program: run(program, Script([])), before, PROMPT, solve)
    assert found.seed == expected
    assert found.difference.n_clusters == found.wins * 4 - 2 == 10_050


def test_a_gain_seen_in_few_groups_comes_with_what_their_number_alone_can_show():
    """Of five villages the exact test cannot fall below 0.06, whatever the interval says."""
    notes = [Example(f"note {i}", "yes", str(i), group=f"village {i % 5}") for i in range(100)]

    async def solve(question, prompt):
        return Answer("yes" if prompt == PROMPT or int(question.split()[1]) % 3 else "no")

    task, before = Task("t", PROMPT, (), notes), Prompt("Say.", output=PROMPT.output)
    test = reporter.tested(task, notes, lambda program: run(program, Script([])), before, PROMPT, solve)
    assert (test.p, test.n_clusters) == (0.0625, 5)
    found = Found("ape", Candidate(before), Candidate(PROMPT), True, "", None, None, 0, 0, (), {}, ())
    said = sentence(found, test)
    assert said.startswith("The new prompt is better: ")
    assert said.endswith("chosen by, in 5 groups (p = 0.062, which alone would not call it at 0.05).")


def test_too_few_items_are_refused_with_how_many_it_takes():
    with pytest.raises(SetupError, match=r"12 items and 500 calls are too few .* it takes 16 items"):
        run(fragility(PROMPT, items()[:12], solve=zero_shot, score=exact), Script(lambda r: "yes"))


def test_other_names_of_labels_mean_the_same():
    renamed = [v for v in variants(PROMPT, (), [], 5, 0) if v.axis == "names of labels"]
    assert renamed[0].prompt.labels == ("true", "false")
    assert [shot.target for shot in renamed[0].prompt.shots] == ["false", "true", "false", "true"]
    for variant in renamed:
        assert [variant.meant(name) for name in variant.prompt.labels] == ["yes", "no"]


def test_variants_are_the_same_whenever_they_are_made():
    told = [[(v.axis, v.name, v.prompt) for v in variants(PROMPT, items(), ["Do."], 3, 1)] for _ in range(2)]
    assert told[0] == told[1]
    assert len(set(map(repr, told[0]))) == len(told[0])


@given(st.text(max_size=80), st.integers(0, 5))
def test_a_typing_error_swaps_letters_and_loses_none(text, seed):
    made = mistyped(text, seed)
    assert sorted(made) == sorted(text)
    assert [len(word) for word in made.split(" ")] == [len(word) for word in text.split(" ")]


def test_the_command_tells_each_axis_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_lists(Path("lists.csv"))
    save_prompt(Prompt("Give the second word of the three.", str), "prompt.json")
    command = ["fragility", "prompt.json", "lists.csv", "--model", "searches:Words/calls", "--out", "run"]
    said = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "noise in inputs: " in said[0]
    assert said[0].splitlines()[-1].startswith("As it is: 0.")
    assert len(Path("calls").read_text().split()) <= 500
    odd_files = {
        '{"seed": 1}': "(there is no 'output' in it)",
        '{"output": "Report"}': "(its answers are of the type Report, which is not known here)",
        "[]": "(it is no JSON object)",
        "Say.": "(",
    }
    for odd, told in odd_files.items():
        Path("odd.json").write_text(odd)
        with pytest.raises(SystemExit) as ended:
            main(["fragility", "odd.json", "lists.csv", "--model", "searches:Words"])
        err = capsys.readouterr().err
        assert ended.value.code == 2
        assert f"odd.json is no prompt as `promptlab optimize` writes one {told}" in err
        assert err.endswith("Give a run's prompt.json.\n")
    save_prompt(Prompt("Say.", Literal["a", "b"]), "other.json")
    with pytest.raises(SystemExit) as ended:
        main(["fragility", "other.json", "lists.csv", "--model", "searches:Words"])
    assert (ended.value.code, "labels that the prompt does not know" in capsys.readouterr().err) == (2, True)
