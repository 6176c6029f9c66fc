"""Facts by name, such as "Lorun beds": what the bundled model, which reads no prose, can look up. Any model can."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from given import table_in, text_in

from promptlab.errors import DataError
from promptlab.tool import Tool, tool

LINE = re.compile(r"[-*]?\s*(\w[\w ]*?)\s*:\s*(\S.*)")
MOST_NEAR = 8  # names that a failed lookup tells


class Fact(NamedTuple):
    """A fact, such as of Lorun its beds, and where it stands: `line` counts from 1."""

    of: str
    what: str
    value: str
    source: str
    line: int

    @property
    def name(self) -> str:
        return f"{self.of} {self.what}"

    @property
    def citation(self) -> str:
        return f"{self.source}:{self.line}"


class Facts:
    """Facts by name; `used` are those looked up, in order and once each."""

    def __init__(self, facts: Iterator[Fact], of: Path) -> None:
        self.by_name = {fact.name.lower(): fact for fact in facts}
        self.used: list[Fact] = []
        if not self.by_name:
            raise DataError(
                f"{of} holds no facts: sheets of lines such as “beds: 214”, or a table with a column of names."
            )

    @property
    def lookup(self) -> Tool:
        """The tool that looks up a fact; a name that is none tells those that are near."""

        def lookup(name: str) -> str:
            """What is known by a name, such as: Lorun beds."""
            fact = self.by_name.get(" ".join(name.split()).lower())
            if fact is None:
                return self.near(name)
            if fact not in self.used:
                self.used.append(fact)
            return fact.value

        return tool(lookup)

    def near(self, name: str) -> str:
        first = name.split()[0].lower() if name.split() else ""
        near = [fact.name for key, fact in self.by_name.items() if key.split()[0] == first][:MOST_NEAR]
        return f"no such entry; there is {', '.join(near) or 'nothing of the kind'}"


def of_sheets(folder: Path) -> Facts:
    """The facts of a folder of sheets: each file (.md, .txt) is about what its heading, or else its name, says."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".md", ".txt"))
    sheets = [path for path in found if path.read_bytes().strip()]
    return Facts((fact for sheet in sheets for fact in _of_sheet(sheet, sheet.relative_to(folder).as_posix())), folder)


def _of_sheet(sheet: Path, source: str) -> Iterator[Fact]:
    about = sheet.stem
    for number, line in enumerate(text_in(sheet).split("\n"), 1):
        if line.startswith("#"):
            about = line.lstrip("#").strip()
        elif found := LINE.fullmatch(line.strip()):
            yield Fact(about, found[1], found[2], source, number)


def of_table(path: Path) -> Facts:
    """The facts of a table: each cell by the name in its row's first column, and its column's."""
    table = table_in(path)
    named, *columns = table.columns
    rows = zip(table.lines or count(1), table.rows, strict=False)
    found = (
        Fact(of, column, cell, path.name, line)
        for line, row in rows
        for column in columns
        if (of := row[named]) is not None and (cell := row[column]) is not None
    )
    return Facts(found, path)
