"""`promptlab train sft|head|lora|dpo|reward|rlhf`: fine-tuning the bundled model, or one of Hugging Face's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from promptlab.commands.files import empty_folder, read_labelled, read_pairs, read_prompts, reward_function, without
from promptlab.commands.options import Instruction, Label, Quiet, Seed, Text, positive, said
from promptlab.errors import SetupError

if TYPE_CHECKING:
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.pairs import Pair
    from promptlab.tiny.reward import RewardModel
    from promptlab.tiny.train import Recipe

Labelled = Annotated[Path, typer.Argument(help="CSV, TSV, JSON or JSONL, as `promptlab compare` reads it.")]
Preferences = Annotated[
    Path, typer.Argument(help="JSONL or CSV with prompt, chosen and rejected: texts, or TRL's messages.")
]
Out = Annotated[Path, typer.Option(help="The folder that the trained model goes to.")]
Free = Annotated[bool, typer.Option("--free", help="The labels are free answers, each maybe another, not classes.")]
Model = Annotated[str, typer.Option("--model", help="tiny, tiny:FOLDER, or hf:NAME (by TRL and PEFT)")]
OnlyTiny = Annotated[str, typer.Option("--model", help="tiny or tiny:FOLDER")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of the optimizer; as suits the data if left out.")]
Rate = Annotated[
    float | None, typer.Option("--lr", callback=positive, help="The highest learning rate; one that suits if left out.")
]
Skip = Annotated[bool, typer.Option("--skip", help="Leave out pairs that nothing can be learnt from, not refuse them.")]
Rank = Annotated[int, typer.Option(min=1, help="Of the adapters.")]


def begin(name: str, out: Path, of_hf: bool = True) -> Tiny | str:
    """The bundled kind of model to start from, or the name of one of Hugging Face's."""
    empty_folder(out)
    kind, _, argument = name.partition(":")
    if of_hf and kind == "hf" and argument:
        return argument
    from promptlab.backends import model
    from promptlab.backends.tiny import Tiny

    backend = model(name)
    if not isinstance(backend, Tiny):
        raise SetupError(f"{name} cannot be trained {'here' if of_hf else 'so'}: --model is tiny{' or hf' * of_hf}.")
    return backend


def changed(recipe: Recipe, steps: int | None, lr: float | None) -> Recipe:
    """A recipe with what was asked for."""
    return replace(recipe, steps=steps or recipe.steps, lr=recipe.lr if lr is None else lr)


TOLD = ("loss", "reward", "kl", "margin", "accuracy", "rewards/accuracies", "rewards/margins", "length")


class Progress:
    """Ten lines on the steps of a training; each is told as tiny tells it, or TRL, or its iteration."""

    def __init__(self, recipe: Recipe, quiet: bool):
        self.steps, self.quiet = recipe.steps, quiet

    def __call__(self, step: Any, told: Any = None) -> None:
        """`step` is a number, or a named tuple that begins with it; `told` a loss, or what TRL logs."""
        if isinstance(step, tuple):
            step, told = step[0], {name: value for name, value in step._asdict().items() if isinstance(value, float)}
        if not isinstance(told, Mapping):
            told = {"loss": told}
        if not self.quiet and (step + 1) % max(1, self.steps // 10) == 0:
            shown = [f"{name} {told[name]:.3f}" for name in TOLD if name in told]
            print(f"{step + 1} of {self.steps}: {', '.join(shown)}", file=sys.stderr, flush=True)


def done(out: Path, kind: str, quiet: bool) -> None:
    if not quiet:
        print(f"{kind}:{out}" if kind else out)


def warn(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def sft(
    file: Labelled,
    out: Out,
    text: Text = "text",
    label: Label = "label",
    instruction: Instruction = "",
    free: Free = False,
    model: Model = "tiny",
    steps: Steps = None,
    lr: Rate = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Fine-tune all weights to reply to a text with its label, as the arm "sft" of a study does."""
    replies(file, out, text, label, instruction, free, model, None, steps, lr, seed, quiet)


def lora(
    file: Labelled,
    out: Out,
    text: Text = "text",
    label: Label = "label",
    instruction: Instruction = "",
    free: Free = False,
    model: Model = "tiny",
    rank: Rank = 8,
    steps: Steps = None,
    lr: Rate = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """The same with LoRA adapters only, which are saved as PEFT does; their sum with the model is in OUT/merged."""
    replies(file, out, text, label, instruction, free, model, rank, steps, lr, seed, quiet)


def replies(
    file: Path,
    out: Path,
    text: str,
    label: str,
    instruction: str,
    free: bool,
    model: str,
    rank: int | None,
    steps: int | None,
    lr: float | None,
    seed: int,
    quiet: bool,
) -> None:
    from promptlab.compare.study import too_long
    from promptlab.learners import chats_of
    from promptlab.tiny import checkpoint
    from promptlab.tiny import lora as adapters
    from promptlab.tiny import sft as tiny

    base = begin(model, out)
    given = read_labelled(file, text, label, said(instruction), free=free)
    warn(given.warnings)
    lora = adapters.LoRA(rank, 2.0 * rank) if rank else None
    if isinstance(base, str):
        from promptlab.backends.hf import HF
        from promptlab.learners.hf import sft as real

        recipe = changed(real.recipe_for(len(given.examples), lora), steps, lr)
        asked = HF(base, dtype="float32")
        warn(too_long(asked, given.prompt, train=given.examples))
        chats = chats_of(asked, given.prompt, given.examples)
        tuned = real.sft(base, chats, lora=lora, seed=seed, recipe=recipe, on_step=Progress(recipe, quiet))
        tuned.save(out)
        if lora:
            out = out / "merged"
            tuned.merged().save(out)
        return done(out, "hf", quiet)
    warn(too_long(base, given.prompt, train=given.examples))
    chats = chats_of(base, given.prompt, given.examples)
    recipe = changed((adapters if lora else tiny).recipe_for(len(chats)), steps, lr)
    start = adapters.add_lora(base.model, lora, seed) if lora else base.model
    trained = tiny.sft(start, base.tokenizer, chats, seed, recipe, Progress(recipe, quiet))
    if lora:
        adapters.save_adapter(out, trained)
        trained, out = adapters.merge(trained), out / "merged"
    checkpoint.save(out, trained, base.tokenizer)
    return done(out, "tiny", quiet)


def head(
    file: Labelled,
    out: Out,
    text: Text = "text",
    label: Label = "label",
    model: OnlyTiny = "tiny",
    frozen: Annotated[bool, typer.Option("--frozen", help="Train the head only.")] = False,
    steps: Steps = None,
    lr: Rate = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a classification head, softmax(W h + b), and the model below it; `promptlab.tiny.heads` loads it."""
    from promptlab.compare.study import too_long
    from promptlab.tiny.head import train_head
    from promptlab.tiny.heads import save_head
    from promptlab.tiny.sft import recipe_for

    base: Any = begin(model, out, of_hf=False)
    given = read_labelled(file, text, label)
    warn(given.warnings + too_long(base, given.prompt, train=given.examples))
    recipe = changed(recipe_for(len(given.examples)), steps, lr)
    texts, targets = [e.input for e in given.examples], [str(e.target) for e in given.examples]
    shown = Progress(recipe, quiet)
    trained = train_head(base.model, base.tokenizer, texts, targets, given.labels, seed, frozen, recipe, shown)
    save_head(out, trained, base.tokenizer)
    done(out, "", quiet)


Kinds = Literal["sigmoid", "ipo", "hinge", "robust"]


def dpo(
    file: Preferences,
    out: Out,
    kind: Annotated[str, typer.Option(help=f"The loss: {', '.join(get_args(Kinds))}.")] = "sigmoid",
    beta: Annotated[float, typer.Option(help="The higher, the nearer the model stays to where it starts.")] = 0.1,
    smoothing: Annotated[float, typer.Option(help="The share of preferences that are wrong, of robust.")] = 0.0,
    sft_weight: Annotated[float, typer.Option(help="How much of −log π(chosen) / length is added.")] = 0.0,
    model: Model = "tiny",
    skip: Skip = False,
    steps: Steps = None,
    lr: Rate = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Learn from preferences without a reward model: DPO, IPO, hinge or robust, from the model as the reference."""
    from promptlab.tiny import checkpoint
    from promptlab.tiny import dpo as tiny

    base, pairs = begin(model, out), read_pairs(file)
    how: dict[str, Any] = {"kind": kind, "beta": beta, "smoothing": smoothing, "sft_weight": sft_weight, "seed": seed}
    tiny.check(kind, beta, smoothing, sft_weight)
    pairs = usable(base, pairs) if skip else pairs
    if isinstance(base, str):
        from promptlab.learners.hf import preferences as real

        recipe = changed(real.dpo_recipe_for(len(pairs)), steps, lr)
        real.dpo(base, pairs, recipe=recipe, on_step=Progress(recipe, quiet), **how).save(out)
        return done(out, "hf", quiet)
    recipe, shown = changed(tiny.recipe_for(len(pairs)), steps, lr), Progress
    trained = tiny.dpo(base.model, base.tokenizer, pairs, recipe=recipe, on_step=shown(recipe, quiet), **how)
    checkpoint.save(out, trained, base.tokenizer)
    return done(out, "tiny", quiet)


def reward(
    file: Preferences,
    out: Out,
    model: Model = "tiny",
    skip: Skip = False,
    steps: Steps = None,
    lr: Rate = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train a reward model on preferences; `promptlab train rlhf --reward OUT` takes it."""
    from promptlab.tiny import reward as tiny
    from promptlab.tiny.heads import save_head

    base, pairs = begin(model, out), read_pairs(file)
    pairs = usable(base, pairs) if skip else pairs
    if isinstance(base, str):
        from promptlab.learners.hf import preferences as real

        recipe = changed(real.reward_recipe_for(len(pairs)), steps, lr)
        real.reward_model(base, pairs, seed=seed, recipe=recipe, on_step=Progress(recipe, quiet)).save(out)
        return done(out, "", quiet)
    recipe = changed(tiny.recipe_for(len(pairs)), steps, lr)
    shown = Progress(recipe, quiet)
    trained = tiny.reward_model(base.model, base.tokenizer, pairs, seed=seed, recipe=recipe, on_step=shown)
    save_head(out, trained, base.tokenizer)
    return done(out, "", quiet)


def usable(base: Tiny | str, pairs: list[Pair]) -> list[Pair]:
    """The pairs that can be learnt from; those that cannot are counted on stderr."""
    from promptlab.tiny.pairs import faults

    if isinstance(base, str):
        from promptlab.learners.hf.preferences import faults_of

        found = faults_of(base, pairs)
    else:
        found = faults(base.tokenizer, pairs, base.context_tokens)
    kept, told = without(pairs, found)
    warn(told)
    return kept


def rlhf(
    file: Annotated[Path, typer.Argument(help="Prompts, as texts or messages: JSONL, or CSV.")],
    out: Out,
    reward: Annotated[str, typer.Option(help="module:function of a prompt and a reply, or a reward model's folder.")],
    prompt: Annotated[str, typer.Option(help="The column of prompts.")] = "prompt",
    beta: Annotated[float, typer.Option(min=0, help="What a nat of KL divergence from the start costs.")] = 0.05,
    kl_target: Annotated[float | None, typer.Option(help="Adapt beta to so many nats a reply (tiny).")] = None,
    rollouts: Annotated[int, typer.Option(min=1, help="Replies written in an iteration.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a reply.")] = 64,
    iterations: Annotated[int, typer.Option(min=1, help="Of writing replies and learning from them.")] = 20,
    algorithm: Annotated[str, typer.Option(help="Of hf: rloo or grpo; tiny has ppo.")] = "",
    model: Model = "tiny",
    lr: Rate = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Raise the reward of what the model writes, near where it starts: PPO, or with hf RLOO or GRPO."""
    from promptlab.tiny import checkpoint
    from promptlab.tiny import rlhf as tiny

    base, prompts = begin(model, out), read_prompts(file, prompt)
    known = ("rloo", "grpo") if isinstance(base, str) else ("ppo",)
    if (algorithm := algorithm or known[0]) not in known:
        raise SetupError(f"--algorithm is {' or '.join(known)} with {model}, got {algorithm!r}.")
    if isinstance(base, str) and kl_target is not None:
        raise SetupError("--kl-target adapts the beta of PPO: leave it out with hf.")
    few = min(tiny.PPO().minibatches, rollouts)
    ppo = tiny.PPO(rollouts, minibatches=few, max_tokens=max_tokens, beta=beta, kl_target=kl_target)
    learnt = Path(reward).is_dir()
    if isinstance(base, str):
        from promptlab.learners.hf import rlhf as real
        from promptlab.learners.hf.preferences import load_reward

        recipe = changed(real.recipe_for(ppo, iterations), None, lr)
        given = load_reward(reward) if learnt else reward_function(reward)
        how: dict[str, Any] = {"algorithm": algorithm, "ppo": ppo, "seed": seed, "recipe": recipe}
        real.rlhf(base, prompts, given, on_step=Progress(recipe, quiet), **how).save(out)
        return done(out, "hf", quiet)
    recipe = changed(tiny.recipe_for(ppo, iterations), None, lr)
    scored = reward_model_for(base, reward) if learnt else reward_function(reward)
    shown = Progress(replace(recipe, steps=iterations), quiet)
    trained = tiny.rlhf(base.model, base.tokenizer, prompts, scored, ppo=ppo, seed=seed, recipe=recipe, on_step=shown)
    checkpoint.save(out, trained, base.tokenizer)
    return done(out, "tiny", quiet)


def reward_model_for(base: Tiny, folder: str) -> RewardModel:
    """The reward model in a folder. Raises SetupError where it reads other tokens than the model writes."""
    from promptlab.tiny.heads import load_head

    found, tokenizer = load_head(folder, "reward model")
    if tokenizer.bpe.to_str() != base.tokenizer.bpe.to_str():
        raise SetupError(f"{folder} has another tokenizer than the model: train the reward model with this --model.")
    return found  # type: ignore[no-any-return]


def add_to(app: typer.Typer) -> None:
    """Give these commands to `promptlab train`."""
    preferences, labelled = "wishes.jsonl --out runs/it", "notes.csv --text note --label urgency --out runs/it"
    rewarded = "prompts.jsonl --reward rewards:politeness --out runs/it"
    given = {sft: labelled, head: labelled, lora: labelled, reward: preferences, dpo: preferences, rlhf: rewarded}
    command: Any
    for command, files in given.items():
        app.command(epilog=f"Example: `promptlab train {command.__name__} {files}`")(command)
