"""The providers' batch jobs on a FakeServer: files of requests that are answered later, line by line."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from promptlab.testing.faults import Fault
from promptlab.testing.wire.rejections import Provider, Rejected

FILES, BATCHES, MESSAGE_BATCHES = "/v1/files", "/v1/batches", "/v1/messages/batches"
DAY_S = 86_400
NOT_DONE = {  # what OpenAI says of a line that was not answered
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
}
Json = dict[str, Any]
Answer = Callable[[str, Any], Json]  # path and body -> the answer; raises Rejected


@dataclass(slots=True)
class Line:
    """A request of a job, and what became of it: an answer, a rejection, "expired" or "cancelled"."""

    custom_id: str
    path: str
    body: Any
    outcome: Json | Rejected | str | None = None


@dataclass(slots=True)
class Job:
    """A job. Its status is OpenAI's word for it; "archived", if a test says so, is Anthropic's of results gone."""

    id: str
    provider: Provider
    lines: list[Line]
    asked: Json
    created: float
    polls: int = 0
    status: str = "in_progress"

    def count(self, *kinds: type | str | None) -> int:
        return sum(line.outcome in kinds or type(line.outcome) in kinds for line in self.lines)


@dataclass
class Jobs:
    """How batch jobs go: over after `polls` looks at one, its lines answered bit by bit; never with None.

    `faults` go wrong with lines, by their number in the job from 0 (statuses only); those in `expired` are not
    answered in time; with `shuffled` results come in another order. `failed` is the code of what is wrong with every
    job as a whole (OpenAI's only). `jobs` are all there have been, in order.
    """

    polls: int | None = 1
    faults: Mapping[int, Fault] = field(default_factory=dict)
    expired: Collection[int] = ()
    shuffled: bool = False
    failed: str | None = None
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._lock = threading.RLock()

    def __call__(self, method: str, path: str, query: str, body: Any, content: bytes, answer: Answer) -> Any:
        """The JSON, or as bytes the file, that is told; None for what is no endpoint of batch jobs."""
        if not path.startswith((FILES, BATCHES, MESSAGE_BATCHES)):
            return None
        root = next(root for root in (FILES, BATCHES, MESSAGE_BATCHES) if path.startswith(root))
        provider: Provider = "anthropic" if root == MESSAGE_BATCHES else "openai"
        with self._lock:
            match method, root, path.removeprefix(root).strip("/").split("/"):
                case "POST", "/v1/files", [""]:
                    return self._upload(content)
                case "GET", "/v1/files", [id, "content"] if id in self._files:
                    return self._files[id]
                case "POST", "/v1/batches" | "/v1/messages/batches", [""]:
                    return self._told(self._create(provider, body))
                case "GET", "/v1/batches" | "/v1/messages/batches", [""]:
                    return self._list(provider, parse_qs(query))
                case "GET", "/v1/batches" | "/v1/messages/batches", [id]:
                    return self._told(self._advanced(self._job(provider, id), answer))
                case "POST", "/v1/batches" | "/v1/messages/batches", [id, "cancel"]:
                    return self._told(self._cancelled(self._job(provider, id)))
                case "GET", "/v1/messages/batches", [id, "results"]:
                    return self._results(self._job(provider, id))
        raise Rejected(404, f"there is no {method} {path} here", code="unknown_url")

    def _upload(self, content: bytes) -> Json:
        fields = form(content)
        if fields.get("purpose") != b"batch" or "file" not in fields:
            raise Rejected(400, 'this server takes files of purpose "batch" only')
        id = f"file-{len(self._files) + 1}"
        self._files[id] = fields["file"]
        size = {"bytes": len(fields["file"]), "created_at": int(time.time()), "filename": "requests.jsonl"}
        return {"id": id, "object": "file", "purpose": "batch", "status": "processed", **size}

    def _create(self, provider: Provider, asked: Any) -> Job:
        try:
            if provider == "openai":
                endpoint = asked["endpoint"]
                rows = [json.loads(row) for row in self._files[asked["input_file_id"]].splitlines() if row.strip()]
                lines = [Line(row["custom_id"], row["url"], row["body"]) for row in rows]
                if any(line.path != endpoint for line in lines):
                    raise Rejected(400, f"every line's url has to be {endpoint}")
            else:
                lines = [Line(row["custom_id"], "/v1/messages", row["params"]) for row in asked["requests"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Rejected(400, f"this is no batch of requests: {error!r}") from None
        if not lines or len({line.custom_id for line in lines}) < len(lines):
            raise Rejected(400, "a batch has requests, and each has a custom_id of its own")
        head = "batch" if provider == "openai" else "msgbatch"
        job = Job(f"{head}_{len(self.jobs) + 1}", provider, lines, asked, time.time())
        if self.failed and provider == "openai":
            job.status = "failed"
        self.jobs.append(job)
        return job

    def _job(self, provider: Provider, id: str) -> Job:
        for job in self.jobs:
            if (job.id, job.provider) == (id, provider):
                return job
        raise Rejected(404, f"there is no batch {id!r} here")

    def _advanced(self, job: Job, answer: Answer) -> Job:
        """One look later: so many more lines are answered. A job that was cancelled is over."""
        if job.status == "cancelling":
            self._end(job, "cancelled")
        if job.status == "in_progress" and self.polls is not None:
            job.polls += 1
            due = len(job.lines) * job.polls // max(self.polls, 1)
            for i, line in enumerate(job.lines[:due]):
                if line.outcome is None:
                    line.outcome = self._answered(i, line, answer)
            if due >= len(job.lines):
                self._end(job, "expired" if job.count("expired") else "completed")
        return job

    def _answered(self, i: int, line: Line, answer: Answer) -> Json | Rejected | str:
        if i in self.expired:
            return "expired"
        try:
            if i in self.faults and (rejection := self.faults[i].rejection):
                raise rejection
            return answer(line.path, line.body)
        except Rejected as rejected:
            return rejected

    def _end(self, job: Job, status: str) -> None:
        job.status = status
        for line in job.lines:
            line.outcome = line.outcome or "cancelled"
        if job.provider == "openai":
            good, bad = self._results(job, True), self._results(job, False)
            self._files |= {f"file-{job.id}-{name}": file for name, file in (("out", good), ("err", bad)) if file}

    def _cancelled(self, job: Job) -> Job:
        if job.status not in ("in_progress", "cancelling"):
            raise Rejected(400, f"a batch that is {job.status} cannot be cancelled")
        job.status = "cancelling"
        return job

    def _results(self, job: Job, good: bool | None = None) -> bytes:
        """The job's results as lines of JSON: all, or those that were answered, or those that were not."""
        if job.status in ("in_progress", "cancelling"):
            raise Rejected(404, f"batch {job.id} has no results yet")
        rows = [(i, line) for i, line in enumerate(job.lines) if good in (None, isinstance(line.outcome, dict))]
        if self.shuffled:
            random.Random(job.id).shuffle(rows)
        tell = _openai_line if job.provider == "openai" else _anthropic_line
        return b"".join(json.dumps(tell(i, line)).encode() + b"\n" for i, line in rows)

    def _list(self, provider: Provider, query: Mapping[str, Sequence[str]]) -> Json:
        """Newest first, a page at a time."""
        jobs = [job for job in reversed(self.jobs) if job.provider == provider]
        last = query.get("after" if provider == "openai" else "after_id", [""])[0]
        ids = [job.id for job in jobs]
        jobs = jobs[ids.index(last) + 1 :] if last in ids else jobs
        page = jobs[: int(query.get("limit", ["20"])[0])]
        ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {"first_id": None, "last_id": None}
        told = {"data": [self._told(job) for job in page], "has_more": len(page) < len(jobs), **ends}
        return {"object": "list", **told} if provider == "openai" else told

    def _told(self, job: Job) -> Json:
        return self._openai(job) if job.provider == "openai" else _anthropic(job)

    def _openai(self, job: Job) -> Json:
        files = {name: f"file-{job.id}-{tail}" for name, tail in (("output_file_id", "out"), ("error_file_id", "err"))}
        wrong = {"code": self.failed, "message": "the server was told to fail", "param": None, "line": None}
        counts = {"total": len(job.lines), "completed": job.count(dict), "failed": job.count(Rejected, "expired")}
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.asked["endpoint"],
            "errors": {"object": "list", "data": [wrong]} if job.status == "failed" else None,
            "input_file_id": job.asked["input_file_id"],
            "completion_window": job.asked.get("completion_window", "24h"),
            "status": job.status,
            "created_at": int(job.created),
            "expires_at": int(job.created) + DAY_S,
            "request_counts": counts,
            "metadata": job.asked.get("metadata"),
            **{name: id if id in self._files else None for name, id in files.items()},
        }


def _anthropic(job: Job) -> Json:
    """Nothing is counted before the end, but that it is processed; that is how the API is."""
    ended = job.status not in ("in_progress", "cancelling")
    counts = {
        "processing": 0 if ended else len(job.lines),
        "succeeded": job.count(dict) if ended else 0,
        "errored": job.count(Rejected) if ended else 0,
        "canceled": job.count("cancelled") if ended else 0,
        "expired": job.count("expired") if ended else 0,
    }
    over = _at(time.time()) if ended else None
    return {
        "id": job.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "canceling" if job.status == "cancelling" else "in_progress",
        "request_counts": counts,
        "created_at": _at(job.created),
        "expires_at": _at(job.created + DAY_S),
        "ended_at": over,
        "archived_at": over if job.status == "archived" else None,
        "cancel_initiated_at": over if job.status == "cancelled" else None,
        "results_url": f"{MESSAGE_BATCHES}/{job.id}/results" if ended and job.status != "archived" else None,
    }


def _openai_line(i: int, line: Line) -> Json:
    row: Json = {"id": f"batch_req_{i}", "custom_id": line.custom_id, "response": None, "error": None}
    if isinstance(line.outcome, str):
        code, message = NOT_DONE[line.outcome]
        return {**row, "error": {"code": code, "message": message}}
    status, body = 200, line.outcome
    if isinstance(line.outcome, Rejected):
        status, body = line.outcome.status, line.outcome.body("openai", i)
    return {**row, "response": {"status_code": status, "request_id": f"req_{i}", "body": body}}


def _anthropic_line(i: int, line: Line) -> Json:
    if isinstance(line.outcome, str):
        result: Json = {"type": "expired" if line.outcome == "expired" else "canceled"}
    elif isinstance(line.outcome, Rejected):
        result = {"type": "errored", "error": line.outcome.body("anthropic", i)}
    else:
        result = {"type": "succeeded", "message": line.outcome}
    return {"custom_id": line.custom_id, "result": result}


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def form(content: bytes) -> dict[str, bytes]:
    """The fields of a multipart form, whose first line is its boundary."""
    boundary = content.partition(b"\r\n")[0]
    fields: dict[str, bytes] = {}
    for part in content.split(boundary)[1:-1] if boundary else ():
        head, _, value = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        fields[name] = value.removesuffix(b"\r\n")
    return fields
