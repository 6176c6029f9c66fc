"""The providers' batch jobs, through their SDKs: submitted, found again, looked at, fetched and cancelled."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from promptlab.backends.failures import failure
from promptlab.backends.wire.common import Json, reading
from promptlab.errors import ModelError, SetupError, Unauthorized, Unavailable

T = TypeVar("T")

HTTP = {"openai", "anthropic", "httpx2", "httpx"}  # packages whose errors tell of a failed request
SKEW_S = 3600.0  # how far the provider's clock may be from ours
TAG = "promptlab"  # the name of the tag of OpenAI's jobs

# What Anthropic's lines, which have no status, mean by it.
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a job goes: lines done, whether it is over, and what is wrong with it as a whole.

    A ModelError: none of it was done, or is to be paid for. A SetupError: it was, but is no longer to be had.
    """

    done: int
    over: bool
    failure: ModelError | SetupError | None = None


class Found(NamedTuple):
    """A job of the provider's list. Not `sure`: it may be another's, as its results will tell."""

    id: str
    sure: bool


class Outcome(NamedTuple):
    """What became of a line: an HTTP status and a body. No status: it was not done, but expired or was cancelled."""

    key: str
    status: int | None = None
    body: Any = None


class Batches(Protocol):
    """A provider's batch jobs. `tag` is a job's name here; whatever the SDK raises goes through."""

    most_lines: ClassVar[int]
    most_bytes: ClassVar[int]

    def row(self, key: str, body: Json) -> Json:
        """A request as a line of a job."""
        ...

    async def submit(self, client: Any, rows: Sequence[Json], tag: str) -> str: ...
    async def find(self, client: Any, tag: str, lines: int, since: float, others: Collection[str]) -> Found | None: ...
    async def look(self, client: Any, id: str) -> Look: ...
    async def outcomes(self, client: Any, id: str) -> list[Outcome]: ...
    async def cancel(self, client: Any, id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class OpenAIBatches:
    """A file of requests is uploaded and made a job of, whose results are files too; the tag is in its metadata."""

    endpoint: str
    most_lines: ClassVar[int] = 50_000
    most_bytes: ClassVar[int] = 200_000_000

    def row(self, key: str, body: Json) -> Json:
        return {"custom_id": key, "method": "POST", "url": self.endpoint, "body": body}

    async def submit(self, client: Any, rows: Sequence[Json], tag: str) -> str:
        content = "".join(f"{json.dumps(row)}\n" for row in rows).encode("ascii")
        file = await client.files.create(file=("requests.jsonl", content), purpose="batch")
        job = await client.batches.create(
            input_file_id=file.id, endpoint=self.endpoint, completion_window="24h", metadata={TAG: tag}
        )
        return named(job)

    async def find(self, client: Any, tag: str, lines: int, since: float, others: Collection[str]) -> Found | None:
        async for job in client.batches.list(limit=100):
            if job.created_at < since - SKEW_S:
                return None
            if (job.metadata or {}).get(TAG) == tag and job.id not in others:
                return Found(job.id, True)
        return None

    async def look(self, client: Any, id: str) -> Look:
        job = await client.batches.retrieve(id)
        counts = job.request_counts
        done = counts.completed + counts.failed if counts else 0
        if job.status != "failed":
            return Look(done, job.status in ("completed", "expired", "cancelled"))
        wrong = (job.errors.data if job.errors else None) or []
        told = "; ".join(f"{error.code}: {error.message}" for error in wrong)
        kind = Unavailable if any("limit" in str(error.code) for error in wrong) else ModelError
        return Look(0, True, kind(f"the provider did not take batch job {id}: {told or 'it does not say why'}"))

    async def outcomes(self, client: Any, id: str) -> list[Outcome]:
        job = await client.batches.retrieve(id)
        found: list[Outcome] = []
        for file in (job.output_file_id, job.error_file_id):
            if file:
                rows = [json.loads(row) for row in (await client.files.content(file)).content.splitlines() if row]
                found += [self._outcome(row) for row in rows]
        if job.request_counts and len(found) < job.request_counts.completed:
            raise Unavailable(f"of {job.request_counts.completed} results of batch job {id} only {len(found)} came")
        return found

    def _outcome(self, row: Json) -> Outcome:
        if response := row.get("response"):
            return Outcome(row["custom_id"], response["status_code"], response["body"])
        error = row.get("error") or {}
        not_done = error.get("code") in ("batch_expired", "batch_cancelled")
        return Outcome(row["custom_id"]) if not_done else Outcome(row["custom_id"], 500, {"error": error})

    async def cancel(self, client: Any, id: str) -> None:
        await client.batches.cancel(id)


@dataclass(frozen=True, slots=True)
class AnthropicBatches:
    """Jobs have no tag: one is found again as a job of as many lines from that time, and told by the lines' keys."""

    most_lines: ClassVar[int] = 100_000
    most_bytes: ClassVar[int] = 256_000_000

    def row(self, key: str, body: Json) -> Json:
        return {"custom_id": key, "params": body}

    async def submit(self, client: Any, rows: Sequence[Json], tag: str) -> str:
        return named(await client.messages.batches.create(requests=rows))

    async def find(self, client: Any, tag: str, lines: int, since: float, others: Collection[str]) -> Found | None:
        found: Found | None = None
        async for job in client.messages.batches.list(limit=100):
            if job.created_at.timestamp() < since - SKEW_S:
                break
            if sum(job.request_counts.to_dict().values()) == lines and job.id not in others:
                found = Found(job.id, False)
        return found

    async def look(self, client: Any, id: str) -> Look:
        job = await client.messages.batches.retrieve(id)
        counts = job.request_counts
        gone = SetupError(f"The results of batch job {id} are no longer kept.") if job.archived_at else None
        return Look(sum(counts.to_dict().values()) - counts.processing, job.processing_status == "ended", gone)

    async def outcomes(self, client: Any, id: str) -> list[Outcome]:
        rows = [row.to_dict(mode="json") async for row in await client.messages.batches.results(id)]
        job = await client.messages.batches.retrieve(id)
        if len(rows) < (lines := sum(job.request_counts.to_dict().values())):
            raise Unavailable(f"of {lines} results of batch job {id} only {len(rows)} came")
        return [self._outcome(row["custom_id"], row["result"]) for row in rows]

    def _outcome(self, key: str, result: Json) -> Outcome:
        if result["type"] == "succeeded":
            return Outcome(key, 200, result["message"])
        if result["type"] != "errored":
            return Outcome(key)
        kind = (result["error"].get("error") or {}).get("type")
        return Outcome(key, STATUSES.get(str(kind), 500), result["error"])

    async def cancel(self, client: Any, id: str) -> None:
        await client.messages.batches.cancel(id)


def named(job: Any) -> str:
    """A job's id. Raises TypeError for an answer that is none."""
    if not isinstance(job.id, str):
        raise TypeError(f"a batch job without an id: {job!r}")
    return job.id


async def asked(backend: Any, answer: Awaitable[T]) -> T:
    """What the SDK answers. What it raises is an error of ours: of its kind, Malformed for what is no such answer.

    Raises Unauthorized, and SetupError where there is no such address or job.
    """
    try:
        with reading():
            return await answer
    except Exception as error:
        if not {kind.__module__.partition(".")[0] for kind in type(error).__mro__} & HTTP:
            raise
        raise ours(error, backend) from None


def ours(error: Any, backend: Any) -> ModelError | SetupError:
    status, response = getattr(error, "status_code", None), getattr(error, "response", None)
    told = backend.without_key(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
    if status in (401, 403):
        return Unauthorized(f"{told} Is {backend.key_variable} the right key?")
    if status == 404:
        return SetupError(f"{told} Does {backend!r} have batch jobs?")
    if status is None or response is None:
        return Unavailable(told)
    kind = failure(status, response.headers, response.text)
    kind.args = (backend.without_key(str(kind)),)
    return kind
