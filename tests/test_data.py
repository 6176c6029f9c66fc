"""The synthetic documents: any row can be made again alone, arithmetic is right, held-out labels are held out."""

from __future__ import annotations

import re
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.prompt import Prompt
from promptlab.tiny.data.families import (
    ALL_WORDS,
    HELD_OUT_LABELS,
    MIXTURE,
    NAMED_LABELS,
    STEP_BY_STEP,
    arithmetic,
    facet_map,
    options,
    recall,
    word_map,
    word_problem,
)
from promptlab.tiny.data.stream import ANSWER_WEIGHT, OTHER_WEIGHT, documents, rows
from promptlab.tiny.data.world import TEMPLATES, WORDS, sentence
from promptlab.tiny.pretrain import pretraining_batch
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


def test_steps_of_a_run_have_rows_of_their_own(tiny_tokenizer, random_model):
    def rows_of(step):
        batches = pretraining_batch(tiny_tokenizer, random_model.config, 0, step, long_from=2)
        return [row.numpy().tobytes() for batch in batches for row in batch.tokens]

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
            else:  # the assistant's text and the <eos> that ends it
                assert w == (ANSWER_WEIGHT if speaker == assistant else OTHER_WEIGHT)
                assert token != EOS or speaker == assistant
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
    assert not set(HELD_OUT_LABELS) & {*NAMED_LABELS, *ALL_WORDS}


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


# ---- arithmetic


STEP = re.compile(r"(\d+) ([+-]) (\d+) = (\d+)\.")


def change(sentence: str) -> int:
    """What a sentence of a word problem does to the number."""
    n = int(re.search(r"\d+", sentence)[0])
    return n if re.search(r"more come|Add|put in|arrive", sentence) else -n


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_every_step_of_a_derivation_is_right_and_leads_to_the_answer(seed, n_steps):
    question, steps, result = word_problem(Random(seed), n_steps)
    start, *changes = question.split(". ")[:-1]
    expected = int(re.search(r"\d+", start)[0]) + sum(map(change, changes))
    assert len(changes) == n_steps
    for step in steps:
        a, sign, b, c = STEP.fullmatch(step).groups()
        assert int(c) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert 0 <= int(c) <= 99
    assert int(STEP.fullmatch(steps[-1])[4]) == result == expected


def test_answers_given_directly_are_those_of_the_words():
    direct = worked = 0
    for seed in range(300):
        chat = arithmetic(Random(seed), 300)
        for asked, said in zip(chat[::2], chat[1::2], strict=True):
            question = asked.content.removesuffix("\n" + STEP_BY_STEP)
            start, *changes = question.split(". ")[:-1]
            expected = int(re.search(r"\d+", start)[0]) + sum(map(change, changes))
            if question == asked.content:
                direct += 1
                assert said.content == str(expected)
                assert len(changes) <= 2
            else:
                worked += 1
                assert said.content.endswith(f" The answer is {expected}.")
                assert Prompt(output=int).parse(said.content).value == expected
    assert min(direct, worked) > 50
