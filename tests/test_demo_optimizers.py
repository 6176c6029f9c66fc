"""The optimisers that need no clever proposer, through their door: what they find, show, ask and leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_optimizers import WORDS, lists

from promptlab import Answer, Example, Prompt, gather, run
from promptlab.backends.routed import Routed
from promptlab.errors import SetupError, Unavailable
from promptlab.optimizers import OPTIMIZERS, bootstrap, demos, mipro, templates
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.mipro import FORMATS, ORDERS, Parts, star
from promptlab.optimizers.sections import Item
from promptlab.optimizers.templates import EDITS, banked, edited, kind_of
from promptlab.program import ask
from promptlab.splits import text_key
from promptlab.strategies import chain_of_thought, likeliest_label
from promptlab.testing import Script
from promptlab.types import Request

OURS: dict[str, Callable[..., Any]] = {name: OPTIMIZERS[name] for name in ("bootstrap", "templates", "demos", "mipro")}
GIVE = Prompt("Give a word.")


def shown(request: Request) -> list[tuple[str, str]]:
    """The demonstrations of a request."""
    chat = request.messages
    return [(a.content, b.content) for a, b in pairwise(chat) if b.role == "assistant"]


def imitator(request: Request) -> str:
    """Gives the second word if two demonstrations do, or it is told to; else the first for half of the questions."""
    question = request.messages[-1].content
    words = [word for word in question.split() if word in WORDS]
    told = " ".join(message.content for message in request.messages if message.role == "system") + question
    good = sum(said == asked.split()[1] for asked, said in shown(request) if len(asked.split()) > 1)
    if good >= 2 or "second" in told:
        return words[1]
    return words[0] if len(question) % 2 else words[1]


def asked_of(model: Script) -> list[Request]:
    return [request for request in model.requests if request.to != "proposer"]


# ---- all four


@pytest.mark.parametrize("name", sorted(OURS))
def test_better_prompts_are_found_without_a_proposer_and_confirmed(name):
    model = Script(imitator)
    options = {"proposals": 0} if name == "mipro" else {}
    found = run(OURS[name](GIVE, lists(200), calls=2_000, **options), model)
    assert found.found.accepted, found.found.why
    assert found.found.verdict.losses == 0
    assert found.found.calls == len(model.requests) <= 2_000
    assert found.found.proposals == 0
    assert len(found.shots) >= 2 or "second" in found.instruction or "second" in found.frame[0]


@pytest.mark.parametrize("name", sorted(OURS))
def test_no_example_is_asked_with_itself_shown_and_none_shown_is_raced_on(name):
    model = Script(imitator)
    options = {"proposals": 0} if name == "mipro" else {}
    examples = lists(120)
    found = run(OURS[name](GIVE, examples, calls=600, **options), model)
    known = {text_key(e.input) for e in examples}
    ever_shown = set()
    for request in asked_of(model):
        texts = {text_key(" ".join(w for w in asked.split() if w in WORDS)) for asked, _ in shown(request)}
        question = text_key(" ".join(w for w in request.messages[-1].content.split() if w in WORDS))
        assert question not in texts
        assert texts <= known
        ever_shown |= texts
    scored = [event for event in found.found.events if event["event"] == "raced"]
    assert scored or not found.found.accepted


@pytest.mark.parametrize("name", sorted(OURS))
def test_runs_repeat_themselves_and_differ_by_seed(name):
    options = {"proposals": 0} if name == "mipro" else {}
    tried = []
    for seed in (1, 1, 2):
        model = Script(imitator)
        run(OURS[name](GIVE, lists(120), calls=500, seed=seed, **options), model)
        tried.append([(request.messages, request.branch) for request in model.requests])
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]


@pytest.mark.parametrize("name", sorted(OURS))
@settings(max_examples=8, deadline=None)
@given(calls=st.integers(60, 400), n=st.integers(30, 90))
def test_no_budget_is_exceeded_and_none_ends_in_an_error(name, calls, n):
    model = Script(imitator)
    options = {"proposals": 0} if name == "mipro" else {}
    found = run(OURS[name](GIVE, lists(n), calls=calls, **options), model)
    assert len(model.requests) == found.found.calls <= calls


@pytest.mark.parametrize("name", sorted(OURS))
def test_where_all_prompts_are_equal_nothing_is_replaced(name):
    """Of 6 runs in which a coin decides, whatever the prompt says. (alpha = .05: one of 24 is to be expected.)"""
    options = {"proposals": 0} if name == "mipro" else {}
    accepted = 0
    for seed in range(6):

        def coin(request: Request) -> str:
            said = Random(f"{request.messages}").random() < 0.5
            words = [word for word in request.messages[-1].content.split() if word in WORDS]
            return words[1] if said else words[0]

        accepted += run(
            OURS[name](GIVE, lists(100, seed), calls=400, seed=seed, **options), Script(coin)
        ).found.accepted
    assert accepted <= 1


# ---- bootstrap


def test_bootstrap_shows_reasoning_that_led_to_right_answers():
    def reasons(request: Request) -> str:
        words = request.messages[-1].content.split("\n")[0].split()
        if any("I count" in said for _, said in shown(request)) or len(request.messages[-1].content) % 3 == 0:
            return f"I count to two. The answer is {words[1]}"
        return f"I guess. The answer is {words[0]}"

    found = run(bootstrap(GIVE, lists(160), solve=chain_of_thought, calls=800, labelled=0), Script(reasons))
    assert found.found.accepted
    assert found.shots
    assert all(str(shot.target).startswith("I count to two. The answer is ") for shot in found.shots)
    assert all(str(shot.target).endswith(shot.input.split()[1]) for shot in found.shots)


async def two_steps(question: str, prompts: dict[str, Prompt]) -> Answer:
    """Upper case first, then a word of it."""
    first = await ask(prompts["shout"].render(question))
    second = await ask(prompts["pick"].render(first.text))
    return Answer(second.text.lower(), second.text)


def test_bootstrap_gives_each_prompt_of_a_program_what_that_prompt_was_asked_and_said():
    def steps(request: Request) -> str:
        words = request.messages[-1].content.split()
        if "Shout" in request.messages[0].content:
            return " ".join(words).upper()
        good = [said for asked, said in shown(request) if asked.split()[1] == said]
        return words[1] if good or len(words[0]) == 4 else words[0]

    prompts = {"shout": Prompt("Shout."), "pick": Prompt("Pick a word.")}
    found = run(bootstrap(prompts, lists(160), solve=two_steps, calls=1_600), Script(steps))
    assert found.found.accepted
    assert found["pick"].shots
    for shot in found["shout"].shots:
        assert shot.target == shot.input.upper()
    for shot in found["pick"].shots:
        assert shot.input.isupper()
        assert shot.target == shot.input.split()[1]


def test_answers_that_are_wrong_are_no_demonstrations():
    model = Script(lambda request: request.messages[-1].content.split()[0])  # never right
    found = run(bootstrap(GIVE, lists(120), calls=600, labelled=2), model)
    assert "out of reach" in found.found.why
    targets = {e.input: e.target for e in lists(120)}
    assert all(said == targets[asked] for request in model.requests for asked, said in shown(request))


@pytest.mark.parametrize("method", [bootstrap, mipro])
def test_demonstrations_of_fields_are_those_of_the_text_that_is_shown_of_them(method):
    def found(given):
        examples = [replace(each, input=given(each.input)) for each in lists(160)]
        return run(method(GIVE, examples, calls=1_200), Script(lambda r: r.messages[-1].content.split()[-2])).found

    assert found(lambda text: {"words": text}).events == found(lambda text: f"words: {text}").events


# ---- templates


def test_the_bank_is_filled_in_with_the_labels_and_the_kind_of_input():
    feed = [Item(i, Example(text, "a")) for i, text in enumerate(("Where is it?", "Who was that?", "I do."))]
    said = banked(Prompt(output=Literal["a", "b", "c"]), feed)
    assert "Classify the question as a, b or c." in said
    assert len(said) == len(set(said)) >= 15
    assert not any("$" in text for text in said)
    assert "Is this true of the question?" in banked(Prompt(output=bool), feed)
    assert "Work out the number that is asked for." in banked(Prompt(output=int), feed)
    assert "Reverse the words." in banked(Prompt(), feed)


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        (["3", "-4.5", "7"], "number"),
        (["3 4", "5 6"], "numbers"),
        (["cough", "fever"], "word"),
        (["cough fever", "red sun"], "words"),
        (["It hurts here.", "I am ill!"], "sentence"),
        (["It hurts. Here.", "I am ill; very. So."], "text"),
        (["How are you?"], "question"),
    ],
)
def test_the_kind_of_input_is_what_most_of_them_are(inputs, kind):
    assert kind_of(inputs) == kind


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([*banked(Prompt(), []), *banked(Prompt(output=Literal["x", "y"]), [])]))
def test_an_edit_makes_another_tidy_instruction(seed, instruction):
    deleted = ["of the list"]
    text, op = edited(instruction, Random(seed), deleted)
    assert text != instruction
    assert op in {edit.__name__ for edit in EDITS}
    assert text == " ".join(text.split())
    assert text[0] == text[0].upper()


def test_an_instruction_is_improved_by_what_is_put_in_its_phrases():
    """A model that obeys "opening" and not "first": the bank says "Give the first word.", the grammar the rest."""

    def picky(request: Request) -> str:
        told = request.messages[0].content if len(request.messages) > 1 else ""
        words = request.messages[-1].content.split()
        if "opening" in told:
            return words[0]
        return words[0] if "first" in told and len(words[0]) == 4 else "no"

    examples = [Example(e.input, e.input.split()[0]) for e in lists(300)]
    found = run(templates(Prompt("Say something."), examples, calls=3_000, edits=12), Script(picky))
    assert "opening" in found.instruction.lower()
    assert {each.op for each in found.found.candidates} >= {"seed", "bank", "paraphrase", "add"}


def test_templates_try_a_bank_on_numbers_without_an_instruction():
    examples = [Example(f"{a} {b}", str(a + b)) for a in range(12) for b in range(12)]

    def adds(request: Request) -> str:
        a, b = map(int, request.messages[-1].content.split())
        return str(a + b) if "Add" in request.messages[0].content else str(a)

    found = run(templates(Prompt(), examples, calls=1_500), Script(adds))
    assert found.found.accepted
    assert "Add" in found.instruction


# ---- demos


def test_demos_tries_each_number_and_the_order_by_entropy_without_looking_at_labels():
    """Labels: whoever sees "b" said last answers well, whoever sees "a" last says "a" to everything."""
    examples = [Example(f"text {'x' * (i % 7)} {i}", "ab"[i % 2]) for i in range(200)]
    model = Script(scores=last_label)
    found = run(demos(Prompt("?", Literal["a", "b"]), examples, solve=likeliest_label, calls=1_000, ks=(2, 4)), model)
    assert found.found.accepted
    assert found.shots[-1].target == "b"
    ops = {each.op for each in found.found.candidates}
    assert ops == {"seed", "balanced", "vote-k", "order"}
    assert {len(each.slot().shots) for each in found.found.candidates} == {0, 2, 4}


def last_label(request: Request) -> tuple[float, float]:
    said = [label for _, label in shown(request)]
    right = int(request.messages[-1].content.split()[-1]) % 2 if said and said[-1] == "b" else 0
    return (-0.1, -3.0) if right == 0 else (-3.0, -0.1)


def test_demos_refuses_what_means_nothing():
    with pytest.raises(SetupError, match="1 or more each"):
        run(demos(GIVE, lists(100), ks=(0, 2)), Script(imitator))
    two = {"shout": Prompt("Shout."), "pick": Prompt("Pick a word.")}
    with pytest.raises(SetupError, match="take bootstrap"):
        run(demos(two, lists(100), solve=two_steps), Script(lambda request: request.messages[-1].content))


def test_demonstrations_that_fit_no_context_are_dropped():
    def small(request: Request) -> Any:
        return Unavailable("too much") if len(shown(request)) > 4 else imitator(request)

    found = run(demos(GIVE, lists(200), calls=1_500), Script(small))
    assert found.found.accepted
    assert 2 <= len(found.shots) <= 4


# ---- mipro


def test_mipro_asks_the_proposer_for_a_summary_and_instructions_grounded_in_it():
    def said(request: Request) -> str:
        text = request.messages[0].content
        if "Say in two" in text:
            return "Lists of words."
        assert "Lists of words." in text
        return f"<prompt>{'Give the second word.' if 'short and clear' in text else 'Think of colours.'}</prompt>"

    task, proposer = Script(imitator), Script(said)
    found = run(mipro(GIVE, lists(200), calls=1_200, bank=0, sets=0), Routed(task, proposer=proposer))
    assert found.found.accepted
    assert "second" in found.instruction + found.frame[0]
    assert found.found.proposals == len(proposer.requests) >= 9


def test_mipro_needs_two_parts_together():
    """Right with an instruction and a format at once: neither alone shows anything."""

    def both(request: Request) -> str:
        question = request.messages[-1].content
        words = [word for word in question.split() if word in WORDS]
        told = request.messages[0].content
        good = "second" in told, question.startswith("Q: ")
        return words[1] if sum(good) * 4 > len(question) % 9 else words[0]

    found = run(mipro(GIVE, lists(300), calls=2_000, proposals=0, bank=50, sets=2), Script(both))
    assert found.found.accepted
    assert found.frame == ("Q: ", "\nA:")
    assert "second" in found.instruction


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=4, max_size=6))
def test_the_first_combinations_hold_every_level_of_every_factor_one_change_at_a_time(sizes):
    first = star(sizes)
    assert first[0] == (0,) * len(sizes)
    assert len(first) == len(set(first)) or sizes[-3] == 1
    assert all(sum(level > 0 for level in combination) <= 1 + (combination[-2] > 0) for combination in first)
    for factor, size in enumerate(sizes):
        assert {combination[factor] for combination in first} == set(range(size))


def test_level_nought_of_all_is_the_prompt_as_it_was_and_an_order_of_one_counts_once():
    shots = (Example("a b c", "b"), Example("c d", "d"))
    seed = Candidate(Prompt("Give a word.", shots=shots))
    parts = Parts(seed, {"": ["Give a word.", "Say it."]}, [{}, {"": shots[:1]}, {"": shots}])
    assert parts.sizes == (2, 3, len(ORDERS), len(FORMATS) - 1)
    assert parts.candidate((0, 0, 0, 0)).key == seed.key
    assert parts.plain((1, 1, 2, 0)) == (1, 1, 0, 0)
    assert parts.plain((1, 2, 2, 0)) == (1, 2, 2, 0)
    assert parts.candidate((1, 2, 1, 0)).slot().shots == shots[::-1]
    assert parts.candidate((1, 0, 0, 1)).slot().render("x y")[-1].content == "Say it.\nx y"


def test_a_program_of_two_prompts_has_an_instruction_for_each():
    def steps(request: Request) -> str:
        words = request.messages[-1].content.split()
        told = " ".join(m.content for m in request.messages if m.role == "system") + request.messages[-1].content
        words = [word for word in words if word.lower() in WORDS]
        if "hout" in told or "capital" in told or len(words) < 2:
            return " ".join(words).upper()
        return words[1] if "second" in told else words[0]

    prompts = {"shout": Prompt("Shout."), "pick": Prompt("Pick a word.")}
    found = run(mipro(prompts, lists(300), solve=two_steps, calls=3_000, proposals=0, bank=50), Script(steps))
    assert found.found.accepted
    said = {slot: prompt.instruction + prompt.frame[0] for slot, prompt in found.items()}
    assert "second" in said["pick"] + said["shout"]  # a word that is picked before is left to pick
    assert found["pick"].output is str


async def both_at_once(question: str, prompt: Prompt) -> Answer:
    one, _ = await gather(ask(prompt.render(question)), ask("Is this well?"))
    return prompt.parse(one.text)


def test_programs_of_several_calls_stay_within_the_budget():
    for name, optimizer in OURS.items():
        model = Script(lambda request: "yes" if "well" in request.messages[-1].content else imitator(request))
        options = {"proposals": 0} if name == "mipro" else {}
        found = run(optimizer(GIVE, lists(120), solve=both_at_once, calls=700, **options), model)
        assert found.found.calls == len(model.requests) <= 700
