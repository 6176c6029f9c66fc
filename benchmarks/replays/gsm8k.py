"""Solutions of GSM8K by four models (openai/grade-school-math, MIT), each with a flag whether it is right.

Every flag is reproduced from the solution's last line; the four vote, with either order of them to break ties; and the
number read from a text is the one that lm-eval 0.4.13's flexible-extract filter finds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness import row

from promptlab import Answer, Prompt, run
from promptlab.equality import agreement, as_number, number_of
from promptlab.extraction import Rule, read_number
from promptlab.strategies import self_consistency, zero_shot
from promptlab.strategies.voting import by_confidence, majority
from promptlab.testing import Script
from replays.recorded import Row, absent, giving, lines, recording, reproduced, share

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
PROMPT = Prompt(rule=Rule(marker=re.compile(r"^A:", re.MULTILINE), required=True))  # the line "A: 18" ends a solution
COMPLETE = 1319
ACCURACY = dict(zip(MODELS, (0.2168, 0.3904, 0.3472, 0.5625), strict=True))  # of all 1,319
PUBLISHED_VOTES = {  # of all 1,319 too
    "ties to the list order": 0.4428,
    "ties to the reversed order": 0.5641,
    "weighed by accuracy": 0.5641,
    "4 of 4 agree": 0.957,
    "3 of 4 agree": 0.837,
    "2 of 4 agree": 0.511,
    "no two agree": 0.014,
    "ties": 528,
}


def measure(quick: bool) -> list[Row]:
    path = recording("gsm8k_model_solutions*.jsonl.gz")
    if path is None:
        return [absent("GSM8K")]
    items = lines(path)
    golds = [PROMPT.parse(item["ground_truth"]).value for item in items]
    return [*flags(items, golds), *votes(items, golds), *same_as_lm_eval(items)]


def flags(items: Sequence[Any], golds: Sequence[str]) -> list[Row]:
    """Each model's answers by zero-shot, compared exactly and as numbers."""
    rows: list[Row] = []
    whole = len(items) == COMPLETE
    for model in MODELS:
        solutions = [item[model]["solution"] for item in items]
        answers = run([zero_shot(item["question"], PROMPT) for item in items], Script(solutions))
        found = [agreement(a.value, gold) for a, gold in zip(answers, golds, strict=True)]
        flagged = [item[model]["is_correct"] for item in items]
        equal = [numeric == flag for (_, numeric), flag in zip(found, flagged, strict=True)]
        strict = [exact == flag for (exact, _), flag in zip(found, flagged, strict=True)]
        accuracy = share([each.numeric for each in found])
        n = len(items)
        rows += [
            row(f"GSM8K {model}: flags reproduced", share(equal), "share", n=n, target=1.0),
            row(f"GSM8K {model}: flags reproduced, strictly", share(strict), "share", n=n, note="65,960 is not 65960"),
            reproduced(f"GSM8K {model}: accuracy", accuracy, "share", n, ACCURACY[model] if whole else None, 4),
        ]
    return rows


def elected(items: Sequence[Any], order: Sequence[str]) -> list[Answer]:
    """The four models' vote on each question, as the paths of self-consistency in this order."""
    samples = {item["question"]: [item[model]["solution"] for model in order] for item in items}
    programs = [
        self_consistency(item["question"], path=zero_shot, n=len(order), key=as_number, prompt=PROMPT) for item in items
    ]
    return run(programs, giving(samples))


def votes(items: Sequence[Any], golds: Sequence[str]) -> list[Row]:
    """Ties by either order of the models, weights by their accuracy, and what agreement says of being right."""
    n = len(items)
    known = PUBLISHED_VOTES if n == COMPLETE else {}
    listed, reverse = elected(items, MODELS), elected(items, MODELS[::-1])
    weights = [[a.but(confidence=ACCURACY[m]) for a, m in zip(e.trace, MODELS, strict=True)] for e in listed]
    elections = {
        "ties to the list order": listed,
        "ties to the reversed order": reverse,
        "weighed by accuracy": [majority(each, by_confidence, as_number) for each in weights],
    }
    rows = [
        reproduced(f"GSM8K vote of 4, {name}", share(right(answers, golds)), "share", n, known.get(name), 4)
        for name, answers in elections.items()
    ]
    for most in (4, 3, 2, 1):
        of = [
            ok
            for answer, ok in zip(listed, right(listed, golds), strict=True)
            if max((answer.votes or {None: 1}).values()) == most
        ]
        name = f"{most} of 4 agree" if most > 1 else "no two agree"
        rows.append(reproduced(f"GSM8K, {name}: right", share(of), "share", len(of), known.get(name), 3))
    ties = float(sum(bool(answer.tied) for answer in listed))
    return [*rows, reproduced("GSM8K vote of 4: ties", ties, "questions", n, known.get("ties"), 0)]


def right(answers: Sequence[Answer], golds: Sequence[str]) -> list[bool]:
    return [agreement(answer.value, gold).numeric for answer, gold in zip(answers, golds, strict=True)]


def as_variant(solution: str, variant: str) -> str:
    """The text that lm-eval was given: as recorded, or with another marker in place of "A:"."""
    body, marker, answer = solution.rpartition("A:")
    marked = {"the_answer_is": f"{body}The answer is {answer.strip()}.", "hash4": f"{body}#### {answer.strip()}"}
    return marked.get(variant, solution) if marker else solution


def same_as_lm_eval(items: Sequence[Any]) -> list[Row]:
    path = recording("goldens/gsm8k_lmeval_*.jsonl.gz")
    if path is None:
        return [absent("GSM8K: the number lm-eval finds")]
    goldens = [gold for gold in lines(path) if gold["i"] < len(items)]
    texts = [as_variant(items[gold["i"]][gold["model"]]["solution"], gold["variant"]) for gold in goldens]
    found = [read_number(text, float).value for text in texts]
    theirs = [number_of(gold["flexible"]) for gold in goldens]
    same = [a == (None if b is None else float(b)) for a, b in zip(found, theirs, strict=True)]
    ours = [agreement(number, gold["gold"]).numeric for number, gold in zip(found, goldens, strict=True)]
    return [
        row("GSM8K: the number lm-eval's flexible filter finds", share(same), "share", n=len(same), target=1.0),
        row("GSM8K: right as numbers", share(ours), "share", n=len(same)),
        row("GSM8K: right as lm-eval compares", share([bool(g["flexible_em"]) for g in goldens]), "share", n=len(same)),
    ]
