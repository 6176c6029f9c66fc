"""From a user's file to examples: every cell a string, every oddity a warning with a count, nothing silent."""

from __future__ import annotations

import csv
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from promptlab.characters import whole_text
from promptlab.compare.data.delimited import NO_HEADER, SEPARATORS
from promptlab.compare.data.formats import PLAIN, READERS, plain_format
from promptlab.compare.data.textfile import Row, examine, plain_name
from promptlab.errors import DataError
from promptlab.types import Example


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds, and what had to be said about it. `lines[i]` is where row i starts; JSON has none.

    `too_wide` are the lines of rows that were left out since they have more cells than the first one; `separator` is
    what stood between cells, where something does.
    """

    path: Path
    format: str
    encoding: str
    sha256: str
    columns: tuple[str, ...]
    rows: list[Row]
    lines: Sequence[int] = ()
    warnings: tuple[str, ...] = ()
    too_wide: Sequence[int] = ()
    separator: str = ""

    def where(self, row: int) -> str:
        """The place of row `row` (from 0) in the file, for a message."""
        return f"line {self.lines[row]}" if self.lines else f"item {row + 1}"


class Examples(NamedTuple):
    """The examples a table holds, and a line for every kind of row that could not be one."""

    examples: list[Example]
    warnings: tuple[str, ...]


def read_table(
    path: str | Path,
    format: str | None = None,
    *,
    header: bool = True,
    wanted: Sequence[str] = ("text", "label"),
) -> Table:
    """Read a file of labelled data.

    `format` is a name in `READERS`; by default the file's extension (before a .gz), and where that says nothing
    (.txt, .train), the first lines say what it is: "tsv" or "csv" if the first one names all columns that are `wanted`,
    else "sections" or "label-first". `header=False`: a CSV or TSV without a header row, whose columns are then called
    1, 2, 3...

    Raises DataError: no such file, not text, nothing in it, or not what its format says (with the line number).
    """
    path = Path(path)
    with readable(path):
        file, sha256, warnings = examine(path)
        if format is None:
            extension = plain_name(path).suffix.lower().removeprefix(".")
            format = extension if extension in READERS else plain_format(file, wanted)
        if format not in READERS:
            raise DataError(f'No format "{format}". Formats: {", ".join(READERS)}.')
        columns, rows, lines, more, too_wide, separator = READERS[format](file, header)
    if not rows:
        raise DataError(f"{path.name} has no rows of data.")
    return Table(path, format, file.encoding, sha256, columns, rows, lines, (*warnings, *more), too_wide, separator)


def read_text(path: Path) -> tuple[str, Sequence[str]]:
    """All that a text file says, its lines ended by \\n, and what had to be said about it."""
    with readable(path):
        file, _, warnings = examine(path)
        with file.open(newline=None) as text:
            return text.read(), warnings


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever keeps a file from being read is a DataError that says so."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"No file {path}. Give the path of one that is there.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a directory. Give one file in it.") from None
    except (OSError, EOFError, zlib.error) as error:  # the last two of a .gz that is cut off or damaged
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except UnicodeError as error:
        begun = getattr(error, "encoding", "other text")
        raise DataError(f"{path.name} begins as {begun} but does not go on so. Save it as UTF-8.") from error
    except csv.Error as error:
        raise DataError(f"{path.name} is not a table of cells: {error}.") from error


def examples_from(
    table: Table,
    text: str | Sequence[str],
    label: str,
    group: str | None = None,
    subgroup: str | None = None,
    *,
    name: str | None = None,
    for_test: bool = False,
) -> Examples:
    """The table's rows as examples, text and label stripped of outer whitespace, labels kept as the strings they are.

    `text` may name several columns ("question+context", or a sequence): their texts are joined by a newline, empty
    ones left out; so may `subgroup` ("sex+clinic"), joined by a comma, and a row that lacks one of these is in none.
    Row r (from 1) gets the id "NAME:r", NAME being the file's name without a known extension.
    `for_test` allows what only a training set may not be: a single row, a single class, labels nearly all different.

    Raises DataError: a column that is not there, or rows from which nothing can be learned.
    """
    texts = text_columns(table, text)
    label = column_named(table, label, "label")
    groups = column_named(table, group, "group") if group is not None else None
    whom = text_columns(table, subgroup, "subgroup") if subgroup is not None else ()
    if label in texts:
        raise DataError(f'"{label}" is asked for as text and as label. Name two columns.')
    name = name if name is not None else _stem(table.path)
    examples: list[Example] = []
    no_text, no_label, no_group, no_subgroup, mended = (array("Q") for _ in range(5))
    for at, row in enumerate(table.rows):
        parts = (stripped for column in texts if (stripped := (row[column] or "").strip()))
        as_read = ("\n".join(parts), (row[label] or "").strip())
        said, target = map(whole_text, as_read)
        if (said, target) != as_read:
            mended.append(at)
        of = (row[groups] or "").strip() or None if groups is not None else None
        if not said:
            no_text.append(at)
        elif not target:
            no_label.append(at)
        else:
            if groups is not None and of is None:
                no_group.append(at)
            said_of = [(row[column] or "").strip() for column in whom]
            about = ", ".join(said_of) if whom and all(said_of) else None
            if whom and about is None:
                no_subgroup.append(at)
            examples.append(Example(said, target, f"{name}:{at + 1}", of, about))
    _check_learnable(table, label, examples, for_test)
    any_of = '" or "'.join(whom)
    told = (
        (no_text, "with no text left out"),
        (no_label, "with no label left out"),
        (no_group, f'with nothing in "{group}", each taken as a group of its own'),
        (no_subgroup, f'with nothing in "{any_of}", which count in no subgroup'),
        (mended, "with half a surrogate pair, read as U+FFFD"),
    )
    warnings = (f"{len(at):,} row(s) {what} (first: {table.where(at[0])})." for at, what in told if at)
    return Examples(examples, tuple(warnings))


def text_columns(table: Table, text: str | Sequence[str], role: str = "text") -> tuple[str, ...]:
    """The columns that "question+context", or a sequence of names, names."""
    if isinstance(text, str):
        text = (text,) if text in table.columns else text.split("+")
    if not text:
        raise DataError(f"No {role} column asked for. Name at least one.")
    return tuple(column_named(table, column.strip(), role) for column in text)


def column_named(table: Table, name: str, role: str) -> str:
    """The name, if the table has a column of it; else a DataError that tells those there are, and what is near."""
    if name in table.columns:
        return name
    # Without a header row the names are data, so at most a few words of them are repeated.
    known = {column.casefold(): _short(column) for column in table.columns}
    near = get_close_matches(name.casefold(), known, n=1)
    hint = f' Did you mean "{known[near[0]]}"?' if near else ""
    listed = ", ".join(islice(known.values(), 20)) + (", ..." if len(known) > 20 else "")
    if NO_HEADER in table.warnings:
        hint += f" {NO_HEADER}"
    others = [sign for sign in SEPARATORS if sign != table.separator and sign in "".join(table.columns)]
    if table.separator and others:
        hint += (
            f" Cells were read as separated by {table.separator!r}: if it is {others[0]!r}, put a line "
            f"sep={others[0]} before the first."
        )
    hint += _doubt(table)
    raise DataError(f'{table.path.name} has no {role} column "{name}". Its columns: {listed}.{hint}')


def _doubt(table: Table) -> str:
    """A hint where the format was guessed."""
    if table.format not in PLAIN:
        return ""
    return f" It was read as {table.format}: name its format (--format) if that is another, such as csv or tsv."


def _stem(path: Path) -> str:
    """TREC.train and TREC.test must not share ids, so only an extension that names a format is cut off."""
    path = plain_name(path)
    return path.stem if path.suffix.lower().removeprefix(".") in (*READERS, "txt") else path.name


def _check_learnable(table: Table, label: str, examples: Sequence[Example], for_test: bool) -> None:
    counts = Counter(str(example.target) for example in examples)
    file, n = table.path.name, len(examples)
    if n == 0 or (n < 2 and not for_test):
        raise DataError(f"{file} has {n} row(s) with both text and label. It takes at least {1 if for_test else 2}.")
    if for_test:
        return
    if len(counts) == 1:
        raise DataError(f'Every row of {file} has the same label, "{_short(*counts)}". It takes at least two classes.')
    if len(counts) > max(20, n / 2):
        few = [column for column in table.columns if column != label and _has_classes(table, column)]
        hint = f" Columns with few different values: {', '.join(map(_short, few[:8]))}." if few else ""
        raise DataError(
            f'"{label}" of {file} has {len(counts):,} different values in {n:,} rows, so it is not a column of class '
            f"labels (free text, a number or an id?).{hint}{_doubt(table)}"
        )


def _has_classes(table: Table, column: str) -> bool:
    return 2 <= len({row[column] for row in table.rows}) <= min(100, len(table.rows) // 2)


def _short(name: str) -> str:
    return name if len(name) <= 30 else name[:27] + "..."
