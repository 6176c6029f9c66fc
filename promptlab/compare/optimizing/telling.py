"""What a person at the terminal is told of a run. Results go to stdout, all else to stderr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.backends import unasked
from promptlab.backends.wrappers.worst import most_usd, usd_of
from promptlab.compare.rehearsal import A_REPLY, BYTES_A_TOKEN, dollars
from promptlab.compare.statistics import smallest_detectable_difference
from promptlab.compare.wording import number, share
from promptlab.learners.in_context import reply_tokens
from promptlab.splits import clusters
from promptlab.types import Usage

if TYPE_CHECKING:
    from promptlab.compare.optimizing.run import Planned


def plan_lines(plan: Planned) -> Iterator[str]:
    """What a run has to work with, what it may spend, and the smallest gain it could show."""
    task, told, calls = plan.material.task, plan.plan, plan.calls
    yield (
        f"{task.name}: {len(task.train)} labelled examples to search with ({told['feed']} that proposers may read, "
        f"{told['race']} for races, {told['confirm']} for the last comparison), {len(task.test)} to test on"
    )
    n = len(set(clusters(task.test)))
    yield (
        f"A gain under {100 * told['smallest_gain']:.1f} points is likely to go unaccepted (alpha "
        f"{plan.given.alpha:g}, 80 % power); the test cannot show one under "
        f"{100 * smallest_detectable_difference(n):.1f} points."
    )
    most = f"{calls.most:,} calls at most" if calls.most is not None else "no limit on calls"
    again = ", its control as many" if plan.given.control else ""
    yield f"The search may make {calls.search:,} calls{again}, the test up to {calls.test:,} more; {most}."


def cost_line(plan: Planned) -> str:
    """About what a run costs, and at most; nothing is sent, and no key is needed."""
    backend: Any = unasked(plan.given.model)
    task, n = plan.material.task, plan.calls.search + plan.calls.test
    chats = [task.prompt.render(example.input) for example in task.train[:200]]
    size = sum(len(m.content.encode()) for chat in chats for m in chat) / len(chats) / BYTES_A_TOKEN
    written = reply_tokens(task.prompt) or A_REPLY
    usd = usd_of(backend, Usage(int(n * size), output_tokens=n * written))
    if usd is None:
        return f"About {n * size:,.0f} tokens are read if prompts stay as long; the price of the model is not known."
    dearest = most_usd(backend, int(n * size * BYTES_A_TOKEN), n * written) or usd
    money = dollars(usd) if usd == dearest else f"{dollars(usd)} to {dollars(dearest)}"
    return f"About {n * size:,.0f} tokens are read if prompts stay as long: {money} without the proposer's."


def tell_beforehand(plan: Planned, quiet: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(quiet=quiet, stderr=True, highlight=False)
    first, *others = plan_lines(plan)
    console.print(Text(first), soft_wrap=True)
    for warning in plan.material.warnings:
        console.print(Text.assemble(("note ", "yellow"), warning), soft_wrap=True)
    for finding in plan.findings:
        console.print(Text.assemble((f"{finding.kind}: ", "yellow"), finding.message), soft_wrap=True)
    for line in others:
        console.print(Text(line), soft_wrap=True)


def rehearsed(plan: Planned) -> str:
    """All that is told beforehand, for --dry-run."""
    first, *others = plan_lines(plan)
    notes = [f"note {warning}" for warning in plan.material.warnings]
    return "\n".join([first, *notes, *(f"{f.kind}: {f.message}" for f in plan.findings), *others, cost_line(plan)])


def tell_afterwards(results: Mapping[str, Any], folder: Path, quiet: bool) -> None:
    """The prompt that was found, what speaks against it, the sentence, and where the report is."""
    if not quiet:
        for line in found_lines(results):
            print(line)
    print(results["sentence"])
    print(folder / "report.html")


def found_lines(results: Mapping[str, Any]) -> Iterator[str]:
    [final] = results["prompts"]["final"].values()
    if results["accepted"]:
        yield f"Instruction: {final['instruction']}"
        if final["shots"]:
            yield f"Demonstrations: {len(final['shots'])}"
    for look in results["looks"]:
        yield f"{look['of']}: {number(look['seed'])} to {number(look['candidate'])} on {look['n']} items"
    if results["control"]:
        yield f"Control with shuffled labels: {results['control']['why']}"
    if fragile := results["fragility"]:
        said = f"{share(fragile['flips'])} of answers change, {100 * fragile['spread']:.0f} points from best to worst"
        yield f"Where nothing that matters is changed: {said}"
    for alarm in results["alarms"]:
        yield f"Note: {alarm}"
