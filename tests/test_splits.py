"""What may not cross a split, and what order of labels a budget buys."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from promptlab.compare.data.tables import examples_from, read_table
from promptlab.errors import DataError
from promptlab.splits import clusters, label_budgets, split, text_key
from promptlab.types import Example

LABELLED = Path(__file__).parents[2] / "shared" / "data" / "labelled"
real_data = pytest.mark.skipif(not LABELLED.is_dir(), reason=f"the labelled sets are not at {LABELLED}")


def numbered(rows) -> list[Example]:
    return [Example(text, label, f"x:{i}", group) for i, (text, label, group) in enumerate(rows, 1)]


# Few texts and groups, so that copies, groups and chains of both are common.
small_rows = st.tuples(
    st.sampled_from(["a b", "A  b", "a-b?", "c", "d", "e", "f", "g", "h", "k"]),
    st.sampled_from("xyz"),
    st.sampled_from(["1", "2", "3", "4", None, None, None]),
)
small_sets = st.lists(small_rows, min_size=2, max_size=40).map(numbered)
distinct_sets = st.lists(st.sampled_from("uvwxyz"), min_size=2, max_size=60).map(
    lambda labels: numbered((f"text {i}", label, None) for i, label in enumerate(labels))
)


def split_or_discard(examples, **how):
    try:
        return split(examples, **how)
    except DataError:
        assume(False)
        raise


# ---- the same text


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Can I top-up?", "can  i TOP UP"),
        ("What 's an atom ?", "what's an atom"),
        ("straße", "STRASSE"),
        ("cafe\u0301", "café"),
        ("?", " ? "),
        ("患者发热。", "患者发热"),
        ("发热，咳嗽；“腹泻”（轻）！", "发热 咳嗽 腹泻 轻"),
        ("发热,咳嗽", "发热咳嗽"),
        ("约翰·史密斯——《病历》", "约翰史密斯 病历"),
        ("COVID-19 阳性，38.5 度", "covid 19阳性38.5度"),
        ("「発熱」はありますか？", "発熱はありますか"),
        ("มีไข้ และไอ", "มีไข้และไอ"),
    ],
)
def test_texts_that_differ_in_case_spacing_and_punctuation_are_the_same(a, b):
    assert text_key(a) == text_key(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("2 + 3", "2 - 3"),
        ("HER2+", "HER2-"),
        ("p < 1", "p > 1"),
        ("1.5", "15"),
        ("5·1 mmol", "5 1 mmol"),
        ("?", "!"),
        ("", "?"),
        ("体温 3 8", "体温 38"),
        ("发热＋", "发热－"),
        ("血压<90", "血压>90"),
    ],
)
def test_texts_that_differ_in_a_sign_with_a_meaning_are_not_the_same(a, b):
    assert text_key(a) != text_key(b)


@settings(deadline=None)
@given(st.text())
def test_spacing_and_case_never_make_another_text(text):
    assert text_key(f" {text}\n") == text_key(text) == text_key(text.casefold())


# ---- clusters


def test_clusters_are_chains_of_same_group_or_same_text_numbered_as_they_occur():
    rows = [("a", "x", "1"), ("b", "x", None), ("c", "x", "2"), ("B!", "x", "2"), ("d", "x", "1"), ("e", "x", None)]
    assert clusters(numbered(rows)) == [0, 1, 1, 1, 0, 2]


def test_groups_named_by_ids_are_compared_to_the_letter_and_by_texts_as_texts():
    assert clusters(numbered([("a", "x", "ab1"), ("b", "x", "AB1")])) == [0, 1]
    assert clusters(numbered([("a", "x", "Is it so?"), ("b", "x", "is it so")])) == [0, 0]
    assert clusters(numbered([("a", "x", "b c"), ("b c", "x", None)])) == [0, 1]
    assert clusters(numbered([("a", "x", "是否发热？"), ("b", "x", "是否发热")])) == [0, 0]


@settings(deadline=None)
@given(small_sets)
def test_clusters_agree_with_connected_components(examples):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    linked = [
        (i, j)
        for i, a in enumerate(examples)
        for j, b in enumerate(examples)
        if text_key(a.input) == text_key(b.input) or (a.group is not None and a.group == b.group)
    ]
    i, j = zip(*linked, strict=True)
    n = len(examples)
    reference = connected_components(coo_array(([1] * len(i), (i, j)), shape=(n, n)), directed=False)[1]
    assert (
        len(set(zip(clusters(examples), reference, strict=True))) == len(set(reference)) == len({*clusters(examples)})
    )


# ---- split


@settings(max_examples=200, deadline=None)
@given(small_sets, st.floats(0.1, 0.9), st.integers(0, 5))
def test_no_text_and_no_group_is_ever_on_both_sides(examples, share, seed):
    train, test = split_or_discard(examples, test_share=share, seed=seed)
    assert sorted(e.id for e in train + test) == sorted(e.id for e in examples)
    assert train
    assert test
    assert not {text_key(e.input) for e in train} & {text_key(e.input) for e in test}
    assert not {e.group for e in train} & {e.group for e in test} - {None}
    assert {e.target for e in train} == {e.target for e in examples}


@settings(deadline=None)
@given(small_sets, st.randoms(use_true_random=False), st.integers(0, 5))
def test_rows_in_another_order_are_split_alike(examples, random, seed):
    train, test = split_or_discard(examples, seed=seed)
    shuffled = random.sample(examples, len(examples))
    again = split(shuffled, seed=seed)
    assert set(again.test) == set(test)
    assert [e for e in shuffled if e in set(train)] == again.train


@settings(deadline=None)
@given(st.lists(st.integers(2, 20), min_size=1, max_size=6), st.data(), st.integers(0, 5))
def test_without_clusters_size_and_class_proportions_are_exact(sizes, data, seed):
    examples = numbered((f"text {c} {i}", f"class {c}", None) for c, size in enumerate(sizes) for i in range(size))
    wanted = data.draw(st.integers(1, sum(sizes) // 2))
    test = split(examples, test_size=wanted, seed=seed).test
    assert len(test) == wanted
    have = Counter(e.target for e in test)
    for c, size in enumerate(sizes):
        assert abs(have[f"class {c}"] - Fraction(size * wanted, sum(sizes))) < 1


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=4, max_size=30),
    st.floats(0.1, 0.5),
    st.integers(0, 5),
)
def test_with_groups_the_size_misses_by_less_than_the_largest_group(sizes, share, seed):
    rows = [(f"t{g} {i}", "xy"[(g + i) % 2], f"g{g}") for g, size in enumerate(sizes) for i in range(size)]
    examples = numbered(rows)
    wanted = max(1, round(share * len(examples)))
    _, test = split_or_discard(examples, test_size=wanted, seed=seed)
    assert abs(len(test) - wanted) < max(sizes)


@settings(deadline=None)
@given(st.lists(st.integers(2, 6), min_size=4, max_size=12), st.data(), st.integers(0, 5))
def test_at_most_so_many_are_never_more_and_as_many_as_fit(sizes, data, seed):
    examples = numbered((f"t {g} {i}", "xy"[i % 2], f"g{g}") for g, size in enumerate(sizes) for i in range(size))
    most = data.draw(st.integers(6, len(examples) - 1))
    test = split(examples, test_size=most, at_most=True, seed=seed).test
    assert most - max(sizes) < len(test) <= most


def test_classes_stay_in_proportion_when_groups_hold_one_class_each():
    examples = numbered((f"t{i}", "rare" if i % 10 == 0 else "common", f"g{i}") for i in range(1000))
    examples += numbered((f"u{i}", "third", f"h{i // 5}") for i in range(500))
    have = Counter(e.target for e in split(examples, test_share=0.2, seed=3).test)
    assert have == {"common": 180, "rare": 20, "third": 100}


def test_large_groups_are_not_sought_out_for_the_test_side():
    rows = [(f"t{g} {i}", "xy"[i % 2], f"g{g}") for g in range(300) for i in range(2 if g % 2 else 10)]
    shares = []
    for seed in range(20):
        test = split(numbered(rows), test_share=0.3, seed=seed).test
        shares.append(sum(int(e.group[1:]) % 2 == 0 for e in test) / len(test))
    # 10 of 12 rows are in large groups; a side filled with the largest first would hold nothing else
    assert abs(sum(shares) / len(shares) - 10 / 12) < 0.02


def test_the_largest_group_is_tested_on_as_often_as_its_share_says():
    rows = [(f"t{i}", "xy"[i % 2], "giant" if i < 40 else None) for i in range(200)]
    times = sum(any(e.group for e in split(numbered(rows), test_share=0.3, seed=seed).test) for seed in range(100))
    assert 16 <= times <= 44  # 30, and three standard deviations of a binomial


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    examples = numbered((f"text {i}", "xy"[i % 2], None) for i in range(60))
    assert split(examples, seed=1) == split(examples, seed=1)
    assert split(examples, seed=1) != split(examples, seed=2)


def test_fields_are_split_as_the_text_that_is_shown_of_them():
    texts = [Example(f"note: {i // 2}\nward: 3", "ab"[i % 4 // 2], str(i)) for i in range(24)]
    fields = [replace(e, input={"note": str(i // 2), "ward": "3"}) for i, e in enumerate(texts)]
    assert clusters(fields) == clusters(texts)
    for made, wanted in zip(split(fields, seed=1), split(texts, seed=1), strict=True):
        assert [e.id for e in made] == [e.id for e in wanted]
    assert [e.id for e in label_budgets(fields, [9])[9]] == [e.id for e in label_budgets(texts, [9])[9]]


def test_both_sides_keep_the_order_the_examples_came_in():
    examples = numbered((f"text {i}", "xy"[i % 2], None) for i in range(30))
    for side in split(examples):
        assert list(side) == sorted(side, key=lambda e: int(e.id[2:]))


def test_a_class_with_one_example_is_trained_on():
    for seed in range(10):
        examples = numbered([("one", "rare", None), *((f"t{i}", "often", None) for i in range(5))])
        assert "rare" in {e.target for e in split(examples, test_share=0.8, seed=seed).train}


def test_what_cannot_be_split_is_an_error_that_says_why():
    with pytest.raises(DataError, match="one group"):
        split(numbered((f"t{i}", "xy"[i % 2], "all") for i in range(9)))
    with pytest.raises(DataError, match=r"copies of one text.*Bring more texts"):
        split(numbered(("the same", "xy"[i % 2], None) for i in range(9)))
    with pytest.raises(DataError, match=r"only one of a class \(9 classes\)"):
        split(numbered((f"t{i}", f"class {i}", None) for i in range(9)))
    with pytest.raises(DataError, match="leave a class out of training"):
        split(numbered((f"t{i}", "xy"[i % 2], "gh"[i % 2]) for i in range(9)))
    for size in (0, 9, -1):
        with pytest.raises(DataError, match=f"^{size} of 9 examples"):
            split(numbered((f"t{i}", "xy"[i % 2], None) for i in range(9)), test_size=size)


def test_nothing_depends_on_the_hash_seed_of_the_process():
    program = (
        "from promptlab.splits import *; from promptlab.types import Example\n"
        "e = [Example(f't{i}', 'xyz'[i * i % 3], str(i), f'g{i % 17}') for i in range(99)]\n"
        "print([x.id for x in split(e).test], [x.id for x in label_budgets(e, [50])[50]])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b"'" in outputs.pop()


@real_data
def test_whole_abstracts_are_held_out_at_the_size_and_proportions_asked_for():
    table = read_table(LABELLED / "nicta_piboso/train_clean.txt")
    examples = examples_from(table, "text", "label", "group").examples
    train, test = split(examples, test_size=1400)
    assert not {e.group for e in train} & {e.group for e in test}
    assert abs(len(test) - 1400) <= 5
    share = Counter(e.target for e in examples)
    for label, count in Counter(e.target for e in test).items():
        assert abs(count / len(test) - share[label] / len(examples)) < 0.01


# ---- budgets


@settings(deadline=None)
@given(small_sets, st.sets(st.integers(0, 40)), st.integers(0, 5))
def test_every_budget_is_the_beginning_of_every_larger_one_whatever_was_asked(pool, ks, seed):
    ks = {k for k in ks if k <= len(pool)}
    order = label_budgets(pool, [len(pool)], seed)[len(pool)]
    assert sorted(e.id for e in order) == sorted(e.id for e in pool)
    assert label_budgets(pool, ks, seed) == {k: order[:k] for k in ks}


@settings(deadline=None)
@given(small_sets, st.randoms(use_true_random=False))
def test_a_pool_in_another_order_gives_the_same_budgets(pool, random):
    ks = range(len(pool) + 1)
    assert label_budgets(random.sample(pool, len(pool)), ks) == label_budgets(pool, ks)


@settings(deadline=None)
@given(distinct_sets)
def test_classes_come_one_by_one_the_commonest_first(pool):
    total = Counter(e.target for e in pool)
    first = [e.target for e in label_budgets(pool, [len(total)])[len(total)]]
    assert len(set(first)) == len(total)
    assert [total[label] for label in first] == sorted(total.values(), reverse=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 3))
def test_no_other_choice_with_every_class_in_it_is_nearer_to_the_proportions(sizes, seed):
    pool = numbered((f"t{c} {i}", f"c{c}", None) for c, size in enumerate(sizes) for i in range(size))
    n = len(pool)

    def distance(have, k):
        shares = [Fraction(size * k, n) for size in sizes]
        return sum((h - share) ** 2 / share for h, share in zip(have, shares, strict=True))

    for k in range(len(sizes), n + 1):
        counts = Counter(e.target for e in label_budgets(pool, [k], seed)[k])
        have = [counts[f"c{c}"] for c in range(len(sizes))]
        choices = (c for c in product(*(range(1, size + 1) for size in sizes)) if sum(c) == k)
        assert distance(have, k) == min(distance(choice, k) for choice in choices)


def test_seeds_draw_other_examples_and_break_ties_between_classes_otherwise():
    pool = numbered((f"t{i}", "wxyz"[i % 4], None) for i in range(40))
    drawn = {seed: label_budgets(pool, [4], seed)[4] for seed in range(8)}
    assert len({frozenset(d) for d in drawn.values()}) == 8
    assert len({d[0].target for d in drawn.values()}) > 1


def test_a_budget_beyond_the_pool_is_an_error_that_says_how_many_there_are():
    pool = numbered((f"t{i}", "xy"[i % 2], None) for i in range(5))
    with pytest.raises(DataError, match=r"^6 labelled examples asked for; there are 5"):
        label_budgets(pool, [2, 6])
    with pytest.raises(DataError, match=r"^-1 labelled"):
        label_budgets(pool, [-1, 2])
    assert label_budgets(pool, [0]) == {0: ()}
