"""From a search to training: what it exports, and that the trainers read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from searches import write_lists
from test_cli import promptlab  # noqa: F401  the fixture

from promptlab.commands.files import read_labelled, read_pairs

SEARCH = "optimize lists.csv --output text --option proposals=6 --calls 500 --model searches:Words --out run --quiet"


@pytest.fixture
def searched(promptlab, tmp_path):  # noqa: F811
    """Types commands in a folder with a finished search in run/."""
    write_lists(tmp_path / "lists.csv", 120)
    assert promptlab(SEARCH.split(), "--instruction", "Give a word.")[0] == 0
    return promptlab


def rows(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_right_answers_and_pairs_are_what_they_say_and_none_is_of_the_test(searched):
    code, said, _ = searched("optimize --resume run --export-sft sft.jsonl --export-dpo dpo.jsonl")
    right, pairs = rows("sft.jsonl"), rows("dpo.jsonl")
    assert (code, said) == (0, f"sft.jsonl: {len(right)} right answers\ndpo.jsonl: {len(pairs)} pairs\n")
    assert all(row["label"] == row["text"].split()[1] for row in right)
    assert all(pair["chosen"] == pair["prompt"].split()[1] != pair["rejected"] for pair in pairs)
    assert len({row["text"] for row in right}) == len(right) > 50
    tested = {row["input"] for row in rows("run/rows.jsonl")}
    assert not tested & {row["text"] for row in right}
    assert not tested & {pair["prompt"] for pair in pairs}


def test_the_trainers_read_what_is_exported(searched, random_folder):
    searched("optimize --resume run --export-sft sft.jsonl --export-dpo dpo.jsonl -q")
    assert len(read_labelled(Path("sft.jsonl"), "text", "label", free=True).examples) == len(rows("sft.jsonl"))
    assert len(read_pairs(Path("dpo.jsonl"))) == len(rows("dpo.jsonl"))
    for command in ("sft sft.jsonl --free", "dpo dpo.jsonl"):
        out = command.split()[0]
        code, said, _ = searched(f"train {command} --steps 2 --out {out}", "--model", f"tiny:{random_folder}")
        assert (code, said) == (0, f"tiny:{out}\n")


def test_of_classes_the_label_alone_is_learnt(promptlab, tmp_path):  # noqa: F811
    write_lists(tmp_path / "lists.csv", 120)
    lines = Path("lists.csv").read_text().splitlines()
    labelled = [f"{line.split(',')[0]},{'early' if line.split(',')[1] < 'n' else 'late'}" for line in lines[1:]]
    Path("classes.csv").write_text("\n".join(["text,label", *labelled]) + "\n")
    given = ["--option", "proposals=4", "--calls", "400", "--model", "studies:Asked", "--out", "run", "--quiet"]
    assert promptlab("optimize classes.csv --instruction Sort.", *given)[0] == 0
    code, _, err = promptlab("optimize --resume run --export-sft sft.jsonl")
    assert (code, "The run has met no right answer" in err) == (2, True)  # this model knows no such label


def test_a_run_without_answers_or_of_other_examples_is_refused(searched):
    ledger = Path("run/ledger.jsonl")
    kept = ledger.read_text()
    ledger.write_text(kept.splitlines()[0] + "\n")
    assert "run holds no answers yet" in searched("optimize --resume run --export-sft sft.jsonl")[2]
    ledger.write_text(kept)
    write_lists(Path("lists.csv"), 119)
    assert "lists.csv has changed since run was begun" in searched("optimize --resume run --export-sft sft.jsonl")[2]
    assert "holds no run" in searched("optimize --resume nowhere --export-dpo dpo.jsonl")[2]
