"""A text file as promptlab meets it: hashed, its encoding found out, its lines cut at \\n alone.

str.splitlines would also cut at U+0085, which is an ellipsis in many a file from Windows.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, TextIO, cast

from promptlab.errors import DataError

Row = dict[str, str | None]


class Parsed(NamedTuple):
    """What a reader makes of a file. `lines[i]` is where row i starts, none where lines mean nothing (JSON).

    `too_wide` are the lines of rows that were left out since they have more cells than the first one; `separator` is
    what stood between cells, where something does.
    """

    columns: tuple[str, ...]
    rows: list[Row]
    lines: Sequence[int]
    warnings: list[str]
    too_wide: Sequence[int] = ()
    separator: str = ""


class TextFile(NamedTuple):
    """Where a file is and how its bytes are to be decoded."""

    path: Path
    encoding: str
    errors: str

    def open(self, newline: str | None = "") -> TextIO:
        return io.TextIOWrapper(unpacked(self.path), self.encoding, self.errors, newline)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number (from 1) and text of each line that is not blank."""
        with self.open(newline="\n") as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")


# The order matters: a UTF-32 mark begins with a UTF-16 one.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def unpacked(path: Path) -> IO[bytes]:
    """The bytes of a file; of a .gz those that were packed."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def plain_name(path: Path) -> Path:
    """The file's name without the .gz."""
    return path.with_suffix("") if path.suffix == ".gz" else path


def examine(path: Path) -> tuple[TextFile, str, list[str]]:
    """One pass over the bytes: hash, byte order mark, and whether they are UTF-8.

    Bytes that are not: if most of the non-ASCII ones still form UTF-8 characters, a few are damaged and become U+FFFD;
    else it is a file in the encoding of Western Windows (cp1252), or Latin-1 where it uses bytes that cp1252 lacks.
    """
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    head, line, bad_line, outside_cp1252, good, stray = b"", 1, 0, False, 0, 0
    with unpacked(path) as file:
        while chunk := file.read(1 << 20):
            head = head or chunk[:4096]
            digest.update(chunk)
            if not chunk.isascii():
                left, found = _UTF8_SEQUENCE.subn(b"", chunk)
                good += found
                stray += len(left) - len(left.translate(None, bytes(range(128, 256))))
                outside_cp1252 = outside_cp1252 or _NOT_IN_CP1252.search(chunk) is not None
            bad_line = bad_line or _first_bad_line(decoder, chunk, line)
            line += chunk.count(b"\n")
    bad_line = bad_line or _first_bad_line(decoder, b"", line)
    if not head.strip():
        raise DataError(f"{path.name} is empty.")
    for mark, name in _MARKS:
        if head.startswith(mark):
            return TextFile(path, name, "strict"), digest.hexdigest(), []
    if b"\0" in head:
        raise DataError(f"{path.name} is not text (a workbook or an archive?). Save it as CSV in UTF-8.")
    if not bad_line:
        return TextFile(path, "utf-8", "strict"), digest.hexdigest(), []
    if good > stray:
        told = f"{stray:,} byte(s) are not UTF-8 (first: line {bad_line}); each was read as U+FFFD."
        return TextFile(path, "utf-8", "replace"), digest.hexdigest(), [told]
    name = "latin-1" if outside_cp1252 else "cp1252"
    told = f"Not UTF-8 ({stray:,} byte(s), first: line {bad_line}), so it was read as {name}."
    return TextFile(path, name, "strict"), digest.hexdigest(), [told]


def _first_bad_line(decoder: codecs.IncrementalDecoder, chunk: bytes, line: int) -> int:
    """The line of the first byte that is not UTF-8, 0 if there is none; an empty chunk ends the file."""
    try:
        decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        return line + error.object[: error.start].count(b"\n")
    return 0
