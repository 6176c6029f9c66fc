"""`promptlab fragility`: a prompt of a file on examples of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptlab.compare.optimizing.arguments import Arguments, Calls, divided, same_text, source_of
from promptlab.compare.optimizing.fragility import Fragility, fragility
from promptlab.compare.optimizing.models import models_of, solve_of
from promptlab.compare.wording import number, share, shown
from promptlab.errors import DataError
from promptlab.optimizers import load_prompt
from promptlab.splits import text_key
from promptlab.task import Task, exact
from promptlab.whole import whole


def check(prompt_file: Path, file: Path, *, calls: int, out: Path | None = None, **given: Any) -> Fragility:
    """How the prompt's answers to a file's examples hang on what should not matter.

    Other demonstrations are drawn from a quarter of the examples, split off by group and class, and the rest are asked,
    but for those that the prompt itself shows. With `out` the answers are kept there, so that the same command goes on
    where it was interrupted.
    """
    prompt = load_prompt(prompt_file)
    output = "classification" if prompt.labels else "text"
    arguments = Arguments(str(file), output=output, **given)
    known = {text_key(shot.input) for shot in prompt.shots}
    examples = tuple(e for e in source_of(arguments, str(file), True).examples if text_key(e.input) not in known)
    if prompt.labels and (odd := {str(e.target) for e in examples} - set(prompt.labels)):
        raise DataError(f"{file.name} has labels that the prompt does not know: {', '.join(sorted(odd)[:5])}.")
    pool, items = examples[:0], examples
    if prompt.shots:
        pool, items = divided(examples, not prompt.labels, test_share=0.75, seed=arguments.seed)
    task = Task(file.stem, prompt, examples, items, exact if prompt.labels else same_text)
    with TemporaryDirectory() as nowhere:
        folder = out or Path(nowhere)
        folder.mkdir(parents=True, exist_ok=True)
        models = models_of(arguments, Calls(0, 0, calls), folder)
        program = fragility(
            prompt,
            items,
            solve=solve_of(arguments, task, models.task),
            score=task.score,
            pool=pool,
            calls=calls,
            seed=arguments.seed,
        )
        found = models.run(program)
    if out is not None:
        with whole(out / "results.json") as written:
            written.write(json.dumps(found.told(), indent=1, ensure_ascii=False) + "\n")
    return found


def lines_of(found: Fragility, quiet: bool) -> Iterator[str]:
    """What the terminal shows: a line an axis, and the sentence."""
    if not quiet:
        for axis in found.axes:
            yield (
                f"{axis.axis}: {number(axis.mean)} ± {number(axis.sd)} over {axis.variants} variants "
                f"({number(axis.low)} to {number(axis.high)} on {axis.n} items); worst asked again "
                f"{shown(axis.worst_fresh)}, {shown(axis.drop, sign=True)}; {share(axis.flips)} of answers change"
            )
    yield (
        f"As it is: {shown(found.fresh)} on {found.fresh.n_items} fresh items. From the best to the worst variant: "
        f"{100 * found.spread:.0f} points there; {share(found.flips)} of answers change."
    )
