"""GEPA's own package (gepa 0.1.4; Agrawal et al. 2025, arXiv 2507.19457) on our programs, scores and ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from promptlab.backends import needs
from promptlab.backends.routed import Routed
from promptlab.backends.wrappers.worst import usd_of
from promptlab.errors import BudgetExceeded, DataError, ModelError, SetupError
from promptlab.optimizers.acceptance import Test, fewest, verdict
from promptlab.optimizers.candidate import ONLY, Candidate, Prompts, as_text
from promptlab.optimizers.concluding import as_it_is, conclude
from promptlab.optimizers.found import Over
from promptlab.optimizers.proposing import Wish, wrong_with
from promptlab.optimizers.search import Search
from promptlab.optimizers.sections import Item
from promptlab.optimizers.table import BINARY, Outcome, Score, Solve, Table
from promptlab.options import name_of
from promptlab.program import Program, traced
from promptlab.prompt import shown
from promptlab.runners import run
from promptlab.strategies import zero_shot
from promptlab.task import exact
from promptlab.types import Backend, Example, Usage

needs("gepa")

import gepa  # noqa: E402
from gepa.core.adapter import EvaluationBatch  # noqa: E402

INSTRUCTION = "instruction"  # GEPA's component of a program with one prompt
MINIBATCH = 3  # GEPA's own
LONGEST = 2_000  # characters of a text that is shown to the proposer; GEPA itself cuts nothing


class PromptlabAdapter:
    """GEPA's adapter over a program of ours: `solve(question, prompt)` on a backend, worth `score(value, target)`.

    Its examples are Items: `numbered(examples)`. A candidate's components are the instructions of the prompts, by their
    names. What was asked before is not asked again, in a run that is taken up from GEPA's `run_dir` too. A request that
    fails scores 0, and its trace says that it failed; where a budget is spent all the rest do, and `over` says so: pass
    `stop` among GEPA's stop_callbacks.
    """

    propose_new_texts = None  # GEPA's own proposer; without this attribute all of its reflections fail, in silence

    def __init__(self, prompt: Prompts, backend: Backend, score: Score = exact, solve: Solve = zero_shot) -> None:
        self.seed, self.backend = Candidate(prompt), backend
        self.table, self.over = Table(solve, score), ""

    @property
    def seed_candidate(self) -> dict[str, str]:
        """What GEPA begins with."""
        return {slot or INSTRUCTION: prompt.instruction for slot, prompt in self.seed.by_slot.items()}

    def stop(self, state: Any) -> bool:
        return bool(self.over)

    def evaluate(self, batch: Sequence[Item], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """The outcomes of a batch. GEPA is told how many of them were asked now."""
        tried = saying(self.seed, candidate)
        unfit = self.unfit(tried)
        wanted = self.table.missing([tried], batch)
        try:
            if not self.over and unfit is None:
                self.fill(tried, batch)
        except (Over, BudgetExceeded) as error:
            self.over = str(error)
        none = Outcome(0.0, why=unfit or self.over, failed=unfit is None)
        outcomes = [next(iter(self.table.outcomes(tried, item)), none) for item in batch]
        return EvaluationBatch(
            outputs=[outcome.said for outcome in outcomes],
            scores=[outcome.score for outcome in outcomes],
            trajectories=list(zip(batch, outcomes, strict=True)) if capture_traces else None,
            num_metric_calls=len(wanted) if unfit is None else 0,
        )

    def unfit(self, candidate: Candidate) -> str | None:
        """Why a candidate is not to be tried; it scores 0, and nothing is asked. None: it is tried."""
        return None

    def fill(self, candidate: Candidate, items: Sequence[Item]) -> None:
        """Asks what is not in the table yet."""
        wanted = self.table.missing([candidate], items)
        run(self.table.fill(wanted, lambda calls: None, keep_steps=True), self.backend)  # the backend holds the budget

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """What the proposer is shown of each answer: what was asked by that prompt, what was said, and what of it."""
        pairs: list[tuple[Item, Outcome]] = eval_batch.trajectories
        return {
            name: [record for item, outcome in pairs for record in records(item, outcome, name)]
            for name in components_to_update
        }

    def get_adapter_state(self) -> dict[str, Any]:
        """The table, so that a run that is taken up again pays for nothing twice."""
        return {"rows": [[*key, *row_of(outcome)] for key, outcome in self.table.rows.items()]}

    def set_adapter_state(self, state: Mapping[str, Any]) -> None:
        for key, number, repeat, *row in state.get("rows", ()):
            score, said, feedback, why, failed = row
            self.table.rows[key, number, repeat] = Outcome(score, said, said, feedback, why, failed)


class Searching(PromptlabAdapter):
    """The adapter of a Search, which holds the budget, and the limits of what an instruction may be."""

    def __init__(self, search: Search, backend: Backend) -> None:
        self.search, self.seed, self.backend = search, search.seed, backend
        self.table, self.over = search.table, ""
        self.refused: dict[str, str] = {}

    def unfit(self, candidate: Candidate) -> str | None:
        """As for every proposal: nothing empty, too long or forbidden, in another script, or copied from an example."""
        if candidate.key in self.search.known or candidate.key in self.refused:
            return self.refused.get(candidate.key)
        for slot, prompt in candidate.by_slot.items():
            if prompt.instruction != self.seed.slot(slot).instruction:
                why = wrong_with(prompt.instruction, Wish("", self.seed, "gepa", slot, changes=False), self.search)
                if why is not None:
                    self.search.reject(why)
                    self.search.note("rejected", op="gepa", why=why, said=prompt.instruction[:500])
                    return self.refused.setdefault(candidate.key, why)
        return None

    def fill(self, candidate: Candidate, items: Sequence[Item]) -> None:
        if candidate.key not in self.search.known:
            self.search.add([candidate])
        run(self.search.score([candidate], items), self.backend)


class Reflection:
    """A Search's proposer as GEPA's reflection_lm, with what it has cost: GEPA reads `total_cost`.

    GEPA takes an error of it for a proposal that failed, and goes on; so a spent budget is noted in the adapter.
    """

    def __init__(self, adapter: Searching) -> None:
        self.adapter, self.usage = adapter, Usage(cost_usd=0.0)

    @property
    def total_cost(self) -> float:
        return self.usage.cost_usd or 0.0

    def __call__(self, prompt: str | Sequence[Mapping[str, Any]]) -> str:
        if not isinstance(prompt, str):
            prompt = "\n\n".join(str(message["content"]) for message in prompt)
        asked = traced(self.adapter.search.ask([prompt], "reflected"))
        try:
            [text], exchanges = run(asked, self.adapter.backend)
        except Over as over:
            self.adapter.over = str(over)
            raise
        replies = (e.reply if not isinstance(e.reply, ModelError) else e.reply.reply for e in exchanges)
        self.usage = sum((reply.usage for reply in replies if reply is not None), self.usage)
        if text is None:
            raise ModelError("the proposer did not answer")
        return text


class Paired:
    """Our paired test as GEPA's acceptance_criterion, in the place of "a larger sum on three examples".

    Differs from the test that a Search ends with: each proposal has a test of its own, so at `alpha` this share of the
    proposals that are no better passes. Raises SetupError for a minibatch on which nothing could ever pass: scores
    that are 0 or 1, not `graded`, take fewer examples.
    """

    def __init__(self, minibatch: int, alpha: float = 0.1, test: Test = "exact", *, graded: bool = True) -> None:
        if not 0 < alpha < 1:
            raise SetupError(f"alpha lies between 0 and 1; got {alpha!r}.")
        if minibatch < (least := fewest(alpha, test, graded=graded)):
            raise SetupError(
                f"On {minibatch} examples nothing can be shown at alpha = {alpha:g}, though all of them were won: give "
                f"GEPA reflection_minibatch_size={least} or more."
            )
        self.alpha, self.test = alpha, test

    def should_accept(self, proposal: Any, state: Any) -> bool:
        before, after = proposal.subsample_scores_before or [], proposal.subsample_scores_after or []
        return verdict([b - a for a, b in zip(before, after, strict=True)], self.alpha, self.test).accepted


def optimize_with_gepa(
    prompt: Prompts,
    examples: Sequence[Example],
    score: Score = exact,
    *,
    model: Backend,
    proposer: Backend | None = None,
    calls: int = 2_000,
    solve: Solve = zero_shot,
    seed: int = 0,
    paired: float | None = None,
    options: Mapping[str, Any] | None = None,
    **terms: Any,
) -> Any:
    """A prompt that GEPA's own engine finds, as our optimisers give it: a Tuned, with `found`.

    GEPA gets the examples that proposers may read as its trainset and those that prompts are raced on as its valset;
    what it returns must beat `prompt` on the rest, as everywhere, and what may not be tried is not. `calls` are all
    calls, the proposer's among them, and are never exceeded (GEPA's own max_metric_calls is). With `paired` a proposal
    is accepted by a paired test at that alpha, on minibatches as large as that needs. `options` are those of
    gepa.optimize, `terms` those of a Search.
    """
    backend = Routed(model, proposer=proposer or model)
    given = dict(options or {})
    if given.get("max_reflection_cost") is not None and usd_of(proposer or model, Usage()) is None:
        raise SetupError(
            f"The price of {name_of(proposer or model)} is not known, so max_reflection_cost means nothing."
        )
    search = Search("gepa", prompt, examples, score, solve=solve, calls=calls, seed=seed, **terms)
    try:
        run(search.opening(), backend)
    except (Over, BudgetExceeded) as over:
        return as_it_is(search, str(over))
    adapter = Searching(search, backend)
    if paired is None:
        given.setdefault("reflection_minibatch_size", MINIBATCH)
    else:
        graded = score not in BINARY
        minibatch = given.setdefault("reflection_minibatch_size", max(MINIBATCH, fewest(paired, graded=graded)))
        given["acceptance_criterion"] = Paired(minibatch, paired, graded=graded)
    result = gepa.optimize(
        seed_candidate=adapter.seed_candidate,
        trainset=list(search.sections.feed),
        valset=list(search.sections.race),
        adapter=adapter,
        reflection_lm=Reflection(adapter),
        stop_callbacks=[adapter.stop, *given.pop("stop_callbacks", ())],
        seed=seed,
        **{"logger": Quiet(), "display_progress_bar": False, **given},
    )
    best: Program[Any] = conclude(search, saying(search.seed, result.best_candidate))
    try:
        return run(best, backend)
    except (Over, BudgetExceeded) as spent:
        return as_it_is(search, f"the budget was spent before the search was done: {spent}")


class Quiet:
    """GEPA's logger, which says nothing: a Search's events tell more."""

    def log(self, message: str) -> None:
        """Nothing."""


def prompt_from_gepa(result: Any, prompt: Prompts) -> Prompts:
    """The best candidate of a GEPAResult, or of one saved by json.dump(result.to_dict()), as `prompt` saying that.

    Raises DataError for a file that is none, and for components that `prompt` has not. GEPA's own `run_dir` holds a
    pickle, which is not read.
    """
    if isinstance(result, str | Path):
        try:
            result = gepa.GEPAResult.from_dict(json.loads(Path(result).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{result} cannot be read as a result of GEPA: {error!r}.") from error
    return saying(Candidate(prompt), result.best_candidate).prompts


def numbered(examples: Sequence[Example]) -> list[Item]:
    """Examples as a PromptlabAdapter takes them."""
    return [Item(i, example) for i, example in enumerate(examples)]


def saying(seed: Candidate, texts: Mapping[str, str]) -> Candidate:
    """A candidate with GEPA's texts in the places of its instructions."""
    slots = {slot or INSTRUCTION: slot for slot in seed.slots}
    if unknown := texts.keys() - slots.keys():
        raise DataError(f"There is no prompt for {', '.join(sorted(unknown))}; there are {', '.join(slots)}.")
    found = seed
    for name, text in texts.items():
        if text != found.slot(slots[name]).instruction:
            found = found.saying(text, "gepa", slots[name], [seed])
    return found if found.key == seed.key else replace(found, parents=(seed.key,))


def records(item: Item, outcome: Outcome, component: str) -> list[dict[str, Any]]:
    """What GEPA's proposer reads of an answer: each step of it that the component was asked in."""
    slot = ONLY if component == INSTRUCTION else component
    steps = [(s.asked, s.said) for s in outcome.steps if s.slot == slot]
    right = as_text(item.example.target)
    verdict = "This is right." if outcome.score >= 1 else f"This is wrong: the answer is {right!r}."
    feedback = " ".join(part for part in (verdict, outcome.feedback, outcome.why or "") if part)
    steps = steps or [(shown(item.example.input), outcome.said)]
    return [
        {"Inputs": asked[:LONGEST], "Generated Outputs": said[:LONGEST], "Feedback": feedback[:LONGEST]}
        for asked, said in steps
    ]


def row_of(outcome: Outcome) -> list[Any]:
    return [outcome.score, outcome.said, outcome.feedback, outcome.why, outcome.failed]
