"""40 answers of gpt-3.5 to each question of Last Letters (from ESC, Li et al. 2024, arXiv 2401.10480): when to stop?

Self-consistency over the recorded answers: all 40, and with each rule for stopping early. `same winner` is how often it
elects what all 40 do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness import row

from promptlab import Answer, ask, run
from promptlab.strategies import self_consistency, zero_shot
from promptlab.strategies.self_consistency import Path
from promptlab.strategies.stopping import Stop, beta, lossless, window
from replays.recorded import Row, absent, giving, lines, recording, reproduced, share

COMPLETE = 500


class Rule(NamedTuple):
    """A rule and what it reached on all 500 questions: samples, accuracy, same winner."""

    stop: Stop | None
    samples: float
    accuracy: float
    same: float


RULES = {
    "all 40": Rule(None, 40, 0.816, 1),
    "lossless": Rule(lossless, 23.05, 0.816, 1),
    "beta .90": Rule(beta(0.9), 4.92, 0.814, 0.994),
    "beta .95": Rule(beta(0.95), 6.72, 0.814, 0.996),
    "beta .99": Rule(beta(0.99), 10.00, 0.816, 0.998),
    "beta .999": Rule(beta(0.999), 13.63, 0.816, 1),
    "window 3": Rule(window(3), 4.61, 0.812, 0.986),
    "window 5": Rule(window(5), 9.40, 0.818, 0.996),
    "window 8": Rule(window(8), 14.38, 0.816, 0.998),
    "window 10": Rule(window(10), 17.20, 0.816, 1),
}


class Elected(NamedTuple):
    """The winner of each question and how many samples it took."""

    winners: list[str | None]
    samples: list[int]


async def as_recorded(question: str, **options: Any) -> Answer:
    """The answer of a path as it was extracted. An empty one votes too, as it does in the published figures."""
    reply = await ask(question, **options)
    return Answer(reply.text, reply.text)


def elected(items: Sequence[Any], stop: Stop | None, path: Path = as_recorded) -> Elected:
    """Question i is asked by its number: the recording has no text of it."""
    samples = {str(i): item["samples"] for i, item in enumerate(items)}
    answers = run([self_consistency(name, path=path, n=40, stop=stop) for name in samples], giving(samples))
    return Elected([answer.value for answer in answers], [answer.sampled for answer in answers])


def measure(quick: bool) -> list[Row]:
    path = recording("last_letters_40_samples*.jsonl.gz")
    if path is None:
        return [absent("Last Letters")]
    items = lines(path)
    silent = elected(items, beta(0.95), zero_shot)
    title = "Last Letters, beta .95, empty answers do not vote"
    return [
        *figures(items, {name: elected(items, rule.stop) for name, rule in RULES.items()}),
        row(f"{title}: mean samples", sum(silent.samples) / len(items), "samples", n=len(items)),
        row(f"{title}: accuracy", accuracy(items, silent), "share", n=len(items)),
    ]


def figures(items: Sequence[Any], found: Mapping[str, Elected]) -> list[Row]:
    """Of each rule the mean samples, the accuracy, and how often it elects what all 40 do."""
    n, whole = len(items), len(items) == COMPLETE
    rows = []
    for name, of in found.items():
        rule, title = RULES[name], f"Last Letters, {name}"
        same = share([a == b for a, b in zip(of.winners, found["all 40"].winners, strict=True)])
        certain = 1.0 if rule.stop in (None, lossless) else None  # whatever the data are
        rows += [
            reproduced(f"{title}: mean samples", sum(of.samples) / n, "samples", n, rule.samples if whole else None, 2),
            reproduced(f"{title}: accuracy", accuracy(items, of), "share", n, rule.accuracy if whole else None, 3),
            reproduced(f"{title}: same winner as all 40", same, "share", n, rule.same if whole else certain, 3),
        ]
    return rows


def accuracy(items: Sequence[Any], of: Elected) -> float:
    return share([winner == item["answer"] for winner, item in zip(of.winners, items, strict=True)])
