"""What the synthetic documents teach is right: every step, every value of a state, every call and its answer."""

from __future__ import annotations

import operator
import re
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.prompt import Prompt
from promptlab.rules import countdown
from promptlab.tiny.data import search
from promptlab.tiny.data.chat import STEP_BY_STEP, by_rank
from promptlab.tiny.data.instructions import OPERATIONS, critique, held_out, induction, instruction, pairs
from promptlab.tiny.data.multiplication import factors, multiplication, product
from promptlab.tiny.data.multiplication import held_out as product_held_out
from promptlab.tiny.data.reasoning import DIRECT_STEPS, hops, swapping, swaps, word_problem, word_problems
from promptlab.tiny.data.style import ADVICE, BLUNT, POLITE, advising, worth
from promptlab.tiny.data.tools import OBSERVATION, UNKNOWN, tool_use

seeds = st.integers(0, 10**6)
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def is_right(step: str) -> bool:
    a, sign, b, c = STEP.match(step).groups()
    return OPERATORS[sign](int(a), int(b)) == int(c)


# ---- reasoning


def change(sentence: str) -> int:
    """What a sentence of a word problem does to the number."""
    n = int(re.search(r"\d+", sentence)[0])
    return n if re.search(r"more come|Add|put in|arrive", sentence) else -n


@settings(deadline=None, max_examples=300)
@given(seeds, st.integers(1, 6))
def test_every_step_of_a_word_problem_is_right_and_leads_to_the_answer(seed, n_steps):
    question, steps, result = word_problem(Random(seed), n_steps)
    start, *changes = question.split(". ")[:-1]
    expected = int(re.search(r"\d+", start)[0]) + sum(map(change, changes))
    assert len(changes) == n_steps
    assert all(map(is_right, steps))
    assert all(0 <= int(STEP.match(step)[4]) <= 99 for step in steps)
    assert int(STEP.match(steps[-1])[4]) == int(result) == expected


@settings(deadline=None)
@given(seeds, st.integers(1, 6))
def test_swaps_end_where_doing_them_ends(seed, n_steps):
    question, steps, answer = swaps(Random(seed), n_steps)
    has = dict(re.findall(r"The (\w+) has the (\w+)\.", question))
    *swapped, last = steps
    for (one, other), step in zip(re.findall(r"The (\w+) and the (\w+) swap", question), swapped, strict=True):
        assert step == f"{one} {has[one]}, {other} {has[other]} > {one} {has[other]}, {other} {has[one]}."
        has[one], has[other] = has[other], has[one]
    asked = re.search(r"What has the (\w+)\?", question)[1]
    assert (len(swapped), last, answer) == (n_steps, f"{asked} {answer}.", has[asked])


@settings(deadline=None)
@given(seeds, st.integers(1, 6))
def test_hops_go_along_the_roads_that_there_are(seed, n_steps):
    question, steps, answer = hops(Random(seed), n_steps)
    roads = re.findall(r"(\w+) > (\w+)", question)
    way = [tuple(step.removesuffix(".").split(" > ")) for step in steps]
    assert len({one for one, _ in roads}) == len(roads)
    assert set(way) <= set(roads)
    assert all(end == start for (_, end), (start, _) in pairwise(way))
    assert (way[0][0], len(way), way[-1][1]) == (
        re.search(r"From (\w+),", question)[1],
        int(re.search(r"(\d) steps", question)[1]),
        answer,
    )


@pytest.mark.parametrize("family", [word_problems, swapping])
def test_only_short_questions_are_answered_directly(family):
    direct = worked = 0
    for seed in range(200):
        chat = family(Random(seed), 300)
        for asked, said in zip(chat[::2], chat[1::2], strict=True):
            if STEP_BY_STEP in asked.content:
                worked += 1
                assert Prompt().parse(said.content).value is not None
                assert "The answer is" in said.content
            else:
                direct += 1
                assert len(said.content.split()) == 1
                changes = asked.content.count(".") - (1 if family is word_problems else asked.content.count("has the"))
                assert changes <= DIRECT_STEPS + (family is swapping)
    assert min(direct, worked) > 50


@settings(deadline=None, max_examples=300)
@given(seeds)
def test_every_way_to_a_product_is_right(seed):
    rng = Random(seed)
    a, b = factors(rng)
    question, steps, answer = product(rng, a, b)
    assert question == f"{a} * {b} = ?"
    assert all(map(is_right, steps))
    assert int(STEP.match(steps[-1])[4]) == int(answer) == a * b


def test_a_product_has_several_ways_and_some_products_are_never_taught():
    assert len({tuple(product(Random(seed), 23, 47).steps) for seed in range(200)}) >= 10
    taught = set()
    for seed in range(2000):
        for message in multiplication(Random(seed), 300)[::2]:
            a, sign, b = message.content.split()[:3]
            if sign == "*":
                taught.add((int(a), int(b)))
    assert not [pair for pair in taught if min(pair) > 12 and product_held_out(*pair)]
    kept = [factors(Random(seed), kept=True) for seed in range(300)]
    assert all(product_held_out(*pair) for pair in kept)


# ---- search


def expressions(numbers: tuple[int, ...]) -> set[int]:
    """All that some numbers can be made to be, by another way: splitting them in two in all ways."""
    if len(numbers) == 1:
        return set(numbers)
    found = set()
    for mask in range(1, 2 ** len(numbers) - 1):
        left = tuple(n for i, n in enumerate(numbers) if mask >> i & 1)
        right = tuple(n for i, n in enumerate(numbers) if not mask >> i & 1)
        for a in expressions(left):
            for b in expressions(right):
                found |= {n for n in (a + b, a * b, a - b if a >= b else -1) if 0 <= n <= countdown.MOST}
                if b and a % b == 0:
                    found.add(a // b)
    return found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 13), min_size=2, max_size=4).map(sorted).map(tuple))
def test_what_numbers_reach_is_what_all_expressions_reach(numbers):
    assert search.reachable(numbers) == expressions(numbers)


@settings(deadline=None, max_examples=100)
@given(seeds, st.sampled_from([2, 3, 4]))
def test_a_solution_is_made_of_legal_steps(seed, n):
    rng = Random(seed)
    numbers, target = search.puzzle(rng, n)
    assert not search.held_out(numbers, target)
    for step in search.solution(rng, numbers, target):
        assert is_right(step)
        numbers = dict(search.moves(numbers))[step]
    assert numbers == (target,)


def test_everything_said_about_a_puzzle_is_true():
    kinds = {"value": 0, "step": 0, "steps": 0, "whole": 0}
    for seed in range(400):
        chat = search.countdown(Random(seed), 300)
        for asked, said in zip(chat[::2], chat[1::2], strict=True):
            first, second, wanted = asked.content.split("\n")
            numbers = tuple(map(int, first.removeprefix("Numbers: ").split()))
            target = int(second.removeprefix("Target: "))
            legal = dict(search.moves(numbers))
            if wanted == search.CAN:
                kinds["value"] += 1
                assert (said.content == "impossible") == (target not in expressions(numbers))
                assert said.content != "sure" or len(numbers) <= 2
            elif wanted == search.NEXT:
                kinds["step"] += 1
                assert said.content in legal
            elif wanted == search.ALL:
                kinds["steps"] += 1
                assert set(said.content.split("\n")) <= set(legal)
            else:
                kinds["whole"] += 1
                assert wanted == STEP_BY_STEP
                assert said.content.endswith(f" The answer is {target}.")
    assert min(kinds.values()) > 30


def test_slides_are_legal_and_mostly_lead_to_the_goal():
    far = search.distances()
    assert len(far) == 360  # half of the ways to put five tiles and a gap
    nearer = steps = 0
    for seed in range(100):
        chat = search.sliding(Random(seed), 300)
        for asked, said in zip(chat[::2], chat[1::2], strict=True):
            shown = asked.content.split("\n")[0].removeprefix("Slide: ")
            board = tuple(0 if c == "_" else int(c) for c in shown if c in "_12345")
            name, after = said.content.split(": ")
            new = search.slides(board)[name]
            assert search.shown(new) == after
            steps, nearer = steps + 1, nearer + (far[new] < far[board])
    assert nearer / steps > 0.7


# ---- tools


def test_calls_answer_what_they_are_asked_and_lead_to_the_answer():
    failed = used = 0
    for seed in range(500):
        head, *chat = tool_use(Random(seed), 300)
        if head.role == "user":
            assert chat[0].content == UNKNOWN or int(chat[0].content) < 100
            continue
        used += 1
        seen = []
        for said, told in zip(chat[1:-1:2], chat[2::2], strict=True):
            tool, argument = re.fullmatch(r"Thought: .+\nAction: (\w+)\[(.+)\]", said.content).groups()
            assert f"{tool}[" in head.content
            observed = told.content.removeprefix(OBSERVATION)
            if tool == "calculator":
                assert is_right(f"{argument} = {observed}")
            failed += observed.startswith("no such entry")
            seen.append(observed)
        assert chat[-1].content.endswith(f"\nAction: finish[{seen[-1]}]")
    assert used > 300
    assert failed > 10


# ---- instructions

EXAMPLES = {
    "first": "b", "last": "c", "second": "a", "count": "3", "reverse": "c a b", "sort": "a b c",
    "repeat": "b a c b a c", "drop first": "a c", "drop last": "b a", "swap": "c a b", "comma": "b, a, c",
    "copy": "b a c", "largest": "30", "smallest": "4", "add one": "13 5 31",
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_what_its_name_says(name):
    operation = OPERATIONS[name]
    assert operation.do(["12", "4", "30"] if operation.numbers else ["b", "a", "c"]) == EXAMPLES[name]


def test_phrasings_are_many_of_unequal_frequency_and_some_are_never_taught():
    first = OPERATIONS["first"]
    assert len(set(first.phrasings)) == len(first.phrasings) >= 100
    said = [first.phrase(Random(seed)) for seed in range(2000)]
    assert set(said) < set(first.phrasings)
    assert not any(map(held_out, said))
    assert any(map(held_out, first.phrasings))
    assert max(map(said.count, set(said))) > 20 * min(map(said.count, set(said)))


def test_what_an_instruction_is_answered_with_is_what_it_asks():
    by_phrasing = {phrase: op for op in OPERATIONS.values() for phrase in op.phrasings}
    assert len(by_phrasing) == sum(len(op.phrasings) for op in OPERATIONS.values())  # no words ask for two things
    for seed in range(300):
        chat = instruction(Random(seed), 300)
        head = chat.pop(0).content if chat[0].role == "system" else None
        for asked, said in zip(chat[::2], chat[1::2], strict=True):
            phrase, words = (head, asked.content) if head else asked.content.split("\n")
            assert by_phrasing[phrase].do(words.split()) == said.content


@pytest.mark.parametrize("family", [induction, critique])
def test_instructions_found_are_among_those_taught(family):
    known = {phrase for op in OPERATIONS.values() for phrase in op.phrasings}
    for seed in range(200):
        assert family(Random(seed), 300)[-1].content in known


def test_pairs_are_of_one_operation():
    for seed in range(200):
        chat = pairs(Random(seed), 300)
        shown = [(a.content.split(), b.content) for a, b in zip(chat[::2], chat[1::2], strict=True)]
        numbers = all(word.isdigit() for words, _ in shown for word in words)
        assert any(
            all(op.do(words) == said for words, said in shown) for op in OPERATIONS.values() if op.numbers == numbers
        )


def test_ranks_are_drawn_by_zipfs_law():
    drawn = [by_rank(Random(seed), "abc") for seed in range(3000)]
    assert drawn.count("a") / drawn.count("b") == pytest.approx(2, rel=0.15)
    assert drawn.count("a") / drawn.count("c") == pytest.approx(3, rel=0.15)


# ---- style


@pytest.mark.parametrize("advice", ADVICE, ids=lambda advice: advice.about)
def test_the_gold_program_ranks_polite_before_blunt_and_right_before_all(advice):
    asked = f"What to do about {advice.about}?"

    def value(templates: tuple[str, ...], what: str) -> list[float]:
        return [worth(asked, template.format(what=what, What=what.capitalize())) for template in templates]

    assert min(value(POLITE, advice.plain)) > max(value(BLUNT, advice.plain)) > 0
    assert min(value(POLITE, advice.plain)) > max(value(POLITE, advice.jargon))
    assert worth(asked, "Please, thank you, kindly.") == 0
    assert worth("What to do about the weather?", f"Please {advice.plain}.") == 0


def test_advice_demanded_in_a_style_is_in_that_style():
    for seed in range(200):
        chat = advising(Random(seed), 100)
        polite = any(word in chat[-1].content.lower() for word in ("please", "kindly", "thank you"))
        if chat[0].role == "system":
            assert polite == (chat[0].content == "Be polite.")
        assert worth(chat[-2].content, chat[-1].content) > 0
