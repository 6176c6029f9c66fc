"""Searching local documents."""

from __future__ import annotations

import pytest

from promptlab.errors import DataError
from promptlab.tools.documents import MOST_PASSAGE, Documents, search


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "water.md").write_text(
        "# Wells\n\nA well is tested\nevery week.\n\n## Chlorine\n\nAdd two drops a litre.\n"
    )
    (tmp_path / "close.md").write_text("# Tanks\nCover each.\n## Filters\nWash the sand.\nDry it.\n")
    (tmp_path / "odd.csv").write_text(
        "place,note\nGurn,mumps\u2028in school\nHask,scabies\x0cthere\n", encoding="utf-8"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "measles.txt").write_text("Measles spreads fast.\n\nReport measles on the same day.\n")
    (tmp_path / "cases.csv").write_text('place,note\nLorn,"fever,\nand cough"\nVask,rash\n')
    (tmp_path / "log.jsonl").write_text('{"day": 1, "text": "goats near the well"}\n\n{"day": 2, "text": "quiet"}\n')
    (tmp_path / "list.json").write_text('[{"who": "nurse"}, {"who": "driver"}]')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    return tmp_path


@pytest.mark.parametrize(
    ("query", "citation", "text"),
    [
        ("how often are wells tested", "water.md:3", "Wells: A well is tested every week."),
        ("drops", "water.md:8", "Chlorine: Add two drops a litre."),
        ("cover", "close.md:2", "Tanks: Cover each."),  # no empty line before the next heading
        ("sand", "close.md:4", "Filters: Wash the sand. Dry it."),
        ("mumps", "odd.csv:2", "place: Gurn; note: mumps\u2028in school"),  # str.splitlines would end a line there
        ("scabies", "odd.csv:3", "place: Hask; note: scabies\x0cthere"),
        ("reporting", "sub/measles.txt:3", "Report measles on the same day."),
        ("cough", "cases.csv:2", "place: Lorn; note: fever,\nand cough"),
        ("Vask", "cases.csv:4", "place: Vask; note: rash"),
        ("quiet", "log.jsonl:3", "day: 2; text: quiet"),
        ("driver", "list.json:2", "who: driver"),
    ],
)
def test_a_passage_is_found_with_its_source_and_line(folder, query, citation, text):
    documents = Documents(folder)
    best = documents.search(query)[0]
    assert (best.citation, best.text) == (citation, text)
    assert documents.at(citation) == best


@pytest.mark.parametrize(("query", "found"), [("餐厅", ["我们在餐厅吃饭了。"]), ("รักษา", ["ต้องรักษาทันที"]), ("店", [])])
def test_a_word_is_found_within_a_sentence_that_puts_no_space_around_it(tmp_path, query, found):
    (tmp_path / "a.txt").write_text("我们在餐厅吃饭了。\n\nต้องรักษาทันที\n\n厅餐 fever", encoding="utf-8")
    assert [passage.text for passage in Documents(tmp_path).search(query)] == found


def test_rarer_words_weigh_more(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(["the well is dry"] * 20 + ["the goat is dry"]))
    assert Documents(tmp_path).search("dry goat")[0].text == "the goat is dry"


@pytest.mark.parametrize(
    "query", ['"', "NEAR(", "a AND", "* OR *", "text : x", "'; DROP TABLE passages; --", "", "^", "ü"]
)
def test_a_query_is_words_whatever_it_looks_like(folder, query):
    documents = Documents(folder)
    assert isinstance(documents.search(query), list)
    assert documents.search("measles")


def test_a_citation_of_nothing_is_nothing(folder):
    documents = Documents(folder)
    for citation in ("water.md:4", "water.md", "none.md:1", "water.md:x", "water.md:-3", ":", "water.md:³"):
        assert documents.at(citation) is None


def test_a_long_paragraph_is_several_passages(tmp_path):
    (tmp_path / "long.txt").write_text("\n".join(f"line {i} of a long paragraph" for i in range(200)))
    found = Documents(tmp_path).search("199")
    assert len(found[0].text) < 2 * MOST_PASSAGE
    assert found[0].line > 1


def test_one_long_line_is_several_passages_too_each_with_a_citation_of_its_own(tmp_path):
    words = " ".join(f"word{i}" for i in range(100_000))
    (tmp_path / "long.txt").write_text(f"first\n\n{words} the end\n" + "x" * 3 * MOST_PASSAGE)
    documents = Documents(tmp_path)
    for query in ("word0", "word99999", "end"):
        [found] = documents.search(query)
        assert len(found.text) < 2 * MOST_PASSAGE
        assert documents.at(found.citation) == found
        assert found.citation.startswith("long.txt:3")
    assert documents.passages > 500
    assert documents.search("word0")[0].citation == "long.txt:3"
    assert documents.at("long.txt:3.9999") is None


def test_what_only_looks_like_a_heading_is_text(tmp_path):
    """Numbers of cases in a log, tags, and comments in code; and of what is no Markdown any line."""
    (tmp_path / "log.txt").write_text(
        "#4211 fever in Lorun\n#4212 cough in Vask\nplain line of rain\n\n# 4213 measles\n"
    )
    (tmp_path / "notes.md").write_text(
        "# Wells\n#urgent goats\n\n```sh\n# of code\n\nrun it\n```\n\nlast sand\n## C# ##\nshown"
    )
    found = {query: Documents(tmp_path).search(query)[0] for query in "fever rain measles goats run sand shown".split()}
    log = "#4211 fever in Lorun #4212 cough in Vask plain line of rain"
    assert [(each.citation, each.text) for each in found.values()] == [
        ("log.txt:1", log), ("log.txt:1", log), ("log.txt:5", "# 4213 measles"), ("notes.md:2", "Wells: #urgent goats"),
        ("notes.md:7", "Wells: run it ```"), ("notes.md:10", "Wells: last sand"), ("notes.md:12", "C#: shown"),
    ]  # fmt: skip


def test_a_heading_with_nothing_below_it_is_found(tmp_path):
    (tmp_path / "plan.md").write_text("# Wells\n\n## Chlorine\n\nTwo drops.\n\n## Filters of sand\n")
    documents = Documents(tmp_path)
    assert [(p.citation, p.text) for query in ("wells", "sand", "chlorine") for p in documents.search(query)] == [
        ("plan.md:1", "Wells"), ("plan.md:7", "Filters of sand"), ("plan.md:5", "Chlorine: Two drops."),
    ]  # fmt: skip


def test_the_tool_shows_citations_and_says_when_there_is_nothing(folder):
    tool = search(folder)
    assert tool(query="chlorine drops").startswith("(water.md:8) Chlorine: Add two drops")
    assert tool(query="zebra") == "No passage has any word of 'zebra'."


def test_what_cannot_be_searched_is_wrong_set_up(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        Documents(tmp_path / "none")
    with pytest.raises(DataError, match="holds no text"):
        Documents(tmp_path)
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"bad\.jsonl cannot be read as JSONL"):
        Documents(tmp_path)
