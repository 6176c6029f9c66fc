"""Full-text search over local documents: SQLite's FTS5, ranked by BM25 (Robertson and Zaragoza 2009)."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from promptlab.errors import DataError
from promptlab.tool import Tool, tool
from promptlab.words import UNSPACED

ENDINGS = (".txt", ".md", ".csv", ".tsv", ".jsonl", ".json")
MOST_PASSAGE = 1_200  # characters of a passage
MOST_FILE_BYTES = 50_000_000
HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(\S.*?)(?:[ \t]+#+)?[ \t]*")
FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^`]*)")
CITATION = re.compile(r"(.*):([0-9]{1,9})(?:\.([0-9]{1,9}))?", re.DOTALL)
RUN = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}]+")
ALONE = re.compile(f"[{UNSPACED}]")
PIECE = re.compile(rf".{{1,{MOST_PASSAGE}}}(?!\S)|.{{1,{MOST_PASSAGE}}}")  # between words, where there are any


class Passage(NamedTuple):
    """A piece of a document: a paragraph, a row. `line` is where it begins, from 1, and in a long line `piece`."""

    source: str
    line: int
    text: str
    piece: int = 1

    @property
    def citation(self) -> str:
        return f"{self.source}:{self.line}" + (f".{self.piece}" if self.piece > 1 else "")


class Documents:
    """The passages of all documents in a folder, or of the files given, indexed in memory; fit for any thread.

    Raises DataError for what is not there or holds nothing that can be read.
    """

    def __init__(self, folder: Path | str, files: Sequence[Path] | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.exists():
            raise DataError(f"There is no folder {self.folder}.")
        root = self.folder if self.folder.is_dir() else self.folder.parent
        found = files or ([self.folder] if self.folder.is_file() else sorted(self.folder.rglob("*")))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute("CREATE TABLE passages (source, line, text, piece)")
        self._db.execute("CREATE VIRTUAL TABLE words USING fts5(spaced, content = '', tokenize = 'porter')")
        self.passages = 0
        for file in found:
            if file.is_file() and file.suffix.lower() in ENDINGS:
                self._add(passages(file, file.relative_to(root).as_posix()))
        if not self.passages:
            raise DataError(f"{self.folder} holds no text to search. What can be read: {', '.join(ENDINGS)}.")

    def _add(self, found: Iterable[Passage]) -> None:
        for passage in found:
            at = self._db.execute("INSERT INTO passages VALUES (?, ?, ?, ?)", passage).lastrowid
            self._db.execute("INSERT INTO words (rowid, spaced) VALUES (?, ?)", (at, spaced(passage.text)))
            self.passages += 1

    def search(self, query: str, most: int = 5) -> list[Passage]:
        """The passages that match best, best first: any of the words, stemmed; the rarer and the more, the better.

        Of a script without spaces between words what stands in a row is looked for as it is, within a sentence too.
        """
        words = RUN.findall(query)
        if not words:
            return []
        wanted = " OR ".join(f'"{spaced(word)}"' for word in words)  # quoted: a word is no operator of FTS5's
        sql = (
            "SELECT passages.* FROM words JOIN passages ON passages.rowid = words.rowid "
            "WHERE words MATCH ? ORDER BY bm25(words), words.rowid LIMIT ?"
        )
        with self._lock:
            return [Passage(*row) for row in self._db.execute(sql, (wanted, most))]

    def at(self, citation: str) -> Passage | None:
        """The passage that a citation (source:line, or source:line.piece) names; None if it names none's beginning."""
        found = CITATION.fullmatch(citation)
        if found is None:
            return None
        source, line, piece = found[1], int(found[2]), int(found[3] or 1)
        with self._lock:
            row = self._db.execute(
                "SELECT * FROM passages WHERE source = ? AND line = ? AND piece = ?", (source, line, piece)
            ).fetchone()
        return Passage(*row) if row else None

    def close(self) -> None:
        self._db.close()

    def __del__(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()


def spaced(text: str) -> str:
    """The text with a space around each character that is a word by itself."""
    return ALONE.sub(r" \g<0> ", text)


def search(folder: Path | str) -> Tool:
    """A tool that searches the documents of a folder."""
    return searching(Documents(folder))


def searching(documents: Documents) -> Tool:
    """A tool that searches these documents."""

    def search(query: str) -> str:
        """Searches the documents; the passages that match best, each with its source and line.

        Args:
            query: a few words that the passage should have
        """
        found = documents.search(query)
        return "\n".join(f"({each.citation}) {each.text}" for each in found) or f"No passage has any word of {query!r}."

    return tool(search)


def passages(file: Path, source: str) -> Iterator[Passage]:
    """The passages of a file: rows of tables with their columns' names, paragraphs of texts. Raises DataError."""
    if file.stat().st_size > MOST_FILE_BYTES:
        raise DataError(f"{file} has more than {MOST_FILE_BYTES // 10**6} MB: too large to index in memory.")
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    kind = file.suffix.lower()
    try:
        if kind in (".csv", ".tsv"):
            yield from _rows(text, source, "\t" if kind == ".tsv" else ",")
        elif kind == ".jsonl":
            lines = ((i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip())
            yield from (Passage(source, i, _told(json.loads(line))) for i, line in lines)
        elif kind == ".json":
            loaded = json.loads(text)
            items = loaded if isinstance(loaded, list) else [loaded]  # the lines of items are not known: their number
            yield from (Passage(source, i, _told(item)) for i, item in enumerate(items, 1))
        else:
            yield from _paragraphs(text, source, markdown=kind == ".md")
    except (json.JSONDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as {kind[1:].upper()}: {error}.") from None


def _rows(text: str, source: str, delimiter: str) -> Iterator[Passage]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)  # other ends of lines are parts of a cell
    names = next(reader, [])
    line = reader.line_num + 1
    for row in reader:
        yield Passage(source, line, "; ".join(f"{name}: {cell}" for name, cell in zip(names, row, strict=False)))
        line = reader.line_num + 1


def _told(item: object) -> str:
    if isinstance(item, dict):
        return "; ".join(f"{name}: {value}" for name, value in item.items())
    return str(item)


def _paragraphs(text: str, source: str, markdown: bool) -> Iterator[Passage]:
    """Paragraphs, long ones in pieces, each under its heading; a heading with none below it is a passage itself."""
    heading, bare, held = "", list[Passage](), list[Line]()
    for line in _lines(text, markdown):
        size = sum(len(each.text) + 1 for each in [*held, line]) - 1
        if held and (line.is_heading or not line.text or size > MOST_PASSAGE):
            body, first = " ".join(each.text for each in held), held[0]
            yield Passage(source, first.number, f"{heading}: {body}" if heading else body, first.piece)
            bare, held = [], []
        if line.is_heading:
            yield from bare
            heading, bare = line.text, [Passage(source, line.number, line.text)]
        elif line.text:
            held.append(line)
    yield from bare


class Line(NamedTuple):
    """A line of a text without the spaces around it, or a piece of a long one; both count from 1."""

    number: int
    text: str
    piece: int = 1
    is_heading: bool = False


def _lines(text: str, markdown: bool) -> Iterator[Line]:
    """The lines of a text, and an empty one. Headings are Markdown's alone, and not in a fence of code."""
    fence = ""
    for number, line in enumerate([*text.split("\n"), ""], 1):
        mark = FENCE.fullmatch(line) if markdown else None
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
        heading = HEADING.fullmatch(line) if markdown and not fence else None
        if heading:
            yield Line(number, heading[1], is_heading=True)
        else:
            for i, piece in enumerate(PIECE.findall(line.strip()) or [""], 1):
                yield Line(number, piece.strip(), i)
