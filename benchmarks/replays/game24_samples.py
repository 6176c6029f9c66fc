"""100 samples of GPT-4 for each Game of 24 (princeton-nlp/tree-of-thought-llm, MIT; Yao et al. 2023), without a search.

By chain of thought and by input-output prompting: how many samples are right, how many puzzles have a right one among
theirs, and how many the vote gets. An answer is a sample's last line; whether it is right was recorded with it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

from promptlab import Answer, run
from promptlab.program import Program, ask
from promptlab.strategies import self_consistency
from replays.recorded import Row, absent, giving, recording, reproduced, share

COMPLETE = 100
PUBLISHED = {"cot": (0.0403, 0.49, 0.09), "standard": (0.0734, 0.33, 0.09)}  # of all 100: mean, any, vote


async def last_line(question: str, **options: Any) -> Answer:
    """The expression in a sample's last line, without its "Answer:" and what it is said to equal."""
    reply = await ask(question, **options)
    said = reply.text.strip().splitlines()[-1].lower().replace("answer: ", "").split("=")[0]
    return Answer(said, reply.text) if said else Answer(None, reply.text, "the last line is empty")


def measure(quick: bool) -> list[Row]:
    rows = []
    for kind, published in PUBLISHED.items():
        path = recording(f"tree_of_thoughts/game24/*naive_{kind}_sample_100*")
        if path is None:
            rows.append(absent(f"Game of 24, {kind}"))
            continue
        with gzip.open(path, "rt", encoding="utf-8") as file:
            puzzles = json.load(file)
        samples = {str(each["idx"]): each["ys"] for each in puzzles}
        flags = {str(each["idx"]): [flag(info) for info in each.get("infos") or each["accs"]] for each in puzzles}
        right = {name: dict(zip(samples[name], flags[name], strict=True)) for name in samples}
        programs: list[Program[Answer]] = [self_consistency(name, path=last_line, n=100) for name in samples]
        answers = run(programs, giving(samples))
        found = (
            ("mean of the samples", share([each for of in flags.values() for each in of]), 4),
            ("any of 100", share([any(of) for of in flags.values()]), 2),
            ("majority of 100", share([of[a.text] for of, a in zip(right.values(), answers, strict=True)]), 2),
        )
        whole, n = len(puzzles) == COMPLETE, len(puzzles)
        for (name, value, digits), figure in zip(found, published, strict=True):
            title = f"Game of 24, {'chain of thought' if kind == 'cot' else 'input-output'}: {name}"
            rows.append(reproduced(title, value, "share", n, figure if whole else None, digits))
    return rows


def flag(info: Mapping[str, int] | int) -> bool:
    return bool(info["r"] if isinstance(info, Mapping) else info)
