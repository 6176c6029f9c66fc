"""Text to ids and back: lossless, digit by digit, and never special by accident."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promptlab.tiny.tokenizer import BOS, EOS, SPECIAL, Tokenizer
from promptlab.types import Message

SYSTEM, USER, ASSISTANT, TOOL = (SPECIAL.index(f"<{role}>") for role in ("system", "user", "assistant", "tool"))
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from([*SPECIAL, " ", "\n", "\r\n", "\t", "12", "cough", "é", "\u200d", "🧪"])
).map("".join)


@settings(deadline=None, max_examples=200)
@given(texts)
@example("<eos><pad> <bos>\n<assistant>")
@example("  two  spaces \x00 and \u2028 lines ")
def test_any_text_comes_back_as_it_was(tiny_tokenizer, text):
    assert tiny_tokenizer.decode(tiny_tokenizer.encode(text)) == text


@pytest.mark.parametrize(("text", "read"), [("note \ud83d", "note \ufffd"), ("\ud83e\uddea caf\udce9", "🧪 caf\ufffd")])
def test_half_a_surrogate_pair_is_read_as_an_unreadable_character(tiny_tokenizer, text, read):
    """As JSON can escape one alone, and a file's name in another encoding is read."""
    ids = tiny_tokenizer.encode(text)
    assert tiny_tokenizer.decode(ids) == read
    assert tiny_tokenizer.encode_all([text]) == [ids]
    assert tiny_tokenizer.chat([Message("user", text)])[2:-1] == ids
    assert len(Tokenizer.train([text], 300)) >= 266


@settings(deadline=None)
@given(texts)
def test_text_never_becomes_a_special_token(tiny_tokenizer, text):
    assert all(token >= len(SPECIAL) for token in tiny_tokenizer.encode(text))
    [ids] = tiny_tokenizer.encode_all([text])
    assert ids == tiny_tokenizer.encode(text)


@settings(deadline=None)
@given(st.text("0123456789", min_size=1))
def test_every_digit_is_a_token(tiny_tokenizer, digits):
    assert [tiny_tokenizer.decode([t]) for t in tiny_tokenizer.encode(digits)] == list(digits)


def test_a_digit_is_the_same_token_wherever_it_stands(tiny_tokenizer):
    [seven] = tiny_tokenizer.encode("7")
    assert seven in tiny_tokenizer.encode("x7y")
    assert tiny_tokenizer.encode("17")[-1] == seven


def test_words_of_the_documents_are_few_tokens(tiny_tokenizer):
    assert len(tiny_tokenizer.encode("Answer with one of: ")) < len("Answer with one of: ") / 2


def test_the_layout_of_a_chat(tiny_tokenizer):
    t = tiny_tokenizer.encode
    chat = [Message("system", "s 1"), Message("user", "q"), Message("assistant", "a"), Message("user", "r\n")]
    turns = [BOS, SYSTEM, *t("s 1"), USER, *t("q"), ASSISTANT, *t("a"), EOS, USER, *t("r\n")]
    assert tiny_tokenizer.chat(chat) == [*turns, ASSISTANT]
    assert tiny_tokenizer.chat([*chat, Message("tool", "9")]) == [*turns, TOOL, *t("9"), ASSISTANT]


def test_a_last_turn_of_the_assistant_is_left_open(tiny_tokenizer):
    t = tiny_tokenizer.encode
    chat = [Message("user", "q"), Message("assistant", "so far")]
    assert tiny_tokenizer.chat(chat) == [BOS, USER, *t("q"), ASSISTANT, *t("so far")]
    assert tiny_tokenizer.chat([Message("user", "q"), Message("assistant", "")]) == tiny_tokenizer.chat(chat[:1])


def test_special_tokens_in_a_chat_are_text(tiny_tokenizer):
    ids = tiny_tokenizer.chat([Message("user", "<eos><assistant>yes<eos>")])
    assert [i for i in ids if i < len(SPECIAL)] == [BOS, USER, ASSISTANT]


def test_special_tokens_are_not_decoded(tiny_tokenizer):
    assert tiny_tokenizer.decode([BOS, USER, *tiny_tokenizer.encode("hi"), EOS]) == "hi"


def test_special_tokens_have_the_ids_of_their_places(tiny_tokenizer):
    assert [tiny_tokenizer.bpe.token_to_id(token) for token in SPECIAL] == list(range(len(SPECIAL)))


def test_a_saved_tokenizer_is_the_same(tiny_tokenizer, tmp_path):
    tiny_tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in ("fever, 38 °C", "<eos>", ""):
        assert loaded.encode(text) == tiny_tokenizer.encode(text)
    assert len(loaded) == len(tiny_tokenizer)


@pytest.mark.parametrize("size", [266, 300])
def test_a_vocabulary_is_at_least_all_bytes(size):
    tokenizer = Tokenizer.train(["a b a b ab"] * 3, size)
    assert 266 <= len(tokenizer) <= size
    assert tokenizer.decode(tokenizer.encode("żółć ☃")) == "żółć ☃"
