"""Make a plan first, then carry it out."""

from __future__ import annotations

from typing import Any

from promptlab.prompt import Prompt
from promptlab.strategies.zero_shot_cot import zero_shot_cot
from promptlab.types import Answer

PLAN = (
    "Let's first understand the problem and devise a plan to solve the problem. "
    "Then, let's carry out the plan and solve the problem step by step."
)
PLAN_PLUS = (
    "Let's first understand the problem, extract relevant variables and their corresponding numerals, and devise a "
    "plan. Then, let's carry out the plan, calculate intermediate variables (pay attention to correct numerical "
    "calculation and commonsense), solve the problem step by step, and show the answer."
)


async def plan_and_solve(question: str, prompt: Prompt = Prompt(), *, plus: bool = False, **options: Any) -> Answer:
    """Wang et al. 2023 (arXiv 2305.04091): zero-shot chain of thought, the trigger asking for a plan; `plus` is PS+.

    Differs from the authors' code: one trigger for all tasks (theirs has seven of PS+, chosen by data set), and no
    model is asked to extract the answer beyond the second call that `zero_shot_cot` makes. Both replies are in
    `trace`.

    Prompt: as `zero_shot_cot`, with "Let's first understand the problem and devise a plan to solve the problem. Then,
        let's carry out the plan and solve the problem step by step." for its trigger; `plus` also asks to extract the
        variables and to calculate with care.
    Stop: the model's own end, or `max_tokens` in each call.
    Parse: as `zero_shot_cot`: the first number, else what follows "the answer is".
    Ties: none, as there is one second reply.
    Cost: 2 calls, 2 waves.
    Pinned by: tests/test_reasoning.py
    """
    return await zero_shot_cot(question, prompt, trigger=PLAN_PLUS if plus else PLAN, **options)
