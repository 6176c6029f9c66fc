"""A cell's file: append-only JSON lines that survive a crash at any instant.

{"message"} for every new turn of a prompt, {"item"} for every answer, {"done"} at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from promptlab.types import Message
from promptlab.whole import open_text, whole

Line = dict[str, Any]
NOT_NOW = "Unavailable:"  # how the reason of such an answer begins


@dataclass
class CellFile:
    """An open cell: which items are answered, which messages are in it, and whether it is done."""

    out: IO[str]
    answered: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    done: bool = False

    def write(self, rows: Sequence[Line]) -> None:
        """Append rows, each after those messages of its prompt that are new: from here on they survive a kill."""
        lines: list[Line] = []
        for row in rows:
            prompt = [self._told(message, lines) for message in row["item"]["prompt"]]
            lines.append({"item": {**row["item"], "prompt": prompt}})
        self.out.write("".join(map(as_line, lines)))
        self.out.flush()
        self.answered |= {row["item"]["item"] for row in rows}

    def _told(self, message: Message, lines: list[Line]) -> str:
        key = message_id(message)
        if key not in self.known:
            self.known.add(key)
            lines.append({"message": {"id": key, "role": message.role, "content": message.content}})
        return key

    def finish(self, done: Line) -> None:
        self.out.write(as_line({"done": done}))
        self.out.flush()
        self.sync()

    def sync(self) -> None:
        """From here on what was written survives a power cut too."""
        os.fsync(self.out.fileno())


@contextmanager
def opened(path: Path) -> Iterator[CellFile]:
    """A cell's file to go on with; what a crash tore at its end is cut off."""
    with open_text(path, "a") as out:
        # A worker whose parent was killed may be at its last line still: wait for it to leave.
        fcntl.flock(out, fcntl.LOCK_EX)
        lines, end = whole_lines(path)
        if end < path.stat().st_size:
            out.truncate(end)
        yield CellFile(
            out,
            {line["item"]["item"] for line in lines if "item" in line},
            {line["message"]["id"] for line in lines if "message" in line},
            any("done" in line for line in lines),
        )


def reopen(path: Path) -> int:
    """Take the answers out for which the model was not available, so that they are asked again; how many there were."""
    lines, _ = whole_lines(path)
    kept = [line for line in lines if not _not_now(line)]
    if taken := len(lines) - len(kept):
        with whole(path) as out:
            out.write("".join(as_line(line) for line in kept if "done" not in line))
    return taken


def settled(path: Path) -> set[str]:
    """The items that a cell's file has answers to which a run that goes on keeps."""
    return {line["item"]["item"] for line in whole_lines(path)[0] if "item" in line and not _not_now(line)}


def _not_now(line: Line) -> bool:
    return str(line.get("item", {}).get("error") or "").startswith(NOT_NOW)


def whole_lines(path: Path) -> tuple[list[Line], int]:
    """The lines of a cell's file up to the first that is not whole, and where they end, in bytes."""
    raw = path.read_bytes() if path.exists() else b""
    lines: list[Line] = []
    end = 0
    while (after := raw.find(b"\n", end) + 1) > 0:
        try:
            line = json.loads(raw[end:after])
        except ValueError:  # a power cut can leave a line of zeros
            break
        lines.append(line)
        end = after
    return lines, end


def answers_in(path: Path) -> int:
    """How many items a cell's file has answers to."""
    return sum("item" in line for line in whole_lines(path)[0])


def message_id(message: Message) -> str:
    said = f"{message.role}\0{message.content}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def as_line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
