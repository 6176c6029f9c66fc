"""GEPA's own engine on our programs: what it reads, what it spends, and what of it is believed."""

from __future__ import annotations

import json
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

gepa = pytest.importorskip("gepa", reason="gepa is not installed: make test-interop")

from simulated import PROMPT, examples, simulated

from promptlab import Prompt
from promptlab.errors import DataError, ModelError, Refused, SetupError
from promptlab.interop.gepa import Paired, PromptlabAdapter, numbered, optimize_with_gepa, prompt_from_gepa
from promptlab.program import ask
from promptlab.testing import Script
from promptlab.types import Reply, Request

BEST = "Say whether the hospital is open."


@pytest.mark.parametrize("paired", [None, 0.2])
def test_it_finds_the_better_prompt_and_never_asks_once_more_than_it_may(paired: float | None) -> None:
    script = Script(simulated)
    found = optimize_with_gepa(PROMPT, examples(240), model=script, calls=900, paired=paired)
    assert found.instruction == BEST
    assert found.found.accepted
    assert found.found.calls == len(script.requests) <= 900
    assert found.found.proposals > 0


def test_a_budget_that_ends_in_the_middle_leaves_the_last_comparison_its_part() -> None:
    script = Script(simulated)
    found = optimize_with_gepa(PROMPT, examples(240), model=script, calls=260)
    assert len(script.requests) <= 260
    assert found.found.verdict is None or found.found.verdict.n >= 10


def test_the_same_search_finds_the_same() -> None:
    runs = [Script(simulated) for _ in range(2)]
    one, two = (optimize_with_gepa(PROMPT, examples(240), model=script, calls=600) for script in runs)
    assert one == two
    assert runs[0].requests == runs[1].requests


@pytest.mark.parametrize("said", ["", "```\n\n```", "no fence at all", "```\n" + "x" * 100_000 + "\n```"])
def test_a_proposer_may_write_anything(said: str) -> None:
    found = optimize_with_gepa(
        PROMPT, examples(120), model=Script(simulated), proposer=Script(lambda r: said), calls=300
    )
    assert not found.found.accepted
    assert found.instruction == PROMPT.instruction
    assert all(len(candidate.slot().instruction) <= 4_000 for candidate in found.found.candidates)


def test_a_proposal_that_copies_an_example_is_counted_and_never_asked() -> None:
    script = Script(simulated)
    copied = Script(lambda r: "```\nBy heart: " + ", ".join(f"{e.input}: {e.target}" for e in examples(9)) + ".\n```")
    found = optimize_with_gepa(PROMPT, examples(120), model=script, proposer=copied, calls=300)
    assert found.found.rejected["it copies an example"] == 1
    assert not any("By heart" in request.messages[0].content for request in script.requests)


def test_a_proposer_that_never_answers_ends_the_search() -> None:
    proposer = Script(lambda r: Refused("no"))
    found = optimize_with_gepa(PROMPT, examples(120), model=Script(simulated), proposer=proposer, calls=300)
    assert found.instruction == PROMPT.instruction
    assert found.found.rejected["the proposer did not answer"] == len(proposer.requests)


def test_the_adapter_is_gepas_own_with_any_program_of_ours() -> None:
    async def two_steps(question: str, prompts: Any) -> Any:
        note = await ask(prompts["note"].render(question))
        return prompts["judge"].parse((await ask(prompts["judge"].render(f"{question} {note.text}"))).text)

    prompts = {"note": Prompt("Note the place."), "judge": PROMPT}
    script = Script(lambda r: "a note" if "Note" in r.messages[0].content else simulated(r))
    adapter = PromptlabAdapter(prompts, script, solve=two_steps)
    items = numbered(examples(30))
    result = gepa.optimize(
        adapter.seed_candidate,
        items[:15],
        items[15:],
        adapter=adapter,
        reflection_lm=lambda prompt: (
            simulated(SimpleNamespace(messages=[SimpleNamespace(content=prompt)], branch=())).text
        ),
        max_metric_calls=60,
        stop_callbacks=[adapter.stop],
        logger=SimpleNamespace(log=lambda message: None),
    )
    assert set(result.best_candidate) == {"note", "judge"}
    batch = adapter.evaluate(items[:2], adapter.seed_candidate, capture_traces=True)
    assert batch.num_metric_calls == 0 or len(script.requests)
    told = adapter.make_reflective_dataset(adapter.seed_candidate, batch, ["note", "judge"])
    assert told["note"][0]["Generated Outputs"] == "a note"
    assert "item 0 a note" in told["judge"][0]["Inputs"]


def test_what_was_asked_is_not_asked_again_also_after_a_restart() -> None:
    script, items = Script(simulated), numbered(examples(10))
    first = PromptlabAdapter(PROMPT, script)
    once = first.evaluate(items, first.seed_candidate)
    assert first.evaluate(items, first.seed_candidate).num_metric_calls == 0
    again = PromptlabAdapter(PROMPT, Script([]))
    again.set_adapter_state(json.loads(json.dumps(first.get_adapter_state())))
    assert again.evaluate(items, again.seed_candidate).scores == once.scores
    assert len(script.requests) == 10


def test_a_request_that_fails_scores_nothing_and_says_so() -> None:
    adapter = PromptlabAdapter(PROMPT, Script(lambda r: ModelError("down")))
    batch = adapter.evaluate(numbered(examples(3)), adapter.seed_candidate, capture_traces=True)
    assert batch.scores == [0, 0, 0]
    [told, *_] = adapter.make_reflective_dataset(adapter.seed_candidate, batch, ["instruction"])["instruction"]
    assert "down" in told["Feedback"]


def proposal(before: list[float], after: list[float]) -> Any:
    return SimpleNamespace(subsample_scores_before=before, subsample_scores_after=after)


def test_a_paired_test_lets_pass_no_more_than_it_says() -> None:
    rng, test = Random(0), Paired(10, alpha=0.1)
    passed = sum(
        test.should_accept(proposal(*([float(rng.random() < 0.5) for _ in range(10)] for _ in "ab")), None)
        for _ in range(1_000)
    )
    assert passed <= 1_000 * 0.1 + 2 * (1_000 * 0.1 * 0.9) ** 0.5
    assert test.should_accept(proposal([0.0] * 10, [1.0] * 10), None)


def test_a_minibatch_on_which_nothing_could_pass_is_refused() -> None:
    for graded, least in ((False, 4), (True, 6)):
        with pytest.raises(SetupError, match=f"reflection_minibatch_size={least} "):
            Paired(least - 1, alpha=0.1, graded=graded)
        won = proposal([0.0] * least, [0.999 if graded else 1.0] * least)
        assert Paired(least, alpha=0.1, graded=graded).should_accept(won, None)
    with pytest.raises(SetupError, match="between 0 and 1"):
        Paired(10, alpha=0)


def test_graded_scores_get_minibatches_on_which_something_can_pass() -> None:
    def graded(value: Any, target: Any) -> float:
        return 0.99 * (value == target)

    def clear(request: Request) -> Reply:  # right where it is told of a hospital, else wrong
        if "new instruction" in request.messages[-1].content:
            return simulated(request)
        odd = request.messages[-1].content.rstrip()[-1] in "13579"
        return Reply("yes" if odd == ("hospital" in request.messages[0].content) else "no")

    found = optimize_with_gepa(PROMPT, examples(240), graded, model=Script(clear), calls=900, paired=0.1)
    assert found.instruction == BEST
    with pytest.raises(SetupError, match="reflection_minibatch_size=6 "):
        optimize_with_gepa(
            PROMPT, examples(240), graded, model=Script(clear), paired=0.1, options={"reflection_minibatch_size": 4}
        )


def test_what_proposing_costs_is_told_to_gepa() -> None:
    script = Script(simulated)  # a thousandth of a dollar each
    script.price = SimpleNamespace(cost_usd=lambda usage: 0.001)  # type: ignore[attr-defined]
    found = optimize_with_gepa(PROMPT, examples(240), model=script, calls=900, options={"max_reflection_cost": 0.0035})
    assert found.found.proposals == 4
    unpriced = Script(lambda r: Reply("yes"), batched=False)
    with pytest.raises(SetupError, match="price"):
        optimize_with_gepa(PROMPT, examples(240), model=unpriced, options={"max_reflection_cost": 1.0})


def test_a_result_of_gepa_becomes_a_prompt(tmp_path: Any) -> None:
    state = {"candidates": [{"instruction": "a"}, {"instruction": "b"}], "parents": [[None], [0]]}
    scores = {"val_aggregate_scores": [0.1, 0.9], "val_subscores": [{0: 0.1}, {0: 0.9}]}
    best = {"per_val_instance_best_candidates": {0: {1}}, "discovery_eval_counts": [1, 2]}
    result = gepa.GEPAResult(**state, **scores, **best)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result.to_dict(), default=list))
    for each in (result, path):
        assert prompt_from_gepa(each, PROMPT) == Prompt("b", PROMPT.output)
    with pytest.raises(DataError, match="no prompt for instruction"):
        prompt_from_gepa(result, {"first": PROMPT})
    with pytest.raises(DataError):
        prompt_from_gepa(tmp_path / "none.json", PROMPT)
