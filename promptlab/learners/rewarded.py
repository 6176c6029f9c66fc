"""Fine-tuning and then reinforcement: right labels as examples first, and as a reward after that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from promptlab.errors import SetupError
from promptlab.learners.finetuned import FineTuned, asked_bare, chats_of, finetuned, trainable, tuned_to_reply
from promptlab.learners.in_context import reply_tokens
from promptlab.learners.solver import Family, Solver
from promptlab.learners.tuned_and_prompted import halves
from promptlab.options import name_of
from promptlab.task import Task, scored
from promptlab.types import Backend, Example, Message

if TYPE_CHECKING:
    from promptlab.backends.tiny import Tiny

ITERATIONS = 10  # of 64 replies: in all as many steps of the optimizer as half the longest fine-tuning


@dataclass(frozen=True)
class Rewarded:
    """See `rewarded`."""

    tuning: FineTuned
    iterations: int = ITERATIONS
    family: ClassVar[Family] = "fine-tuning"
    needs_labels: ClassVar[bool] = True
    stays_general: ClassVar[bool] = True
    description: ClassVar[str] = (
        "all weights, next-token prediction on half of the labels; then PPO, rewarded for the labels of the other half"
    )

    @property
    def base(self) -> Backend:
        return self.tuning.base

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise ValueError("rlhf needs at least one labelled example")
        taught, asked = halves(examples)
        tuned = tuned_to_reply(self.base, "sft", task, taught, seed)
        note = f"trained on {len(taught)} of the labels, rewarded for those of {len(asked)} others"
        if asked:
            tuned = tuned._replace(backend=reinforced(tuned.backend, task, asked, seed, self.iterations))
        solver = asked_bare(self.base, task, tuned)
        return replace(solver, notes=(*solver.notes, note))


def reinforced(reference: Backend, task: Task, examples: Sequence[Example], seed: int, iterations: int) -> Tiny:
    """A policy begun from the reference and held near it, whose replies are scored as those of the study are."""
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.rlhf import PPO, recipe_for, rlhf

    assert isinstance(reference, Tiny)
    prompt = replace(task.prompt, says_format=False)
    chats = chats_of(reference, prompt, examples)
    prompts = [chat[:-1] for chat in chats]
    target = {said(asked): example.target for asked, example in zip(prompts, examples, strict=True)}

    def reward(chat: Sequence[Message], reply: str) -> float:
        return scored(task.score, prompt.parse(reply).value, target[said(chat)])[0]

    ppo = PPO(max_tokens=reply_tokens(prompt) or PPO().max_tokens)
    recipe = recipe_for(ppo, iterations)
    trained = rlhf(reference.model, reference.tokenizer, prompts, reward, ppo=ppo, seed=seed, recipe=recipe)
    return Tiny.of(trained, reference.tokenizer)


def said(chat: Sequence[Message]) -> tuple[str, ...]:
    return tuple(message.content for message in chat)


def rewarded(base: Backend, iterations: int = ITERATIONS) -> Rewarded:
    """A learner that fine-tunes `base` on half of the examples it gets, and has PPO go on from there with the others.

    Each of the `iterations` writes 64 replies. The reward of a reply is the task's score of it, no model of anybody's
    taste. What was trained on earns nothing, as the fine-tuned model knows those labels by heart and a reward that is
    always 1 teaches nothing; and no label is paid for twice. Raises SetupError for what cannot be trained so: `tiny`
    can.
    """
    tuning = finetuned(base, "sft")
    if not trainable(base, "head"):
        raise SetupError(f"{name_of(base)} cannot be trained by PPO here; tiny can.")
    return Rewarded(tuning, iterations)
