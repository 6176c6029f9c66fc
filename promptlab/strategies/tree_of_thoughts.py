"""Search over partial solutions: propose next thoughts, judge them, keep the best, go on."""

from __future__ import annotations

from typing import Any

from promptlab.prompt import Prompt
from promptlab.strategies.search.drafting import Drafts
from promptlab.strategies.search.selecting import Select, greedy, known
from promptlab.strategies.search.task import S, Search
from promptlab.strategies.search.tree import Node, Tree, check_limits
from promptlab.types import Answer

BREADTH = 5  # as in the paper's Game of 24


async def tree_of_thoughts(
    question: Any,
    task: Search[S] | None = None,
    breadth: int | None = None,
    *,
    select: Select = greedy,
    max_states: int | None = None,
    prompt: Prompt = Prompt(),
    **options: Any,
) -> Answer:
    """Yao et al. 2023 (arXiv 2305.10601), Algorithm 1: breadth-first search.

    Each of the task's `steps` is two waves of requests: all states of the frontier propose, then all proposed states
    are judged; `breadth` of them go on, chosen by `select`: `greedy`, or `sampled(seed)`. Where `greedy` would take all
    none is judged, unless the answer is to be one of them, and a state that the task verifies ends the search before
    the second wave. The answer is that of the best last state that has one, else of the best, whose `why` tells what is
    wrong with it. After `max_states` judged, or where a Budget is spent, the best so far is the answer, with the
    reason: of states not judged yet the first. `trace` is the tree, as JSON has it: every state with its parents, value
    and fate, and the path to the answer's. Without a task, plans are drafted and voted on, then answers to `prompt`
    (`Drafts`).
    Differs from the paper's code: equal states are judged once and kept once, thoughts that break the task's rules are
    not judged (there, a tenth of all), nor are those of a step that leaves no choice, and the samples of a value that
    cannot be read do not count as 0.

    Prompt: the task's, the part that never changes first (promptlab.strategies.puzzles).
    Stop: a reply as the task has it; the search after the task's steps, at a verified state, or at a limit.
    Parse: the task's; a value that cannot be read is asked once more, and is then left out.
    Ties: states of equal value stay in the order proposed; one whose value is not known counts as the median.
    Cost: up to 1 + breadth · (steps - 1) proposals, and a value for each distinct state that keeps to the rules, but
        for steps before the last with no more of them than `breadth`; in at most 2 · steps waves, and one more a step
        where values are asked again.
    Pinned by: tests/test_tree_of_thoughts.py; tests/test_search.py; benchmarks/replays/game24.py
    """
    check_limits(breadth=breadth, max_states=max_states)
    search: Search[Any] = Drafts(prompt) if task is None else task
    breadth = breadth or int(getattr(search, "breadth", BREADTH))
    tree = Tree(question, search, max_states, **options)
    frontier, judged = [tree.root], True
    for step in range(search.steps):
        fresh = await tree.expand(frontier)
        if fresh and not tree.ended:
            judged = len(fresh) > breadth or select is not greedy or step + 1 == search.steps
            frontier = kept(tree, await tree.judge(fresh) if judged else fresh, select, breadth) or frontier
        elif not tree.ended:
            if not judged and any(search.answer(node.state).value is not None for node in frontier):
                frontier = best_first(await tree.judge(frontier))
            dead = sum(node.depth == step + 1 and node.fate == "dead end" for node in tree.nodes)
            none = f"none of the {dead} states is a solution" if dead else "no thought is within the rules"
            tree.ended = f"at step {step + 1} {none}"
        if tree.ended:
            break
    return await tree.answer(frontier, "breadth first", breadth=breadth)


def kept(tree: Tree[S], fresh: list[Node[S]], select: Select, breadth: int) -> list[Node[S]]:
    """Those that go on, best first; those of which no value is known in the order proposed."""
    chosen = [fresh[i] for i in select(known([node.value for node in fresh]), breadth, fresh[0].depth)] if fresh else []
    for node in fresh:
        node.fate = "passed over"
    for node in chosen:
        tree.follow(node)
    return chosen


def best_first(nodes: list[Node[S]]) -> list[Node[S]]:
    return [nodes[i] for i in greedy(known([node.value for node in nodes]), len(nodes))]
