"""Tree of Thoughts on a task whose states are sums of digits."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Answer, ask, run
from promptlab.strategies import tree_of_thoughts
from promptlab.strategies.search.selecting import sampled
from promptlab.testing import Script


class Sums:
    """Reach a target in three steps, each adding a digit that the model proposes; the model judges by a number."""

    steps = 3

    def __init__(self, target):
        self.target = target

    def start(self, question):
        return ()

    async def propose(self, state, **options):
        reply = await ask(f"propose {list(state)}", **options)
        return [(*state, int(digit)) for digit in reply.text.split() if digit.isdigit()]

    async def value(self, state, **options):
        return float((await ask(f"value {list(state)}", **options)).text)

    def answer(self, state):
        return Answer(state) if sum(state) == self.target else Answer(None, why=f"the sum is {sum(state)}")


def scripted(value, proposals="1 2 3"):
    """A model that proposes the same digits everywhere and values a state by a function of it."""

    def reply(request):
        kind, state = request.messages[-1].content.split(" ", 1)
        return proposals if kind == "propose" else str(value(eval(state)))

    return Script(reply)


@settings(deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 3), min_size=27, max_size=27))
def test_it_is_algorithm_1_of_the_paper(breadth, noise):
    value = lambda state: noise[sum(digit * 3**i for i, digit in enumerate(state)) % 27]  # noqa: E731
    answer = run(tree_of_thoughts("q", Sums(6), breadth), scripted(value))
    frontier = [()]
    kept = [node for node in answer.trace["nodes"] if node["fate"] == "kept"]
    for step in range(3):
        children = [(*state, digit) for state, digit in product(frontier, (1, 2, 3))]
        judged = len(children) > breadth or step == 2  # not where all go on
        frontier = sorted(children, key=lambda state: -value(state) if judged else 0)[:breadth]  # ties keep their order
        level = sorted((node for node in kept if node["depth"] == step + 1), key=lambda node: node["order"])
        values = [(str(state), value(state) if judged else None) for state in frontier]
        assert [(node["state"], node["value"]) for node in level] == values
    assert answer.value == next((state for state in frontier if sum(state) == 6), None)


def test_a_level_is_two_waves_and_equal_states_are_judged_once_and_only_to_choose_from():
    model = scripted(sum, proposals="2 1 2")
    run(tree_of_thoughts("q", Sums(6), 2), model)
    asked = [request.messages[-1].content for request in model.requests]
    assert asked[:4] == ["propose []", "propose [2]", "propose [1]", "value [2, 2]"]  # both of the first level go on
    assert len(asked) == 1 + 2 * (2 + 4)
    assert len(set(asked)) == len(asked)


def test_a_level_is_judged_where_states_are_drawn_by_their_values():
    model = scripted(sum, proposals="2 1")
    run(tree_of_thoughts("q", Sums(6), 2, select=sampled(0)), model)
    assert [request.messages[-1].content for request in model.requests[:3]] == ["propose []", "value [2]", "value [1]"]


def test_without_a_solution_the_answer_says_what_is_wrong_with_the_best():
    assert run(tree_of_thoughts("q", Sums(100), 2), scripted(sum)).why == "the sum is 9"


def test_where_nothing_can_be_proposed_the_answer_says_at_which_step():
    answer = run(tree_of_thoughts("q", Sums(6), 2), scripted(sum, proposals="no idea"))
    assert (answer.value, answer.why) == (None, "at step 1 no thought is within the rules")
