"""Codex's outputs on BIG-Bench Hard (suzgunmirac/BIG-Bench-Hard, MIT; Suzgun et al. 2022, arXiv 2210.09261).

The recorded accuracy of every task comes out of chain of thought, or of zero-shot for the direct outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness import row

from promptlab import Prompt, run
from promptlab.strategies import chain_of_thought, zero_shot
from promptlab.testing import Script
from replays.recorded import Row, absent, lines, recording, share

STRATEGIES = {"cot": chain_of_thought, "direct": zero_shot}


def measure(quick: bool) -> list[Row]:
    rows = []
    for kind in STRATEGIES:
        path = recording(f"bbh_code-davinci-002-{kind}_*.jsonl.gz")
        rows += [absent(f"BBH {kind}")] if path is None else exact(kind, lines(path))
    return rows


def exact(kind: str, items: Sequence[Any]) -> list[Row]:
    """How many tasks come out at the recorded accuracy, and how far the farthest is off."""
    recorded = {each["task"]: each["recorded_metrics"]["accuracy"] for each in items if "recorded_metrics" in each}
    outputs = [each for each in items if "prediction" in each]
    programs = [STRATEGIES[kind](each["question_tail"], Prompt()) for each in outputs]
    answers = run(programs, Script([each["prediction"] for each in outputs]))
    right: dict[str, list[bool]] = {}
    for each, answer in zip(outputs, answers, strict=True):
        right.setdefault(each["task"], []).append(
            answer.value is not None and compared(answer.value) == compared(each["target"])
        )
    off = {task: abs(100 * share(right[task]) - recorded[task]) for task in recorded}
    farthest = max(off.values())
    unread = share([answer.value is None for answer in answers])
    return [
        row(
            f"BBH {kind}: tasks at the recorded accuracy",
            share([distance < 1e-9 for distance in off.values()]),
            "share",
            n=len(off),
            target=1.0,
        ),
        row(f"BBH {kind}: the farthest from it", farthest, "points", n=len(off), target=1e-9, at_most=True),
        row(f"BBH {kind}: outputs without an answer", unread, "share", n=len(outputs)),
    ]


def compared(text: str) -> str:
    """As the authors compare: without a full stop, in any case."""
    return text.strip().removesuffix(".").casefold()
