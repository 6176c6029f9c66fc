"""The shapes labelled data comes in. A format is one function and one row of `READERS`, named as its extension.

Readers take the file row by row, give every cell as a string, and say with a count what they left out or filled in.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

from promptlab.compare.data.delimited import read_csv, read_tsv
from promptlab.compare.data.textfile import Parsed, Row, TextFile
from promptlab.errors import DataError


def _json(file: TextFile, header: bool) -> Parsed:
    """A list of objects; an object of id -> object (PubMedQA's); or an object that holds one of these ("data")."""
    with file.open() as text:
        content = text.read()
    try:
        data = json.loads(content, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1 and content.lstrip().startswith("{"):
            return _jsonl(file, header)  # JSON lines under the name .json, as hubs have them
        raise DataError(f"{file.path.name} is not JSON at line {error.lineno}: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.path.name} is JSON that cannot be read: {error}.") from error
    objects = _objects(data)
    if objects is None:
        shape = "an object" if isinstance(data, dict) else "a list" if isinstance(data, list) else "a single value"
        takes = "[{...}, ...] or {id: {...}, ...}"
        raise DataError(f"{file.path.name} holds {shape} that is not made of objects. It takes {takes}.")
    columns = dict.fromkeys(key for item in objects for key in item)
    rows: list[Row] = [{column: _cell(item.get(column)) for column in columns} for item in objects]
    return Parsed(tuple(columns), rows, (), [])


def _objects(data: Any) -> list[dict[str, Any]] | None:
    if isinstance(data, list):
        return data if all(isinstance(item, dict) for item in data) else None
    if not isinstance(data, dict):
        return None
    of_objects = [item for item in data.values() if _holds_objects(item)]
    if all(isinstance(item, dict) for item in data.values()) and not len(of_objects) == 1 < len(data):
        return [{"id": key, **item} for key, item in data.items()]
    inner = [found for item in of_objects if (found := _objects(item))]
    return inner[0] if len(inner) == 1 else None


def _holds_objects(item: Any) -> bool:
    """Whether it is a list or an object of nothing but objects."""
    inside = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return bool(inside) and all(isinstance(each, dict) for each in inside)


def _jsonl(file: TextFile, header: bool) -> Parsed:
    """An object a line."""
    columns, rows, lines = dict[str, None](), list[Row](), array("Q")
    for number, line in file.lines():
        try:
            item = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{file.path.name} is not JSON at line {number}: {why}.") from error
        if not isinstance(item, dict):
            raise DataError(f"{file.path.name} has no JSON object at line {number}. It takes {{...}} on every line.")
        columns.update(dict.fromkeys(item))
        rows.append({column: _cell(item.get(column)) for column in columns})
        lines.append(number)
    for row in rows:
        if len(row) < len(columns):
            row.update({column: None for column in columns if column not in row})
    return Parsed(tuple(columns), rows, lines, [])


class Nested(str):
    """The JSON of a cell that is no text but an object, or a list of other things than texts."""

    __slots__ = ()


def _cell(value: Any) -> str | None:
    """Strings as they are, a list of strings (PubMedQA's CONTEXTS) as lines, everything else as its JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    told = json.dumps(value, ensure_ascii=False)
    return Nested(told) if isinstance(value, (list, dict)) else told


def _no_number(name: str) -> None:
    """NaN, Infinity: what pandas and others write for a missing value."""


def _sections(file: TextFile, header: bool) -> Parsed:
    """`label<TAB>text` lines; `###id` starts a group, a blank line ends it (PubMed-RCT, NICTA-PIBOSO)."""
    rows, lines, bad, group = list[Row](), array("Q"), array("Q"), None
    last = 0
    for number, line in file.lines():
        group = group if number == last + 1 else None  # blank lines are not given, so a gap is one
        last = number
        label, tab, text = line.partition("\t")
        if line.startswith("###"):
            group = line[3:].strip() or f"line {number}"
        elif tab:
            rows.append({"label": label, "text": text, "group": group})
            lines.append(number)
        else:
            bad.append(number)
    if len(bad) > len(rows):
        told = f"{len(bad):,} line(s) have no tab between label and text (first: line {bad[0]})"
        raise DataError(f"{file.path.name}: {told}. Name its format: {', '.join(READERS)}.")
    warnings = [f"{len(bad):,} line(s) without a tab left out (first: line {bad[0]})."] if bad else []
    return Parsed(("label", "text", "group"), rows, lines, warnings)


_LABEL_FIRST = re.compile(r"[ \t]*([^ \t]+)[ \t]*(.*)")


def _label_first(file: TextFile, header: bool) -> Parsed:
    """`LABEL text` lines; where every label reads COARSE:fine (TREC), its halves are two more columns."""
    rows, lines = list[Row](), array("Q")
    for number, line in file.lines():
        if found := _LABEL_FIRST.match(line):
            rows.append({"label": found[1], "text": found[2]})
            lines.append(number)
    if not all(":" in str(row["label"]) for row in rows):
        return Parsed(("label", "text"), rows, lines, [])
    for row in rows:
        row["coarse"], _, row["fine"] = str(row["label"]).partition(":")
    return Parsed(("label", "text", "coarse", "fine"), rows, lines, [])


PLAIN = ("sections", "label-first")  # the formats that no extension names


def plain_format(file: TextFile, wanted: Sequence[str]) -> str:
    """The format of a file whose name says nothing: a table where its first line names the columns that are wanted."""
    sample = [line for _, line in islice(file.lines(), 200)]
    if any(line.startswith("###") for line in sample):
        return "sections"
    head = sample[0] if sample else ""
    if set(wanted) <= {cell.strip(' "') for cell in re.split(r"[\t,;]", head)}:
        return "tsv" if "\t" in head else "csv"
    return "sections" if 2 * sum("\t" in line for line in sample) > len(sample) else "label-first"


READERS: Mapping[str, Callable[[TextFile, bool], Parsed]] = MappingProxyType(
    {
        "csv": read_csv,
        "tsv": read_tsv,
        "json": _json,
        "jsonl": _jsonl,
        "ndjson": _jsonl,
        "sections": _sections,
        "label-first": _label_first,
    }
)
