"""Text files that survive a crash at any instant, and text that is no text: half a surrogate pair."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def open_text(path: Path, mode: str) -> IO[str]:
    """Half a surrogate pair, which UTF-8 does not have, is written as JSON escapes it."""
    return path.open(mode, encoding="utf-8", errors="backslashreplace")


@contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """A file that is there, whole, after the block, or is as it was before."""
    part = path.with_name(f"{path.name}.part")
    with open_text(part, "w") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
    os.replace(part, path)
