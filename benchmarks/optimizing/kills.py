"""A search that is killed at random instants and taken up again: does it find the same, and what is paid twice?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from promptlab import Reply, Request, Usage
from promptlab.testing import FakeServer

WORDS = "cough rash fever pond barn ice smoke home water red sun tree stone day night bed hand word light".split()
IN_FLIGHT, CALLS = 16, 400
CLI = (sys.executable, "-c", "from promptlab.cli import main; main()", "optimize")


class Killed(NamedTuple):
    """What came of a search: calls that the server got beyond one for each request, and whether it ended the same."""

    beyond: int
    same: bool


def answered(request: Request) -> Reply:
    """The second of three words where it is told so, else mostly the first; an instruction where one is asked for."""
    time.sleep(0.002)
    asked = request.messages[-1].content
    chance = Random(repr([message.content for message in request.messages]))
    words = asked.split()
    if len(request.messages) == 1:
        text = chance.choice(["Give the second word of the three", "Say a word that stands there"])
        return Reply(f"{text}, {chance.choice(WORDS)} or not.", usage=Usage(60, output_tokens=12))
    right = chance.random() < (0.9 if "second" in request.messages[0].content else 0.2)
    return Reply(words[1] if right else words[0], usage=Usage(20, output_tokens=2))


def write_lists(path: Path, n: int = 100) -> Path:
    rng = Random(0)
    rows = list(dict.fromkeys(tuple(rng.sample(WORDS, 3)) for _ in range(3 * n)))[:n]
    path.write_text("\n".join(["text,label", *(f"{' '.join(row)},{row[1]}" for row in rows)]) + "\n")
    return path


def begin(*arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OPENAI_API_KEY": "none-is-needed"}
    return subprocess.Popen([*CLI, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def command(file: Path, url: str, out: Path) -> list[str]:
    given = ["--output", "text", "--instruction", "Give a word.", "--option", "proposals=8", "--calls", str(CALLS)]
    return [str(file), *given, "--model", f"openai:m@{url}", "--out", str(out), "-q", "--workers", str(IN_FLIGHT)]


def finished(process: subprocess.Popen[bytes], out: Path) -> str:
    """What a search came to: the prompt, every event of it, and the test."""
    if process.wait():
        raise SystemExit("a search failed")
    results = json.loads((out / "results.json").read_text())
    return json.dumps([results["test"], (out / "prompt.json").read_text(), (out / "ledger.jsonl").read_text()])


def whole(folder: Path) -> tuple[int, str]:
    """How many calls a search takes that nobody kills, and what it comes to."""
    file = write_lists(folder / "lists.csv")
    with FakeServer(answered) as server:
        found = finished(begin(*command(file, server.url, folder / "whole")), folder / "whole")
        return len(server.received), found


def killed(folder: Path, at: int, needed: int, expected: str) -> Killed:
    """The same search, killed when the server has got its `at`-th request, and taken up again."""
    out = folder / f"killed-{at}"
    with FakeServer(answered) as server:
        process = begin(*command(folder / "lists.csv", server.url, out))
        while len(server.received) < at and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        again = ["--resume", str(out), "-q", "--workers", str(IN_FLIGHT)]
        found = finished(begin(*again), out)
        return Killed(len(server.received) - needed, found == expected)


def kills(n: int, seed: int = 0) -> list[Killed]:
    """`n` searches, each killed at a random instant: `beyond` should be IN_FLIGHT at most, and `same` true."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        needed, expected = whole(folder)
        points = Random(f"kills/{seed}").sample(range(1, needed), min(n, needed - 1))
        return [killed(folder, at, needed, expected) for at in points]
