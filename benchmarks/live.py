"""Votes on models that answer now: what stopping early saves, and what 20 samples cost in time on a hosted model.

    python benchmarks/live.py [--quick] [--json FILE]

The bundled model votes on word problems and products it was never taught; the hosted model is one on this machine that
answers after a second.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

from behaviours.chains import LONGEST, problems
from behaviours.figures import Rows, difference
from harness import answering, finish, options, row

from promptlab import Answer, model, run
from promptlab.backends.tiny import Tiny
from promptlab.strategies import self_consistency, zero_shot
from promptlab.strategies.stopping import Stop, beta, lossless
from promptlab.tiny.data.multiplication import factors, product
from promptlab.tiny.data.reasoning import Problem

N = 20  # samples a vote has at most


def main() -> None:
    given = options(__doc__)
    n = 12 if given.quick else 200
    products = [
        product(Random(f"live/fresh/{i}"), *factors(Random(f"live/fresh/{i}"), kept=True)) for i in range(3 * n)
    ]
    rows = [
        *stopping("word problems of 4 and 5 steps", problems("word problems", (4, 5), n)),
        *stopping("products of two digits by two", products),
        *hosted(repeats=3 if given.quick else 20),
    ]
    finish(rows, given)


def stopping(name: str, asked: Sequence[Problem]) -> Rows:
    """Votes of 20 against the same votes stopped early: samples taken, and right answers on the same problems."""
    tiny = Tiny()
    every = voted(tiny, asked, None)
    rows: Rows = []
    for rule, stop in (("Beta .90", beta(0.90)), ("Beta .95", beta(0.95)), ("lossless", lossless)):
        early = voted(tiny, asked, stop)
        taken = [answer.sampled for answer in early]
        saved = 1 - sum(taken) / (N * len(asked))
        target = 0.40 if rule == "Beta .90" else None  # chosen on other products (LOG.md)
        told = f"{statistics.mean(taken):.2f} of {N} samples"
        rows.append(row(f"{name}: saved by a {rule} stop", saved, "share", n=len(asked), target=target, note=told))
        gained = difference(f"{name}: right by a {rule} stop - by all {N}", right(early, asked), right(every, asked))
        rows.append({**gained, "target": 0.0, "ok": gained["high"] >= 0})
    return rows


def voted(tiny: Tiny, asked: Sequence[Problem], stop: Stop | None) -> list[Answer]:
    vote: Any = partial(self_consistency, n=N, stop=stop, max_tokens=LONGEST)
    return run([vote(problem.question, seed=i) for i, problem in enumerate(asked)], tiny)  # numbers of its own for each


def right(answers: Sequence[Answer], asked: Sequence[Problem]) -> list[bool]:
    return [answer.value == problem.answer for answer, problem in zip(answers, asked, strict=True)]


def hosted(repeats: int, delay_s: float = 1.0) -> Rows:
    """How long a vote of 20 takes beside one sample, on a model that answers after `delay_s`."""
    with answering(delay_s) as url:
        far = model(f"openai:m@{url}")
        one = [seconds(zero_shot, far) for _ in range(repeats)]
        twenty = [seconds(partial(self_consistency, path=zero_shot, n=N), far) for _ in range(repeats)]
    ratio = statistics.median(twenty) / statistics.median(one)
    note = f"{statistics.median(twenty):.3f} s beside {statistics.median(one):.3f} s, medians of {repeats}"
    return [row(f"{N} samples / one, hosted", ratio, "times", n=repeats, target=1.3, at_most=True, note=note)]


def seconds(strategy: Any, far: Any) -> float:
    started = time.perf_counter()
    run(strategy("How many?"), far)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
