"""`promptlab train …`: thin over `promptlab.tiny`, which is imported where it is needed only."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from promptlab.commands import tuning
from promptlab.commands.files import read_texts
from promptlab.commands.options import Quiet, Seed, positive

app = typer.Typer(no_args_is_help=True, help="Train the bundled model, or fine-tune one of Hugging Face's.")


BF16 = Annotated[
    bool | None,
    typer.Option("--bf16/--fp32", help="Precision of products; bf16 where the processor has it, if left out."),
]


@app.command(epilog="Example: `promptlab train pretrain runs/nano --preset nano --minutes 10`")
def pretrain(
    run: Annotated[Path, typer.Argument(help="The run's folder; an earlier run there is resumed.")],
    preset: Annotated[
        str, typer.Option(help="nano, organism (the bundled model), small, medium or large.")
    ] = "organism",
    steps: Annotated[int | None, typer.Option(min=1, help="How many; the preset's if left out.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Instead: as many steps as fit into these.")] = None,
    early: Annotated[int | None, typer.Option(help="Until this step there is more to copy; 15 % of all.")] = None,
    later: Annotated[int | None, typer.Option(help="From this step on there are more label maps; 55 %.")] = None,
    long_from: Annotated[int | None, typer.Option(help="First step with rows as long as the context; 65 %.")] = None,
    lr: Annotated[
        float | None, typer.Option(callback=positive, help="The highest learning rate; the preset's if left out.")
    ] = None,
    decay: Annotated[float, typer.Option(help="The share of the steps in which the rate falls.")] = 0.4,
    init: Annotated[Path | None, typer.Option(help="Go on from this checkpoint's weights instead of nothing.")] = None,
    new_vocabulary: Annotated[
        bool, typer.Option("--new-vocabulary", help="With --init: learn a tokenizer for what is read now.")
    ] = False,
    without: Annotated[
        list[str] | None, typer.Option(help="A twin without it: repetition, scratchpads, or a family.")
    ] = None,
    fixed_labels: Annotated[
        bool, typer.Option("--fixed-labels", help="A twin whose labels always mean the same.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Data-parallel, each on its own threads.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor, for each process.")] = 2,
    bf16: BF16 = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what it takes, and do nothing.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Pretrain the bundled model, or a smaller or larger one, from nothing on the synthetic mixture."""
    from promptlab.tiny import parallel, presets
    from promptlab.tiny.pretrain import Plan
    from promptlab.tiny.pretrain import pretrain as train

    if estimate:
        import torch

        torch.set_num_threads(threads)
        plan = Plan.of(steps or presets.preset(preset).steps, early, later, long_from)
        print(presets.estimate(preset, plan.steps, plan.long_from, bf16))
        return
    begin = partial(
        train,
        run,
        preset=preset,
        init=init,
        new_vocabulary=new_vocabulary,
        steps=steps,
        minutes=minutes,
        early=early,
        later=later,
        long_from=long_from,
        seed=seed,
        lr=lr,
        decay=decay,
        without=without or (),
        fixed_labels=fixed_labels,
        threads=threads,
        bf16=bf16,
        quiet=quiet,
    )
    if processes > 1:
        parallel.run_in(processes, begin)
    else:
        with parallel.joined():
            begin()


Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--text", help="A text or markdown file, or a table as `promptlab compare` reads it; may be repeated."
    ),
]
Column = Annotated[str | None, typer.Option(help="The column of tables that holds the text.")]
HeldOut = Annotated[float, typer.Option(min=0.0, max=0.9, help="The share of the text that is not trained on.")]


@app.command(epilog="Example: `promptlab train mlm runs/notes --text notes.txt --steps 500`")
def mlm(
    run: Annotated[Path, typer.Argument(help="The run's folder; an earlier run there is resumed.")],
    text: Files = None,
    column: Column = None,
    steps: Annotated[int, typer.Option(min=1, help="Of 8,192 tokens each.")] = 3200,
    lr: Annotated[float, typer.Option(callback=positive, help="The highest learning rate.")] = 2e-3,
    init: Annotated[Path | None, typer.Option(help="Start from this checkpoint's weights, causal or masked.")] = None,
    held_out: HeldOut = 0.1,
    fill: Annotated[str | None, typer.Option(help="Then fill the [MASK] of this text, five ways.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 2,
    bf16: BF16 = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Pretrain a masked language model on your text, or on the synthetic mixture; and fill gaps with it."""
    from promptlab.tiny.checkpoint import load
    from promptlab.tiny.fill_mask import around, fill_mask
    from promptlab.tiny.mlm import pretrain_masked

    if fill is not None:
        around(fill)  # a text without a gap is told of before the training
    model = pretrain_masked(
        run,
        texts=read_texts(text, column) if text else (),
        steps=steps,
        lr=lr,
        init=init,
        held_out=held_out,
        threads=threads,
        bf16=bf16,
        seed=seed,
        quiet=quiet,
    )
    if fill is not None:
        for token, probability in fill_mask(model, load(run).tokenizer, fill):
            print(f"{probability:.3f} {token}")


@app.command(name="text", epilog="Example: `promptlab train text runs/reports --text reports.csv --column note`")
def continue_on_text(
    run: Annotated[Path, typer.Argument(help="The run's folder; an earlier run there is resumed.")],
    text: Files = None,
    column: Column = None,
    init: Annotated[
        Path | None, typer.Option(help="The checkpoint to go on from; the bundled one if left out.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of 8,192 tokens each.")] = 200,
    lr: Annotated[float, typer.Option(callback=positive, help="The highest learning rate.")] = 5e-4,
    held_out: HeldOut = 0.1,
    apart: Annotated[bool, typer.Option("--apart", help="No token sees another document than its own.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 2,
    bf16: BF16 = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Go on with pretraining on your own text, and see what is gained on it and what is forgotten."""
    from promptlab.tiny.adapt import adapt
    from promptlab.tiny.checkpoint import BUNDLED

    _, told = adapt(
        run,
        init or BUNDLED,
        read_texts(text or (), column),
        steps=steps,
        lr=lr,
        held_out=held_out,
        apart=apart,
        threads=threads,
        bf16=bf16,
        seed=seed,
        quiet=quiet,
    )
    which = "held out" if held_out else "that it was trained on"
    print(f"perplexity of the text {which}: {told.text_before:.1f} before, {told.text_after:.1f} after")
    print(f"perplexity of what it was pretrained on: {told.mixture_before:.2f} before, {told.mixture_after:.2f} after")


tuning.add_to(app)
