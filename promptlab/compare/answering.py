"""One cell of a study: learn from its examples, answer every test input, and write each answer down as it comes.

Gold labels are not in a cell's file: they are joined once, when all cells are done (`promptlab.compare.joining`).
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from inspect import iscoroutine
from math import isnan
from numbers import Number
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.compare.carrying import carried, is_number_of_numpy
from promptlab.compare.cellfile import CellFile, opened
from promptlab.compare.footprint import Peak, model_told
from promptlab.compare.plan import Cell, Part, Plan
from promptlab.effort import Effort, counted
from promptlab.errors import BudgetExceeded, BudgetSpent, Diverged, ModelError, PromptlabError, SetupError, reason
from promptlab.learners.in_context import in_both_ways
from promptlab.learners.solver import Silent, Solver
from promptlab.program import Exchange, Program, discard, traced
from promptlab.runners import run
from promptlab.types import Answer, Example, Message, Usage

CHUNK = 64  # items that an engine answers together; fixed, so that a resumed run makes the same batches
# Read by libraries for sums when they are loaded, which may be in the middle of a cell.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Row = dict[str, Any]


def fill(plan: Plan, cell: Cell, folder: Path, on_answers: Callable[[int], None]) -> None:
    """Do what is left of a cell. `on_answers` is told how many more items have been answered."""
    with threads(plan.threads), opened(folder / cell.file_name) as file:
        if file.done:
            return
        peak = Peak()
        learnt = learn(plan, cell)
        started = time.perf_counter()
        for part in plan.parts(cell):
            solver, output = solver_of(part, learnt, plan, cell), plan.task_of(part).prompt.output
            batched = solver.backend.batched
            together = CHUNK if batched else max(len(part.items), 1)
            for start in range(0, len(part.items), together):
                items = part.items[start : start + together]
                (answer_chunk if batched else answer_each)(solver, output, items, file, on_answers)
        file.finish(
            {
                "learn_seconds": round(learnt.seconds, 4),
                "learn_calls": learnt.solver.learn_calls,
                "learn_tokens": learnt.solver.learn_tokens,
                "answer_seconds": round(time.perf_counter() - started, 4),
                "trained_parameters": learnt.solver.trained_parameters,
                **asdict(learnt.effort),
                **model_told(learnt.solver.backend),
                "peak_bytes": peak.bytes(),
                "notes": list(learnt.solver.notes + learnt.warnings),
                "absent": plan.absent(cell),
                "error": learnt.error,
            }
        )


def solver_of(part: Part, learnt: Learnt, plan: Plan, cell: Cell) -> Solver:
    """Who answers a part: what was learnt; of the general set the model, as it was and as tuning left it."""
    if part.name not in ("before", "after") or learnt.error or plan.general is None:
        return learnt.solver
    prompt = plan.general.prompt
    backend = learnt.solver.backend if part.name == "after" else plan.arms[cell.arm].base  # type: ignore[attr-defined]
    return Solver(lambda question: in_both_ways(question, prompt, backend), backend)


class Learnt(NamedTuple):
    """What came of learning. After an error the solver is one that gives it as the answer to everything."""

    solver: Solver
    seconds: float
    warnings: tuple[str, ...] = ()
    error: str | None = None
    effort: Effort = Effort()


def learn(plan: Plan, cell: Cell) -> Learnt:
    """Let the cell's arm learn. Only a wrong set-up ends the study; whatever else a learner raises is its result."""
    started = time.perf_counter()
    task, examples = plan.shown(cell.labels, cell.seed), plan.examples(cell.labels, cell.seed)
    with warnings.catch_warnings(record=True) as caught, counted() as effort:
        try:
            solver = plan.arms[cell.arm](task, examples, cell.seed)
            error = None
        except Exception as raised:
            if ends_the_study(raised):
                raise
            solver, error = failing(f"learning failed: {reason(raised)}")
    if not isinstance(solver, Solver):
        raise SetupError(f"The arm {cell.arm!r} returned a {type(solver).__name__}; a learner returns a Solver.")
    told = (f"{w.category.__name__}: {w.message}" for w in caught)
    return Learnt(solver, time.perf_counter() - started, tuple(dict.fromkeys(told)), error, effort)


def failing(why: str) -> tuple[Solver, str]:
    async def program(question: str) -> Answer:
        raise ModelError(why)

    return Solver(program, Silent(), notes=(why,)), why


def ends_the_study(error: Exception) -> bool:
    """What promptlab says of a wrong set-up does; failed requests or trainings and others' bugs do not."""
    return isinstance(error, PromptlabError) and not isinstance(error, ModelError | Diverged)


class Asked(NamedTuple):
    """What came of asking one item, and the seconds it took."""

    result: Answer | str  # a failure is its reason
    exchanges: Sequence[Exchange]
    seconds: float


def answer_chunk(
    solver: Solver, output: Any, items: Sequence[Example], file: CellFile, on_answers: Callable[[int], None]
) -> None:
    """Answer a chunk with an engine in this process and write down the answers that are not yet.

    The whole chunk is answered again, so that its batch is the one that an uninterrupted run makes.
    """
    left = [item for item in items if item.id not in file.answered]
    if not left:
        return
    started = time.perf_counter()
    try:
        outcomes = [o for o in run([asked(solver, i.input) for i in items], solver.backend) if isinstance(o, Asked)]
    except Exception as error:  # the engine itself failed
        if ends_the_study(error):
            raise
        outcomes = [Asked(reason(error), (), 0.0) for _ in items]
    each = (time.perf_counter() - started) / len(items)
    rows = [as_row(item, output, o._replace(seconds=each)) for item, o in zip(items, outcomes, strict=True)]
    file.write([row for row in rows if row["item"]["item"] not in file.answered])
    file.sync()
    on_answers(len(left))


def answer_each(
    solver: Solver, output: Any, items: Sequence[Example], file: CellFile, on_answers: Callable[[int], None]
) -> None:
    """Ask a hosted model what is left, all at once: it may cost money, so every answer is written as it comes."""

    async def written(item: Example) -> None:
        file.write([as_row(item, output, await asked(solver, item.input))])
        if len(file.answered) % CHUNK == 0:
            file.sync()
        on_answers(1)

    run([written(item) for item in items if item.id not in file.answered], solver.backend)
    file.sync()


async def asked(solver: Solver, question: str) -> Asked:
    """Run the solver's program on one input; an exception in it is its result, unless it ends the study.

    An answer for which the budget did not suffice is none: a larger budget would have given another.
    """
    started = time.perf_counter()
    result, exchanges = await traced(outcome(solver, question))
    if spent := next((e.reply for e in exchanges if isinstance(e.reply, BudgetExceeded)), None):
        raise BudgetSpent(spent)
    return Asked(result, exchanges, time.perf_counter() - started)


async def outcome(solver: Solver, question: str) -> Answer | str:
    try:
        program: Program[Any] = solver.program(question)
        if not iscoroutine(program):
            raise SetupError(f"A solver's program is an async function, got one that returns {program!r}.")
        answer = as_concluded(await program)
        if any(map(isnan, (answer.scores or {}).values())):
            return "the model's log-probabilities are not numbers"
        return answer
    except Exception as error:
        if ends_the_study(error):
            raise
        return reason(error)


def as_concluded(value: Any) -> Answer:
    """What a program returned, if that is an Answer or the plain value of one; anything else would count as wrong."""
    if isinstance(value, Answer):
        return value
    if value is None or isinstance(value, str | Number) or is_number_of_numpy(value):
        return Answer(value)
    discard(value)
    hint = "`await` it" if iscoroutine(value) else "return task.prompt.parse(reply.text), or Answer(…)"
    raise SetupError(f"A solver's program returns an Answer, got a {type(value).__name__}: {hint}.")


def as_row(item: Example, output: Any, asked: Asked) -> Row:
    """An item's line: what was answered, or why nothing was, and what it took.

    Tokens are those of the exchanges behind the answer. Where labels were scored these are the scorings, as many as the
    method needs (calibration: four): what the model says freely beside them is for the reader, and no method has to pay
    for it. `seconds` hold all that was asked; `latency`, of a hosted model, the calls behind the answer alone.
    """
    scored = not isinstance(asked.result, str) and asked.result.scores is not None
    behind = [e for e in asked.exchanges if not scored or e.request.continuations]
    usage = sum((e.reply.usage for e in behind if not isinstance(e.reply, ModelError)), Usage(cost_usd=0.0))
    prompt = asked.exchanges[0].request.messages if asked.exchanges else ()
    cost = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "seconds": round(asked.seconds, 6),
        **of_calls(behind, usage),
    }
    return {"item": {"item": item.id, **as_answer(asked.result, output), "prompt": prompt, **cost}}


def of_calls(behind: Sequence[Exchange], usage: Usage) -> Row:
    """What else the calls behind an answer took, where there is anything to tell; absent means one call, 0, unknown; a
    cost that is known is told where it is 0 too.

    `prefix_tokens` are those of the messages before the first call's last one, which other items may share: of each
    call that begins with them, by their share of its bytes.
    """
    prefix = behind[0].request.messages[:-1] if behind else ()
    of_prefix = sum(
        e.reply.usage.input_tokens * share_of(prefix, e.request.messages)
        for e in behind
        if prefix and not isinstance(e.reply, ModelError) and e.request.messages[: len(prefix)] == prefix
    )
    answered = [e for e in behind if not isinstance(e.reply, ModelError)]
    waited = latency(answered)
    told = {
        "calls": len(behind) if len(behind) != 1 else None,
        "prefix_tokens": round(of_prefix) or None,
        "cached_tokens": usage.cached_tokens or None,
        "cost_usd": usage.cost_usd if answered else None,
        "latency": None if waited is None else round(waited, 4),
    }
    return {name: value for name, value in told.items() if value is not None}


def share_of(prefix: Sequence[Message], messages: Sequence[Message]) -> float:
    size = [len(message.content.encode("utf-8", "surrogatepass")) for message in messages]
    return sum(size[: len(prefix)]) / max(sum(size), 1)


def latency(exchanges: Sequence[Exchange]) -> float | None:
    """Seconds of the calls on the longest way through a program: rounds follow each other, what one asks goes together.

    None where any of them was not timed: an engine's, or one that a cache answered.
    """
    seconds = [getattr(exchange.reply, "seconds", None) for exchange in exchanges]
    timed = [(e.request.branch, s) for e, s in zip(exchanges, seconds, strict=True) if s is not None]
    return longest_way(timed) if timed and len(timed) == len(seconds) else None


def longest_way(timed: Sequence[tuple[tuple[int, ...], float]]) -> float:
    """Of calls by their branches, (round, number, round, number, …): a sum over rounds of the most in each."""
    total = 0.0
    for round in {branch[:1] for branch, _ in timed}:
        there = [(branch[1:], s) for branch, s in timed if branch[:1] == round]
        ways = [[(branch[1:], s) for branch, s in there if branch[:1] == way] for way in {b[:1] for b, _ in there}]
        total += max(longest_way(way) if any(b for b, _ in way) else max(s for _, s in way) for way in ways)
    return total


def as_answer(result: Answer | str, output: Any) -> Row:
    if isinstance(result, str):
        nothing = {"answer": None, "generated": None, "shots": 0, "left_out": 0}
        return {**nothing, "why": result, "error": result}
    said = result.generated
    try:
        value = carried(result.value, output)
        freely = None if said is None else {"text": said.text or "", "answer": carried(said.value, output)}
    except ValueError as unlike:
        return as_answer(str(unlike), output)
    return {
        "answer": value,
        "why": result.why,
        "error": None,
        "generated": freely,
        "shots": result.shots,
        "left_out": result.left_out,
        **({} if result.scores is None else {"scores": {k: round(v, 5) for k, v in result.scores.items()}}),
    }


@contextmanager
def threads(of_torch: int) -> Iterator[None]:
    """So many for PyTorch and one for all else, whatever the number of jobs: others would add up in another order.

    Libraries that are loaded meanwhile find the one in the environment, and stay so.
    """
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    try:
        with one_thread_for_libraries_to_come(), threadpool_limits(1):
            if torch:
                torch.set_num_threads(of_torch)
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


@contextmanager
def one_thread_for_libraries_to_come() -> Iterator[None]:
    """In this process and in those started meanwhile."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
