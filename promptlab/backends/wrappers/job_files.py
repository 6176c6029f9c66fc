"""The folder in which batch jobs are noted: what is there when a process is killed is all that the next one needs.

TAG.job.json is a job, written before it is submitted and again with its id; TAG.job.jsonl what became of its lines,
which says that it is over; live.jsonl the replies to lines that were asked live in the end.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from promptlab.backends.batches import Outcome
from promptlab.errors import DataError, SetupError
from promptlab.jsonable import reply_from, reply_json
from promptlab.types import Reply


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job: its lines' keys, when it was begun and last sent (seconds since 1970), and its id once it has one.

    `sure` that the id is this job's; `others` are jobs that turned out not to be.
    """

    tag: str
    made: float
    sent: float
    keys: tuple[str, ...]
    id: str | None = None
    sure: bool = False
    others: tuple[str, ...] = ()


class JobFiles:
    """The files of a folder. Raises SetupError for one that is none, DataError for a file that is no job's."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.fspath(folder))
        if self.folder.exists() and not self.folder.is_dir():
            raise SetupError(f"Batch jobs are noted in a folder, and {self.folder} is a file: name another one.")
        self._read: dict[str, tuple[tuple[int, ...], Job]] = {}

    def path(self, job: Job) -> Path:
        return self.folder / f"{job.tag}.job.json"

    def jobs(self) -> list[Job]:
        """All jobs, the oldest first."""
        there: dict[str, tuple[tuple[int, ...], Job]] = {}
        for path in self.folder.glob("*.job.json"):
            with suppress(FileNotFoundError):  # forgotten just now by another process
                stat = path.stat()
                version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                known = self._read.get(path.name)
                there[path.name] = known if known and known[0] == version else (version, _job(path))
        self._read = there
        return sorted((job for _, job in there.values()), key=lambda job: (job.made, job.tag))

    def tag(self, name: str) -> str:
        """A tag of that name that no job has."""
        taken = {job.tag for job in self.jobs()}
        return next(tag for n in range(len(taken) + 1) if (tag := f"{name}-{n}") not in taken)

    def save(self, job: Job) -> Job:
        _write(self.path(job), json.dumps(asdict(job)))
        return job

    def forget(self, job: Job) -> None:
        self.path(job).unlink(missing_ok=True)

    def end(self, job: Job, outcomes: Iterable[Outcome]) -> None:
        _write(self.path(job).with_suffix(".jsonl"), "".join(json.dumps(outcome) + "\n" for outcome in outcomes))

    def ended(self, job: Job) -> bool:
        return self.path(job).with_suffix(".jsonl").exists()

    def outcomes(self, job: Job) -> dict[str, Outcome]:
        """What became of an ended job's lines, by their keys."""
        with self.path(job).with_suffix(".jsonl").open(encoding="utf-8") as lines:
            found = [Outcome(*json.loads(line)) for line in lines]
        return {outcome.key: outcome for outcome in found}

    def add_live(self, replies: Mapping[str, Reply]) -> None:
        with (self.folder / "live.jsonl").open("a", encoding="utf-8") as file:
            # A crash may have left half a line: each begins with the end of the one before.
            file.write("".join("\n" + json.dumps([key, reply_json(reply)]) for key, reply in replies.items()))
            file.flush()
            os.fsync(file.fileno())

    def live(self) -> dict[str, Any]:
        """The replies that were asked live."""
        found: dict[str, Any] = {}
        path = self.folder / "live.jsonl"
        for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
            try:
                key, told = json.loads(line)
            except ValueError:  # empty, or torn by a crash
                continue
            found[key] = reply_from(told)
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process or thread at a time; a kill unlocks."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            told = f"Batch jobs cannot be noted in {self.folder} ({error.strerror}): name another folder."
            raise SetupError(told) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _job(path: Path) -> Job:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Job(**{**told, "keys": tuple(told["keys"]), "others": tuple(told["others"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is no batch job, or a broken one: delete it to ask its lines anew.") from error


def _write(path: Path, text: str) -> None:
    """All of it or nothing, whatever happens."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
