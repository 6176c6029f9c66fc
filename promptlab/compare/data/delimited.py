"""CSV and TSV as people have them: semicolons, quotes that mean nothing, ragged rows, no header, cells of any size."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from promptlab.compare.data.textfile import Parsed, Row, TextFile
from promptlab.errors import DataError

_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's first line, which names the separator
NO_HEADER = "The first row looks like data, not a header. If it is, read the file with header=False (--no-header)."
SEPARATORS = ",;\t"
LINES_TRIED = 100  # to tell the separator by
_END = "\0end of file"  # fed to the csv reader after the last line: swallowed if a quote is still open


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """The csv module's limit on a cell (131,072 characters) belongs to the process, so it is put back afterwards."""
    before = csv.field_size_limit(2**31 - 1)  # the most that fits a C long everywhere
    try:
        yield
    finally:
        csv.field_size_limit(before)


@_cells_of_any_size()
def read_csv(file: TextFile, header: bool) -> Parsed:
    """Cells between commas, semicolons or tabs: whichever of those in the first line gives most rows its width, or the
    one that it says by sep=."""
    return _cells(file, _delimiter(file, ","), csv.QUOTE_MINIMAL, header)


@_cells_of_any_size()
def read_tsv(file: TextFile, header: bool) -> Parsed:
    """Cells between tabs. Quotes are literal where treating them so makes every row as wide as the first (GLUE's)."""
    delimiter = _delimiter(file, "\t")
    quoting = csv.QUOTE_NONE if _quotes_are_literal(file, delimiter) else csv.QUOTE_MINIMAL
    return _cells(file, delimiter, quoting, header)


def _delimiter(file: TextFile, usual: str) -> str:
    """Among equals the one that the first line has most of, then the usual one."""
    lines = [line for _, line in islice(file.lines(), LINES_TRIED)]
    if lines and (said := _SEP.fullmatch(lines[0])):
        return said[1]
    head, *rows = _QUOTED.sub("", "\n".join(lines)).split("\n")
    present = [sign for sign in (usual, *SEPARATORS) if sign in head]
    fits = {sign: sum(row.count(sign) == head.count(sign) for row in rows) for sign in present}
    return max(present, key=lambda sign: (fits[sign], head.count(sign)), default=usual)


def _quotes_are_literal(file: TextFile, delimiter: str) -> bool:
    widths, unbalanced = set(), False
    for _, cells in _records(file, delimiter, csv.QUOTE_NONE):
        widths.add(len(cells))
        unbalanced = unbalanced or any(cell.startswith('"') and not _QUOTED.fullmatch(cell) for cell in cells)
        if len(widths) > 1:
            return False
    return unbalanced


def _records(file: TextFile, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    """The first line of each row that is not blank, and its cells."""
    start = 1
    with file.open() as text:
        reader = csv.reader(chain(text, (_END,)), delimiter=delimiter, quoting=quoting)
        for cells in reader:
            if cells == [_END]:
                return
            if cells and cells[-1].endswith(_END):
                break
            if cells and not (start == 1 and _SEP.fullmatch(delimiter.join(cells))):
                yield start, cells
            start = reader.line_num + 1
    raise DataError(f"{file.path.name}: a quote opened in the row at line {start} is never closed. Mend that row.")


def _cells(file: TextFile, delimiter: str, quoting: Any, header: bool) -> Parsed:
    records = _records(file, delimiter, quoting)
    first = next(records, None)
    if first is None:
        raise DataError(f"{file.path.name} is empty.")
    head = first[1]
    columns, warnings = _names(head) if header else (tuple(str(i + 1) for i in range(len(head))), [])
    width, rows, lines = len(columns), list[Row](), array("Q")
    long, short, repeated = array("Q"), array("Q"), array("Q")
    for line, cells in records if header else chain([first], records):
        if len(cells) > width and any(cells[width:]):
            long.append(line)
        elif header and cells == head:
            repeated.append(line)
        else:
            if len(cells) < width:
                short.append(line)
            rows.append(dict.fromkeys(columns) | dict(zip(columns, cells, strict=False)))
            lines.append(line)
    if len(long) > len(rows):
        many = f"{len(long):,} row(s) have more cells than the {width} of the first row (first: line {long[0]})"
        raise DataError(
            f"{file.path.name}: {many}. Put quotes around cells that hold a {delimiter!r}, or name the format."
        )
    told = (
        (long, f"with more cells than the {width} of the first row left out"),
        (short, f"with fewer cells than the {width} of the first row; what is missing was taken as empty"),
        (repeated, "that repeat the header left out"),
    )
    warnings += [f"{len(at):,} row(s) {what} (first: line {at[0]})." for at, what in told if at]
    if header and _looks_like_data(head, columns, rows):
        warnings.append(NO_HEADER)
    return Parsed(columns, rows, lines, warnings, long, delimiter)


def _names(head: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Column names from a header row: stripped, numbered where empty, made different where they repeat."""
    names, repeated = list[str](), list[str]()
    for position, cell in enumerate(head, 1):
        name = wanted = cell.strip() or str(position)
        times = 1
        while name in names:
            times += 1
            name = f"{wanted}.{times}"
        if times > 1:
            repeated.append(name)
        names.append(name)
    warnings = [f"{len(repeated)} column name(s) repeat and were numbered: the second is called NAME.2."]
    return tuple(names), warnings if repeated else []


def _looks_like_data(head: Sequence[str], columns: Sequence[str], rows: Sequence[Row]) -> bool:
    """A number, a long text, or a value that its own column holds again."""
    numbers = any(re.fullmatch(r"\s*[-+]?\d+(\.\d+)?\s*", cell) for cell in head)
    again = any(cell and row[name] == cell for row in rows[:1000] for name, cell in zip(columns, head, strict=True))
    return numbers or again or any(len(cell) > 80 for cell in head)
