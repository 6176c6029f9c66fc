"""One cell of a study: learn from its examples, answer every test input, and write each answer down as it comes.

A cell's file is append-only JSON lines: {"message"} for every new turn of a prompt, {"item"} for every answer, {"done"}
at the end. Gold labels are not in it: they are joined once, when all cells are done (`promptlab.compare.runner`).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptlab.compare.plan import Cell, Plan
from promptlab.errors import ModelError
from promptlab.learners.solver import Solver
from promptlab.program import Traced, attempt, traced
from promptlab.runners import run
from promptlab.types import Answer, Example, Message, Usage

CHUNK = 64  # items answered, and written, together; fixed, so that a resumed run makes the same batches


def fill(plan: Plan, cell: Cell, folder: Path, on_answers: Callable[[int], None]) -> None:
    """Do what is left of a cell. `on_answers` is told how many items each chunk answered."""
    path = folder / cell.file_name
    kept = whole_lines(path)
    if any("done" in line for line in kept):
        return
    answered = {line["item"]["item"] for line in kept if "item" in line}
    known = {line["message"]["id"] for line in kept if "message" in line}
    with one_thread(), path.open("a", encoding="utf-8") as out:
        started = time.perf_counter()
        solver = plan.arms[cell.arm](plan.task, plan.examples(cell.labels, cell.seed), cell.seed)
        learn_seconds = time.perf_counter() - started
        answer_seconds = 0.0
        for start in range(0, len(plan.task.test), CHUNK):
            items = plan.task.test[start : start + CHUNK]
            if all(item.id in answered for item in items):
                continue
            started = time.perf_counter()
            lines = answer_chunk(solver, items, cell, known)
            answer_seconds += time.perf_counter() - started
            append(out, [line for line in lines if "message" in line or line["item"]["item"] not in answered])
            on_answers(len(items))
        done = {
            "learn_seconds": round(learn_seconds, 4),
            "answer_seconds": round(answer_seconds, 4),
            "trained_parameters": solver.trained_parameters,
            "notes": list(solver.notes),
        }
        append(out, [{"done": done}])


def answer_chunk(solver: Solver, items: Sequence[Example], cell: Cell, known: set[str]) -> list[dict[str, Any]]:
    """The lines of some items' answers, each after those messages of its prompt that are new."""
    started = time.perf_counter()
    outcomes = run([timed(traced(attempt(solver.program(item.input)))) for item in items], solver.backend)
    together = (time.perf_counter() - started) / len(items)
    lines: list[dict[str, Any]] = []
    for item, outcome in zip(items, outcomes, strict=True):
        assert not isinstance(outcome, ModelError)  # `attempt` has made it a value
        (result, exchanges), alone = outcome
        prompt = exchanges[0].request.messages if exchanges else ()
        for message in prompt:
            if (key := message_id(message)) not in known:
                known.add(key)
                lines.append({"message": {"id": key, "role": message.role, "content": message.content}})
        usage = sum((e.reply.usage for e in exchanges if not isinstance(e.reply, ModelError)), Usage(cost_usd=0.0))
        lines.append(
            {
                "item": {
                    "item": item.id,
                    **as_row(result),
                    "prompt": [message_id(m) for m in prompt],
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "seconds": round(together if solver.backend.batched else alone, 6),
                }
            }
        )
    return lines


async def timed(program: Any) -> tuple[Traced[Answer | ModelError], float]:
    """A program's result and the seconds from its start to its end."""
    started = time.perf_counter()
    result = await program
    return result, time.perf_counter() - started


def as_row(result: Answer | ModelError) -> dict[str, Any]:
    """What an answer, or the failure in its place, says in a row."""
    if isinstance(result, ModelError):
        error = f"{type(result).__name__}: {result}"
        nothing = {"answer": None, "generated": None, "shots": 0, "left_out": 0}
        return {**nothing, "why": error, "error": error}
    said = result.generated
    return {
        "answer": None if result.value is None else str(result.value),
        "why": result.why,
        "error": None,
        "generated": None
        if said is None
        else {"text": said.text or "", "answer": None if said.value is None else str(said.value)},
        "shots": result.shots,
        "left_out": result.left_out,
    }


def message_id(message: Message) -> str:
    return hashlib.sha256(f"{message.role}\0{message.content}".encode()).hexdigest()[:16]


def append(out: Any, lines: Sequence[dict[str, Any]]) -> None:
    """Write lines and see them safely on the disk: from here on they survive a kill."""
    out.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    out.flush()
    os.fsync(out.fileno())


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a cell's file; a last line that a crash tore is cut off the file."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    end = raw.rfind(b"\n") + 1
    if end < len(raw):
        with path.open("r+b") as file:
            file.truncate(end)
    return [json.loads(line) for line in raw[:end].decode().split("\n") if line]


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one thread, whatever the number of jobs: another number of threads adds up in another order."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)
