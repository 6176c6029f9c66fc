"""Demonstration policies: formulas by hand, what they promise of every pool, and that no question shows itself."""

from __future__ import annotations

import math
from functools import partial
from itertools import permutations
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Example, Prompt, Task, in_context, run, traced
from promptlab.errors import SetupError
from promptlab.learners import ARMS, arms_named
from promptlab.program import ask
from promptlab.splits import text_key
from promptlab.strategies.shots import (
    PER_QUESTION,
    SELECTORS,
    bm25,
    by_entropy,
    diverse,
    dpp,
    embedded,
    label_entropy,
    nearest,
    vote_k,
)
from promptlab.strategies.shots.entropy import permuted
from promptlab.strategies.shots.similar import bm25_scores
from promptlab.strategies.shots.various import greedy_map
from promptlab.testing import Script
from promptlab.types import Answer

WORDS = ["fever", "cough", "rash", "night", "stool", "blood", "arm", "broken"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
pools = st.lists(texts, min_size=1, max_size=25).map(lambda ts: [Example(t, "ab"[i % 2]) for i, t in enumerate(ts)])


def inputs(shots) -> list[str]:
    return [shot.input for shot in shots]


# ---- every policy


@settings(deadline=None)
@given(pools, texts, st.sampled_from(sorted(SELECTORS)))
def test_a_question_is_never_its_own_demonstration(pool, question, name):
    asked = question.upper() + " !"  # the same text to a reader
    chosen = SELECTORS[name](pool, 0)(asked)
    assert text_key(question) not in {text_key(shot.input) for shot in chosen}
    rest = [e for e in pool if text_key(e.input) != text_key(question)]
    assert all(shot in rest for shot in chosen)
    if name in ("balanced", "random"):
        assert len(chosen) == len(rest)


@settings(deadline=None)
@given(pools, texts, st.sampled_from(sorted(SELECTORS)))
def test_a_policy_repeats_itself_and_shows_nothing_twice(pool, question, name):
    numbered = [Example(e.input, e.target, id=str(i)) for i, e in enumerate(pool)]
    chosen = SELECTORS[name](numbered, 3)(question)
    assert list(chosen) == list(SELECTORS[name](numbered, 3)(question))
    assert len({shot.id for shot in chosen}) == len(chosen)


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_pools_of_nothing_of_signs_and_of_one_text_are_no_trouble(name):
    assert list(SELECTORS[name]([], 0)("fever")) == []
    signs = [Example(text, "x") for text in ("?!", "...", "--")]
    assert sorted(inputs(SELECTORS[name](signs, 0)("fever"))) == sorted(inputs(signs))
    assert list(SELECTORS[name]([Example("fever", "x")], 0)("fever")) == []


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_in_context_learning_shows_by_each_policy_without_further_calls_and_not_the_question(name):
    pool = [Example(f"{WORDS[i % 8]} {WORDS[i * 3 % 7]} {i}", "ab"[i % 2]) for i in range(12)]
    task = Task.classification("t", pool, [Example("fever and rash", "a"), Example(pool[3].input, "b")])
    model = Script(lambda request: "a")
    solver = in_context(model, name)(task, pool, 0)
    for example in task.test:
        _, exchanges = run(traced(solver.program(example.input)), model)
        [request] = [exchange.request for exchange in exchanges]
        shown = [message.content for message in request.messages if message.role == "user"][:-1]
        assert shown
        assert example.input not in shown
    arm = {"random": "few-shot-random", "balanced": "few-shot"}.get(name, f"few-shot-{name}")
    assert arms_named([arm], model)[arm].description == in_context(model, name).description
    assert arm in ARMS


# ---- by hand


def test_bm25_is_the_formula_by_hand():
    pool = [Example(t, "x") for t in ("fever cough", "fever fever rash night", "arm")]
    # "fever": in 2 of 3 texts; "rash": in 1. Lengths 2, 4, 1; mean 7/3. k1 = 1.2, b = 0.75.
    fever, rash = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    norm = [1.2 * (0.25 + 0.75 * length / (7 / 3)) for length in (2, 4, 1)]
    by_fever = fever * 2 * 2.2 / (2 + norm[1])
    by_hand = [fever * 2.2 / (1 + norm[0]), by_fever + rash * 2.2 / (1 + norm[1]), 0.0]
    np.testing.assert_allclose(bm25_scores(pool, 1.2, 0.75)("fever and rash"), by_hand)
    np.testing.assert_allclose(bm25_scores(pool, 1.2, 0.75)("fever fever"), [2 * by_hand[0], 2 * by_fever, 0])
    select = bm25(pool)
    assert inputs(select("fever and rash")) == ["fever fever rash night", "fever cough", "arm"]
    assert inputs(select("nothing known")) == inputs(pool)


def test_the_embedded_are_nearest_by_the_vectors_given_which_are_asked_for_once_a_question():
    calls = []

    def lengths(texts):
        calls.append(len(texts))
        return [[len(text), 10.0] for text in texts]

    pool = [Example("x" * n, n) for n in (1, 5, 9, 30)]
    select = embedded(pool, lengths, most=2)
    assert [shot.target for shot in select("y" * 7)] == [9, 5]
    assert [shot.target for shot in select("y" * 100)] == [30, 9]
    assert calls == [4, 1, 1]


def test_mmr_at_weight_one_is_the_nearest_and_below_it_skips_the_repeated():
    pool = [Example(t, "x") for t in ("fever cough", "cough fever", "fever night", "arm", "fever cough cough")]
    question = "fever with cough"
    assert inputs(diverse(pool, weight=1.0)(question)) == inputs(nearest(pool)(question))
    assert inputs(nearest(pool, most=2)(question)) == ["fever cough", "cough fever"]
    assert inputs(diverse(pool, most=2, weight=0.3)(question)) == ["fever cough", "arm"]
    with pytest.raises(SetupError, match="from 0 to 1; got 2"):
        diverse(pool, weight=2)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(1, 7), st.integers(0, 10_000))
def test_the_greedy_map_of_a_dpp_is_the_one_by_determinants(n, k, seed):
    factors = np.random.default_rng(seed).normal(size=(n, n + 1))
    kernel = factors @ factors.T
    chosen: list[int] = []
    for _ in range(min(k, n)):
        rest = [i for i in range(n) if i not in chosen]
        chosen.append(max(rest, key=lambda i: np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])])))
    assert greedy_map(kernel, k) == chosen


def test_a_dpp_shows_no_text_twice_and_with_little_scale_the_nearest_first():
    pool = [Example(t, "x") for t in ("fever cough", "cough fever", "fever night", "arm", "rash")]
    assert inputs(dpp(pool)("fever with cough")).count("cough fever") == 0  # the same words: nothing to add
    assert inputs(dpp(pool, scale=0.01)("night"))[0] == "fever night"


def test_vote_k_takes_the_centres_of_groups_one_after_the_other():
    places = [0.0, 0.1, 0.2, 0.3, 0.4, 50.0, 50.1, 50.2, 89.0]  # degrees on a circle
    pool = [Example(str(p), "x") for p in places]

    def on_a_circle(texts):
        return [[math.cos(math.radians(float(t))), math.sin(math.radians(float(t)))] for t in texts]

    chosen = [float(t) for t in inputs(vote_k(pool, most=3, neighbours=2, embed=on_a_circle)("7"))]
    assert chosen[0] in (0.1, 0.2, 0.3)
    assert chosen[1] in (50.0, 50.1, 50.2)  # the next group, not its neighbour
    assert len(set(chosen)) == 3


def test_vote_k_is_its_formula_by_hand():
    """Votes of 1 go to 1 neighbour each: 0→1, 1→0, 2→1, 3→4, 4→3, by distance on a line of angles."""
    angles = {"a": 0.0, "b": 10.0, "c": 21.0, "d": 60.0, "e": 65.0}
    pool = [Example(name, "x") for name in angles]

    def on_a_circle(texts):
        return [[math.cos(math.radians(angles[t])), math.sin(math.radians(angles[t]))] for t in texts]

    # b has the votes of a and c; then b votes no more, so a has none, and d and e have one each.
    # Of d and e one is left without a vote, as a is, which comes first.
    assert inputs(vote_k(pool, neighbours=1, embed=on_a_circle)("")) == ["b", "d", "a", "c", "e"]


# ---- the order


def test_all_orders_of_few_are_tried_and_different_ones_of_many():
    shots = [Example(c, c) for c in "abcdef"]
    assert permuted(shots[:3], 24, "k") == list(permutations(shots[:3]))
    drawn = permuted(shots, 10, "k")
    assert drawn[0] == tuple(shots)
    assert len(set(drawn)) == 10
    assert drawn == permuted(shots, 10, "k")


def test_entropy_is_that_of_the_answers():
    assert label_entropy("aabb") == pytest.approx(math.log(2))
    assert label_entropy("aaaa") == 0
    assert label_entropy([None, "a"]) == pytest.approx(math.log(2))


def recency(request):
    """Says what the last demonstration says, unless that is "b": then it reads the question."""
    last = [m.content for m in request.messages if m.role == "assistant"][-1]
    return "a" if last == "a" else "ab"[len(request.messages[-1].content) % 2]


async def said(question: str, prompt: Prompt) -> Answer:
    return prompt.parse((await ask(prompt.render(question))).text)


def test_the_order_under_which_answers_differ_is_found_without_a_label():
    shots = [Example("one", "a"), Example("three", "b"), Example("five", "a")]
    model = Script(recency)
    found = run(by_entropy(shots, Prompt(), ["x", "xx", "xxx", "ONE!"], solve=said), model)
    assert found[-1].target == "b"
    assert len(model.requests) == 6 * 3  # "ONE!" is a demonstration
    assert sorted(inputs(found)) == sorted(inputs(shots))


def test_the_local_entropy_is_that_of_the_labels_probabilities():
    prompt = Prompt(output=Literal["a", "b"])
    shots = [Example("one", "a"), Example("three", "b")]

    def sure(request):
        """Torn where "a" was said last, as good as sure of one label after the other else."""
        torn = [m.content for m in request.messages if m.role == "assistant"][-1] == "a"
        return (-0.7, -0.7) if torn else ((-0.1, -5.0), (-5.0, -0.1))[len(request.messages[-1].content) % 2]

    model = Script(scores=sure)
    probes = ["x", "xx"]
    assert run(by_entropy(shots, prompt, probes, over="local"), model)[-1].target == "a"
    assert run(by_entropy(shots, prompt, probes), model)[-1].target == "b"
    with pytest.raises(SetupError, match="needs the labels' probabilities"):
        run(by_entropy(shots, Prompt(), probes, over="local", solve=said), Script(recency))
    with pytest.raises(SetupError, match="needs inputs to try"):
        run(by_entropy(shots, Prompt(), ["one"], solve=said), Script(recency))


def test_a_function_of_the_users_chooses_demonstrations():
    pool = [Example("x" * n, str(n)) for n in (1, 5, 9, 30)]
    task = Task.classification("t", pool, [Example("y" * 8, "9")])
    model = Script(lambda request: [m.content for m in request.messages if m.role == "assistant"][-1])
    by_length = partial(embedded, embed=lambda texts: [[len(text), 10.0] for text in texts])
    learner = in_context(model, by_length)
    assert run(learner(task, pool, 0).program("y" * 8), model).value == "9"
    assert learner.description.startswith("embedded demonstrations")
    assert set(SELECTORS) >= PER_QUESTION
