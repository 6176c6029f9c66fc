"""DSPy itself on our backends: its programs, its optimisers, its cache, its retries, and our ledger under all of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

import pytest

dspy = pytest.importorskip("dspy", reason="dspy is not installed: make test-interop")

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import PROMPT, examples, simulated

from promptlab import Answer, Example, Prompt, Task, compare, model, run
from promptlab.backends.wrappers import Budget, Budgeted, Cached, Retrying
from promptlab.errors import (
    BudgetExceeded,
    ContextOverflow,
    DataError,
    Malformed,
    ModelError,
    Refused,
    SetupError,
    Truncated,
    Unavailable,
)
from promptlab.interop.dspy import (
    Metric,
    PromptAdapter,
    dspy_learner,
    lm,
    module_from,
    optimize_with_dspy,
    prompt_from_dspy,
    sft_on,
)
from promptlab.testing import FakeServer, Fault, Script
from promptlab.types import Message, Reply, Token, ToolCall, Usage

lm15 = dspy.lm15
OPTIMIZERS = {
    "LabeledFewShot": lambda metric, lm: dspy.LabeledFewShot(k=4),
    "BootstrapFewShot": lambda metric, lm: dspy.BootstrapFewShot(metric),
    "RandomSearch": lambda metric, lm: dspy.BootstrapFewShotWithRandomSearch(metric, num_candidate_programs=2),
    "COPRO": lambda metric, lm: dspy.COPRO(prompt_model=lm, metric=metric, breadth=4, depth=2),
    "MIPROv2": lambda metric, lm: dspy.MIPROv2(metric, prompt_model=lm, auto="light"),
    "SIMBA": lambda metric, lm: dspy.SIMBA(metric=metric, bsize=8, max_steps=2, num_candidates=3),
    "GEPA": lambda metric, lm: dspy.GEPA(metric, reflection_lm=lm, max_metric_calls=150),
}


class Known(Script):
    """A script that tells who it is."""

    def __init__(self, replies: Any, who: str = "a", **options: Any) -> None:
        super().__init__(replies, **options)
        self.identity = {"name": who}


def texts(asked: Any, *calls: dict[str, Any]) -> list[Any]:
    return [answer for call in calls for answer in asked("q", **call)]


# Programs and the engine


@pytest.mark.parametrize("batched", [True, False])
def test_a_program_runs_on_any_backend_and_reports_what_it_took(batched: bool) -> None:
    script = Script(simulated, batched=batched)
    with dspy.context(lm=lm(script)), dspy.track_usage() as usage:
        assert module_from(PROMPT)(question="item 3").answer in PROMPT.labels
    [took] = usage.get_total_tokens().values()
    asked = len(script.requests[0].messages[-1].content)
    assert (took["prompt_tokens"], took["completion_tokens"], took["total_tokens"]) == (asked, 5, asked + 5)
    assert [message.role for message in script.requests[0].messages] == ["system", "user"]


def test_programs_run_in_a_running_event_loop_too() -> None:
    script = Script(simulated, batched=False)
    predict = module_from(PROMPT)

    async def several() -> list[Any]:
        with dspy.context(lm=lm(script)):
            return await asyncio.gather(*(predict.acall(question=f"item {i}") for i in range(8)))

    assert len(asyncio.run(several())) == len(script.requests) == 8
    assert len(asyncio.run(several())) == 8  # and in the next one


def test_an_engine_in_this_process_is_asked_by_one_thread_at_a_time() -> None:
    inside, most = 0, 0

    def slow(request: Any) -> Reply:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1
        return simulated(request)

    script = Script(slow)
    script._lock = threading.RLock()  # a script keeps order by itself; here that is the engine's part
    script.generate = lambda requests: [slow(request) for request in requests]  # type: ignore[method-assign]
    devset = [dspy.Example(question=e.input, answer=e.target).with_inputs("question") for e in examples(24)]
    with dspy.context(lm=lm(script)):
        dspy.Evaluate(devset=devset, metric=Metric(), num_threads=8)(module_from(PROMPT))
    assert most == 1


def test_a_hosted_model_is_asked_from_many_threads_through_its_cache_and_budget(tmp_path: Any) -> None:
    faults = [None, Fault.status(429, retry_after="0"), Fault.status(503)]
    devset = [dspy.Example(question=e.input, answer=e.target).with_inputs("question") for e in examples(20)]
    with FakeServer(simulated, faults=faults) as server:
        scores = []
        for _ in range(2):  # the second time all is in the cache
            budget = Budget(calls=22)
            base = model(f"openai:m@{server.url}/v1", key="none", cache=tmp_path / "cache", budget=budget)
            with dspy.context(lm=lm(base)):
                scores.append(dspy.Evaluate(devset=devset, metric=Metric(), num_threads=8)(module_from(PROMPT)).score)
        assert scores[0] == scores[1] > 0
        assert len(server.received) == 22
        assert budget.spent.calls == 0


def test_models_have_names_by_all_that_can_change_an_answer() -> None:
    a, same, other = (lm(Known([], who)).model for who in ("a", "a", "b"))
    assert a == same != other
    assert a.startswith("promptlab/")
    assert lm(Script([])).model != lm(Script([])).model  # one that does not say who it is is like no other


def test_the_cache_of_dspy_mixes_no_models() -> None:
    one, other = Known(lambda r: "one", "one"), Known(lambda r: "other", "other")
    assert texts(lm(one, cache=True), {}, {}) == ["one", "one"]
    assert texts(lm(other, cache=True), {}) == ["other"]
    assert len(one.requests) == 1


def test_rollouts_and_several_answers_are_branches_unless_nothing_is_sampled() -> None:
    script = Script(lambda r: repr(r.branch))
    sampled = {"temperature": 1.0}
    model = lm(script)
    rollouts = texts(model, *({**sampled, "rollout_id": i} for i in (1, 2, 1)))
    assert rollouts[0] == rollouts[2] != rollouts[1]
    assert len(set(model("q", n=3, **sampled))) == 3
    assert len(set(model.copy(rollout_id=7, temperature=1.0)("q", n=2)) - set(rollouts)) == 2
    with pytest.warns(UserWarning, match="rollout_id has no effect"):
        assert len(set(texts(model, *({"temperature": 0.0, "rollout_id": i} for i in (1, 2))))) == 1


def test_what_our_cache_holds_is_not_asked_again_and_each_rollout_is_an_entry(tmp_path: Any) -> None:
    script = Known(lambda r: repr(r.branch), batched=False)
    for _ in range(2):
        texts(lm(Cached(script, tmp_path / "cache")), {}, {}, *({"temperature": 1.0, "rollout_id": i} for i in (1, 2)))
    assert len(script.requests) == 3


@pytest.mark.parametrize(
    ("error", "theirs", "asked"),
    [
        (Unavailable("busy", status=429, retry_after_s=0.01), "LMRateLimitError", 2),
        (Unavailable("down", status=503, retry_after_s=0.01), "LMServerError", 2),
        (Unavailable("late", status=504, retry_after_s=0.01), "LMTimeoutError", 2),
        (Unavailable("cut off", retry_after_s=0.01), "LMTransportError", 2),
        (ContextOverflow("too long"), "ContextWindowExceededError", 1),
        (BudgetExceeded("spent"), "LMBillingError", 1),
        (Refused("no"), "LMInvalidRequestError", 1),
        (Malformed("torn"), "LMProviderError", 1),
        (ModelError("other"), "LMProviderError", 1),
    ],
)
def test_dspy_asks_again_what_is_unavailable_and_nothing_else(error: ModelError, theirs: str, asked: int) -> None:
    script = Script(lambda r: error)
    with pytest.raises(Exception, match=str(error)) as raised:
        lm(script, num_retries=1)("q")
    assert type(raised.value).__name__ == theirs
    assert len(script.requests) == asked


def test_only_one_of_the_two_asks_again() -> None:
    assert lm(Script([])).num_retries == 3
    assert lm(Budgeted(Retrying(Script([], batched=False)), Budget())).num_retries == 0


def test_what_was_cut_off_is_read_as_such() -> None:
    cut = Truncated("at its end", reply=Reply("half", finish="length"))
    model = lm(Script(lambda r: cut))
    response = model(lm15.Request(model.model, (lm15.Message.user("q"),)))
    assert (response.text, response.finish_reason) == ("half", "length")


def test_tools_go_there_and_back() -> None:
    script = Script([Reply("", (ToolCall("1", "look", {"for": "x"}),), finish="calls"), Reply("found")])
    model = lm(script)
    tool = lm15.FunctionTool("look", "Look it up.", {"type": "object", "properties": {"for": {"type": "string"}}})
    asked = lm15.Request(model.model, (lm15.Message.user("q"),), tools=(tool,))
    first = model(asked)
    assert [(call.name, call.input) for call in first.tool_calls] == [("look", {"for": "x"})]
    chat = (*asked.messages, first.message, lm15.Message.tool("1", "here"))
    assert model(lm15.Request(model.model, chat, system="s", tools=(tool,))).text == "found"
    [one, two] = script.requests
    assert [spec.name for spec in one.tools] == ["look"]
    assert two.messages == (
        Message("system", "s"),
        Message("user", "q"),
        Message("assistant", "", (ToolCall("1", "look", {"for": "x"}),)),
        Message("tool", "here", call_id="1"),
    )


def test_a_schema_and_options_arrive_as_ours() -> None:
    script = Script(lambda r: '{"answer": "yes"}')
    with dspy.context(lm=lm(script, temperature=0.5, max_tokens=9, seed=4, stop=["x"]), adapter=dspy.JSONAdapter()):
        assert module_from(PROMPT)(question="q").answer == "yes"
    [request] = script.requests
    assert request.schema is not None
    assert list(request.schema["properties"]) == ["answer"]
    assert (request.temperature, request.max_tokens, request.seed, request.stop) == (0.5, 9, 4, ("x",))


def test_log_probabilities_are_those_of_what_was_written() -> None:
    script = Script(lambda r: Reply("a", tokens=(Token("a", -0.5),)))
    [answer] = lm(script, logprobs=True)("q")
    assert answer["logprobs"]["content"][0]["logprob"] == -0.5
    assert script.requests[0].logprobs


@pytest.mark.parametrize("option", [{"top_k": 3}, {"presence_penalty": 0.5}, {"logprobs": True, "top_logprobs": 2}])
def test_what_a_request_has_no_word_for_is_refused_before_it_is_asked(option: dict[str, Any]) -> None:
    script = Script(lambda r: "a")
    with pytest.raises(dspy.LMUnsupportedFeatureError):
        lm(script, **option)("q")
    assert not script.requests


# Optimisers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_runs_and_all_that_it_asks_is_counted(name: str) -> None:
    script, budget = Script(simulated), Budget()
    found = optimize_with_dspy(OPTIMIZERS[name], PROMPT, examples(40), model=Budgeted(script, budget))
    assert found.calls == len(script.requests) == budget.spent.calls
    assert found.usage.input_tokens + found.usage.output_tokens == budget.spent.tokens
    assert not found.failed
    assert found.prompt.output == PROMPT.output
    if name in ("COPRO", "MIPROv2", "GEPA"):
        assert 0 < found.proposals < found.calls


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_budget_is_never_exceeded_and_what_it_did_not_pay_for_is_told(name: str) -> None:
    script, budget = Script(simulated), Budget(calls=30)
    found = optimize_with_dspy(OPTIMIZERS[name], PROMPT, examples(40), model=Budgeted(script, budget))
    assert len(script.requests) == found.calls <= 30
    assert bool(found.failed) == (found.calls == 30)


def test_the_same_search_finds_the_same_and_asks_the_same() -> None:
    runs = [Script(simulated) for _ in range(2)]
    one, two = (optimize_with_dspy(OPTIMIZERS["GEPA"], PROMPT, examples(40), model=script) for script in runs)
    assert one.prompt == two.prompt
    assert runs[0].requests == runs[1].requests


def test_a_proposer_that_writes_junk_leaves_the_prompt_as_it_was() -> None:
    found = optimize_with_dspy(
        OPTIMIZERS["COPRO"], PROMPT, examples(20), model=Script(simulated), proposer=Script(lambda r: "???")
    )
    assert found.prompt == PROMPT
    assert "gave up" in found.why


def test_the_proposer_may_be_another_model() -> None:
    task, proposer = Script(simulated), Script(simulated)
    found = optimize_with_dspy(OPTIMIZERS["COPRO"], PROMPT, examples(20), model=task, proposer=proposer)
    assert (found.calls, found.proposals) == (len(task.requests) + len(proposer.requests), len(proposer.requests))
    assert found.prompt.instruction == "Say whether the hospital is open."


def test_an_error_in_the_score_is_no_zero() -> None:
    def broken(value: Any, target: Any) -> float:
        raise KeyError("gold")

    with pytest.raises(SetupError, match=r"failed on 6 of 6 answers.*gold"):
        optimize_with_dspy(
            lambda metric, lm: dspy.COPRO(prompt_model=lm, metric=metric, breadth=2, depth=1),
            PROMPT,
            examples(6)[:3],
            broken,
            model=Script(simulated),
        )


def test_half_right_answers_become_no_demonstrations() -> None:
    metric = Metric(lambda value, target: 0.5)
    example = dspy.Example(question="q", answer="yes").with_inputs("question")
    said = dspy.Prediction(answer="no")
    assert metric(example, said) == 0.5
    assert metric(example, said, trace=[]) is False
    assert metric(example, said, None, "p", None).feedback


def test_bootstrap_finetune_trains_and_asks_the_trained_model_behind_the_same_engine() -> None:
    learnt: list[list[Message]] = []

    def train(chats: list[list[Message]]) -> Script:
        learnt.extend(chats)
        return Known(lambda r: "no", "trained")

    script = Known(simulated, "first")
    model, adapter = lm(script, train=train), PromptAdapter(PROMPT)
    program = module_from(PROMPT)
    program.set_lm(model)
    trainset = [dspy.Example(question=e.input, answer=e.target).with_inputs("question") for e in examples(12)]
    with dspy.context(lm=model, adapter=adapter, num_threads=1):
        tuned = dspy.BootstrapFinetune(metric=Metric(), num_threads=1).compile(program, trainset=trainset)
        asked = len(script.requests)
        assert tuned(question="item 1").answer == "no"
    assert len(script.requests) == asked == 12
    assert 0 < len(learnt) <= 12
    assert {chat[-1].role for chat in learnt} == {"assistant"}
    assert {chat[-1].content for chat in learnt} <= {"yes", "no"}


def test_the_bundled_kind_of_model_is_trained_through_dspy(random_tiny: Any) -> None:
    adapter, model = PromptAdapter(PROMPT), lm(random_tiny, train=sft_on(random_tiny))
    program = module_from(PROMPT)
    program.set_lm(model)
    trainset = [dspy.Example(question=f"item {i}", answer="no").with_inputs("question") for i in range(4)]
    teacher = module_from(PROMPT)
    teacher.set_lm(lm(Script(lambda r: "no")))
    with dspy.context(lm=model, adapter=adapter, num_threads=1):
        tuned = dspy.BootstrapFinetune(metric=Metric(), num_threads=1).compile(
            program, trainset=trainset, teacher=teacher
        )
        assert tuned.predictors()[0].lm.model != model.model
        assert tuned(question="item 9").answer == "no"


# Words


def test_with_our_adapter_dspy_asks_what_promptlab_asks() -> None:
    prompt = PROMPT.with_shots([Example("item 8", "no")])
    script = Script(lambda r: "Yes.")
    with dspy.context(lm=lm(script), adapter=PromptAdapter(PROMPT)):
        assert module_from(prompt)(question="item 1").answer == "yes"
    assert list(script.requests[0].messages) == prompt.render("item 1")


def test_a_reply_that_says_no_answer_is_asked_for_once() -> None:
    script = Script(lambda r: "perhaps")
    with (
        dspy.context(lm=lm(script), adapter=PromptAdapter(PROMPT)),
        pytest.raises(dspy.utils.exceptions.AdapterParseError),
    ):
        module_from(PROMPT)(question="item 1")
    assert len(script.requests) == 1


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=40, deadline=None)
@given(WORDS.map(str.strip), st.lists(st.tuples(WORDS, st.sampled_from(["yes", "no"])), max_size=3))
def test_a_prompt_comes_back_from_dspys_file_as_it_went(
    tmp_path_factory: Any, instruction: str, shots: list[tuple[str, str]]
) -> None:
    prompt = Prompt(instruction, Literal["yes", "no"], tuple(Example(i, t) for i, t in shots))
    path = tmp_path_factory.mktemp("saved") / "program.json"
    program = module_from(prompt)
    program.save(path)
    assert prompt_from_dspy(program, PROMPT) == prompt
    assert prompt_from_dspy(path, PROMPT) == prompt


def test_reasoning_comes_before_the_answer_and_several_predictors_have_names(tmp_path: Any) -> None:
    class Two(dspy.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.then = dspy.Predict("text, place -> note"), dspy.ChainOfThought("note -> answer")

    program = Two()
    program.first.demos = [dspy.Example(text="t", place="p", note="n", augmented=True)]
    program.then.predict.demos = [dspy.Example(note="n", reasoning="since n", answer="yes")]
    program.save(tmp_path / "two.json")
    for found in (prompt_from_dspy(program), prompt_from_dspy(tmp_path / "two.json")):
        assert isinstance(found, dict)
        assert list(found) == ["first", "then.predict"]
        assert found["first"].shots == (Example("text: t\nplace: p", "n"),)
        assert found["then.predict"].shots == (Example("n", "since n\nThe answer is yes."),)


@pytest.mark.parametrize(("name", "text"), [("a.pkl", "\x80"), ("a.json", "[]"), ("b.json", "{}"), ("c.json", "{")])
def test_a_file_that_is_no_program_of_dspy_is_refused(tmp_path: Any, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):
        prompt_from_dspy(tmp_path / name)


# Studies


@dataclass
class Study:
    cells: dict[str, Any]

    def point(self, arm: str, labels: int) -> Any:
        [found] = [p for p in self.cells["points"] if p["arm"] == arm and p["labels"] == labels]
        return found


@pytest.mark.parametrize("batched", [True, False])
def test_a_dspy_program_is_an_arm_of_a_study_with_all_that_it_took(tmp_path: Any, batched: bool) -> None:
    def replies(request: Any) -> Reply | ModelError:
        asked = request.messages[-1].content
        if "item 59\n" in f"{asked}\n":
            return Refused("not this one")
        if "item 58\n" in f"{asked}\n":
            return Reply("perhaps", usage=Usage(1000, 0, 0))
        return Reply(simulated(request).text, usage=Usage(10, 0, 2))

    script = Script(replies, batched=batched)
    task = Task("open", PROMPT, tuple(examples(60)[:40]), tuple(examples(60)[40:]))
    arms = {
        "program": dspy_learner(script, lambda task: module_from(task.prompt), adapter=PromptAdapter(PROMPT)),
        "compiled": dspy_learner(
            script, lambda task: module_from(task.prompt), OPTIMIZERS["BootstrapFewShot"], adapter=PromptAdapter(PROMPT)
        ),
    }
    study = Study(compare(arms, task, [0, 8], seeds=[0], out=tmp_path / "run"))
    program = study.point("program", 0)
    assert program["failed"] == program["no_answer"] / 2 == 1 / 20
    assert program["input_tokens"] == pytest.approx((18 * 10 + 1000) / 20)
    assert "DSPy asked" in study.point("compiled", 8)["notes"][0]
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    assert any("declined" in str(row) or "Refused" in str(row.get("error")) for row in rows)


def test_a_program_that_breaks_costs_its_own_answers_only() -> None:
    class Broken(dspy.Module):  # type: ignore[misc,name-defined]
        def forward(self, question: str) -> Any:
            raise RuntimeError("not today")

    learner = dspy_learner(Script(simulated), lambda task: Broken())
    task = Task("open", PROMPT, (), tuple(examples(4)))
    solver = learner(task, (), 0)
    [result] = run([solver.program("item 1")], solver.backend)
    assert isinstance(result, ModelError)
    assert "not today" in str(result)
    assert not isinstance(result, Answer)
