"""Files under one folder: no path leads out of it."""

from __future__ import annotations

import os

import pytest

from promptlab import Reply, run
from promptlab.errors import SetupError, WrongCall
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools.files import files
from promptlab.types import ToolCall


@pytest.fixture
def root(tmp_path):
    """A folder with a secret beside it, and ways that could lead there."""
    (tmp_path / "secret.txt").write_text("the secret")
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "note.txt").write_text("a note")
    (folder / "sub" / "deep.txt").write_text("deep")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside.txt").symlink_to("note.txt")
    os.link(tmp_path / "secret.txt", folder / "hard.txt")
    os.mkfifo(folder / "pipe")
    (folder / "binary").write_bytes(b"\0\1")
    return folder


def test_files_are_listed_read_and_written(root):
    listing, reading, writing = files(root, writable=True)
    assert listing(path="sub") == "deep.txt"
    assert "sub/" in listing().split("\n")
    assert reading(path="./sub//deep.txt") == "deep"
    assert writing(path="sub/new.txt", text="é") == "2 bytes written to sub/new.txt."
    assert (root / "sub" / "new.txt").read_text() == "é"
    assert writing(path="note.txt", text="x") == "1 bytes written to note.txt."
    assert (root / "note.txt").read_text() == "x"


def test_without_leave_there_is_no_tool_that_writes(root):
    assert [tool.spec.name for tool in files(root)] == ["list_files", "read_file"]


def test_what_is_no_text_is_no_name_of_a_file(root):
    """Half a surrogate pair, as JSON can hold; and nothing stays open after it."""
    _, reading = files(root)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(WrongCall, match="no name of a file"):
        reading(path="sub/\ud800.txt")
    assert len(os.listdir("/proc/self/fd")) == before


OUTSIDE = [
    "../secret.txt",
    "sub/../../secret.txt",
    "/etc/passwd",
    "link.txt",
    "up/secret.txt",
    "inside.txt",
    "hard.txt",
]


@pytest.mark.parametrize(
    "path", [*OUTSIDE, "pipe", "binary", "none.txt", "note.txt/x", "sub", "", ".", "a\0b", "x" * 5000]
)
def test_a_path_that_leads_out_or_to_no_text_is_refused_in_a_line(root, path):
    model = Script([Reply(calls=(ToolCall("1", "read_file", {"path": path}),)), Reply(text="done")])
    answer = run(react("q", files(root)), model)
    assert answer.value == "done"
    [told] = [message.content for message in answer.trace if message.role == "tool"]
    assert told.startswith("Error: ")
    assert "the secret" not in told


@pytest.mark.parametrize("path", [*OUTSIDE, "pipe", "sub", "nowhere/new.txt", "../new.txt"])
def test_nothing_is_written_outside_or_over_what_is_no_file(root, path):
    writing = files(root, writable=True)[2]
    with pytest.raises(WrongCall):
        writing(path=path, text="overwritten")
    assert (root.parent / "secret.txt").read_text() == "the secret"
    assert (root / "note.txt").read_text() == "a note"
    assert {path.name for path in root.parent.iterdir()} == {"secret.txt", "root"}


def test_long_files_are_cut(root):
    (root / "long.txt").write_text("x" * 100_000)
    assert "characters left out" in files(root)[1](path="long.txt")


@pytest.mark.parametrize("begins", ["", "a", "ab"])
def test_of_a_file_too_large_to_be_read_whole_the_end_is_its_end(root, begins):
    """Cut at whole characters, wherever the bytes of one lie, and with the right count of what is not shown."""
    text = begins + "€" * 500_000 + "THE END"
    (root / "large.txt").write_text(text, encoding="utf-8")
    head, told, tail = files(root)[1](path="large.txt").split("\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert tail.endswith("THE END")
    shown = len((head + tail).encode())
    assert 15_990 < shown <= 16_000
    assert told == f"[… {len(text.encode()) - shown:,} bytes left out …]"


def test_a_folder_that_is_not_there_is_wrong_set_up(tmp_path):
    with pytest.raises(SetupError, match="There is no folder"):
        files(tmp_path / "none")
