"""Fine-tuning as a learner: the labelled examples become training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from promptlab.errors import SetupError
from promptlab.learners.in_context import in_both_ways, reply_tokens
from promptlab.learners.lengths import CHARACTERS_A_TOKEN, end_of
from promptlab.learners.solver import CHOOSES, Family, Solver
from promptlab.options import name_of
from promptlab.prompt import Prompt
from promptlab.runners import check_backend
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example, Message

if TYPE_CHECKING:
    from promptlab.backends.hf import HF
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.pairs import Pair

Chats = Sequence[Sequence[Message]]  # each ends in the reply

METHODS = {
    "sft": "all weights, next-token prediction on the label",
    "lora": "LoRA adapters, next-token prediction on the label",
    "dpo": "all weights, the label preferred to others (DPO with a term of next-token prediction)",
    "head": "all weights and a classification head, softmax(W h + b)",
}
DPO_RATE = 2e-4  # higher than that of preferences among long replies: a label is one or two tokens
OF_HF = ("sft", "lora", "dpo")
MOST_PAIRS = 3  # of an example with every other label, by DPO


@dataclass(frozen=True)
class FineTuned:
    """See `finetuned`."""

    base: Backend
    method: str = "sft"
    family: ClassVar[Family] = "fine-tuning"
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_backend(self.base, "finetuned")
        if self.method not in METHODS:
            raise SetupError(f"finetuned(method={self.method!r}): known are {', '.join(METHODS)}.")
        if not trainable(self.base, self.method):
            can = "tiny can" if self.method not in OF_HF else "tiny and hf can"
            raise SetupError(f"{name_of(self.base)} cannot be fine-tuned here; {can}.")

    @property
    def description(self) -> str:
        return METHODS[self.method]

    @property
    def memory(self) -> float:
        """The bytes of a copy: what asking it takes, and in training weights, gradients and two moments in float32."""
        base: Any = self.base
        return float(base.memory + 16 * sum(weight.numel() for weight in base.model.parameters()))

    @property
    def stays_general(self) -> bool:
        """Whether the tuned model can still be asked anything: one with a head knows its labels only."""
        return self.method != "head"

    @property
    def classifies(self) -> bool:
        """Whether it needs labels to choose among: a head has a row for each, and DPO prefers one to others."""
        return self.method in ("head", "dpo")

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise ValueError(f"{self.method} needs at least one labelled example")
        if self.method == "head":
            return tune_head(self.base, task, examples, seed)
        return tune_replies(self.base, self.method, task, examples, seed)


def check_labels(method: str, task: Task, examples: Sequence[Example]) -> None:
    """Raises SetupError for a task that has no labels to choose among, or not those that its examples have."""
    if len(task.labels) < 2:
        raise SetupError(f"{method} {CHOOSES}.")
    if strange := sorted({str(example.target) for example in examples} - {*task.labels}):
        raise SetupError(
            f"{method} chooses among the labels of the task's prompt, {', '.join(task.labels)}, and examples have "
            f"others: {', '.join(strange[:5])}. Name them all in the prompt's Literal."
        )


def trainable(base: Any, method: str) -> bool:
    """Whether there is a way to train a backend so."""
    if not hasattr(base, "model") or not hasattr(base, "tokenizer"):
        return False  # and nothing heavy was imported to find that out
    from promptlab.backends import needs
    from promptlab.backends.hf import HF
    from promptlab.backends.pretrained import refuse_adapted
    from promptlab.backends.tiny import Tiny

    if isinstance(base, HF) and method in OF_HF:
        needs("trl")
        refuse_adapted(name_of(base), base.model)
        return True
    return isinstance(base, Tiny)


def tune_replies(base: Any, method: str, task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """Train a copy of the base model to reply to a bare text with its label, then ask it so.

    Which labels there are is learnt, not said: a prompt without that list is what makes a fine-tuned model cheap to
    ask. A text too long for the context is cut at its beginning, in training and when asked; an instruction stays.
    """
    return asked_bare(base, task, tuned_to_reply(base, method, task, examples, seed))


def asked_bare(base: Any, task: Task, tuned: Tuned) -> Solver:
    """A tuned model asked with bare texts, as it was trained on them."""
    prompt = replace(task.prompt, says_format=False)
    cut = cutter(base, prompt)

    async def program(question: str) -> Answer:
        return await in_both_ways(cut(question), prompt, tuned.backend)

    return Solver(program, tuned.backend, tuned.parameters)


def tuned_to_reply(base: Any, method: str, task: Task, examples: Sequence[Example], seed: int) -> Tuned:
    """A copy of the base model, trained to reply to a bare text with its label."""
    from promptlab.backends.tiny import Tiny

    if method == "dpo":
        check_labels(method, task, examples)
    chats = chats_of(base, replace(task.prompt, says_format=False), examples)
    pairs = pairs_of(chats, task.labels, seed) if method == "dpo" else []
    return (tuned_tiny if isinstance(base, Tiny) else tuned_hf)(base, method, chats, pairs, seed)


def chats_of(base: Tiny | HF, prompt: Prompt, examples: Sequence[Example]) -> list[list[Message]]:
    """What is learnt from: each text as it will be asked, and its label as the reply."""
    cut = cutter(base, prompt)
    return [[*prompt.render(cut(e.input)), Message("assistant", str(e.target))] for e in examples]


class Tuned(NamedTuple):
    """A backend of a trained model, and how many numbers were trained."""

    backend: Backend
    parameters: int


def tuned_tiny(base: Tiny, method: str, chats: Chats, pairs: Sequence[Pair], seed: int) -> Tuned:
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.dpo import dpo
    from promptlab.tiny.lora import add_lora, merge, recipe_for
    from promptlab.tiny.model import parameter_count
    from promptlab.tiny.sft import sft, steps_for
    from promptlab.tiny.train import Recipe

    model, tokenizer = base.model, base.tokenizer
    if method == "lora":
        trained = sft(add_lora(model, seed=seed), tokenizer, chats, seed, recipe_for(len(chats)))
        return Tuned(Tiny.of(merge(trained), tokenizer), parameter_count(trained))
    if method == "dpo":
        recipe = Recipe(steps_for(len(pairs)), lr=DPO_RATE, warmup=10, weight_decay=0.0)
        trained = dpo(model, tokenizer, pairs, sft_weight=1.0, seed=seed, recipe=recipe)
    else:
        trained = sft(model, tokenizer, chats, seed)
    return Tuned(Tiny.of(trained, tokenizer), parameter_count(trained))


def tuned_hf(base: HF, method: str, chats: Chats, pairs: Sequence[Pair], seed: int) -> Tuned:
    from promptlab.learners.hf.preferences import dpo
    from promptlab.learners.hf.sft import sft
    from promptlab.tiny.lora import LoRA
    from promptlab.tiny.model import parameter_count

    options: dict[str, Any] = {"use_cpu": base.device == "cpu"}
    if method == "dpo":
        trained = dpo(base.name, pairs, sft_weight=1.0, seed=seed, **options)
    else:
        trained = sft(base.name, chats, lora=LoRA() if method == "lora" else None, seed=seed, **options)
    return Tuned(base.of(trained.model), parameter_count(trained.model))


def pairs_of(chats: Chats, labels: Sequence[str], seed: int) -> list[Pair]:
    """Each chat's reply before other labels, of which there are `MOST_PAIRS` where there are more."""
    from promptlab.tiny.pairs import Pair

    found = []
    for i, (*prompt, reply) in enumerate(chats):
        others = [label for label in labels if label != reply.content]
        some = Random(f"pairs/{seed}/{i}").sample(others, min(MOST_PAIRS, len(others)))
        found += [Pair(prompt, reply.content, other) for other in some]
    return found


def cutter(base: Tiny | HF, prompt: Prompt) -> Callable[[str], str]:
    """What is left of a text so that its prompt and the reply fit the context."""
    room = base.context_tokens - (reply_tokens(prompt) or 256)

    def fits(text: str) -> bool:
        return base.count_tokens(prompt.render(text)) <= room

    return lambda text: end_of(text, fits, base.context_tokens)


def tune_head(base: Backend, task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """Train a copy of the base model with a head over the labels; its answer is the likeliest label.

    The head reads the last tokens that fit the context, so more text than holds them need not be encoded.
    """
    from promptlab.backends.tiny import Tiny, TinyClassifier
    from promptlab.strategies import likeliest_label
    from promptlab.tiny.head import train_head
    from promptlab.tiny.model import parameter_count

    assert isinstance(base, Tiny)
    check_labels("head", task, examples)
    longest = CHARACTERS_A_TOKEN * base.context_tokens
    inputs, targets = [e.input[-longest:] for e in examples], [str(e.target) for e in examples]
    classifier = train_head(base.model, base.tokenizer, inputs, targets, task.labels, seed)

    async def program(question: str) -> Answer:
        return await likeliest_label(question[-longest:], task.prompt)

    return Solver(program, TinyClassifier(classifier, base.tokenizer), parameter_count(classifier))


def finetuned(base: Backend, method: str = "sft") -> FineTuned:
    """A learner that trains a copy of `base`, tiny or hf, on the examples it gets: "sft", "lora", "dpo" or "head".

    "head" is of tiny only. A model of hf is read again from its name, in float32, and trained by TRL and PEFT.
    """
    return FineTuned(base, method)
