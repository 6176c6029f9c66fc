"""DSPy's optimisers, GEPA's engine and ours: the same examples, score and model, and the same metered budget.

    make .venv-interop/ready     # the others in an environment of their own
    .venv-interop/bin/python benchmarks/optimizers_peers.py [--quick] [--json FILE] [--worlds N] [--only PART]

Two parts. `simulated`: the task model and the proposer are simulated (optimizing/simulated.py), in as many worlds as
there are. `bundled`: both are the bundled model, on the field reports and on label maps (optimizing/tasks.py). Everyone
gets the same 200 labelled examples (185 of two labels) and at most 1,500 calls, of both models together: a Budget,
which sends no 1,501st. DSPy asks in promptlab's words (PromptAdapter), so a prompt means the same whoever found it.
DSPy's settings are the largest that its own arithmetic fits into the budget. What each found answers the same fresh
items, outside the budget.
Rows: accuracy there (mean over worlds or tasks, a t interval over them), calls, and ours less theirs, paired.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

from harness import finish, parser, row
from optimizing import simulated
from optimizing.tasks import field_reports, label_map
from scipy import stats

from promptlab import Answer, run
from promptlab.backends.routed import Routed
from promptlab.backends.tiny import Tiny
from promptlab.backends.wrappers import Budget, Budgeted
from promptlab.errors import SetupError
from promptlab.learners.in_context import reply_tokens
from promptlab.optimizers import OPTIMIZERS
from promptlab.program import Program
from promptlab.prompt import Prompt
from promptlab.strategies import zero_shot
from promptlab.testing import Script
from promptlab.types import Backend, Example

EXAMPLES, CALLS, TEST = 200, 1_500, 1_000
SEEDED = "the prompt as it was"
PAIRS = {  # ours, and the peer's of the same kind
    "mipro": "MIPROv2",
    "gepa": "GEPA",
    "bootstrap": "BootstrapFewShotWithRandomSearch",
    "copro": "COPRO",
}
OURS = ("ape", "protegi", "opro", "copro", "mipro", "gepa", "bootstrap")


class Run(NamedTuple):
    """What a method's prompt was worth on the test, and the calls it took to find it."""

    accuracy: float
    calls: int
    note: str = ""


class Contest(NamedTuple):
    """What everybody begins with, and is tested on."""

    prompt: Prompt
    examples: Sequence[Example]
    test: Sequence[Example]
    task: Backend
    proposer: Backend

    def models(self) -> tuple[Backend, Backend, Budget]:
        """The task model and the proposer, and the budget that they share."""
        budget = Budget(calls=CALLS)
        return Budgeted(self.task, budget), Budgeted(self.proposer, budget), budget


def in_a_world(number: int) -> Contest:
    world = simulated.World(number)
    items = world.examples(EXAMPLES), world.examples(TEST, first=1_000_000)
    return Contest(simulated.SEED, *items, Script(world.task), Script(world.proposer))


def on_a_task(number: int) -> Contest:
    """The first is the field reports, the others maps of two, three and four labels, each of words of its own."""
    n_labels, draw = 2 + (number - 1) % 3, (number - 1) // 3
    asked = label_map(n_labels, words=12, draw=f"/{draw}") if number else field_reports()
    tiny = Tiny()
    return Contest(asked.prompt, asked.given[:EXAMPLES], asked.test, tiny, tiny)


PARTS: dict[str, tuple[Callable[[int], Contest], int, int]] = {  # and how many of them, quick and not
    "simulated": (in_a_world, 2, 20),
    "bundled": (on_a_task, 1, 10),
}


def answered(question: Any, prompt: Prompt) -> Program[Answer]:
    """As DSPy asks through PromptAdapter: no more tokens than a label takes."""
    return zero_shot(question, prompt, max_tokens=reply_tokens(prompt))


def dspys() -> Mapping[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """How each is made, and what its `compile` is told, so that it takes about CALLS of EXAMPLES.

    COPRO scores breadth · depth instructions on all examples. Random search scores 3 + n programs on all of them, and
    bootstraps n + 1 of them by about eight answers each. MIPROv2 keeps four fifths to validate on: once at first, 35 a
    trial, all of them every five trials. GEPA's own limit is soft, and does not count its proposals: 5 % are left.
    """
    import dspy

    n, val = EXAMPLES, EXAMPLES * 4 // 5
    scored = CALLS // (n + 8)
    trials = (CALLS - val - 80) // (35 + val // 5)
    half = EXAMPLES // 2
    return {
        "BootstrapFewShotWithRandomSearch": (
            lambda m, lm: dspy.BootstrapFewShotWithRandomSearch(m, num_candidate_programs=scored - 3, num_threads=1),
            {},
        ),
        "COPRO": (lambda m, lm: dspy.COPRO(prompt_model=lm, metric=m, breadth=scored // 2, depth=2), {}),
        "MIPROv2": (
            lambda m, lm: dspy.MIPROv2(m, prompt_model=lm, auto=None, num_candidates=6, num_threads=1),
            {"num_trials": trials},
        ),
        "GEPA": (
            lambda m, lm: dspy.GEPA(m, reflection_lm=lm, max_metric_calls=int(0.9 * CALLS), num_threads=1),
            {"validation": half},
        ),
    }


def of_dspy(name: str, contest: Contest) -> Run:
    from promptlab.interop.dspy import PromptAdapter, optimize_with_dspy

    make, told = dspys()[name]
    task, proposer, budget = contest.models()
    prompt, examples = contest.prompt, contest.examples
    validation: Sequence[Example] = ()
    if half := told.pop("validation", None):
        examples, validation = examples[:half], examples[half:]
    found = optimize_with_dspy(
        make,
        prompt,
        examples,
        model=task,
        proposer=proposer,
        adapter=PromptAdapter(prompt),
        validation=validation,
        **told,
    )
    failed = sum(found.failed.values())
    notes = [found.why] * found.why.startswith("as it was given") + [f"{failed} failed"] * bool(failed)
    return Run(tested(contest, found.prompt), budget.spent.calls, "; ".join(notes))


def of_gepa(contest: Contest) -> Run:
    from promptlab.interop.gepa import optimize_with_gepa

    task, proposer, budget = contest.models()
    found = optimize_with_gepa(contest.prompt, contest.examples, model=task, proposer=proposer, calls=CALLS)
    return Run(tested(contest, found), budget.spent.calls)


def of_ours(name: str, contest: Contest) -> Run:
    task, proposer, budget = contest.models()
    search = OPTIMIZERS[name](contest.prompt, contest.examples, calls=CALLS, solve=answered)
    found = run(search, Routed(task, proposer=proposer))
    return Run(tested(contest, found), budget.spent.calls, "" if found.found.accepted else "as it was")


def tested(contest: Contest, prompt: Prompt) -> float:
    """The share of fresh items that a prompt's answers are right on."""
    answers = run([answered(item.input, prompt) for item in contest.test], contest.task)
    return statistics.fmean(answer.value == item.target for answer, item in zip(answers, contest.test, strict=True))


def compared(part: str, number: int) -> dict[str, Run | str]:
    """What every method comes to in a world or task; for one that cannot be run, why."""
    logging.disable(logging.CRITICAL)
    os.environ |= {"DSPY_CACHEDIR": tempfile.mkdtemp(prefix="dspy-"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    contest = PARTS[part][0](number)
    methods: dict[str, Callable[[], Run]] = {SEEDED: lambda: Run(tested(contest, contest.prompt), 0)}
    methods |= {f"DSPy's {name}": partial(of_dspy, name, contest) for name in dspys()}
    methods["gepa's engine, our last comparison"] = partial(of_gepa, contest)
    methods |= {f"our {name}": partial(of_ours, name, contest) for name in OURS if name in OPTIMIZERS}
    found: dict[str, Run | str] = {}
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # DSPy prints
        for name, method in methods.items():
            try:
                found[name] = method()
            except SetupError as error:
                found[name] = str(error)
    return found


def rows_of(worlds: Sequence[Mapping[str, Run | str]]) -> list[dict[str, Any]]:
    rows = []
    runs = {name: [w[name] for w in worlds] for name in worlds[0]}
    done = {name: each for name, each in runs.items() if all(isinstance(r, Run) for r in each)}
    for name, each in runs.items():
        if name not in done:
            rows.append(row(f"{name}: accuracy", None, "", note=next(r for r in each if isinstance(r, str))))
            continue
        value, low, high = interval([r.accuracy for r in each])
        notes = [r.note for r in each if r.note]
        note = f"{len(notes)} of {len(each)}: {notes[0]}" if notes else ""
        rows.append(row(f"{name}: accuracy", value, "", low=low, high=high, n=len(each), note=note))
        if name != SEEDED:
            rows.append(row(f"{name}: calls", statistics.fmean(r.calls for r in each), "calls", n=len(each)))
    for ours, theirs in PAIRS.items():
        a, b = done.get(f"our {ours}"), done.get(f"DSPy's {theirs}")
        if a is None or b is None:
            rows.append(row(f"our {ours} less {theirs}", None, "", target=0.0, note="one of the two was not run"))
            continue
        value, low, high = interval([x.accuracy - y.accuracy for x, y in zip(a, b, strict=True)])
        rows.append(row(f"our {ours} less {theirs}", value, "", low=low, high=high, n=len(a), target=0.0))
        shares = [x.calls / y.calls for x, y in zip(a, b, strict=True)]
        rows.append(row(f"our {ours} by {theirs}: calls", statistics.fmean(shares), "times", n=len(a)))
    return rows


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The mean, and Student's 95 % interval of it; none of one value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def rows(part: str, n: int) -> list[dict[str, Any]]:
    """The table of a part, from so many worlds or tasks, two at a time."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as two:
        found = rows_of(list(two.map(partial(compared, part), range(n))))
    return found if part == "simulated" else [{**each, "name": f"{part}: {each['name']}"} for each in found]


def main() -> None:
    made = parser(__doc__)
    made.add_argument(
        "--worlds", type=int, metavar="N", help="so many worlds (quick 2, else 20), or tasks (1, else 10)"
    )
    made.add_argument("--only", choices=[*PARTS], help="of the parts, only this")
    given = made.parse_args()
    found = []
    for part, (_, quick, full) in PARTS.items():
        if given.only in (None, part):
            found += rows(part, given.worlds or (quick if given.quick else full))
    finish(found, given, packages=("dspy", "gepa", "optuna"))


if __name__ == "__main__":
    main()
