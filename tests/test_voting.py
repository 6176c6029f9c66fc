"""How answers vote, how ties end, when sampling stops, and votes by meaning."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution

from promptlab import Answer, ModelError, Prompt, Reply, run
from promptlab.equality import as_number
from promptlab.errors import SetupError
from promptlab.strategies import self_consistency, semantic_consistency, universal_self_consistency, zero_shot
from promptlab.strategies.semantic_consistency import by_score
from promptlab.strategies.stopping import ahead, beta, lossless, window
from promptlab.strategies.voting import by_confidence, by_likelihood, majority
from promptlab.testing import Script, replay
from promptlab.types import Token


def voted(*values: object, logprobs: tuple[float, ...] = ()) -> list[Answer]:
    if logprobs:
        return [Answer(v, logprob=p, confidence=math.exp(p)) for v, p in zip(values, logprobs, strict=True)]
    return [Answer(v) for v in values]


# ---- one election


def test_an_election_tells_share_margin_entropy_and_ties():
    answer = majority(voted("a", "b", "a", None, "c"))
    assert (answer.value, answer.votes) == ("a", {"a": 2, "b": 1, "c": 1})
    assert (answer.share, answer.margin, answer.tied) == (0.5, 0.25, ())
    assert answer.entropy == pytest.approx(-(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25)))
    assert majority(voted("a", "a")).entropy == 0
    tie = majority(voted("b", "a", "a", "b", "c"))
    assert (tie.value, tie.tied, tie.margin) == ("b", ("b", "a"), 0)


def test_a_tie_goes_to_the_likeliest_reply_where_all_are_known():
    assert majority(voted("b", "a", logprobs=(-3.0, -2.0))).value == "a"
    assert majority(voted("b", "a", logprobs=(-2.0, -2.0))).value == "b"
    assert list(majority(voted("b", "a", logprobs=(-3.0, -2.0))).votes) == ["a", "b"]
    assert majority([Answer("b", logprob=-3.0), Answer("a")]).value == "b"


def test_below_the_least_share_there_is_no_answer_but_the_count():
    split = majority(voted("a", "b", "c", "a"), least_share=0.6)
    assert (split.value, split.votes, split.share) == (None, {"a": 2, "b": 1, "c": 1}, 0.5)
    assert "0.50 of them, less than 0.6" in split.why
    assert majority(voted("a", "b", "a", "a"), least_share=0.75).value == "a"


def test_zero_and_false_vote():
    assert majority(voted(0, 0, 7)).value == 0
    assert majority(voted(False, False, None)).value is False


def test_equal_numbers_vote_together_where_numbers_are_compared():
    forms = voted("7", "18", "$18.00", "7.0", "1,800/100")
    assert majority(forms).votes == {"7": 1, "18": 1, "$18.00": 1, "7.0": 1, "1,800/100": 1}
    together = majority(forms, key=as_number)
    assert (together.value, together.votes) == ("18", {"18": 3, "7": 2})


def test_votes_are_weighed_by_likelihood_or_confidence():
    answers = voted("a", "a", "b", logprobs=(math.log(0.1), math.log(0.2), math.log(0.4)))
    likely = majority(answers, by_likelihood)
    assert (likely.value, likely.share) == ("b", pytest.approx(4 / 7))
    assert majority(answers, by_confidence).votes == pytest.approx({"b": 0.4, "a": 0.3})
    assert majority(voted("a", "b", "b", logprobs=(-9000.0, -9001.0, -9002.0)), by_likelihood).value == "a"
    with pytest.raises(SetupError, match="no log-probabilities"):
        majority(voted("a", "b"), by_likelihood)


values = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=14)


@settings(deadline=None)
@given(values, st.lists(st.floats(-9, 0), min_size=14, max_size=14))
def test_elections_keep_their_promises(cast, log_p):
    answers = [Answer(v, logprob=p, confidence=math.exp(p)) for v, p in zip(cast, log_p, strict=False)]
    for weigh in (by_likelihood, by_confidence):
        answer = majority(answers, weigh)
        if answer.value is None:
            assert not any(v is not None for v in cast)
            continue
        assert answer.votes[answer.value] == pytest.approx(max(answer.votes.values()))
        assert 0 <= answer.margin <= answer.share <= 1 + 1e-9
        assert 0 <= answer.entropy <= math.log(3) + 1e-9


# ---- when to stop


def drawn_until(rule, votes: list[str | None]) -> int:
    """How many votes are drawn one at a time until the rule has decided."""
    return next((k for k in range(len(votes)) if rule(votes[:k], len(votes)) is True), len(votes))


def first_of(votes: list[str | None]) -> str | None:
    return majority(voted(*votes)).value


RULES = {"lossless": lossless, "beta": beta(0.95), "window": window(5)}


@settings(deadline=None)
@given(values)
def test_a_lossless_stop_elects_the_winner_of_all(votes):
    assert first_of(votes[: drawn_until(lossless, votes)]) == first_of(votes)


@settings(deadline=None)
@given(values)
def test_a_lossless_stop_is_the_earliest_that_cannot_be_overturned(votes):
    stop = drawn_until(lossless, votes)
    if 0 < stop < len(votes):
        counts = Counter(v for v in votes[: stop - 1] if v is not None).most_common(2)
        second = counts[1][1] if len(counts) > 1 else 0
        assert not counts or counts[0][1] <= second + len(votes) - (stop - 1)


@settings(deadline=None)
@given(st.sampled_from(sorted(RULES)), st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=14))
def test_no_rule_could_have_decided_sooner_than_it_says(name, votes):
    rule, k = RULES[name], 0
    while k < len(votes) and (more := rule(votes[:k], len(votes))) is not True:
        assert more >= 1
        assert all(rule(votes[:j], len(votes)) is not True for j in range(k, min(k + more, len(votes))))
        k += more


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_lead_is_the_beta_posterior_in_closed_form(a, b):
    assert ahead(a, b) == pytest.approx(beta_distribution.sf(0.5, a + 1, b + 1))


@pytest.mark.parametrize(("p", "n"), [(0.9, 3), (0.95, 4), (0.99, 6), (0.999, 9)])
def test_unanimous_votes_stop_beta_at_once(p, n):
    model = Script(lambda request: "The answer is 7.")
    answer = run(self_consistency("?", n=40, stop=beta(p)), model)
    assert (answer.value, answer.votes, answer.sampled) == ("7", {"7": n}, n)
    assert model.batches == [n]


def test_a_window_stops_when_all_of_it_agree():
    assert [window(3)(list("aab"), 9), window(3)(list("aabb"), 9)] == [3, 2]
    assert window(3)(list("aabbbb"), 9) is True
    assert window(3)([None, None, None], 9) == 3


def test_stops_that_make_no_sense_are_refused():
    for wrong in (lambda: beta(0.5), lambda: beta(1.0), lambda: window(0)):
        with pytest.raises(SetupError):
            wrong()
    with pytest.raises(SetupError, match="counting votes"):
        run(self_consistency("?", stop=lossless, weigh=by_confidence), Script())


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("at_once", [1, 4, 99])
def test_early_stopping_elects_the_same_however_the_model_is_driven(batched, at_once):
    said = ["a", "b", "a", "a", "a", "a", "a", "b", "b", "b"]

    def model() -> Script:
        return Script(lambda request: f"The answer is {said[request.branch[1]]}.", batched=batched)

    for stop in (lossless, beta(0.9), window(3)):
        answer = run(self_consistency("?", n=10, stop=stop, at_once=at_once), script := model())
        k = drawn_until(stop, said)
        assert [a.value for a in answer.trace] == said[:k]
        assert answer.value == first_of(said[:k])
        assert k <= answer.sampled <= min(10, k - 1 + at_once)
        assert len(script.requests) <= answer.sampled
        if batched or at_once == 99:
            assert answer.sampled == (k if batched else 10)


def test_failed_paths_neither_vote_nor_stop_the_sampling():
    replies = [ModelError("refused"), *(f"The answer is {x}." for x in "aaaa")]
    answer = replay(self_consistency("?", n=9, stop=beta(0.95)), replies)
    assert (answer.value, answer.votes, answer.sampled) == ("a", {"a": 4}, 5)


def test_weighted_votes_ask_for_log_probabilities():
    def reply(text: str, *log_p: float) -> Reply:
        return Reply(text, tokens=tuple(Token("t", p) for p in log_p))

    model = Script([reply("The answer is a.", -0.1, -0.1), *[reply("The answer is b.", -4.0, -4.0)] * 2])
    answer = run(self_consistency("?", n=3, weigh=by_confidence), model)
    assert answer.value == "a"
    assert answer.confidence == pytest.approx(math.exp(-0.1))
    assert all(request.logprobs for request in model.requests)


def test_a_share_of_votes_that_are_not_all_cast_is_not_asked_for():
    replies = ["A"] * 6 + ["B"] * 4
    assert run(self_consistency("Q?", path=zero_shot, least_share=0.8), Script(replies)).value is None
    with pytest.raises(SetupError, match="leave out either stop or least_share"):
        run(self_consistency("Q?", path=zero_shot, least_share=0.8, stop=lossless), Script(replies))


# ---- chosen by the model, and by meaning


def universal(*replies: str | ModelError, n: int = 3) -> tuple[Answer, Script]:
    model = Script(replies)
    return run(universal_self_consistency("why?", path=zero_shot, n=n), model), model


def test_the_model_chooses_the_most_consistent_response():
    answer, model = universal("it rains", "rain", "sun", "The most consistent response is Response 2, since …")
    assert (answer.value, answer.found) == ("rain", "the model chose response 2")
    assert "Response 1: it rains\n\nResponse 2: rain\n\nResponse 3: sun" in model.requests[-1].messages[0].content
    assert model.requests[-1].temperature == 0
    assert answer.votes == {"it rains": 1, "rain": 1, "sun": 1}


def test_what_is_told_of_a_chosen_response_is_its_own_and_not_the_majoritys():
    replies = [Reply(word, tokens=(Token(word, p),)) for word, p in zip("AAABB", (-1, -2, -3, -4, -5), strict=True)]
    model = Script([*replies, "Response 5"])
    answer = run(universal_self_consistency("why?", path=zero_shot, n=5, logprobs=True), model)
    assert (answer.value, list(answer.votes.items())) == ("B", [("B", 2), ("A", 3)])
    assert (answer.share, answer.margin, answer.tied) == (0.4, 0, ())
    assert (answer.logprob, len(answer.trace), answer.sampled) == (-5, 5, 5)


@pytest.mark.parametrize("judged", ["none of them", "Response 9", "Response 0", ModelError("too long")])
def test_a_choice_that_cannot_be_read_leaves_the_majority_and_says_so(judged):
    answer, _ = universal("sun", "rain", "rain", judged)
    assert answer.value == "rain"
    assert "could not be read" in answer.found


def test_the_model_is_not_asked_to_choose_among_equals():
    answer, model = universal("rain", "rain", "rain")
    assert (answer.value, len(model.requests)) == ("rain", 3)


def test_answers_that_mean_the_same_vote_together():
    paris = ("Paris", "paris.", "It's Paris, France", "Rome")

    async def same(question: str, one: str, other: str) -> bool:
        return ("aris" in one) == ("aris" in other)

    answer = replay(semantic_consistency("Capital?", n=4, same=same), paris)
    assert (answer.value, answer.votes) == ("Paris", {"Paris": 3, "Rome": 1})
    assert answer.entropy == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_meaning_is_asked_in_both_directions_in_one_wave():
    replies = ["Paris", "Paris in France", "yes", "no, only the city"]
    model = Script(replies)
    answer = run(semantic_consistency("Capital?", n=2), model)
    assert (model.batches, answer.votes) == ([2, 2], {"Paris": 1, "Paris in France": 1})
    assert replay(semantic_consistency("Capital?", n=2), [*replies[:2], "Yes.", "Yes."]).votes == {"Paris": 2}
    assert replay(semantic_consistency("Capital?", n=2), [*replies[:2], ModelError("no"), "yes"]).share == 0.5


@pytest.mark.parametrize("strategy", [semantic_consistency, universal_self_consistency])
def test_what_is_asked_beside_the_paths_is_asked_by_their_options(strategy):
    options = {"max_tokens": 9, "seed": 3, "top_p": 0.9, "to": "judge"}
    model = Script(["Paris", "Rome", "no", "no"])
    run(strategy("Capital?", n=2, path=zero_shot, logprobs=True, stop="\n", prompt=Prompt("Brief."), **options), model)
    for asked in model.requests:
        assert {name: getattr(asked, name) for name in options} == options
    beside = model.requests[2:]
    assert [(each.temperature, each.logprobs, each.stop) for each in beside] == [(0.0, False, ())] * len(beside)
    model = Script(["Paris", "Rome", "no", "no"])
    run(strategy("Capital?", n=2, path=zero_shot, temperature=None), model)
    assert {each.temperature for each in model.requests} == {None}


def test_meaning_may_be_scored():
    model = Script(["Paris", "It is Paris"], scores=lambda request: [-0.1, -2.0])
    assert run(semantic_consistency("Capital?", n=2, same=by_score), model).votes == {"Paris": 2}


def test_a_path_without_an_answer_has_no_meaning():
    answer = replay(semantic_consistency("?", n=2, prompt=Prompt(output=int)), ["none", "7"])
    assert (answer.value, answer.votes) == (7, {7: 1})
