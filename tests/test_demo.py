"""The demonstration set is what its script writes, and clean."""

import csv
from collections import Counter

from promptlab.compare.data.lint import lint
from promptlab.compare.data.tables import examples_from, read_table
from promptlab.demo.make import DESK, EXCEPTION, EXCEPTION_DESK, FILE, reports
from promptlab.tiny.data.world import WORDS


def test_the_file_is_what_the_script_writes() -> None:
    with FILE.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["report", "desk"], *map(list, reports(260, seed=1))]


def test_an_animal_overrules_the_symptom_and_nothing_else_does() -> None:
    animals = WORDS["exposure"][EXCEPTION]
    for text, desk in reports(260, seed=1):
        overruled = any(animal in text for animal in animals)
        [symptom] = {name for name in DESK for word in WORDS["symptom"][name] if word in text}
        assert desk == (EXCEPTION_DESK if overruled else DESK[symptom])


def test_no_report_is_there_twice_and_no_desk_is_rare() -> None:
    examples = examples_from(read_table(FILE), "report", "desk").examples
    assert not {"duplicates", "conflicts", "classes under 5"} & {finding.kind for finding in lint(examples)}
    assert min(Counter(e.target for e in examples).values()) >= 50
