"""Searches over a tree: the orders in which it is grown, the hooks of a task, limits and failures."""

import json
import math
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Answer, ModelError, ask, attempt, run
from promptlab.errors import BudgetExceeded, SetupError, Unavailable
from promptlab.strategies import tree_of_thoughts
from promptlab.strategies.search import best_first, depth_first, monte_carlo
from promptlab.strategies.search.drafting import Drafts
from promptlab.strategies.search.judging import VERDICTS, choice, mean_verdict, verdict, votes
from promptlab.strategies.search.selecting import known, sampled
from promptlab.testing import Script, run_in_virtual_time


class Paths:
    """Binary words; a value is asked of the model, which knows a number for each."""

    def __init__(self, steps=4, goal=None):
        self.steps, self.goal = steps, goal

    def start(self, question):
        return ""

    async def propose(self, state, **options):
        reply = await ask(f"propose {state}", **options)
        return [state + step for step in reply.text.split()]

    async def value(self, state, **options):
        reply = await ask(f"value {state}", **options)
        return float(reply.text) if reply.text != "?" else None

    def answer(self, state):
        return Answer(state) if len(state) == self.steps else Answer(None, why=f"{state!r} is too short")

    def verify(self, state):
        return (state == self.goal) if len(state) == self.steps and self.goal else None


def worth(value, moves="0 1"):
    """A model that proposes the same moves everywhere and values a word by a function of it."""

    def reply(request):
        kind, state = request.messages[-1].content.split(" ", 1)
        return moves if kind == "propose" else str(value(state))

    return Script(reply)


def asked(model, kind):
    texts = [request.messages[-1].content for request in model.requests]
    return [text.split(" ", 1)[1] for text in texts if text.startswith(kind)]


def nodes_of(answer, fate):
    return [node["state"] for node in answer.trace["nodes"] if node["fate"] == fate]


STRATEGIES = {
    "breadth first": lambda q, task, **more: tree_of_thoughts(q, task, 2, **more),
    "depth first": depth_first,
    "best first": best_first,
    "Monte Carlo": monte_carlo,
}
every = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


@every
def test_the_trace_is_json_and_its_path_leads_from_the_root_to_the_answer(strategy):
    answer = run(strategy("q", Paths()), worth(lambda s: s.count("1")))
    assert answer.value == "1111"
    assert json.loads(json.dumps(answer.trace)) == answer.trace
    by_id = {node["id"]: node for node in answer.trace["nodes"]}
    assert [by_id[i]["state"] for i in answer.trace["path"]] == ["", "1", "11", "111", "1111"]
    for parent, child in zip(answer.trace["path"], answer.trace["path"][1:], strict=False):
        assert by_id[child]["parents"][0] == parent


@every
def test_a_verified_state_ends_the_search_and_none_that_cannot_be_a_solution_is_judged(strategy):
    model = worth(lambda s: -abs(int(s, 2) - (0b1010 >> (4 - len(s)))))
    answer = run(strategy("q", Paths(goal="1010")), model)
    assert answer.value == "1010"
    assert answer.why is None
    assert answer.trace["ended"] == "a solution was found"
    assert not [state for state in asked(model, "value") if len(state) == 4]


class Unordered(Paths):
    """Words that are the same whatever the order of their letters; two ones in a row are against the rules."""

    def canonical_key(self, state):
        return "".join(sorted(state))

    def validate(self, before, after):
        return "two ones in a row" if after.endswith("11") else None


@every
def test_equal_states_are_judged_once_with_all_their_parents_and_invalid_ones_never(strategy):
    model = worth(lambda s: 1)
    answer = run(strategy("q", Unordered(2), **({"max_states": 50} if strategy is depth_first else {})), model)
    first = [] if strategy is STRATEGIES["breadth first"] else ["0", "1"]  # there both go on, whatever they are worth
    assert sorted(asked(model, "value")) == sorted([*first, "00", "01"])
    both = next(node for node in answer.trace["nodes"] if node["state"] == "01")
    parents = [node["state"] for node in answer.trace["nodes"] if node["id"] in both["parents"]]
    assert parents == ["0", "1"]
    assert nodes_of(answer, "invalid") == ["11"]
    assert next(node["why"] for node in answer.trace["nodes"] if node["fate"] == "invalid") == "two ones in a row"


class Dry(Paths):
    """A second step is against the rules, whatever it is; the first makes an answer too."""

    def answer(self, state):
        return Answer(state)

    def validate(self, before, after):
        return "no second step" if before else None


class Circular(Paths):
    """A step leads back to where the search came from."""

    def canonical_key(self, state):
        return state.count("1") - state.count("0")


@every
def test_a_state_met_before_is_not_gone_on_from_again(strategy):
    model = worth(lambda s: s.count("1"))
    answer = run(strategy("q", Circular(4)), model)
    assert len(asked(model, "propose")) == len(set(map(Circular().canonical_key, asked(model, "propose"))))
    assert answer.trace["nodes"][0]["parents"] == []


# ---- breadth first


def test_a_level_is_two_waves_whatever_its_breadth_and_one_where_all_go_on():
    model = worth(lambda s: s.count("1"))
    answer = run(tree_of_thoughts("q", Paths(), 5), model)
    assert model.batches == [1, 2, 4, 8, 5, 10]
    assert asked(model, "propose")[:7] == ["", "0", "1", "00", "01", "10", "11"]
    unjudged = [node for node in answer.trace["nodes"] if node["depth"] in (1, 2)]
    assert {(node["value"], node["fate"], node["why"]) for node in unjudged} == {(None, "kept", "")}


def test_sampled_selection_draws_by_value_with_its_seed():
    drawn = [sampled(seed)([8.0, 1.0, 1.0], 1)[0] for seed in range(500)]
    assert 0.75 < drawn.count(0) / 500 < 0.85
    assert sampled(3)([8.0, 1.0, 1.0], 2) == sampled(3)([8.0, 1.0, 1.0], 2)
    assert {i for seed in range(50) for i in sampled(seed)([0.0, 0.0], 1)} == {0, 1}
    answers = {run(tree_of_thoughts("q", Paths(), 1, select=sampled(i)), worth(lambda s: 1)).value for i in range(20)}
    assert len(answers) > 3


def test_an_unread_value_counts_as_the_median_and_not_as_nothing():
    assert known([3.0, None, 1.0, 2.0]) == [3.0, 2.0, 1.0, 2.0]
    assert known([None]) == [0.0]
    model = worth(lambda s: "?" if s.endswith("0") else -1)
    answer = run(tree_of_thoughts("q", Paths(2), 1), model)
    unread = [node for node in answer.trace["nodes"] if node["value"] is None and node["id"]]
    assert {node["why"] for node in unread} == {"no value could be read"}
    assert answer.value == "00"  # its value is unknown, the other's is the median too, and it came first


@pytest.mark.parametrize("strategy", [tree_of_thoughts, best_first, monte_carlo])
def test_a_value_that_is_no_number_is_one_that_is_not_known(strategy):
    model = worth(
        lambda state: math.nan if state in ("1", "01") else 2 * len(state) + (state[-1] == "2"), moves="0 1 2"
    )
    answer = run(
        strategy("q", Paths(steps=2), 1) if strategy is tree_of_thoughts else strategy("q", Paths(steps=2)), model
    )
    nodes = {node["state"]: node for node in answer.trace["nodes"]}
    assert nodes["1"]["value"] is None
    assert nodes["1"]["why"] == "no value could be read"
    assert answer.value == "22"


@pytest.mark.parametrize(
    ("strategy", "limit"),
    [
        (tree_of_thoughts, "breadth"),
        (depth_first, "breadth"),
        (best_first, "at_once"),
        (monte_carlo, "simulations"),
        *((strategy, "max_states") for strategy in (tree_of_thoughts, depth_first, best_first, monte_carlo)),
    ],
)
@pytest.mark.parametrize("number", [0, -1])
def test_a_limit_below_one_is_refused_before_anything_is_asked(strategy, limit, number):
    model = worth(len)
    with pytest.raises(SetupError, match=f"1 or more, got {limit}={number}"):
        run(strategy("q", Paths(), **{limit: number}), model)
    assert not model.requests


def test_a_limit_of_states_gives_the_best_so_far_with_the_reason():
    model = worth(lambda s: s.count("1"))
    answer = run(tree_of_thoughts("q", Paths(), 2, max_states=5), model)
    assert len(asked(model, "value")) == 5  # the first two went on without
    assert answer.value is None
    assert answer.why == "'110' is too short; the limit of states is reached"


def test_where_nothing_comes_of_states_that_all_went_on_the_answer_is_still_the_best_of_them():
    model = worth({"a": 1, "b": 9}.get, moves="a b")
    answer = run(tree_of_thoughts("q", Dry(), 5), model)
    assert (answer.value, answer.why) == ("b", "at step 2 no thought is within the rules")
    assert asked(model, "value") == ["a", "b"]
    model = worth({"a": 1, "b": 9}.get, moves="a b")
    assert run(tree_of_thoughts("q", Paths(2, goal="no"), 5), model).value is None
    assert asked(model, "value") == []  # none of them is an answer


# ---- failures


@every
def test_a_budget_that_is_spent_gives_the_best_so_far_with_the_reason(strategy):
    left = iter([True] * 6)

    def reply(request):
        if not next(left, False):
            return BudgetExceeded("6 calls are spent")
        kind, state = request.messages[-1].content.split(" ", 1)
        return "0 1" if kind == "propose" else str(state.count("1"))

    model = Script(reply)
    answer = run(strategy("q", Paths()), model)
    assert answer.value is None
    assert answer.why.endswith("BudgetExceeded: 6 calls are spent")
    assert answer.trace["path"][1:] != []
    judged = {node["id"]: node["value"] for node in answer.trace["nodes"] if node["value"] is not None}
    best = {number for number, value in judged.items() if value == max(judged.values())}
    assert best & set(answer.trace["path"])


@every
def test_a_failed_request_costs_its_state_only(strategy):
    def reply(request):
        kind, state = request.messages[-1].content.split(" ", 1)
        if state == "1":
            return Unavailable("not now")
        return "0 1" if kind == "propose" else str(state.count("1"))

    answer = run(strategy("q", Paths(3)), Script(reply))
    assert answer.value in ("011", "000", "001")
    failed = next(node for node in answer.trace["nodes"] if node["state"] == "1")
    assert "not now" in failed["why"]


@every
def test_a_model_that_answers_nothing_is_an_error_and_not_an_answer(strategy):
    result = run(attempt(strategy("q", Paths())), Script(lambda request: Unavailable("down")))
    assert isinstance(result, ModelError)


# ---- the result does not depend on timing


class Late:
    """Answers after a while that only it knows."""

    batched = False

    def __init__(self, seed):
        self.rng = Random(seed)

    async def agenerate(self, requests):
        import asyncio

        await asyncio.sleep(self.rng.random())
        return worth(lambda s: Random(s).randint(0, 3)).generate(requests)

    def generate(self, requests):
        raise NotImplementedError


@settings(deadline=None, max_examples=25)
@given(st.integers(), st.sampled_from(sorted(STRATEGIES)))
def test_the_result_does_not_depend_on_when_replies_come(seed, name):
    from promptlab import arun

    in_step = run(STRATEGIES[name]("q", Paths()), worth(lambda s: Random(s).randint(0, 3)))
    assert run_in_virtual_time(arun(STRATEGIES[name]("q", Paths()), Late(seed))) == in_step


# ---- depth first


def recursively(state, value, steps, prune_below, breadth, visited):
    """Algorithm 2 as it is written down."""
    children = sorted((state + move for move in "01"), key=lambda s: -value(s))[:breadth]
    for child in children:
        visited.append(child)
        if value(child) >= prune_below and len(child) < steps:
            recursively(child, value, steps, prune_below, breadth, visited)
    return visited


@settings(deadline=None)
@given(st.integers(1, 2), st.integers(0, 3), st.lists(st.integers(0, 3), min_size=31, max_size=31))
def test_depth_first_is_algorithm_2_of_the_paper(breadth, prune_below, noise):
    value = lambda s: noise[int(f"1{s}", 2) % 31]  # noqa: E731
    answer = run(depth_first("q", Paths(), breadth, prune_below=prune_below), worth(value))
    visited = sorted((n for n in answer.trace["nodes"] if n["order"]), key=lambda n: n["order"])
    assert [node["state"] for node in visited] == recursively("", value, 4, prune_below, breadth, [])
    assert {n["state"] for n in visited if n["fate"] == "pruned"} == {
        n["state"] for n in visited if n["value"] < prune_below
    }


@pytest.mark.parametrize(("output", "state"), [("deepest", "010"), ("last", "1"), ("best", "00")])
def test_whose_answer_depth_first_gives_is_an_option(output, state):
    values = {"0": 2, "1": 0, "00": 3, "01": 2, "000": 0, "010": 2, "011": 0, "001": 0}
    values |= {"0100": 0, "0101": 0}

    class Deep(Paths):
        def answer(self, state):
            return Answer(state)

    model = worth(lambda s: values.get(s, 0))
    answer = run(depth_first("q", Deep(3), 2, prune_below=1, output=output), model)
    if output == "deepest":
        state = "000"  # the first of those three deep, although it is pruned
    assert answer.value == state
    assert answer.trace["output"] == output


def test_depth_first_ends_after_so_many_visits():
    model = worth(lambda s: 1)
    answer = run(depth_first("q", Paths(6), 2, max_states=9), model)
    assert max(node["order"] or 0 for node in answer.trace["nodes"]) == 9
    assert answer.why == "9 states were visited"


# ---- best first


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=31, max_size=31))
def test_best_first_takes_the_most_promising_state_wherever_it_stands(noise):
    value = lambda s: noise[int(f"1{s}", 2) % 31]  # noqa: E731
    answer = run(best_first("q", Paths(), max_states=1000), worth(value))
    followed = sorted((n for n in answer.trace["nodes"] if n["order"]), key=lambda n: n["order"])
    waiting, expected = [("", 0)], []
    while waiting:
        state, _ = waiting.pop(min(range(len(waiting)), key=lambda i: (-value(waiting[i][0] or "0"), waiting[i][1])))
        expected += [state]
        if len(state) < 3:
            waiting += [(state + move, len(waiting) + 1000 * len(expected)) for move in "01"]
    assert [node["state"] for node in followed] == expected[1:]


def test_best_first_takes_several_at_once_in_one_wave():
    model = worth(lambda s: 1)
    run(best_first("q", Paths(), at_once=4), model)
    assert model.batches[:6] == [1, 2, 2, 4, 4, 8]


# ---- Monte Carlo


def misleading(seed, depth=5):
    """Leaves of random worth; a state's value is what its leaves are worth on average, with an error."""
    leaves = {"".join(word): Random(f"{seed} {word}").random() for word in product("01", repeat=depth)}

    def value(state):
        below = [worth for word, worth in leaves.items() if word.startswith(state)]
        noise = 0 if len(state) == depth else Random(f"{seed} {state} noise").gauss(0, 0.15)
        return sum(below) / len(below) + noise

    return leaves, value


def regret(simulations):
    found = []
    for seed in range(40):
        leaves, value = misleading(seed)
        answer = run(monte_carlo("q", Paths(5), simulations, c=0.7), worth(value))
        best = answer.trace["nodes"][answer.trace["path"][-1]]["state"]
        reached = [leaf for leaf in leaves if leaf.startswith(best)]
        found.append(max(leaves.values()) - sum(leaves[leaf] for leaf in reached) / len(reached))
    return sum(found) / len(found)


def test_more_simulations_mean_less_regret():
    few, some, many = regret(2), regret(12), regret(60)
    assert few > some > many
    assert many < 0.1


def test_values_matter_at_any_number_of_simulations():
    for simulations in (1, 2, 3):
        answer = run(monte_carlo("q", Paths(3), simulations), worth(lambda s: s.count("1")))
        assert answer.trace["nodes"][answer.trace["path"][1]]["state"] == "1"


def test_states_at_the_last_step_are_never_expanded():
    model = worth(lambda s: s.count("1"))
    run(monte_carlo("q", Paths(2), 50), model)
    assert max(map(len, asked(model, "propose"))) == 1


def test_without_an_end_the_best_state_so_far_is_given_with_the_reason():
    answer = run(monte_carlo("q", Paths(9), 2), worth(lambda s: s.count("1")))
    assert answer.why == "'11' is too short; 2 simulations are done"
    assert run(monte_carlo("q", Paths(9), 5), worth(lambda s: 0, moves="")).trace["ended"] == "all there is was tried"


# ---- judging


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10 + 14 = 24\nsure", 20.0),
        ("Sure!", 20.0),
        ("**Impossible**", 0.001),
        ("I think it is\nlikely\n\n", 1.0),
        ("sure\nBut then:\nimpossible", 0.001),
        ("it is likely\nso much for that", 1.0),
        ("unlikely", None),
        ("I am not sure", None),
        ("We can't be sure.", None),
        ("I am not entirely sure", None),
        ("not yet **sure**", None),
        ("It isn’t likely", None),
        ("hardly likely", None),
        ("not very likely", None),
        ("We cannot reach 24: impossible", 0.001),
        ("There is no other way, so it is impossible", 0.001),
        ("sure or likely", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_word_of_the_last_line_that_has_one(text, value):
    assert verdict(text) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The best choice is 10", 10),
        ("The best choice is 2. It has 4 reasons.", 2),
        ("Choice 3 is good. The best choice is **Choice 7**.", 7),
        ("best choice: 1", 1),
        ("The best choice is 4? No: the best choice is 5", 5),
        ("The best choice among the 5 is 2", 2),
        ("The best choice out of 5 is 3.", 3),
        ("The best choice of the five would be 4", 4),
        ("The best choice is not 1 but 2", 2),
        ("The best choice is 2, not 1", 2),
        ("The best choice is not 3", None),
        ("The best choice is 11", None),
        ("The best choice is 0", None),
        ("I cannot say", None),
    ],
)
def test_a_vote_is_for_the_choice_that_is_said_to_be_best(text, number):
    assert choice(text, 10) == number


def test_what_cannot_be_read_is_asked_once_more_and_then_left_out():
    model = Script(["sure", "hm", "likely", "hm"])
    assert run(mean_verdict("q", 3), model) == (VERDICTS["sure"] + VERDICTS["likely"]) / 2
    assert model.batches == [3, 1]
    assert run(mean_verdict("q", 3), Script(["hm", "hm", "hm", "hm", "sure", "hm"])) == 20.0
    assert run(mean_verdict("q", 2), Script(["hm"] * 4)) is None
    assert run(votes("q", 2, 2), Script(["best choice is 2", "?", "best choice is 1"])) == [1.0, 1.0]
    assert run(votes("q", 2, 1), Script(["?", "?"])) == [None, None]


def test_drafts_are_sampled_and_voted_on():
    def reply(request):
        said = request.messages[-1].content
        if request.messages[0].content.startswith("Several choices"):
            return "The best choice is 2."
        draft = "text" if "\n\nPlan:\n" in said else "plan"
        return f"{draft} {request.branch[-1]}"

    model = Script(reply)
    answer = run(tree_of_thoughts("Write a poem.", Drafts(n=3)), model)
    assert answer.value == "text 1"
    assert model.batches == [3, 5, 3, 5]
    assert model.requests[8].messages[-1].content == "Write a poem.\n\nPlan:\nplan 1"
    assert not math.isnan(answer.trace["nodes"][1]["value"])
