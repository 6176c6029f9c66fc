"""Which demonstrations are shown: every prefix fair, the nearest truly nearest, as many as fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from promptlab import Example
from promptlab.prompt import shown
from promptlab.strategies.shots import (
    at_random,
    balanced,
    bm25,
    diverse,
    dpp,
    embedded,
    fitting,
    fixed,
    nearest,
    vote_k,
)

pools = st.lists(st.sampled_from("abc"), max_size=30).map(
    lambda ts: [Example(f"text {i}", t) for i, t in enumerate(ts)]
)


@given(pools, st.integers(0, 5))
def test_every_prefix_is_balanced_to_within_one_among_labels_not_used_up(pool, seed):
    order = balanced(pool, seed)("any question")
    whole = Counter(e.target for e in pool)
    for n in range(len(order) + 1):
        shown = {label: sum(e.target == label for e in order[:n]) for label in whole}
        left = [shown[label] for label in whole if shown[label] < whole[label]]
        assert not left or max(shown.values()) - min(left) <= 1


@given(pools, st.integers(0, 5))
def test_selectors_lose_and_invent_nothing_and_repeat_by_seed(pool, seed):
    for selector in (balanced, at_random):
        order = selector(pool, seed)("q")
        assert Counter(e.input for e in order) == Counter(e.input for e in pool)
        assert list(order) == list(selector(pool, seed)("another question"))


@pytest.mark.parametrize("selector", [balanced, at_random])
def test_orders_differ_by_seed(selector):
    pool = [Example(f"text {i}", "ab"[i % 2]) for i in range(20)]
    assert len({tuple(e.input for e in selector(pool, seed)("")) for seed in range(5)}) == 5


def test_the_turns_of_a_balanced_order_do_not_always_begin_with_one_label():
    pool = [Example(f"text {i}", "ab"[i % 2]) for i in range(8)]
    assert {balanced(pool, seed)("")[0].target for seed in range(20)} == {"a", "b"}


def embedded_by_length(pool):
    return embedded(pool, lambda texts: [[len(text), 1.0] for text in texts])


@pytest.mark.parametrize("select", [nearest, bm25, embedded_by_length, diverse, dpp, vote_k, fixed])
def test_examples_of_fields_are_chosen_by_the_text_that_is_shown_of_them(select):
    pool = [Example({"note": text, "ward": str(i % 2)}, "x") for i, text in enumerate(TEXTS)]
    as_text = [replace(e, input=shown(e.input)) for e in pool]
    asked = pool[3].input
    chosen = select(pool)(asked)
    assert [shown(e.input) for e in chosen] == [e.input for e in select(as_text)(shown(asked))]
    assert pool[3] not in chosen


TEXTS = ["fever and cough", "cough at night", "watery stool", "fever", "broken arm", "stool with blood and fever"]


@pytest.mark.parametrize("question", ["cough and fever", "blood in stool", "arm", "something else"])
def test_the_nearest_come_in_the_order_of_their_cosines(question):
    pool = [Example(text, "x") for text in TEXTS]
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit(TEXTS)
    cosines = cosine_similarity(vectorizer.transform([question]), vectorizer.transform(TEXTS))[0]
    chosen = nearest(pool, most=4)(question)
    assert len(chosen) == 4
    shown = [cosines[TEXTS.index(e.input)] for e in chosen]
    np.testing.assert_allclose(shown, sorted(cosines, reverse=True)[:4])
    if not cosines.any():
        assert [e.input for e in chosen] == TEXTS[:4]  # equal distances stay in the pool's order


@pytest.mark.parametrize("select", [nearest, bm25])
def test_the_nearest_are_found_in_scripts_without_spaces(select):
    pool = [Example(text, "x") for text in ("续开处方，已预约", "儿童胸痛，昨日开始", "ฉีดวัคซีนเช้านี้", "患者COVID阳性")]
    asked = {"男，45岁，突发胸痛": 1, "เด็กฉีดวัคซีน": 2, "COVID検査": 3}
    assert {question: pool.index(select(pool, 1)(question)[0]) for question in asked} == asked


def test_a_pool_without_words_stays_in_its_order():
    pool = [Example(text, "x") for text in ("?!", "...", "", "--")]
    assert list(nearest(pool, most=3)("fever?")) == pool[:3]


def test_nothing_is_nearest_in_an_empty_pool():
    assert nearest([])("q") == ()


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(0, 60))
def test_as_many_as_fit_are_shown_the_best_last(lengths, room):
    wished = [Example("x" * n, i) for i, n in enumerate(lengths)]
    tried: list[int] = []

    def fits(shots):
        tried.append(len(shots))
        return sum(len(e.input) for e in shots) <= room

    chosen = fitting(iter(wished), fits)
    n = max(n for n in range(len(wished) + 1) if sum(lengths[:n]) <= room)
    assert list(chosen.shots) == wished[:n][::-1]
    assert chosen.left_out == len(wished) - n
    assert len(tried) <= len(wished).bit_length()  # by bisection: counting tokens is not free
