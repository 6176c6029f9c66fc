"""Files under one folder, and under no other."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from promptlab.errors import SetupError, WrongCall
from promptlab.tool import Tool, tool
from promptlab.tools.python import shortened

MOST_READ_BYTES = 1_000_000
MOST_WRITTEN_BYTES = 1_000_000
MOST_LISTED = 200
MOST_SHOWN = 16_000  # characters; bytes of a file that is not read whole
CONTINUING = bytes(range(0x80, 0xC0))  # which no character of UTF-8 begins with


def files(root: Path | str, writable: bool = False) -> list[Tool]:
    """Tools that list and read the files under a folder, and write them if they may.

    Every step of a path is opened from the folder before it and never through a symbolic link, so that nothing outside
    is reached, whatever changes meanwhile. Links, devices and pipes are refused, inside the folder too.
    """
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise SetupError(f"There is no folder {root}.")

    def list_files(path: str = ".") -> str:
        """Lists a folder; subfolders end in "/".

        Args:
            path: relative, "." for the whole
        """
        opened = open_beneath(folder, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in os.scandir(opened))
        finally:
            os.close(opened)
        more = [f"[… {len(names) - MOST_LISTED:,} more]"] if len(names) > MOST_LISTED else []
        return "\n".join(names[:MOST_LISTED] + more) or "The folder is empty."

    def read_file(path: str) -> str:
        """Reads a text file; of a long one its beginning and its end.

        Args:
            path: relative to the folder
        """
        with os.fdopen(open_beneath(folder, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            regular(file.fileno(), path)
            content = file.read(MOST_READ_BYTES + 1)
            if b"\0" in content[:8192]:
                raise WrongCall(f"{path} is no text file")
            if len(content) > MOST_READ_BYTES:
                return ends(file)
        return shortened(content.decode("utf-8", errors="replace"), MOST_SHOWN) or "The file is empty."

    def write_file(path: str, text: str) -> str:
        """Writes a text file, instead of what was there before.

        Args:
            path: relative to the folder; its subfolder must be there
            text: the whole new content
        """
        content = text.encode()
        if len(content) > MOST_WRITTEN_BYTES:
            raise WrongCall(f"{len(content):,} bytes are too many; {MOST_WRITTEN_BYTES:,} is the most")
        with os.fdopen(open_beneath(folder, path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK), "wb") as file:
            regular(file.fileno(), path)  # before anything of it is lost
            file.truncate()
            file.write(content)
        return f"{len(content):,} bytes written to {path}."

    made: list[Callable[..., str]] = [list_files, read_file]
    return [*map(tool, made), *[tool(write_file, parallel=False)] * writable]


def ends(file: BinaryIO) -> str:
    """The beginning and the end of a file too large to be read whole, of whole characters, and how much is between."""
    half = MOST_SHOWN // 2
    size = file.seek(0, os.SEEK_END)
    file.seek(size - half)
    tail = file.read(half)
    whole = tail.lstrip(CONTINUING)  # without what is left of a character that the cut went through
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    head = decoder.decode(file.read(half))  # it keeps such a rest to itself
    left_out = size - 2 * half + len(decoder.getstate()[0]) + len(tail) - len(whole)
    return f"{head}\n[… {left_out:,} bytes left out …]\n{whole.decode('utf-8', errors='replace')}"


def open_beneath(folder: Path, path: str, flags: int) -> int:
    """Opens a path beneath a folder, following no link. Raises WrongCall saying why it cannot."""
    steps = [step for step in path.split("/") if step not in ("", ".")]
    if path.startswith("/") or ".." in steps or "\0" in path:
        raise WrongCall(f"paths are relative to the folder and stay in it, got {path!r}")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a surrogate pair, as JSON can hold
        raise WrongCall(f"{path!r} is no name of a file") from None
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for i, step in enumerate(steps or ["."]):
            last = i == len(steps) - 1 or not steps
            how = flags if last else os.O_RDONLY | os.O_DIRECTORY
            before, at = at, os.open(step, how | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=at)
            os.close(before)
    except OSError as error:
        os.close(at)
        link = " or is a link, which is not followed" if error.errno in (errno.ENOTDIR, errno.ELOOP) else ""
        raise WrongCall(f"{path!r} cannot be opened: {error.strerror}{link}") from None
    return at


def regular(opened: int, path: str) -> None:
    """Raises WrongCall for what is no plain file, or one that has another name too, maybe outside the folder."""
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode):
        raise WrongCall(f"{path!r} is no plain file")
    if found.st_nlink > 1:
        raise WrongCall(f"{path!r} has other names (hard links), and is left alone")
