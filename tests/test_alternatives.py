"""Texts to choose one of, where one begins another: "1" and "10"."""

from __future__ import annotations

import math
from itertools import product
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Example, Message, Prompt, Reply, Request, Task, finetuned, model, run, score
from promptlab.alternatives import overlap, scores_of
from promptlab.strategies.likelihood import likeliest_label
from promptlab.testing import FakeServer, Script
from promptlab.types import Token

LETTERS, LENGTH = "abc", 4
SHARES = st.dictionaries(
    st.sampled_from(["".join(each) for each in product(LETTERS, repeat=LENGTH)]), st.integers(1, 99), min_size=1
)
TEXTS = st.lists(st.text(LETTERS, max_size=LENGTH), min_size=1, max_size=8)


@settings(deadline=None)
@given(SHARES, TEXTS)
def test_of_each_only_replies_that_do_not_go_on_to_a_longer_one_count(shares, texts):
    """Against counting: replies of four letters, a letter a token, of which each text begins some."""
    total = sum(shares.values())

    def begin(text: str) -> float:
        return sum(n for reply, n in shares.items() if reply.startswith(text)) / total + 1e-30

    found = scores_of([math.log(begin(text)) for text in texts], texts, alternatives=True)
    for text, log_p in zip(texts, found, strict=True):
        longer = [each for each in texts if each != text and each.startswith(text)]
        ours = sum(n for r, n in shares.items() if r.startswith(text) and not any(map(r.startswith, longer))) / total
        assert math.exp(log_p) == pytest.approx(ours, abs=1e-6)


def test_what_is_impossible_stays_so():
    never = -math.inf
    assert scores_of([never, never, -1.0, never], ["a", "ab", "b", "bc"], alternatives=True) == (
        never,
        never,
        -1.0,
        never,
    )


@given(TEXTS)
def test_texts_overlap_where_one_begins_another(texts):
    assert overlap(texts) == any(a != b and b.startswith(a) for a in texts for b in texts)


def test_texts_that_are_no_alternatives_have_the_log_probability_of_all_that_begins_so():
    plain = run(score("1, 10, ", ["1", "10", "2"]), model("tiny"))
    apart = run(score("1, 10, ", ["1", "10", "2"], alternatives=True), model("tiny"))
    assert apart[1:] == plain[1:]
    assert math.exp(apart[0]) == pytest.approx(math.exp(plain[0]) - math.exp(plain[1]), rel=1e-4)


def reads_letters(request: Request) -> Reply:
    return Reply(tokens=tuple(Token(letter, -1.0) for text in request.continuations for letter in text))


def test_a_server_of_completions_tells_of_tokens_which_texts_go_on():
    with FakeServer(Script(reads_letters, scores=True)) as server:
        door = model(f"openai:m@{server.url}", key="x", api="completions")
        [reply] = door.generate(
            [Request((Message("user", "x "),), continuations=("ab", "abc", "b"), alternatives=True)]
        )
    assert reply.scores == pytest.approx([math.log(math.exp(-2) - math.exp(-3)), -3, -1])


def test_a_label_that_goes_on_where_another_ends_can_be_the_likeliest():
    """The model has learnt to say it, so it is also what it gets by its likelihood."""
    pains = [f"{how} ache {n}" for n in range(12) for how in ("bearable", "unbearable")]
    examples = [Example(pain, "severe pain" if pain.startswith("un") else "severe", pain) for pain in pains]
    task = Task.classification("pain", examples[:16], examples[16:])
    solver = finetuned(model("tiny"), "sft")(task, examples[:16], 0)
    answers = run([solver.program(example.input) for example in examples[16:]], solver.backend)
    assert [answer.generated.value for answer in answers] == [example.target for example in examples[16:]]
    assert [answer.value for answer in answers] == [example.target for example in examples[16:]]


def test_only_labels_that_overlap_are_asked_for_as_alternatives():
    for labels, expected in ((Literal["1", "10"], True), (Literal["1", "2"], False)):
        backend = Script(scores=lambda request: [-1.0] * len(request.continuations))
        run(likeliest_label("x", Prompt(output=labels)), backend)
        assert [request.alternatives for request in backend.requests] == [expected]
