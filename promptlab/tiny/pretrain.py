"""Pretraining of the bundled model: tokenizer, stream, schedule. `promptlab train pretrain RUN` runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import torch

from promptlab.errors import SetupError
from promptlab.tiny import parallel, presets
from promptlab.tiny.checkpoint import Checkpoint, load, read_json, save, write_json
from promptlab.tiny.data.mixture import MIXTURE, ablated
from promptlab.tiny.data.stream import Reading, Rows, documents, rows_ahead
from promptlab.tiny.data.world import COMMON_WORDS
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.precision import precision
from promptlab.tiny.presets import TOKENS_AT_ONCE
from promptlab.tiny.probe import label_map_accuracy
from promptlab.tiny.same_run import same_run
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.tiny.train import Batch, Recipe, finished, next_token_loss, steps_done, train
from promptlab.tiny.vocabulary import with_vocabulary

EARLY, LATER, LONG = 0.15, 0.55, 0.65  # shares of the steps: see Plan
FIRST_KEPT = 100  # the step of the first checkpoint that is kept; then twice as many each


@dataclass(frozen=True, slots=True)
class Plan:
    """How many steps a run has and where what it reads changes.

    Before step `early` there is more of what makes a model look back, from `later` on more label maps, and from
    `long_from` on rows are as long as the context. `minutes` are what the steps were to fit into.
    """

    steps: int
    early: int
    later: int
    long_from: int
    minutes: float | None = None

    @classmethod
    def of(cls, steps: int, early: int | None = None, later: int | None = None, long_from: int | None = None) -> Plan:
        """What is not given is a share of the steps."""
        shares = ((early, EARLY), (later, LATER), (long_from, LONG))
        return cls(steps, *(round(share * steps) if given is None else given for given, share in shares))


def learn_tokenizer(seed: int, vocab_size: int = 1536, n_documents: int = 12_000) -> Tokenizer:
    """Byte-level BPE on documents of the stream, with common English words so that ordinary text is not all bytes."""

    def texts() -> Iterator[str]:
        for i in range(n_documents):
            rng = Random(f"tokenizer/{seed}/{i}")
            yield from (m.content for m in next(documents(rng, 512, MIXTURE)))
            if i % 2:
                yield " ".join(rng.sample(COMMON_WORDS, 12))

    return Tokenizer.train(texts(), vocab_size)


def batches(read: Rows) -> Sequence[Batch]:
    """The rows of one step, some at a time."""
    ids, weights = read
    tokens, targets = torch.from_numpy(ids), torch.from_numpy(weights[:, 1:])
    at_once = max(1, TOKENS_AT_ONCE // (tokens.shape[1] - 1))
    return [Batch(tokens[i : i + at_once], targets[i : i + at_once]) for i in range(0, len(tokens), at_once)]


def planned(run: Path, asked: Plan | None, made: Callable[[], Plan], given: Mapping[str, float | None]) -> Plan:
    """The plan asked for, else that of a run gone on with, else a new one; it is noted in the run's folder.

    One of fewer steps than are done is not noted. Raises SetupError where a run is gone on with by its plan and numbers
    are `given` that are not of it. Of several processes the first one plans: each would measure another time.
    """
    path = run / "plan.json"
    if asked is not None and asked.steps < steps_done(run / "state"):
        return asked
    if parallel.rank() == 0 and (asked is not None or not path.exists()):
        write_json(path, asdict(asked or made()))
    parallel.wait()
    noted = read_json(path)
    others = {name: n for name, n in given.items() if n is not None and noted.get(name, n) != n}
    if others:  # the minutes are not in plans from before
        raise SetupError(f"{path} is {noted}, not {others}. Leave these out, or give --steps to plan what is to come.")
    return Plan(**noted)


def start(
    run: Path, begun: Checkpoint | None, config: Config, seed: int, new_vocabulary: bool = False
) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer a run starts from; the tokenizer is kept with the run from its first step."""
    kept = run / "tokenizer.json"
    if parallel.rank() == 0:
        if begun is not None and not new_vocabulary:
            begun.tokenizer.save(kept)
        elif not kept.exists():
            learn_tokenizer(seed, config.vocab_size).save(kept)
    parallel.wait()
    tokenizer = Tokenizer.load(kept)
    if begun is None:
        return Transformer(config).initialise(torch.Generator().manual_seed(seed)), tokenizer
    model = with_vocabulary(begun.model, begun.tokenizer, tokenizer) if new_vocabulary else begun.model
    return model, tokenizer


def pretrain(
    run: Path,
    *,
    preset: str = "organism",
    init: Path | None = None,
    new_vocabulary: bool = False,
    steps: int | None = None,
    minutes: float | None = None,
    early: int | None = None,
    later: int | None = None,
    long_from: int | None = None,
    seed: int = 0,
    lr: float | None = None,
    decay: float = 0.4,
    without: Sequence[str] = (),
    fixed_labels: bool = False,
    threads: int = 2,
    bf16: bool | None = None,
    quiet: bool = False,
) -> Transformer:
    """Pretrain from nothing, or go on with the run in the folder `run`; the finished model is saved in it too.

    With `init`, the run starts from the weights and the tokenizer of that checkpoint: continued pretraining; with
    `new_vocabulary` its tokenizer is made anew from the mixture (`promptlab.tiny.vocabulary`). With `minutes`, there
    are as many steps as that time takes by a measurement beforehand. `early`, `later` and `long_from` are a Plan's;
    what is not given of them and of the preset's `steps` and `lr` is as there. `without` and `fixed_labels` make an
    ablated twin (`mixture.ablated`). `bf16` is chosen by `promptlab.tiny.precision` where it is not given.
    A run that is gone on with may be given other steps and `decay`, which change only what is yet to come; other
    numbers of its plan without `steps`, or another preset, seed, rate, precision, start or mixture, are a SetupError.
    Every 100 steps the state is saved and, unless quiet, the loss and the accuracies in context are printed; the models
    after 100, 200, 400, … steps are kept as `at-100`, … in `run`.
    Of several processes (`promptlab.tiny.parallel`) each reads its share of every step.
    """
    torch.set_num_threads(threads)
    if steps is not None and minutes is not None:
        raise SetupError("Give a number of steps or of minutes, not both.")
    size = presets.preset(preset)
    rate = size.lr if lr is None else lr
    bf16 = precision(run / "pretrain.json", bf16)
    ablated(MIXTURE, without, fixed_labels)  # an unknown family is told of before anything is written
    presets.refuse_too_large(preset, bf16)
    begun = None if init is None else load(init)
    run.mkdir(parents=True, exist_ok=True)
    origin = {"init": str(init) if init else None, "sha256": begun.sha256 if begun else None}
    said = {"seed": seed, "lr": rate, **origin, "new_vocabulary": new_vocabulary, "bf16": bf16, "preset": preset}
    twin = {"without": sorted(without), "fixed_labels": fixed_labels}
    absent = {"preset": "organism", "without": [], "fixed_labels": False, "new_vocabulary": False}
    same_run(run / "pretrain.json", {**said, **twin}, absent)
    model, tokenizer = start(run, begun, size.config, seed, new_vocabulary)
    changes = {"early": early, "later": later, "long_from": long_from}
    asked = None if steps is None else Plan.of(steps, **changes)
    made = lambda: replace(Plan.of(steps_in(preset, minutes, bf16), **changes), minutes=minutes)  # noqa: E731
    plan = planned(run, asked, made, {**changes, "minutes": minutes})
    reading = Reading(
        seed,
        model.config.context,
        plan.long_from,
        plan.early,
        size.tokens_per_step,
        plan.later,
        tuple(sorted(without)),
        fixed_labels,
        parallel.rank(),
        parallel.processes(),
    )
    if not quiet and parallel.rank() == 0:
        print(
            finished(run / "state", plan.steps) or presets.estimate(preset, plan.steps, plan.long_from, bf16),
            flush=True,
        )
    on_step = watching(run, model, tokenizer, quiet)
    recipe = Recipe(plan.steps, lr=rate, decay=decay, bf16=bf16)
    with rows_ahead(reading, run / "tokenizer.json") as rows_of:
        batch_at = lambda step: batches(rows_of(step))  # noqa: E731
        train(model, batch_at, next_token_loss, recipe, state=run / "state", save_every=100, on_step=on_step)
    if parallel.rank() == 0:
        save(run, model, tokenizer)
    return model


def steps_in(preset: str, minutes: float | None, bf16: bool) -> int:
    """As many steps as the preset has, or as fit into some minutes at the speed measured now."""
    if minutes is None:
        return presets.preset(preset).steps
    some = 1000
    return max(10, int(some * 60 * minutes / presets.estimate(preset, some, round(LONG * some), bf16).seconds))


def watching(run: Path, model: Transformer, tokenizer: Tokenizer, quiet: bool) -> Callable[[int, float], None]:
    """Tells how the run goes every 100 steps, and keeps the models at doublings."""
    started = time.monotonic()
    losses: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        done = step + 1
        if parallel.rank() or done % 100:
            return
        if done // FIRST_KEPT & (done // FIRST_KEPT - 1) == 0:
            save(run / f"at-{done}", model, tokenizer)
        if not quiet:
            model.eval()
            shots = {k: label_map_accuracy(model, tokenizer, n_labels=4, shots=k, n=64, seed=1) for k in (0, 4, 16)}
            model.train()
            probes = " ".join(f"{k}-shot {v:.2f}" for k, v in shots.items())
            mean = sum(losses[-100:]) / len(losses[-100:])
            print(f"{done} loss {mean:.3f} {probes} {time.monotonic() - started:.0f} s", flush=True)

    return on_step
