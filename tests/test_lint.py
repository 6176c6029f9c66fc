"""Every defect is found, counted, and said in one line; a clean set gets no line."""

from pathlib import Path

import pytest

from promptlab.compare.data.lint import Finding, lint
from promptlab.compare.data.tables import examples_from, read_table
from promptlab.types import Example

LABELLED = Path(__file__).parents[2] / "shared" / "data" / "labelled"
real_data = pytest.mark.skipif(not LABELLED.is_dir(), reason=f"the labelled sets are not at {LABELLED}")


def numbered(*rows: tuple[str, ...]) -> list[Example]:
    """(text, label) or (text, label, group), with the row's number as id."""
    return [Example(row[0], row[1], str(i), *row[2:]) for i, row in enumerate(rows, 1)]


def plain(n: int = 6, side: str = "t") -> list[tuple[str, str]]:
    """n rows of each of two classes, with nothing wrong."""
    return [(f"{side} number {i} {c}", c) for i in range(n) for c in ("pos", "neg")]


def found(kind: str, train: list[Example], test: list[Example] | None = None) -> Finding:
    findings = [finding for finding in lint(train, test) if finding.kind == kind]
    assert len(findings) == 1, f"{len(findings)} findings of kind {kind}"
    assert "\n" not in findings[0].message
    return findings[0]


def kinds(train: list[Example], test: list[Example] | None = None) -> list[str]:
    return [finding.kind for finding in lint(train, test)]


def clean() -> list[Example]:
    """Two classes, eight rows each, whose texts do not hold their labels."""
    return numbered(*((f"number {i}", "pos" if i % 2 else "neg") for i in range(16)))


def test_a_clean_set_has_no_findings():
    assert lint(clean()) == []
    assert lint(clean(), numbered(*((f"other {i}", "pos" if i % 2 else "neg") for i in range(4)))) == []


def test_no_rows_are_no_crash():
    assert lint([]) == []
    assert kinds([], clean()) == ["labels only in test"]


def test_duplicates_are_counted_apart_from_punctuation_and_to_the_letter():
    finding = found("duplicates", clean() + numbered(("number 1", "pos"), ("Number 1!", "pos"), ("number 2", "neg")))
    assert finding.count == 3
    assert finding.message == (
        "data: 3 of 19 rows repeat an earlier text apart from case, spacing and punctuation (2 to the letter)."
    )
    assert finding.examples == ("1", "2", "3")
    same = found("duplicates", clean() + numbered(("number 1", "pos")))
    assert same.message == "data: 1 of 17 rows repeat an earlier text."


def test_the_same_text_under_two_labels_is_a_conflict_and_under_one_is_not():
    rows = clean() + numbered(("number 1", "neg"), ("NUMBER 1", "pos"), ("number 2", "neg"))
    finding = found("conflicts", rows)
    assert (finding.count, finding.examples) == (1, ("2", "1", "2"))
    assert "1 text(s) occur with different labels, in 3 rows" in finding.message
    assert "conflicts" not in kinds(clean() + numbered(("number 2", "neg")))


def test_empty_texts_are_neither_duplicates_nor_conflicts():
    rows = clean() + numbered((" ", "pos"), ("", "neg"))
    assert (found("empty", rows).count, found("empty", rows).examples) == (2, ("1", "2"))
    assert kinds(rows) == ["empty"]
    assert "overlap" not in kinds(rows, rows[-2:])


def test_labels_that_may_be_missing_values_are_counted():
    odd = ["NA", "n/a", "None", "null", "NaN", "-", "?"]
    finding = found("missing labels?", clean() + numbered(*((f"row {i}", label) for i, label in enumerate(odd))))
    assert finding.count == len(odd)
    assert finding.message.startswith('data: 7 row(s) have a label that may mean none: "-", "?", "NA", ')
    assert "missing labels?" not in kinds(
        clean() + numbered(("a banana", "nano"), ("another", "-1"), ("a third", "no"))
    )


def test_test_texts_that_are_in_train_are_counted_both_ways_and_by_label():
    test = numbered(("number 1", "pos"), ("Number 2?", "neg"), ("NUMBER 3", "neg"), ("new", "neg"))
    finding = found("overlap", clean(), test)
    assert (finding.count, finding.examples) == (3, ("1", "2", "3"))
    assert finding.message == (
        "3 of 4 test texts are in train too apart from case, spacing and punctuation (1 to the letter); "
        "1 of them under another label."
    )


def test_labels_that_only_one_side_has_are_named_with_their_rows():
    test = numbered(("a", "pos"), ("b", "neg"), ("c", "maybe"), ("d", "maybe"))
    finding = found("labels only in test", clean(), test)
    assert (finding.count, finding.examples) == (1, ("3", "4"))
    assert '1 label(s) only in test, in 2 rows: "maybe"' in finding.message
    assert found("labels only in train", test, clean()).message.endswith(': "maybe".')


def test_spelling_variants_of_a_label_are_found_on_both_sides():
    test = numbered(("a", "Pos"), ("b", "pos."), ("c", "neg"))
    finding = found("label spellings", clean(), test)
    assert finding.count == 3
    assert '"Pos", "pos", "pos."' in finding.message


@pytest.mark.parametrize(
    ("labels", "variants"),
    [
        (("card_arrival", "Card arrival"), True),
        (("1", "1.0"), True),
        (("1", "-1"), False),
        (("1.0", "10"), False),
        (("+", "-"), False),
        (("class 1", "class 2"), False),
    ],
)
def test_labels_are_variants_only_if_the_same_words_or_the_same_number(labels, variants):
    rows = numbered(*((f"number {i}", labels[i % 2]) for i in range(16)))
    assert ("label spellings" in kinds(rows)) == variants


def test_groups_on_both_sides_are_counted_with_the_rows_they_take_along():
    train = numbered(("a", "pos", "g1"), ("b", "neg", "g2"), ("c", "neg", "One two."))
    test = numbered(("d", "pos", "g1"), ("e", "neg", "g1"), ("f", "neg", "G2"), ("g", "pos", "one two"), ("h", "neg"))
    finding = found("groups across", train, test)
    assert (finding.count, finding.examples) == (2, ("1", "2", "4"))
    assert finding.message == "2 group(s) are on both sides, with 3 of 5 test rows."


def test_classes_with_one_example_and_with_fewer_than_five_are_named():
    rows = clean() + numbered(("a", "once"), ("b", "twice"), ("c", "twice"), *((f"d{i}", "five") for i in range(5)))
    assert found("classes under 2", rows).message == 'data: 1 class(es) with one example: "once".'
    assert found("classes under 5", rows).message == 'data: 1 class(es) with 2 to 4 examples: "twice".'


@pytest.mark.parametrize(("pos", "said"), [(59, False), (60, True)])
def test_a_majority_of_six_in_ten_of_two_classes_is_said_with_its_share(pos, said):
    rows = numbered(*((f"number {i}", "pos" if i < pos else "neg") for i in range(100)))
    assert ("imbalance" in kinds(rows)) == said
    if said:
        assert found("imbalance", rows).message.startswith('data: 60 of 100 rows are "pos": always saying so is 60.0%')


def test_ages_and_dates_as_labels_are_asked_about_and_class_codes_are_not():
    ages = numbered(*((f"text {i}", str(18 + i % 25)) for i in range(60)), ("text", "unknown"))
    finding = found("numbers as labels?", ages)
    assert finding.count == 25
    assert finding.message.startswith("data: 25 of 26 labels are numbers or dates, each a class of its own: ")
    dates = numbered(*((f"text {i}", f"2024-03-{1 + i % 28:02} 10:30") for i in range(60)))
    assert found("numbers as labels?", dates).count == 28
    for codes in (6, 20):
        rows = numbered(*((f"text {i}", str(i % codes)) for i in range(20 * codes)))
        assert "numbers as labels?" not in kinds(rows)


@pytest.mark.parametrize("between", [" ", "; ", ",", "|"])
def test_cells_that_hold_several_labels_are_asked_about(between):
    alone = [(f"text {i} {label}", label) for i in range(6) for label in ("cost", "safety", "side-effect")]
    pairs = [("cost", "safety"), ("cost", "side-effect"), ("safety", "side-effect")]
    several = [(f"both {i}", between.join(pair)) for i, pair in enumerate(pairs)]
    finding = found("several labels?", numbered(*alone, *several, ("one", "rare thing")))
    assert finding.message.startswith("data: 3 of 4 labels with fewer than 5 examples are several others in one cell: ")
    assert finding.examples == ("19", "20", "21")
    words = [(f"text {i}", f"rare thing {i}") for i in range(4)]
    assert "several labels?" not in kinds(numbered(*alone, *several, *words))


@real_data
def test_of_the_real_sets_only_the_one_of_several_labels_is_asked_about():
    sets = {
        "banking77/train.csv": ("text", "category"),
        "caves_vaccine_concerns/train.csv": ("text", "labels"),
        "health_advice/annotations_discussion.csv": ("sentence", "label"),
        "healthver/healthver_dev.csv": ("evidence", "label"),
        "nicta_piboso/train_clean.txt": ("text", "label"),
        "pubmedqa/ori_pqal.json": ("QUESTION", "final_decision"),
        "sst2/stsa.binary.train": ("text", "label"),
        "symptom2disease/Symptom2Disease.csv": ("text", "label"),
        "trec/TREC.train": ("text", "label"),
    }
    asked = {}
    for path, columns in sets.items():
        of_it = kinds(examples_from(read_table(LABELLED / path), *columns).examples)
        asked[path] = [kind for kind in of_it if kind in ("numbers as labels?", "several labels?")]
    assert {path: found for path, found in asked.items() if found} == {
        "caves_vaccine_concerns/train.csv": ["several labels?"]
    }


def test_one_class_throughout_is_said_of_each_side():
    rows = numbered(*((f"number {i}", "?") for i in range(5)))
    assert found("one class", rows).count == 5
    assert 'test: every row has the same label, "?"' in found("one class", clean(), rows).message


def test_texts_over_ten_times_the_median_are_long():
    finding = found("long", [*clean(), Example("y" * 80, "pos", "edge"), Example("x" * 81, "pos", "giant")])
    assert (finding.count, finding.examples) == (1, ("giant",))
    assert "median of 8 characters; the longest has 81" in finding.message


def test_a_label_written_in_most_of_its_texts_is_a_leak():
    leaky = numbered(*((f"{i} the Final_answer: {label}!", label) for i in range(8) for label in ("card lost", "fee")))
    assert found("leak", leaky).count == 16


def test_a_label_that_is_a_common_word_in_every_text_is_no_leak():
    rows = numbered(*((f"{i}: yes or no?", label) for i in range(8) for label in ("yes", "no")))
    assert "leak" not in kinds(rows)
    parts = numbered(*((f"{i} position negligible", label) for i in range(8) for label in ("pos", "neg")))
    assert "leak" not in kinds(parts)


def test_at_most_ten_ids_and_five_short_labels_are_shown():
    rows = numbered(*((f"number {i}", "x" * 99 + str(i)) for i in range(20)))
    finding = found("classes under 2", rows)
    assert len(finding.examples) == 10
    assert finding.message.count("xxx...") == 5


# ---- the defects known to be in the real files


def real(path: str, text: str, label: str, group: str | None = None) -> list[Example]:
    return examples_from(read_table(LABELLED / path), text, label, group).examples


@real_data
@pytest.mark.parametrize(
    ("train", "test", "columns", "count", "to_the_letter"),
    [
        ("trec/TREC.train", "trec/TREC.test", ("text", "label"), 11, 10),
        ("nicta_piboso/train_clean.txt", "nicta_piboso/test_clean.txt", ("text", "label", "group"), 11, 9),
        ("sst2/stsa.binary.train", "sst2/stsa.binary.test", ("text", "label"), 2, 2),
        ("banking77/train.csv", "banking77/test.csv", ("text", "category"), 25, 6),
    ],
)
def test_the_known_overlaps_of_train_and_test_come_out(train, test, columns, count, to_the_letter):
    finding = found("overlap", real(train, *columns), real(test, *columns))
    assert finding.count == count
    assert ("to the letter" in finding.message) == (count != to_the_letter)
    assert count == to_the_letter or f"({to_the_letter} to the letter)" in finding.message


@real_data
def test_symptom2disease_repeats_47_rows_of_1200():
    finding = found("duplicates", real("symptom2disease/Symptom2Disease.csv", "text", "label"))
    assert finding.message == "data: 47 of 1,200 rows repeat an earlier text."


@real_data
def test_healthver_has_375_evidences_on_both_sides():
    columns = ("evidence+claim", "label", "evidence")
    finding = found(
        "groups across", real("healthver/healthver_dev.csv", *columns), real("healthver/healthver_test.csv", *columns)
    )
    assert finding.count == 375


@real_data
def test_trec_has_fine_labels_that_only_train_has():
    train, test = (real(f"trec/TREC.{side}", "text", "label") for side in ("train", "test"))
    assert found("labels only in train", train, test).count == 8
