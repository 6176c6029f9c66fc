"""The synthetic documents: any row can be made again alone, arithmetic is right, held-out labels are held out."""

from __future__ import annotations

import re
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.prompt import Prompt
from promptlab.tiny.data.copying import recall
from promptlab.tiny.data.label_maps import (
    HELD_OUT_LABELS,
    HELD_OUT_RULES,
    PLAIN_LABELS,
    RULES,
    facet_map,
    meaning_map,
    options,
    rule_items,
    word_map,
    words_to_tell_apart,
)
from promptlab.tiny.data.mixture import MIXTURE
from promptlab.tiny.data.stream import ANSWER_WEIGHT, OTHER_WEIGHT, Reading, documents, rows
from promptlab.tiny.data.world import TEMPLATES, WORDS, sentence
from promptlab.tiny.probe import label_map_question
from promptlab.tiny.tokenizer import BOS, EOS


def some_documents(n: int, family: str | None = None) -> list:
    mixture = {family: MIXTURE[family]} if family else MIXTURE
    return [next(documents(Random(f"test/{i}"), 300, mixture)) for i in range(n)]


# ---- rows


def test_a_row_is_a_function_of_its_seed_and_number(tiny_tokenizer):
    ids, weights = rows(tiny_tokenizer, 5, 0, 8, 128)
    some_ids, some_weights = rows(tiny_tokenizer, 5, 5, 3, 128)
    assert np.array_equal(some_ids, ids[5:8])
    assert np.array_equal(some_weights, weights[5:8])
    assert not np.array_equal(rows(tiny_tokenizer, 6, 5, 3, 128)[0], some_ids)
    assert len({row.tobytes() for row in ids}) == 8


def test_steps_of_a_run_have_rows_of_their_own(tiny_tokenizer):
    def rows_of(step):
        ids, _ = Reading(0, 1024, long_from=2, early=1, later=2).rows(tiny_tokenizer, step)
        return [row.tobytes() for row in ids]

    steps = [rows_of(step) for step in (0, 1, 2)]
    assert rows_of(1) == steps[1]
    every = [row for step in steps for row in step]
    assert len(set(every)) == len(every)


def test_weights_are_full_where_the_assistant_speaks_and_nowhere_else(tiny_tokenizer):
    ids, weights = rows(tiny_tokenizer, 0, 0, 4, 400)
    roles = set(tiny_tokenizer.role.values())
    assistant = tiny_tokenizer.role["assistant"]
    for row, weight in zip(ids, weights, strict=True):
        speaker = None
        for token, w in zip(row.tolist(), weight.tolist(), strict=True):
            if token == BOS:
                assert w == 0.0
                speaker = None
            elif token in roles:
                assert w == OTHER_WEIGHT
                speaker = token
            elif speaker == assistant:  # its text and the <eos> that ends it
                assert w == ANSWER_WEIGHT
            else:  # what the world answers to a call is not to be foretold
                assert w in (OTHER_WEIGHT, 0.0)
                assert token != EOS
    assert {0.0, OTHER_WEIGHT, ANSWER_WEIGHT} == set(np.unique(weights).tolist())


def test_rows_are_documents_as_the_chat_layout_writes_them(tiny_tokenizer):
    ids, _ = rows(tiny_tokenizer, 0, 3, 1, 256)
    chat = next(documents(Random("0/3"), 256, MIXTURE))
    expected = tiny_tokenizer.chat(chat)
    if chat[-1].role == "assistant":
        expected.append(EOS)
    else:
        expected.pop()  # no turn of the assistant follows
    n = min(len(expected), 257)
    assert ids[0, :n].tolist() == expected[:n]


def test_every_family_occurs_and_alternates_turns():
    for family in MIXTURE:
        for chat in some_documents(50, family):
            turns = [m.role for m in chat if m.role != "system"]
            assert turns == ["user", "assistant"] * (len(turns) // 2) or turns == ["user"]
            assert all(m.content.strip() for m in chat)
            assert "system" not in [m.role for m in chat[1:]]


# ---- label maps


def test_held_out_labels_never_occur_as_labels():
    for chat in some_documents(3000):
        for message in chat:
            if message.role == "assistant":
                assert message.content not in HELD_OUT_LABELS
            if message.role == "system":
                assert not set(re.findall(r"\w+", message.content)) & set(HELD_OUT_LABELS)


def test_held_out_labels_are_neither_words_of_the_world_nor_named_labels():
    assert not set(HELD_OUT_LABELS) & set(PLAIN_LABELS)


def test_probes_ask_for_held_out_labels_only():
    for i in range(50):
        chat, answer, labels = label_map_question(Random(i), 4, 8)
        assert set(labels) <= set(HELD_OUT_LABELS)
        assert answer in labels
        assert {m.content for m in chat if m.role == "assistant"} == set(labels)


def test_a_word_map_gives_an_item_one_label():
    repeated = 0
    for seed in range(200):
        turns = [m.content for m in word_map(Random(seed), 600) if m.role != "system"]
        label_of: dict[frozenset[str], str] = {}
        for item, label in zip(turns[::2], turns[1::2], strict=True):
            same_words = frozenset(item.split())  # in either order
            repeated += same_words in label_of
            assert label_of.setdefault(same_words, label) == label
    assert repeated > 100


def test_words_to_tell_apart_differ_and_in_many_documents_look_alike():
    letters = []
    for seed in range(300):
        words = words_to_tell_apart(Random(seed), 24)
        assert len(set(words)) == 24
        letters.append(len(set("".join(words))))
    assert sum(n <= 8 for n in letters) > 20  # of five consonants and three vowels
    assert sum(n > 12 for n in letters) > 200


def test_a_facet_maps_labels_stand_for_classes():
    """Every item of a label shows a word of one and the same class, of one facet for the whole document."""
    for seed in range(100):
        chat = facet_map(Random(seed), 600)
        shown: dict[str, list[str]] = {}
        turns = [m.content for m in chat if m.role != "system"]
        for item, label in zip(turns[::2], turns[1::2], strict=True):
            shown.setdefault(label, []).append(item)

        def classes_shown(facet: str, items: list[str]) -> list[str]:
            return [c for c, words in WORDS[facet].items() if all(any(w in item for w in words) for item in items)]

        assert any(all(classes_shown(facet, items) for items in shown.values()) for facet in WORDS)


def test_a_sentence_shows_the_facets_that_are_wanted():
    for i in range(300):
        rng = Random(i)
        facet = rng.choice(list(WORDS))
        name = rng.choice(list(WORDS[facet]))
        text = sentence(rng, {facet: name})
        assert any(word in text for word in WORDS[facet][name])
        assert "{" not in text


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_can_be_filled(template):
    assert "{" not in sentence(Random(0), {"symptom": "gut"}, template)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_meaning_maps_labels_are_classes_each_standing_for_one(seed):
    """Its own, or in a document whose names are dealt out anew perhaps another."""
    turns = [m.content for m in meaning_map(Random(seed), 400) if m.role != "system"]
    class_of_word = {word: name for classes in WORDS.values() for name, words in classes.items() for word in words}
    stands_for: dict[str, str] = {}
    for word, label in zip(turns[::2], turns[1::2], strict=True):
        assert stands_for.setdefault(label, class_of_word[word]) == class_of_word[word]
    assert len(set(stands_for.values())) == len(stands_for)


@pytest.mark.parametrize("rule", [*RULES, *HELD_OUT_RULES])
def test_a_rule_is_fulfilled_by_about_half_of_its_items(rule):
    answers = [yes for seed in range(40) for _, yes in rule_items(Random(seed), rule, 20)]
    assert 0.4 < sum(answers) / len(answers) < 0.6


def test_recall_answers_are_the_values_given():
    for seed in range(100):
        chat = recall(Random(seed), 300)
        first = chat[0].content
        pairs = dict(pair.split(" = ") for pair in first[: first.rindex(". ")].split(", "))
        keys = [first[first.rindex(". ") + 2 :], *(m.content for m in chat[2::2])]
        assert [pairs[key] for key in keys] == [m.content for m in chat[1::2]]


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
def test_options_are_worded_as_prompts_word_them(labels):
    from typing import Literal

    assert Prompt(output=Literal[tuple(labels)]).render("x")[0].content == options(labels)
