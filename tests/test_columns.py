"""Columns that give the label away."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.compare.data.columns import telling
from promptlab.compare.data.tables import read_table

LABELLED = Path(__file__).parents[2] / "shared" / "data" / "labelled"
real_data = pytest.mark.skipif(not LABELLED.is_dir(), reason=f"the labelled sets are not at {LABELLED}")


def written(path: Path, columns: dict[str, list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def told(tmp_path: Path, columns: dict[str, list[str]], *text: str) -> list[str]:
    return list(telling(read_table(written(tmp_path / "notes.csv", columns)), text or ("text",), "label"))


def notes(n: int = 60) -> dict[str, list[str]]:
    return {
        "text": [f"note {i} of a patient" for i in range(n)],
        "label": ["urgent" if i * i % 7 < 3 else "routine" for i in range(n)],
    }


def test_a_column_of_codes_for_the_label_is_found_and_one_of_noise_is_not(tmp_path):
    made = notes()
    made["triage_code"] = ["3" if label == "urgent" else f"{i // 2 % 2}" for i, label in enumerate(made["label"])]
    made["ward"] = [f"{i * i % 5}" for i in range(60)]
    made["id"] = [f"{i}" for i in range(60)]
    [line] = told(tmp_path, made)
    assert line.startswith('The column "triage_code" may give the label away (its values tell 100% of the labels, ')


def test_a_text_that_is_asked_and_tells_is_a_question(tmp_path):
    made = notes()
    made["claim"] = [f"claim {label}" for label in made["label"]]
    [line] = told(tmp_path, made, "text", "claim")
    assert line.startswith('Does the text column "claim" give the label away?')


@pytest.mark.parametrize("name", ["LONG_ANSWER", "finalDecision", "gold", "rationale of the reader"])
def test_a_name_can_say_that_a_column_was_written_afterwards(name, tmp_path):
    made = notes()
    [line] = told(tmp_path, made | {name: [f"since {i}" for i in range(60)]})
    assert f'"{name}"' in line
    assert "when the label was known" in line


def test_words_inside_words_are_not_such_names(tmp_path):
    assert told(tmp_path, notes() | {name: ["x"] * 60 for name in ("marigold", "targeted", "answering")}) == []


def test_texts_that_stand_once_tell_nothing_by_their_values(tmp_path):
    assert told(tmp_path, notes()) == []
    few = {name: values[:8] for name, values in notes().items()}
    assert told(tmp_path, few | {"code": few["label"]}) == []


def test_lint_and_compare_say_it(tmp_path, capsys):
    made = notes()
    path = written(tmp_path / "notes.csv", made | {"code": made["label"]})
    with pytest.raises(SystemExit):
        main(["lint", str(path)])
    assert 'The column "code" may give the label away' in capsys.readouterr().out


@real_data
def test_pubmedqas_long_answer_and_healthvers_claims_are_found():
    asked = ("QUESTION", "LONG_ANSWER")
    lines = list(telling(read_table(LABELLED / "pubmedqa" / "ori_pqal.json"), asked, "final_decision"))
    assert any(line.startswith('Does the text column "LONG_ANSWER" give the label away?') for line in lines)
    assert not any('"QUESTION"' in line for line in lines)
    table = read_table(LABELLED / "healthver" / "healthver_dev.csv")
    [line] = telling(table, ("evidence", "claim"), "label", "evidence")
    assert '"claim" give the label away? It looks so: its values tell 77%' in line
