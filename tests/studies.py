"""Small studies that need no trained model: data, backends and learners that worker processes can import too.

As a script, `python studies.py FOLDER CALLS [jobs=2] [resume]` runs one that the tests kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promptlab import Answer, Example, ModelError, Reply, Request, Task, compare, in_context
from promptlab.compare.cellfile import message_id
from promptlab.errors import DataError
from promptlab.learners import Solver
from promptlab.learners.baselines import Majority, TfidfLogistic
from promptlab.learners.solver import Silent

WORDS = {"yes": ("apple", "pear", "plum", "fig"), "no": ("bolt", "nut", "screw", "nail")}


def a_task(n_train: int = 16, n_test: int = 12) -> Task:
    """Fruit is "yes", hardware is "no"; every text occurs once."""
    sides = [
        [
            Example(f"{side} {i} {WORDS[label][i // 2 % 4]} lot {i}", label, f"{side}:{i}")
            for i in range(n)
            for label in [("yes", "no")[i % 2]]
        ]
        for side, n in (("train", n_train), ("test", n_test))
    ]
    return Task.classification("fruit", *sides, instruction="Is it fruit?")


class Asked:
    """Answers by a hash of the prompt, and adds a line to the file `calls` for every request it answers."""

    local = True

    def __init__(self, calls: str | Path = os.devnull, *, batched: bool = False, delay_s: float = 0.0):
        self.calls, self.batched, self.delay_s = str(calls), batched, delay_s

    def __reduce__(self):
        return _asked, (type(self), self.calls, self.batched, self.delay_s)

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        time.sleep(self.delay_s)
        keys = ["-".join(map(message_id, request.messages)) for request in requests]
        file = os.open(self.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, "".join(f"{key}\n" for key in keys).encode())
        os.close(file)
        return [self.reply(key) for key in keys]

    def reply(self, key: str) -> Reply | ModelError:
        number = hashlib.sha256(key.encode()).digest()[0]
        return ModelError("the server is busy") if number % 8 == 0 else Reply(("yes", "no", "maybe")[number % 3])


def _asked(kind, calls, batched, delay_s):
    return kind(calls, batched=batched, delay_s=delay_s)


class Counts:
    """Knows one step of Countdown."""

    batched = True

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [Reply("3 * 2 = 6 (left: 6)") for _ in requests]


class Slow(Asked):
    """`--model studies:Slow/CALLS`: a hosted model that takes its time."""

    def __init__(self, calls: str, *, batched: bool = False, delay_s: float = 0.2):
        super().__init__(calls, batched=batched, delay_s=delay_s)


class Down:
    """A server that answers nothing."""

    batched = False

    def generate(self, requests):
        return [ModelError("the server is down") for _ in requests]


class Small(Asked):
    """An engine with a context of 200 words."""

    context_tokens = 200

    def __init__(self):
        super().__init__(batched=True)

    def count_tokens(self, messages):
        return sum(len(message.content.split()) for message in messages)


class InFlight(Asked):
    """Notes how many requests it is answering at a time."""

    def __init__(self, *, delay_s: float = 0.02):
        super().__init__(delay_s=delay_s)
        self.now, self.most, self.lock = 0, 0, threading.Lock()

    def generate(self, requests):
        with self.lock:
            self.now += len(requests)
            self.most = max(self.most, self.now)
        time.sleep(self.delay_s)
        with self.lock:
            self.now -= len(requests)
        return [Reply("yes") for _ in requests]


def always(answer):
    async def program(question: str) -> Answer:
        return Answer(answer)

    return Solver(program, Silent())


def says_yes(task: Task, examples: Sequence[Example], seed: int) -> Solver:
    return always("yes")


def counts_threads(task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """Says how many threads the libraries use that it loads itself."""
    import sklearn.linear_model  # noqa: F401
    import torch
    from threadpoolctl import threadpool_info

    return always(str(max(torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info()))))


def refuses(task: Task, examples: Sequence[Example], seed: int) -> Solver:
    raise DataError("the column 'age' is needed; name it with --age.")


def dies_once(task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """The process is gone, the first time."""
    marker = Path(os.environ["DIES_ONCE"])
    if not marker.exists():
        marker.touch()
        os._exit(3)
    return always("yes")


@dataclass(frozen=True)
class Killed:
    """Its process is killed while it answers with seed 0, as often as `times` says; `marks` has a letter for each."""

    marks: str
    times: int = 1

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        async def program(question: str) -> Answer:
            marks = Path(self.marks)
            killed = len(marks.read_text()) if marks.exists() else 0
            if seed == 0 and question == task.test[len(task.test) // 2].input and killed < self.times:
                marks.write_text("x" * (killed + 1))
                os.kill(os.getpid(), signal.SIGKILL)
            return Answer("yes", "yes")

        return Solver(program, Asked())


ARMS = {"majority": Majority(), "tfidf": TfidfLogistic(), "yes": says_yes}


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def untimed(folder: Path) -> bytes:
    """A run's rows and messages, byte for byte but for the timings."""
    rows = [{**row, "seconds": 0, "latency": 0} for row in rows_of(folder)]
    return (json.dumps(rows) + (folder / "messages.jsonl").read_text()).encode()


def called(calls: Path) -> list[str]:
    return calls.read_text().split() if calls.exists() else []


def write_csv(path: Path, n: int = 40) -> Path:
    lines = [f"{WORDS[label][i // 2 % 4]} lot {i},{label}" for i in range(n) for label in [("yes", "no")[i % 2]]]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def killed_study(calls: str | Path):
    """Arms, task, budgets and seeds of the study that is killed."""
    return {"majority": Majority(), "few-shot": in_context(Asked(calls, delay_s=0.02))}, a_task(n_test=40), (2, 4), 2


if __name__ == "__main__":
    folder, calls, *options = sys.argv[1:]
    compare(*killed_study(calls), out=folder, jobs=2 if "jobs=2" in options else 1, resume="resume" in options)
