"""DSPy's optimisers with our examples, score and ledger: as a function that gives a prompt, and as a learner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from threading import Lock
from typing import Any, ClassVar, TypeAlias

import dspy
from dspy.utils.exceptions import AdapterParseError

from promptlab.errors import ModelError, SetupError, reason
from promptlab.interop.asking import Asking
from promptlab.interop.dspy.engine import Spent, lm, spending
from promptlab.interop.dspy.prompts import ANSWER, QUESTION, module_from, prompt_from_dspy
from promptlab.learners.solver import Family, Solver
from promptlab.options import name_of
from promptlab.program import ask
from promptlab.prompt import Prompt
from promptlab.runners import check_backend
from promptlab.task import Task, exact
from promptlab.types import Answer, Backend, Example, Reply, Request, Usage

Teleprompter: TypeAlias = Any
MakeOptimizer: TypeAlias = Callable[..., Teleprompter]  # (metric, lm) -> an optimiser of DSPy
TOO_MANY = 0.2  # of the answers that could not be scored: nothing can be believed of the search then
NO_LIMIT = 10**9  # errors: DSPy stops at ten, and forgets what it has found


class Unscored(Exception):
    """A score that could not be taken: a failure to DSPy, which is counted here, and no score of 0."""


class Metric:
    """A score of ours as DSPy's metric, for all of its optimisers. `scored` and `failures` are counted.

    Where DSPy looks for answers to make demonstrations or training data of (it then gives a trace), only a score of
    `threshold` counts, so that no half right answer becomes an example to follow. GEPA gets what the score says beside
    its number. An error in the score is raised as Unscored: DSPy makes 0 of it, `failures` say how often and why.
    """

    def __init__(self, score: Callable[[Any, Any], Any] = exact, answer: str = ANSWER, threshold: float = 1.0) -> None:
        self.score, self.answer, self.threshold = score, answer, threshold
        self.scored, self.failures = 0, Counter[str]()
        self._lock = Lock()  # DSPy scores in several threads
        self.__name__ = getattr(score, "__name__", "score")

    def __deepcopy__(self, memo: Any) -> Metric:
        return self  # what DSPy copies counts here

    def __call__(
        self, example: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
    ) -> Any:
        if prediction is None:  # SIMBA's way to say that the program failed, which is counted where it did
            raise Unscored("there is no answer to score")
        try:
            given = self.score(getattr(prediction, self.answer), example[self.answer])
            score, feedback = given if isinstance(given, tuple) else (given, "")
            if not 0 <= float(score) <= 1:
                raise SetupError(f"a score is a number from 0 to 1, got {score!r}")
        except Exception as error:
            with self._lock:
                self.failures[reason(error)] += 1
            raise Unscored(reason(error)) from error
        with self._lock:
            self.scored += 1
        if pred_name is not None:
            told = feedback or f"The score is {float(score):g}; the answer is {example[self.answer]!r}."
            return dspy.Prediction(score=float(score), feedback=str(told))
        return float(score) if trace is None else float(score) >= self.threshold


@dataclass(frozen=True)
class Searched:
    """What a DSPy optimiser found with our ledger looking on.

    `program` is the DSPy program, `prompt` what it asks (several by their names, where it has several predictors), as
    promptlab renders it. `calls` are all calls that reached the model, `proposals` those to the proposer among them;
    `usage` is what they took. `failed` counts requests and scores that failed, by the reason: DSPy took each for 0.
    """

    program: Any
    prompt: Any
    why: str
    calls: int
    proposals: int
    usage: Usage
    failed: Mapping[str, int]


def optimize_with_dspy(
    make: MakeOptimizer,
    prompt: Prompt,
    examples: Sequence[Example],
    score: Callable[[Any, Any], Any] = exact,
    *,
    model: Backend,
    proposer: Backend | None = None,
    program: Any = None,
    validation: Sequence[Example] = (),
    fields: tuple[str, str] = (QUESTION, ANSWER),
    adapter: Any = None,
    threads: int = 1,
    **compiling: Any,
) -> Searched:
    """A prompt that an optimiser of DSPy finds: `optimize_with_dspy(dspy_optimizer, prompt, examples, model=model)`.

    `make(metric, lm)` makes the optimiser, where `lm` is the proposer (`model` itself if there is none):
    `lambda metric, lm: dspy.MIPROv2(metric, prompt_model=lm)`. The program is a predictor of `prompt`, or the one
    given, with inputs and answer in `fields`; `adapter` is what words it, `PromptAdapter(prompt)` in promptlab's own
    words. `validation` becomes the optimiser's valset, `compiling` are further arguments of its `compile`. A program,
    as optimisers of ours are, it cannot be: DSPy asks in threads of its own. So this runs to its end, and `model` holds
    the budget and the cache: model("…", budget=…). Where the budget ends first every later answer fails, which costs
    nothing, and DSPy goes through with what it has.

    Nothing is proved by what it returns: what DSPy accepts by is the mean on the examples it was searched with. Raises
    SetupError where the score itself failed so often that nothing can be concluded.
    """
    metric, asking = Metric(score, fields[1]), Asking(model)
    asked, proposed = lm(asking), lm(proposer or asking)  # the proposer's calls are counted by themselves
    student = module_from(prompt, *fields) if program is None else program
    if validation:
        compiling["valset"] = [example_from(each, fields) for each in validation]
    context, spent = spending(lm=asked, adapter=adapter, num_threads=threads, max_errors=NO_LIMIT)
    with context:
        optimizer = make(metric, proposed)
        try:
            found = optimizer.compile(student, trainset=[example_from(e, fields) for e in examples], **compiling)
            why = "as DSPy found it"
        except Exception as error:
            if not (spent.failed or isinstance(error, AdapterParseError)):
                raise
            found, why = student, f"as it was given, for DSPy gave up: {reason(error)}"
    refuse_unscored(metric)
    failed = Counter(type(each).__name__ for each in spent.failed) + metric.failures
    found_prompt = prompt_from_dspy(found, prompt, answer=fields[1])
    return Searched(found, found_prompt, why, spent.calls(), spent.calls(proposed.engine), spent.usage, dict(failed))


def refuse_unscored(metric: Metric) -> None:
    """Raises SetupError where the score failed on too many answers."""
    failed = sum(metric.failures.values())
    if failed > TOO_MANY * (failed + metric.scored):
        [(why, n), *_] = metric.failures.most_common(1)
        raise SetupError(f"The score failed on {failed} of {failed + metric.scored} answers; {n} times: {why}")


def example_from(example: Example, fields: tuple[str, str]) -> Any:
    question, answer = fields
    return dspy.Example({question: example.input, answer: example.target}).with_inputs(question)


@dataclass(frozen=True)
class DSPyLearner:
    """See `dspy_learner`."""

    base: Backend
    make_program: Callable[[Task], Any]
    make_optimizer: MakeOptimizer | None = None
    proposer: Backend | None = None
    fields: tuple[str, str] = (QUESTION, ANSWER)
    adapter: Any = None
    compiling: Mapping[str, Any] = field(default_factory=dict)
    family: ClassVar[Family] = "prompting"
    needs_labels: ClassVar[bool] = False
    draws_without_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_backend(self.base, "dspy_learner")

    @property
    def description(self) -> str:
        return "a DSPy program" + ("" if self.make_optimizer is None else ", optimised by DSPy with the examples")

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        program, notes = self.make_program(task), ()
        if (make := self.make_optimizer) is not None and examples:
            found = optimize_with_dspy(
                partial(make, seed=seed) if "seed" in signature(make).parameters else make,
                task.prompt,
                examples,
                task.score,
                model=self.base,
                proposer=self.proposer,
                program=program,
                fields=self.fields,
                adapter=self.adapter,
                **self.compiling,
            )
            program, failed = found.program, sum(found.failed.values())
            notes = (f"DSPy asked {found.calls} times to learn, {failed} failed; {found.why}",)  # type: ignore[assignment]

        async def answer(question: str) -> Answer:
            reply = await ask(question)
            if reply.opaque is not None:
                return Answer(None, reply.text, reply.opaque["why"])
            return task.prompt.parse(reply.text)

        return Solver(answer, Programmed(self.base, program, self.fields, self.adapter), notes=notes)


class Programmed:
    """A backend whose reply to a question is a DSPy program's answer, and whose usage is all that the program took."""

    batched = False

    def __init__(
        self, base: Any, program: Any, fields: tuple[str, str] = (QUESTION, ANSWER), adapter: Any = None
    ) -> None:
        self.base, self.program, self.fields, self.adapter, self.lm = base, program, fields, adapter, lm(base)
        self.batched, self.local = base.batched, getattr(base, "local", False)

    def __repr__(self) -> str:
        return f"a DSPy program on {name_of(self.base)}"

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [self._answered(request.messages[-1].content) for request in requests]

    def _answered(self, question: str) -> Reply | ModelError:
        context, spent = spending(lm=self.lm, adapter=self.adapter)
        try:
            with context:
                said = self.program(**{self.fields[0]: question})[self.fields[1]]
        except AdapterParseError as error:  # what the model wrote is no error
            text = str(getattr(error, "lm_response", ""))
            return Reply(text, usage=spent.usage, opaque={"why": "DSPy could not read the reply"})
        except Exception as error:
            return failure(error, spent)
        return Reply(as_said(said), usage=spent.usage)


def failure(error: Exception, spent: Spent) -> ModelError:
    """Why a program ended without an answer: our own error, if that was it."""
    if spent.failed and isinstance(error, dspy.LMError):
        return spent.failed[-1]
    return ModelError(f"the DSPy program failed: {reason(error)}", reply=Reply(usage=spent.usage))


def as_said(value: Any) -> str:
    """An answer as a model would say it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.model_dump_json(by_alias=True) if hasattr(value, "model_dump_json") else str(value)


def dspy_learner(
    base: Backend,
    make_program: Callable[[Task], Any],
    make_optimizer: MakeOptimizer | None = None,
    *,
    proposer: Backend | None = None,
    fields: tuple[str, str] = (QUESTION, ANSWER),
    adapter: Any = None,
    **compiling: Any,
) -> DSPyLearner:
    """A learner of a DSPy program, for `compare`: `make_program(task)` makes it, as `lambda task: MyModule()`.

    With `make_optimizer(metric, lm)`, or `make_optimizer(metric, lm, seed)` for one that draws at random, an optimiser
    of DSPy compiles it with the examples first: `optimize_with_dspy`.
    Each question runs the program; a row's tokens are all that it took, and the answer is read by the task's prompt. A
    reply that DSPy cannot read is no answer, with that reason; a request that fails is a failure, as everywhere.
    """
    return DSPyLearner(base, make_program, make_optimizer, proposer, fields, adapter, compiling)
