"""Puzzles as tasks of a search: what they ask, read, check, and answer."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import run
from promptlab.errors import SetupError
from promptlab.rules import countdown, crossword, sliding
from promptlab.rules.arithmetic import (
    OPERATORS,
    composed,
    fault,
    is_solution,
    numbers_of,
    read,
    solve,
    told,
    value_of,
)
from promptlab.strategies import tree_of_thoughts
from promptlab.strategies.puzzles import PUZZLES, Countdown, Game24, MiniCrosswords, SlidingPuzzle, puzzle_for
from promptlab.strategies.puzzles.crosswords import proposals, worth_of
from promptlab.strategies.puzzles.game24 import PROPOSE
from promptlab.strategies.search import best_first, depth_first
from promptlab.testing import Script
from promptlab.tiny.data import search

# ---- arithmetic


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("10 - 4 = 6 (left: 5 6 6)", "10 - 4 = 6 | 5 6 6"),
        ("- 2 * 2.5 = 5 (left: 1 5)", "2 * 5/2 = 5 | 1 5"),
        ("3. 8 / 3 = 8/3 (left: 3 8/3)", "8 / 3 = 8/3 | 8/3 3"),
        ("6 + (-1) = 5 (left: 5 10)", "6 + -1 = 5 | 5 10"),
        ("Possible next steps:", None),
        ("10 - 4 = 6", None),
        ("8 / 3 ≈ 2.67 (left: 2.67)", None),
        ("1 + 1 = 2 (left: none)", None),
        ("3/0 + 1 = 1 (left: 1)", None),
    ],
)
def test_a_step_is_read_as_it_is_written(line, step):
    found = read(line)
    assert (found and f"{found.a} {found.sign} {found.b} = {found.result} | {told(found.left)}") == step


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("10 - 4 = 6 (left: 5 6 6)", None),
        ("4 - 10 = -6 (left: -6 5 6)", None),
        ("10 - 4 = 7 (left: 5 6 7)", "10 - 4 is 6"),
        ("10 - 3 = 7 (left: 5 6 7)", "3 is not among the numbers"),
        ("10 + 10 = 20 (left: 4 5 6 20)", "10 is not among the numbers"),
        ("10 - 4 = 6 (left: 5 6)", "what is left is 5 6 6"),
    ],
)
def test_what_is_wrong_with_a_step_is_said(line, why):
    assert fault(numbers_of("4 5 6 10"), read(line)) == why


def test_nothing_is_divided_by_zero():
    assert fault(numbers_of("0 4"), read("4 / 0 = 0 (left: 0)")) == "it divides by 0"
    assert value_of("4 / (2 - 2)") is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 13), min_size=4, max_size=4))
def test_a_solution_is_composed_of_its_steps(numbers):
    numbers = tuple(sorted(map(Fraction, numbers)))
    if steps := solve(numbers):
        assert is_solution(composed(steps), numbers)
        for before, step in zip([numbers, *(step.left for step in steps)], steps, strict=False):
            assert fault(before, step) is None


@pytest.mark.parametrize(
    "hostile", ["__import__('os').system('true')", "2 ** 99999", "a", "", "(" * 500, "24.0", "-24"]
)
def test_an_expression_is_arithmetic_of_whole_numbers_or_nothing(hostile):
    assert value_of(hostile) is None


# ---- Game of 24


def arithmetician(request):
    """Proposes all steps, and one line that is wrong; finds everything likely."""
    if request.messages[0].content != PROPOSE:
        return "Some way may be there.\nlikely"
    numbers = numbers_of(request.messages[-1].content)
    lines = ["Here are steps:", f"{numbers[0]} + {numbers[1]} = 99 (left: 99)"]
    for i in range(len(numbers)):
        for j in set(range(len(numbers))) - {i}:
            for sign, apply in OPERATORS.items():
                if sign != "/" or numbers[j]:
                    result = apply(numbers[i], numbers[j])
                    left = sorted([*(n for k, n in enumerate(numbers) if k not in (i, j)), result])
                    lines.append(f"{numbers[i]} {sign} {numbers[j]} = {result} (left: {told(left)})")
    return "\n".join(lines)


def test_a_puzzle_is_five_waves_where_the_paper_has_forty_five_calls_one_by_one():
    model = Script(arithmetician)
    answer = run(tree_of_thoughts("4 6 7 12", Game24()), model)
    assert len(model.batches) == 5  # of each of the first two steps two, and the last checks itself
    assert sum(model.batches) > 45
    assert {node["fate"] for node in answer.trace["nodes"]} >= {"kept", "passed over", "invalid", "dead end"}


def test_the_answer_is_composed_and_ends_the_search():
    answer = run(best_first("3 3 8 8", Game24(samples=1), at_once=50, max_states=5000), Script(arithmetician))
    assert is_solution(answer.value, numbers_of("3 3 8 8"))
    assert answer.value.endswith(" = 24")
    assert len(answer.text.split("\n")) == 3
    assert answer.trace["ended"] == "a solution was found"


@pytest.mark.parametrize("task", [Game24(), SlidingPuzzle(), MiniCrosswords()])
def test_prompts_begin_with_what_never_changes(task):
    questions = {Game24: "4 9 10 13", SlidingPuzzle: "1 2 3 / 4 _ 5 / 7 8 6", MiniCrosswords: "\n".join("abcdefghij")}
    replies = {Game24: "4 + 9 = 13 (left: 10 13 13)", SlidingPuzzle: "up: 1 _ 3 / 4 2 5 / 7 8 6"}
    model = Script(lambda request: replies.get(type(task), "h1. tasks (high)\nh2. motor (low)"))
    run(depth_first(questions[type(task)], task, max_states=4), model)
    firsts = {request.messages[0] for request in model.requests}
    assert {first.role for first in firsts} == {"system"}
    assert len(firsts) == 2  # one to propose, one to value
    assert all([m.role for m in request.messages] == ["system", "user"] for request in model.requests)
    for first in firsts:
        lasts = [len(r.messages[1].content) for r in model.requests if r.messages[0] == first]
        assert len(first.content) > max(lasts)


@pytest.mark.parametrize("question", ["", "24", "1 2 3 4 5"])
def test_a_question_that_is_no_puzzle_is_refused_by_an_example(question):
    with pytest.raises(SetupError, match="Game of 24 takes 2 to 4 numbers, as in 4 9 10 13; got"):
        run(tree_of_thoughts(question, Game24()), Script())


# ---- Countdown, in the words of the bundled model


def test_countdown_asks_in_the_very_words_that_are_taught():
    taught = set()
    for seed in range(3000):
        taught |= {said.content for said in search.countdown(Random(seed), 300) if said.role == "user"}
    model = Script(lambda request: "\n".join(step for step, _ in countdown.moves(numbers(request))), scores=even)
    asked = set()
    for said in sorted(taught):
        if said.endswith(countdown.ALL):
            shown, target = said.split("\n")[:2]
            run(tree_of_thoughts(f"{shown} {target}", Countdown()), model)
    asked = {request.messages[-1].content for request in model.requests}
    assert all(len(request.messages) == 1 for request in model.requests)
    assert len(asked & taught) > 100
    assert {text.split("\n")[-1] for text in asked} == {countdown.ALL, countdown.CAN}


def numbers(request):
    return tuple(map(int, request.messages[-1].content.split("\n")[0].removeprefix("Numbers: ").split()))


def even(request):
    return [-1.0] * len(request.continuations)


def test_countdown_values_a_state_by_the_models_own_probabilities():
    def scores(request):
        left = numbers(request)
        return [-0.1, -3.0, -9.0] if countdown.value_of(left, 26) != "impossible" else [-9.0, -3.0, -0.1]

    model = Script(lambda request: "\n".join(step for step, _ in countdown.moves(numbers(request))), scores=scores)
    answer = run(tree_of_thoughts("3 5 7 26", Countdown(), 1), model)
    assert is_solution(answer.value, numbers_of("3 5 7"), 26)
    values = {node["state"]: node["value"] for node in answer.trace["nodes"] if node["value"] is not None}
    assert max(values.values()) > 18
    assert min(values.values()) < 1


def test_countdown_keeps_to_whole_numbers_and_asks_for_words_where_there_are_no_probabilities():
    def reply(request):
        if request.messages[-1].content.endswith(countdown.CAN):
            return "likely"
        return "3 - 5 = -2 (left: -2 7)\n5 - 3 = 2 (left: 2 7)"

    backend = Script(reply)
    answer = run(tree_of_thoughts("3 5 7 26", puzzle_for(backend, "countdown")), backend)
    invalid = [node for node in answer.trace["nodes"] if node["fate"] == "invalid"]
    assert (invalid[0]["state"], invalid[0]["why"]) == (
        "3 - 5 = -2 (left: -2 7)",
        "it is not a legal step",
    )
    assert "likely" not in [node["value"] for node in answer.trace["nodes"]]


# ---- sliding tiles


def slider(request):
    """Proposes all moves; judges by the tiles that are not in their places."""
    told_board, told_goal = (
        line.split(": ")[1].replace(" / ", " ").split() for line in request.messages[-1].content.split("\n")
    )
    if "How many moves" in request.messages[0].content:
        return f"They are counted.\n{sum(a != b for a, b in zip(told_board, told_goal, strict=True))}"
    board = tuple(0 if tile == "_" else int(tile) for tile in told_board)
    return "\n".join(f"{name}: {sliding.shown(after)}" for name, after in sliding.slides(board).items())


@pytest.mark.parametrize("board", ["1 2 3 / 4 _ 5 / 7 8 6", "4 1 2 / 7 5 3 / _ 8 6", "1 2 3 / _ 4 5"])
def test_moves_lead_from_a_board_to_the_goal(board):
    answer = run(best_first(board, SlidingPuzzle()), Script(slider))
    state = SlidingPuzzle().start(board).board
    for move in answer.value.split():
        state = sliding.slides(state)[move]
    assert state in (sliding.GOAL, sliding.GOAL_8)


def test_a_move_that_leads_elsewhere_than_it_says_breaks_the_rules():
    model = Script(["up: 1 _ 3 / 4 2 5 / 7 6 8\ndown: 1 2 3 / 4 8 5 / 7 _ 6\nleft: 9", "2"])
    answer = run(tree_of_thoughts("1 2 3 / 4 _ 5 / 7 8 6", SlidingPuzzle(steps=1)), model)
    assert [node["why"] for node in answer.trace["nodes"] if node["fate"] == "invalid"] == [
        "that move leads to 1 _ 3 / 4 2 5 / 7 8 6",
        "that move leads to 1 2 3 / _ 4 5 / 7 8 6",
    ]
    assert answer.why == "after 1 moves the board is 1 2 3 / 4 8 5 / 7 _ 6"


@pytest.mark.parametrize("board", ["1 2 3 / 4 5 6 / 8 7 _", "1 2 3 / 5 4 _", "1 2 3", "1 1 2 / 3 4 _"])
def test_a_board_that_cannot_be_solved_is_refused(board):
    with pytest.raises(SetupError):
        SlidingPuzzle().start(board)


# ---- mini crosswords


CLUES = ["c1", "c2", "c3", "c4", "c5", "d1", "d2", "d3", "d4", "d5"]


def test_words_are_weighed_by_the_confidence_of_all_proposals():
    replies = ["h1. tasks (low)\nv1. twist (certain)", "h1. tasks (certain)\nh1. TASKS (low)\nh2. too long (high)"]
    states = run(MiniCrosswords(proposals=2).propose(MiniCrosswords().start(CLUES)), Script(replies))
    assert [state.words[-1] for state in states] == ["h1. tasks", "v1. twist"]
    assert proposals("- v5. drier (medium)") == [("v5. drier", 0.2)]


def test_a_word_that_overwrites_a_letter_breaks_the_rules():
    task = MiniCrosswords()
    first = task.start(CLUES)._replace(board=crossword.put(crossword.EMPTY, "h1", "tasks"))
    crossing = first._replace(board=crossword.put(first.board, "v1", "twist"))
    clashing = first._replace(board=crossword.put(first.board, "v1", "amass"))
    assert task.validate(first, crossing) is None
    assert task.validate(first, clashing) == "it overwrites T where h1 and v1 cross"


def test_a_state_with_a_word_that_fits_nothing_is_hopeless():
    assert worth_of([1.0, 0.5, None]) == 1.5
    assert worth_of([1.0, 0.5, -1.0]) == -1.0
    assert worth_of([None, None]) is None
    assert worth_of([]) == 0.0


def test_a_crossword_is_searched_with_pruning_and_gives_its_deepest_board():
    def reply(request):
        if request.messages[0].content.startswith("This is a crossword"):
            return "h1. tasks (certain)\nh2. motor (high)\nv1. tmxxx (low)"
        return "impossible" if ": TM" in request.messages[-1].content else "sure"

    answer = run(depth_first(CLUES, MiniCrosswords(proposals=1), prune_below=0, by_value=False), Script(reply))
    pruned = [node for node in answer.trace["nodes"] if node["fate"] == "pruned"]
    assert pruned
    assert all("\nTASKS\nMOTOR" in node["state"] or "TMXXX" not in node["state"] for node in pruned)
    assert answer.trace["output"] == "deepest"
    assert "letters are missing" in answer.why


def test_every_puzzle_has_a_name_on_the_command_line():
    assert all(hasattr(puzzle_for(Script(), name), "propose") for name in PUZZLES)
    with pytest.raises(SetupError, match=r"There is no task 'chess'\. Tasks: game24, countdown, 8-puzzle, crosswords"):
        puzzle_for(Script(), "chess")
