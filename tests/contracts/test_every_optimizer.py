"""What holds of every optimiser, those that ask a proposer and those that only choose what is shown."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizing import (
    OPTIMIZERS,
    PAIR,
    SEED,
    everything,
    in_some_steps,
    lists,
    lot,
    of_two_minds,
    picked_and_written,
    proposer,
    shown,
    told,
    world,
)

from promptlab import Example, ModelError, Prompt, run
from promptlab.errors import SetupError
from promptlab.optimizers import table as the_table
from promptlab.optimizers.sections import SHARES, sections
from promptlab.types import Request

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


@every_optimizer
def test_a_better_instruction_is_found_among_worse_ones(optimizer):
    model = world()
    tuned = run(optimizer(SEED, lists(160), calls=1_500), model)
    found = tuned.found
    if found.proposals:  # a method that only chooses what is shown finds none here
        assert "middle" in tuned.instruction, found.why
        assert found.accepted
        assert found.best.key in {each.key for each in found.candidates}
    assert found.calls == len(model.requests) <= 1_500


@every_optimizer
@settings(deadline=None, max_examples=12, derandomize=True)
@given(calls=st.integers(40, 400), n=st.integers(26, 100), steps=st.integers(1, 2), repeats=st.integers(1, 2))
def test_no_budget_is_exceeded_and_the_account_is_right(optimizer, calls, n, steps, repeats):
    options = {"solve": in_some_steps} if steps == 2 else {}
    model = world()
    try:
        tuned = run(optimizer(SEED, lists(n), calls=calls, repeats=repeats, **options), model)
        counted, why = tuned.found.calls, tuned.found.why
    except SetupError as refused:  # too few for an honest comparison: it says how many are enough
        counted, why = len(model.requests), re.search("Give .* or more", str(refused))
    assert why
    assert counted == len(model.requests) <= calls


def test_the_same_is_found_in_step_and_concurrently_and_under_another_hash_seed():
    found = json.loads(json.dumps(everything(), default=str))
    assert json.loads(json.dumps(everything(batched=False), default=str)) == found
    env = {**os.environ, "PYTHONHASHSEED": "4242"}
    script = Path(__file__).with_name("optimizing.py")
    again = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout) == found


def verbatim(request: Request) -> str:
    """The training answers, as an instruction."""
    return "<prompt>Give the middle word: " + "; ".join(f"{e.input} -> {e.target}" for e in lists(80)) + "</prompt>"


BAD_PROPOSERS = {
    "junk": lambda r: "%&/()=?*§§",
    "nothing": lambda r: "",
    "100k characters": lambda r: "Give the middle word. " * 5_000,
    "wrong tags": lambda r: "<prompt>Give the middle word.</improved></prompt></instruction> <start>",
    "unclosed tag": lambda r: "Here you are: <prompt>Give the middle word.",
    "another script": lambda r: f"<prompt>Дай слово из середины списка middle {lot(r.branch) % 9}</prompt>",
    "the training answers": verbatim,
    "JSON of something else": lambda r: '{"score": 3, "items": [1, 2]}',
    "its own prompt": lambda r: told(r),
    "half a character": lambda r: "\ud83d\n<script>{{x}}",
    "errors": lambda r: ModelError("the proposer is ill"),
}


@every_optimizer
@pytest.mark.parametrize("proposes", BAD_PROPOSERS.values(), ids=BAD_PROPOSERS.keys())
def test_a_proposer_that_is_of_no_use_leaves_the_prompt_as_it_is_with_the_reasons(optimizer, proposes):
    model = world(proposes=proposes)
    tuned = run(optimizer(SEED, lists(80), calls=400), model)
    found = tuned.found
    assert found.calls == len(model.requests) <= 400
    assert found.why
    if not found.proposals:  # it chooses among what is there
        return
    assert not found.accepted
    assert tuned.instruction == SEED.instruction
    if len(found.candidates) == 1:  # nothing could be tried
        assert sum(found.rejected.values()) >= 1
    if proposes is not BAD_PROPOSERS["its own prompt"] and proposes is not BAD_PROPOSERS["JSON of something else"]:
        assert not any("middle" in each.slot().instruction for each in found.candidates)


@every_optimizer
def test_braces_markdown_and_dollars_stay_as_they_are(optimizer):
    odd = 'Give {a} word for $5 or ${price}, 100%.\n\n# Task\n```json\n{"a": "{{b}}"}\n```'
    dress = "Of {these}, for $5 and ${more}: **bold**, `code`, <b>tags</b>."

    def proposes(request: Request) -> str:
        return proposer(request).replace("</prompt>", f" {dress}</prompt>")

    tuned = run(
        optimizer(Prompt(odd), lists(160, dress=lambda word: f"{{{word}}}$1</prompt>"), calls=1_500),
        world(proposes=proposes),
    )
    others = ("bank", "combined")  # not the proposer's own words, or not in their own place
    said = {each.slot().instruction for each in tuned.found.candidates if each.op not in others}
    assert odd in said
    if tuned.found.proposals:
        assert all(dress in each for each in said - {odd})
        assert tuned.found.accepted


@every_optimizer
def test_what_a_proposer_is_shown_is_bounded_however_long_the_examples_are(optimizer):
    model = world(answers=lambda r: "so " * 2_000)
    long = lists(40, dress=lambda word: word * 800)
    run(optimizer(SEED, long, lambda value, target: (lot(value, target) % 2 / 2, "so " * 2_000), calls=150), model)
    asked = [shown(request) for request in model.requests if request.to == "proposer"]
    assert max(map(len, asked), default=0) < 20_000


@every_optimizer
def test_nothing_but_the_feed_is_shown_to_anyone(optimizer):
    model, examples = world(), lists(160)
    found = run(optimizer(SEED, examples, calls=1_500, seed=5), model).found
    parts = sections(examples, SEED, 5)
    hidden = [item.example.input for item in (*parts.race, *parts.confirm)]
    asked = [shown(request) for request in model.requests if request.to == "proposer"]
    assert not [text for text in asked for words in hidden if words in text]
    shots = [shot.input for each in found.candidates for shot in each.slot().shots]
    assert not {*shots} & {*hidden}


@every_optimizer
def test_items_of_the_last_comparison_are_asked_last_and_of_two_prompts_only(optimizer):
    found = run(optimizer(SEED, lists(160), calls=1_500, seed=5, shares=SHARES), world()).found
    fresh = {item.number for item in sections(lists(160), SEED, 5).confirm}
    scored = [event for event in found.events if event["event"] == "scored"]
    last = [event for event in scored if event["item"] in fresh]
    assert scored[len(scored) - len(last) :] == last
    assert len({event["candidate"] for event in last}) in (0, 2)
    assert found.accepted == (found.verdict is not None and found.verdict.accepted)


@every_optimizer
@pytest.mark.parametrize("calls", [300, 1_500])
def test_a_program_with_two_prompts_can_be_improved(optimizer, calls):
    model = world(answers=of_two_minds)
    examples = [Example(each.input, each.target.upper()) for each in lists(160)]
    try:
        tuned = run(optimizer(PAIR, examples, calls=calls, solve=picked_and_written), model)
    except SetupError as refused:  # it cannot, and says who can
        pytest.skip(str(refused))
    assert set(tuned) == set(PAIR)
    assert tuned.found.calls == len(model.requests) <= calls
    assert tuned.found.accepted == (dict(tuned) != PAIR)


@every_optimizer
def test_a_saturated_task_ends_at_once_and_says_so(optimizer):
    tuned = run(optimizer(Prompt("Give the middle word."), lists(160)), world())
    assert "saturated" in tuned.found.why
    assert tuned.found.calls <= 20


@every_optimizer
def test_a_task_that_is_out_of_reach_ends_early_and_says_so(optimizer):
    tuned = run(optimizer(SEED, lists(160), calls=2_000), world(answers=lambda r: "no idea"))
    assert "out of reach" in tuned.found.why
    assert tuned.found.calls < 1_000
    assert tuned.found.best == tuned.found.seed


@every_optimizer
def test_a_method_is_a_short_file(optimizer):
    assert len(inspect.getsource(sys.modules[optimizer.func.__module__]).splitlines()) <= 300


def test_only_the_table_has_programs_answer():
    """No method has a loop of its own that evaluates: who asks a program is who counts and compares."""
    for file in Path(the_table.__file__).parent.glob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        ours = {name for name in called if not name.startswith("np.")}
        assert file.name == "table.py" or not {name.split(".")[-1] for name in ours} & {"solve", "zero_shot"}, file.name
