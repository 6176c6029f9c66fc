"""A user's own text as training data."""

import json
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.cli import main
from promptlab.commands.files import read_texts
from promptlab.errors import DataError, SetupError
from promptlab.tiny.adapt import adapt, of_text
from promptlab.tiny.checkpoint import load, save
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.precision import native_bf16
from promptlab.tiny.text import Stream, apart, batch_of, documents, next_token_loss_apart, split
from promptlab.tiny.tokenizer import BOS, EOS, Tokenizer
from promptlab.tiny.train import next_token_loss


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["some words of a text about fever and cough"] * 20, 280)


def test_texts_are_those_of_text_and_markdown_files_and_of_tables_in_any_shape(tmp_path):
    (tmp_path / "a.txt").write_text("one<|endoftext|>two\n<|endoftext|>  \n", encoding="utf-8")
    (tmp_path / "b.md").write_bytes("# café".encode("cp1252"))
    (tmp_path / "c.csv").write_text('id,note\n1,"four\nlines"\n2,two\n3,\n', encoding="utf-8")
    (tmp_path / "d.csv").write_bytes("sep=;\r\nid;note\r\n1;fever, šest danů\r\n".encode("utf-16"))
    (tmp_path / "e.tsv").write_text("id\tnote\n1\ta rash\n", encoding="utf-8")
    (tmp_path / "f.jsonl").write_text('{"note": "wheeze"}\n', encoding="utf-8")
    files = sorted(tmp_path.iterdir())
    found = ["one", "two", "# café", "four\nlines", "fever, šest danů", "a rash", "wheeze"]
    assert documents(read_texts(files, "note")) == found


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.pdf", b"%PDF", "is a .pdf; text is read from .txt, .md"),
        ("a.txt", b"  \n", "a.txt is empty"),
        ("a.txt", b"<|endoftext|>\n", "There is no text to train on"),
        ("a.csv", b"id,text\n1,x\n", 'has no text column "note"'),
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"id,note\n1,rash\n2,fever, and cough\n", "1 row(s) have more cells than the first line names"),
        ("none.txt", None, "No file"),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_named_and_leaves_no_folder_behind(tmp_path, capsys, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    run = tmp_path / "run"
    for command in ("text", "mlm"):
        with pytest.raises(SystemExit) as stop:
            main(["train", command, str(run), "--text", str(tmp_path / name), "--column", "note"])
        assert stop.value.code == 2
        assert told in capsys.readouterr().err
        assert not run.exists()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(10, 50), max_size=9), min_size=1, max_size=6), st.integers(2, 12), st.integers(0, 9)
)
def test_rows_run_through_all_documents_with_their_ends_once_an_epoch(texts, size, seed):
    stream = Stream(texts, seed)
    whole = stream.rows(0, 3 * stream.tokens, 2, overlap=1)[:, 0].tolist()  # three epochs, token by token
    for epoch in range(3):
        ids = whole[epoch * stream.tokens : (epoch + 1) * stream.tokens]
        found, one = [], []
        for token in ids:
            one.append(token)
            if token == EOS:
                assert one[0] == BOS
                found.append(one[1:-1])
                one = []
        assert sorted(found) == sorted(texts)
    rows = stream.rows(2, 3, size)
    assert torch.equal(rows[1:, 0], rows[:-1, -1])  # a row begins with the token that the one before ended with
    assert torch.equal(rows, Stream(texts, seed).rows(2, 3, size))


def test_what_is_held_out_is_read_nowhere_else_and_as_much_as_asked_for(tokenizer):
    texts = [f"text number {i} about fever" for i in range(50)]
    for whole in (texts, tokenizer.encode_all(texts)):
        read, held = split(whole, 0.2, seed=0)
        total = sum(map(len, whole))
        kept = sum(map(len, held))
        assert kept == round(0.2 * total)
        assert sum(map(len, read)) + kept == total
        assert split(whole, 0.0, seed=0)[1] == []
        with pytest.raises(DataError, match="at least 0 and less than 1"):
            split(whole, 1.0, seed=0)
        with pytest.raises(DataError, match="too few"):
            split(whole[:1], 0.001, seed=0)


def test_with_the_block_mask_a_neighbour_changes_nothing_and_without_it_something():
    model = Transformer(Config(vocab_size=60, d_model=32, n_layers=2, n_heads=2, d_ff=64, context=64))
    model.initialise(torch.Generator().manual_seed(0)).eval()
    first, other, last = [BOS, 11, 12, 13, EOS], [BOS, 21, 22, 23, EOS], [BOS, 14, 15, 16, EOS]
    with torch.no_grad():
        read = {}
        for name, before in (("first", first), ("other", other)):
            tokens = torch.tensor([[*before, *last]])
            read[name] = model(tokens)[0, 5:], model(tokens, *apart(tokens))[0, 5:]
        alone = model(torch.tensor([last]))[0]
    assert torch.equal(read["first"][1], read["other"][1])
    torch.testing.assert_close(read["first"][1], alone, atol=1e-6, rtol=0)
    assert not torch.allclose(read["first"][0], read["other"][0], atol=1e-4)


def test_the_loss_of_documents_apart_is_that_of_each_alone():
    model = Transformer(Config(vocab_size=60, d_model=32, n_layers=2, n_heads=2, d_ff=64, context=64))
    model.initialise(torch.Generator().manual_seed(0))
    texts = [[BOS, 11, 12, 13, EOS], [BOS, 14, 15, EOS]]
    together = next_token_loss_apart(model, batch_of(torch.tensor([[*texts[0], *texts[1]]])))
    each = sum(next_token_loss(model, batch_of(torch.tensor([text]))) for text in texts)
    torch.testing.assert_close(together, each)


def test_pretraining_goes_on_with_a_text_and_tells_what_was_gained_and_forgotten(tmp_path, tokenizer, capsys):
    init = tmp_path / "init"
    config = Config(vocab_size=len(tokenizer), d_model=32, n_layers=2, n_heads=2, d_ff=64, context=64)
    save(init, Transformer(config).initialise(torch.Generator().manual_seed(0)), tokenizer)
    texts = ["fever and cough some words\n" * 400]
    options = {"lr": 5e-3, "tokens_per_step": 512, "threads": 1}
    model, told = adapt(tmp_path / "run", init, texts, steps=60, **options)
    assert told.text_after < told.text_before / 3
    assert told.mixture_before > 1
    assert re.findall(r"^(\d+) of 60: loss \d", capsys.readouterr().out, re.M) == [str(6 * n) for n in range(1, 11)]
    again, retold = adapt(tmp_path / "run", init, texts, steps=60, **options)  # finished: nothing is left to do
    assert capsys.readouterr().out == "already done: 60 steps\n"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert (retold.text_after, retold.mixture_after) == (told.text_after, told.mixture_after)
    assert model.config == load(tmp_path / "run").model.config
    assert json.loads((tmp_path / "run" / "adapt.json").read_text())["bf16"] is native_bf16()
    with pytest.raises(SetupError, match="was begun with"):
        adapt(tmp_path / "run", init, texts, steps=60, **{**options, "lr": 1e-3})


def test_a_text_read_apart_is_measured_apart(tmp_path, random_folder):
    texts = [f"note {i}: {'fever cough rash pain'.split()[i % 4]} was seen" for i in range(40)]
    given = {"steps": 0, "held_out": 0.5, "threads": 1, "quiet": True}
    told = adapt(tmp_path / "run", random_folder, texts, apart=True, **given)[1]
    model, tokenizer, _ = load(random_folder)
    held = Stream(split(tokenizer.encode_all(texts), 0.5, seed=0)[1], 0)
    rows = of_text(held, min(model.config.context, held.tokens))
    with torch.no_grad():
        loss = sum(float(next_token_loss_apart(model, batch)) for batch in rows)
    expected = math.exp(loss / sum(batch.counted for batch in rows))
    assert told.text_before == pytest.approx(expected, rel=1e-6)
    together = adapt(tmp_path / "other", random_folder, texts, **given)[1]
    assert together.text_before != pytest.approx(expected, rel=0.01)
    assert together.mixture_before == told.mixture_before  # as it was pretrained on


def test_a_perplexity_is_said_to_be_of_the_text_that_it_is_of(tmp_path, tokenizer, capsys):
    init = tmp_path / "init"
    config = Config(vocab_size=len(tokenizer), d_model=32, n_layers=1, n_heads=2, d_ff=64, context=64)
    save(init, Transformer(config).initialise(torch.Generator().manual_seed(0)), tokenizer)
    (tmp_path / "notes.txt").write_text("fever and cough some words\n" * 100, encoding="utf-8")
    given = ["--text", str(tmp_path / "notes.txt"), "--init", str(init), "--steps", "1", "--threads", "1", "--quiet"]
    for share, said in (("0.1", "held out"), ("0", "that it was trained on")):
        with pytest.raises(SystemExit) as stop:
            main(["train", "text", str(tmp_path / share), *given, "--held-out", share])
        assert not stop.value.code
        assert capsys.readouterr().out.startswith(f"perplexity of the text {said}: ")
