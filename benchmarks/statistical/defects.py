"""What is known to be wrong with real labelled sets, and what the lint counts."""

from __future__ import annotations

from pathlib import Path

from harness import DATA, row

from promptlab.compare.data.lint import Finding, lint
from promptlab.compare.data.tables import examples_from, read_table
from promptlab.splits import clusters
from promptlab.types import Example
from statistical.rows import Row, equal

LIAR = DATA.parent / "protegi_liar" / "liar"
OVERLAPS = (  # train, test, columns, kind of finding, count
    ("banking77/train.csv", "banking77/test.csv", ("text", "category"), "overlap", 25),
    ("trec/TREC.train", "trec/TREC.test", ("text", "label"), "overlap", 11),
    ("nicta_piboso/train_clean.txt", "nicta_piboso/test_clean.txt", ("text", "label", "group"), "overlap", 11),
    ("sst2/stsa.binary.train", "sst2/stsa.binary.test", ("text", "label"), "overlap", 2),
    (
        "healthver/healthver_dev.csv",
        "healthver/healthver_test.csv",
        ("evidence+claim", "label", "evidence"),
        "groups across",
        375,
    ),
)


def examples(path: Path, *columns: str, header: bool = True) -> list[Example]:
    return examples_from(read_table(path, header=header), *columns).examples


def count(findings: list[Finding], kind: str) -> int:
    return sum(finding.count for finding in findings if finding.kind == kind)


def measure(quick: bool) -> list[Row]:
    if not DATA.is_dir():
        return [row("data lint", None, "", note="not measured: the sets are not at hand")]
    rows = []
    for train, test, columns, kind, known in OVERLAPS:
        sides = [examples(DATA / side, *columns) for side in (train, test)]
        name = f"data lint, {train.split('/')[0]}: {kind} of train and test"
        rows.append(equal(name, count(lint(*sides), kind), known, "found", len(sides[1])))
    rows += [*repeats(), *traps(), *leaks()]
    if LIAR.is_dir():
        sides = [statements(LIAR / f"{side}.jsonl") for side in ("train", "test")]
        rows.append(
            equal(
                "data lint, liar: overlap of train and test", count(lint(*sides), "overlap"), 3, "found", len(sides[1])
            )
        )
    return rows


def statements(path: Path) -> list[Example]:
    """The statements without who said them where, in which the two copies of one differ."""
    return [
        Example(str(line["text"]).split("\n")[0], str(line["label"]), str(i))
        for i, line in enumerate(read_table(path).rows)
    ]


def repeats() -> list[Row]:
    symptoms = lint(examples(DATA / "symptom2disease/Symptom2Disease.csv", "text", "label"))
    pairs = examples(DATA / "medical_question_pairs/mqp.csv", "2+3", "4", "2", header=False)
    alone = lint(examples(DATA / "medical_question_pairs/mqp.csv", "2", "4", header=False))
    return [
        equal("data lint, symptom2disease: rows that repeat a text", count(symptoms, "duplicates"), 47, "found", 1_200),
        equal(
            "data lint, medical question pairs: rows that repeat a question",
            count(alone, "duplicates"),
            1_524,
            "found",
            len(pairs),
            note="each question stands in two rows",
        ),
        equal(
            "medical question pairs, grouped by question: clusters",
            len(set(clusters(pairs))),
            1_524,
            "clusters",
            len(pairs),
        ),
    ]


def traps() -> list[Row]:
    subj = read_table(DATA / "subj/subj.all")
    headless = read_table(DATA / "medical_question_pairs/mqp.csv")
    said = sum("looks like data, not a header" in warning for warning in headless.warnings)
    return [
        equal(
            "subj: rows, though str.splitlines gives 10,021", len(subj.rows), 10_000, "rows", 1, note=subj.warnings[0]
        ),
        equal("medical question pairs: the header that is none, told", said, 1, "warnings", 1),
    ]


def leaks() -> list[Row]:
    """A text that holds its label is found by its words; one that gives the answer away in other words is not."""
    table = read_table(DATA / "pubmedqa/ori_pqal.json")
    said, written = (
        count(lint(examples_from(table, f"QUESTION+{column}", "final_decision").examples), "leak")
        for column in ("reasoning_required_pred", "LONG_ANSWER")
    )
    return [
        row("data lint, pubmedqa with a human's answer as text: leak", said, "found", n=1_000, target=1),
        row(
            "data lint, pubmedqa with LONG_ANSWER as text: leak",
            written,
            "found",
            n=1_000,
            note="not found: the conclusion gives the answer away by what it means, not by the label's word",
        ),
    ]
