"""A hosted model asked in its provider's batch jobs, at the batch price: a job a wave, over hours, through crashes."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from promptlab.backends.batches import Batches, Outcome, asked
from promptlab.backends.failures import failure, said
from promptlab.backends.wire.common import Json, reading
from promptlab.backends.wrappers.job_files import Job, JobFiles
from promptlab.backends.wrappers.rewired import Rewired
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import Malformed, ModelError, SetupError, Unauthorized, Unavailable
from promptlab.jsonable import digest, dumped
from promptlab.options import check, name_of
from promptlab.runners import BATCH_FOLDER, in_private_loop
from promptlab.types import Backend, Reply, Request

T = TypeVar("T")
Progress = Callable[[int, int], None]

DAY_S = 86_400.0
PRICE = 0.5  # of a line of a batch job, by that of the same request live
SLOWER, SLOWEST = 1.5, 30  # every wait is so much longer than the one before, up to so many of the first
LIVE_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Wave:
    """What is asked at a time, by the keys of its lines: what to post, and the lines that no job would take.

    `again` are lines whose last job failed to answer them, with its tag: they go into another one.
    """

    requests: dict[str, Request]
    calls: dict[str, Any]
    failed: dict[str, ModelError] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)  # lines of jobs that are not over, by tag
    cancelled: set[str] = field(default_factory=set)


class BatchJobs(Wrapper):
    """Every wave of programs is one batch job (several where it is too large) of OpenAI's or Anthropic's.

    Jobs are noted in `folder`: whatever is killed when, the same programs on the same folder take them up again and
    pay for nothing twice. A line is known by the model's identity and the request, its branch among it; one that was
    answered before is read from the folder, whatever wave it comes in. Those that a job failed to answer for now
    (Unavailable) are in another job when they are asked again.

    A job is looked at after `poll_s` seconds, and then ever less often, up to every 30 · `poll_s`. One that is not over
    after `deadline_s` seconds is cancelled, which may take it `grace_s` seconds; what a job has not done by its end is
    asked live. `progress` is called with the number of lines done and that of all. A job has at most `max_lines` lines
    and `max_bytes` bytes, or what the provider takes.

    Cached, Budgeted and the like go around it (`model.as_batch(folder)` sees to that); what is about sending live,
    as Retrying is, inside. A line counts against a budget once, when it is put into a job. Raises SetupError for a
    backend without batch jobs, and for a folder that is none.
    """

    batched = True
    native_n = False

    def __init__(
        self,
        backend: Backend,
        folder: str | os.PathLike[str] = BATCH_FOLDER,
        *,
        poll_s: float = 10.0,
        deadline_s: float = DAY_S,
        grace_s: float = 600.0,
        max_lines: int | None = None,
        max_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(backend)
        self.jobs: Batches = jobs_of(backend)
        self.files = JobFiles(folder)
        self.poll_s, self.deadline_s, self.grace_s, self.progress = poll_s, deadline_s, grace_s, progress
        self.max_lines = min(max_lines or self.jobs.most_lines, self.jobs.most_lines)
        self.max_bytes = min(max_bytes or self.jobs.most_bytes, self.jobs.most_bytes)

    def as_batch(self, folder: str | os.PathLike[str], *paced: Wrapper) -> Backend:
        raise SetupError(f"{self!r} asks in batch jobs already: leave out batch=….")

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        check(self, requests)
        wave = self._wave(requests)
        try:
            await self._over(wave, inner)
            return await self._replies(wave, inner)
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            if going := [job.id or job.tag for job in self._open(wave)]:
                folder = str(self.files.folder)
                stop.add_note(
                    f"{', '.join(going)} at the provider goes on. The same call, run(…, batch={folder!r}) or one on "
                    f"BatchJobs({self.backend!r}, {folder!r}), takes it up again and pays for nothing twice."
                )
            raise

    def bought(self, requests: Sequence[Request]) -> list[bool]:
        """Which of them are in jobs that the provider has, or were answered: whoever put them there pays, or paid."""
        wave = self._wave(requests)
        paid = set(self.files.live())
        for job, keys in self._by_job(wave):
            if not self.files.ended(job):
                paid.update(keys if job.id and job.sure else ())
                continue
            outcomes = self.files.outcomes(job)
            came = [key for key in keys if key in outcomes and outcomes[key].status is not None]
            paid.update(key for key in came if not self._passing(wave, outcomes[key]))
        return [key in paid for key in wave.requests]

    def _wave(self, requests: Sequence[Request]) -> Wave:
        """Requests by their keys; equal ones are lines of their own, by their number."""
        identity = getattr(self.backend, "identity", None) or {"name": repr(self.backend)}
        wave, seen = Wave({}, {}), dict[str, int]()
        for request in requests:
            call = self.backend.call(request, 1)
            what = digest(dumped([identity, call.path, call.body, list(request.branch)])).hex()
            seen[what] = seen.get(what, -1) + 1
            key = f"{what}-{seen[what]}"
            wave.requests[key], wave.calls[key] = request, call
        return wave

    async def _over(self, wave: Wave, inner: Inner) -> None:
        """Waits until all of a wave's jobs are over."""
        clock = time.time() - inner.now()  # jobs outlive processes, so their age is by the calendar
        wait, told = self.poll_s, -1
        if await inner.result(on_thread(self._known(wave))):
            return
        while not await inner.result(on_thread(self._round(wave, clock + inner.now()))):
            told = self._tell(wave, told)
            await inner.sleep(wait)
            wait = min(wait * SLOWER, self.poll_s * SLOWEST)
        self._tell(wave, told)

    def _tell(self, wave: Wave, told: int) -> int:
        if self.progress is None:
            return told
        open_jobs = self._open(wave)
        waiting = {key for job in open_jobs for key in job.keys}
        done = len(wave.requests.keys() - waiting) + sum(wave.done.get(job.tag, 0) for job in open_jobs)
        if done != told:
            self.progress(min(done, len(wave.requests)), len(wave.requests))
        return done

    # ---- what a round does: all that it knows is in the folder, so that any round may be the last

    async def _known(self, wave: Wave) -> bool:
        """Whether all jobs are over already. Notes which lines were asked before, and could not be answered then."""
        kept = self.files.live()
        new = wave.requests.keys() - kept.keys()
        for job, keys in self._by_job(wave):
            if not self.files.ended(job):
                continue
            outcomes = self.files.outcomes(job)
            for key in keys:
                if key in outcomes and key not in kept and self._passing(wave, outcomes[key]):
                    wave.again[key] = job.tag
                else:
                    new.discard(key)
        return not new

    def _passing(self, wave: Wave, outcome: Outcome) -> bool:
        """Whether a line failed for a reason that may be another the next time."""
        if outcome.status in (401, 403, 404):
            return True
        return outcome.status is not None and isinstance(self._read(wave, outcome), Unavailable)

    async def _round(self, wave: Wave, now: float) -> bool:
        """Submits what is in no job yet and looks at the jobs there are. Whether all are over."""
        async with self.backend.client() as client:
            with self.files.locked():
                submitted = await self._submitted(client, wave, now)
            for job in self._open(wave):
                if job.id is not None:
                    await self._looked_at(client, job, wave, now)
        return submitted and not self._open(wave)

    async def _submitted(self, client: Any, wave: Wave, now: float) -> bool:
        """Whether every line is in a job that the provider has."""
        try:
            for job in self._open(wave):
                if job.id is None and not await self._found(client, job, wave, now):
                    return False
            there = {key for job, keys in self._by_job(wave) for key in keys if wave.again.get(key) != job.tag}
            new = [key for key in wave.requests if key not in there | wave.failed.keys() | self.files.live().keys()]
            for keys in self._split(wave, new):
                name = digest(dumped(keys)).hex()
                job = self.files.save(Job(self.files.tag(name), now, now, tuple(keys)))
                await self._submit(client, job, wave)
        except (Unavailable, Malformed):
            return False
        return True

    async def _found(self, client: Any, job: Job, wave: Wave, now: float) -> bool:
        """Settles a job of which only the intention is noted. False: it is too early to tell."""
        others = {other.id for other in self.files.jobs() if other.id} | set(job.others)
        found = await asked(self.backend, self.jobs.find(client, job.tag, len(job.keys), job.made, others))
        if found is not None:
            self.files.save(replace(job, id=found.id, sure=found.sure))
        elif now - job.made > self.deadline_s + self.grace_s:
            self.files.end(job, ())
        elif now - job.sent < self.poll_s:  # the provider's list may lag behind
            return False
        elif wave.requests.keys() >= set(job.keys):
            await self._submit(client, self.files.save(replace(job, sent=now)), wave)
        else:
            self.files.forget(job)
        return True

    async def _submit(self, client: Any, job: Job, wave: Wave) -> None:
        """Raises Unavailable or Malformed where it is not known whether the provider has the job."""
        rows = [self._row(wave, key) for key in job.keys]
        try:
            id = await asked(self.backend, self.jobs.submit(client, rows, job.tag))
        except (Unavailable, Malformed):
            raise
        except ModelError as error:
            self._refused(job, wave, error)
        except SetupError:
            self.files.forget(job)
            raise
        else:
            self.files.save(replace(job, id=id, sure=True))

    def _row(self, wave: Wave, key: str) -> Json:
        body = {name: value for name, value in wave.calls[key].body.items() if name not in ("stream", "stream_options")}
        return self.jobs.row(key, body)

    def _refused(self, job: Job, wave: Wave, error: ModelError) -> None:
        """Nothing of the job was done, nor paid for: it may be asked again."""
        self.files.forget(job)
        wave.failed.update(dict.fromkeys(job.keys, error))

    async def _looked_at(self, client: Any, job: Job, wave: Wave, now: float) -> None:
        late = now - job.made - self.deadline_s
        try:
            look = await asked(self.backend, self.jobs.look(client, str(job.id)))
            wave.done[job.tag] = look.done
            if isinstance(look.failure, SetupError):
                raise look.failure
            if look.failure:
                self._refused(job, wave, look.failure)
            elif look.over:
                await self._fetched(client, job)
            elif late > 0 and job.sure and job.tag not in wave.cancelled:
                await asked(self.backend, self.jobs.cancel(client, str(job.id)))
                wave.cancelled.add(job.tag)
            elif late > self.grace_s:
                self.files.end(job, ())
        except (Unavailable, Malformed):
            return  # a finished job is paid for: only a look that says that it is not over may give it up
        except Unauthorized:
            raise
        except (ModelError, SetupError) as error:
            noted = f"Batch job {job.id} is noted in {self.files.path(job)}; delete that to ask anew."
            raise SetupError(f"{error} {noted}") from None

    async def _fetched(self, client: Any, job: Job) -> None:
        """Keeps what a job's results are, if they are this job's."""
        outcomes = await asked(self.backend, self.jobs.outcomes(client, str(job.id)))
        keys = set(job.keys)
        if job.sure or all(outcome.key in keys for outcome in outcomes):
            self.files.end(job, outcomes)
        else:
            self.files.save(replace(job, id=None, others=(*job.others, str(job.id))))

    def _by_job(self, wave: Wave) -> list[tuple[Job, list[str]]]:
        """The newest job of every line, with the lines of which it is."""
        newest = {key: job for job in self.files.jobs() for key in job.keys if key in wave.requests}
        lines: dict[str, tuple[Job, list[str]]] = {}
        for key, job in newest.items():
            lines.setdefault(job.tag, (job, []))[1].append(key)
        return list(lines.values())

    def _open(self, wave: Wave) -> list[Job]:
        return [job for job, _ in self._by_job(wave) if not self.files.ended(job)]

    def _split(self, wave: Wave, keys: Sequence[str]) -> Iterator[list[str]]:
        """Lines in as many as a job may have."""
        part: list[str] = []
        size = 0
        for key in keys:
            bytes_ = len(json.dumps(self._row(wave, key))) + 2
            if part and (len(part) == self.max_lines or size + bytes_ > self.max_bytes):
                yield part
                part, size = [], 0
            part.append(key)
            size += bytes_
        if part:
            yield part

    # ---- what came of it

    async def _replies(self, wave: Wave, inner: Inner) -> Replies:
        """What jobs answered, and of what they did not, what the backend says live."""
        replies: dict[str, Reply | ModelError] = {**self.files.live(), **wave.failed}
        for job, keys in self._by_job(wave):
            outcomes = self.files.outcomes(job)
            for key in keys:
                outcome = outcomes.get(key)
                if key not in replies and outcome is not None and outcome.status is not None:
                    replies[key] = self._read(wave, outcome)
        left = [key for key in wave.requests if key not in replies]
        for start in range(0, len(left), LIVE_AT_ONCE):
            some = left[start : start + LIVE_AT_ONCE]
            live = dict(zip(some, await inner.send([wave.requests[key] for key in some]), strict=True))
            self.files.add_live({key: reply for key, reply in live.items() if isinstance(reply, Reply)})
            replies |= live
        return [replies[key] for key in wave.requests]

    def _read(self, wave: Wave, outcome: Outcome) -> Reply | ModelError:
        """A line's answer, or its error, as they would be live. Raises SetupError for what ends a run."""
        request, status = wave.requests[outcome.key], outcome.status or 500
        if status == 200:
            try:
                with reading():
                    return self._at_price(wave.calls[outcome.key].wire.read(outcome.body, request)[0])
            except ModelError as error:
                return error
        text = self.backend.without_key(json.dumps(outcome.body))
        if status in (401, 403):
            raise Unauthorized(f"{said(status, text)} Is {self.backend.key_variable} the right key?")
        if status == 404:
            raise SetupError(f"{said(status, text)} Is {self.backend.name!r} a model there?")
        return failure(status, {}, text)

    def _at_price(self, reply: Reply | ModelError) -> Reply | ModelError:
        """The reply with what it cost as a line of a job, where the price is known."""
        if isinstance(reply, ModelError):
            if reply.reply is not None:
                reply.reply = self._cheaper(reply.reply)
            return reply
        return self._cheaper(reply)

    def _cheaper(self, reply: Reply) -> Reply:
        cost, price = reply.usage.cost_usd, getattr(self.backend, "price", None)
        if cost is None and price is not None:
            cost = price.cost_usd(reply.usage)
        return reply if cost is None else replace(reply, usage=replace(reply.usage, cost_usd=cost * PRICE))


def jobs_of(backend: Any) -> Batches:
    """The batch jobs of a backend. Raises SetupError where it has none, or wrappers that belong around them."""
    jobs: Batches | None = getattr(backend, "batch_api", None)
    if jobs is None:
        raise SetupError(f"{name_of(backend)} has no batch jobs; models of OpenAI and Anthropic have.")
    within = backend
    while isinstance(within, Wrapper):
        if not within.paces:
            kind = type(within).__name__
            raise SetupError(f"{kind} goes around batch jobs, not into them: {kind}(BatchJobs(model), …).")
        within = within.backend
    return jobs


def as_batch(backend: Any, folder: str | os.PathLike[str], paced: Sequence[Wrapper]) -> BatchJobs:
    """The batch jobs of a backend, which asks live through `paced`, the outermost first."""
    for wrapper in reversed(paced):
        backend = Rewired(wrapper, backend)
    return BatchJobs(backend, folder)


def on_thread(work: Coroutine[Any, Any, T]) -> Future[T]:
    """The result of a coroutine, which is driven in a loop of its own. Interrupted or not, it goes on to its end."""
    outcome: Future[T] = Future()

    def drive() -> None:
        try:
            outcome.set_result(in_private_loop(work))
        except BaseException as error:  # raised again where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(drive,)).start()
    return outcome
