"""Best first: always go on from the most promising state there is, wherever it stands."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from promptlab.strategies.search.selecting import known
from promptlab.strategies.search.task import S, Search
from promptlab.strategies.search.tree import Node, Tree, check_limits
from promptlab.types import Answer


async def best_first(
    question: Any, task: Search[S], at_once: int = 1, *, max_states: int = 100, **options: Any
) -> Answer:
    """Pearl 1984 (Heuristics, ch. 2): greedy best-first search, a model proposing and judging as in Koh et al. 2024
    (arXiv 2407.01476), who search the states of web pages.

    Each round takes the `at_once` most promising of all states that have not been gone on from, wherever they stand in
    the tree: one wave in which they propose, one in which what they proposed is judged. It ends at a solution, when
    `max_states` were judged, or when no state shallower than the task's `steps` is left.

    Without a solution the answer is that of the deepest of the states with the highest value.

    Prompt: the task's, the part that never changes first (promptlab.strategies.puzzles).
    Stop: a reply as the task has it; the search at a verified state, at a limit, or when nothing is left.
    Parse: the task's; a value that cannot be read is asked once more, and is then left out.
    Ties: the state met first; a value that is not known is the median of those judged with it.
    Cost: at most `max_states` values, and a proposal for each state gone on from; two waves a round.
    Pinned by: tests/test_search.py
    """
    check_limits(at_once=at_once, max_states=max_states)
    tree = Tree(question, task, max_states, **options)
    best: tuple[float, int, Node[S]] | None = None  # value, depth and node
    waiting: list[tuple[float, int, Node[S]]] = [(0.0, 0, tree.root)]
    while waiting and not tree.ended:
        chosen = [heappop(waiting)[2] for _ in range(min(at_once, len(waiting)))]
        for node in chosen[chosen[0] is tree.root :]:
            tree.follow(node)
        fresh = await tree.expand(chosen)
        judged = [] if tree.ended else await tree.judge(fresh)
        for node, value in zip(judged, known([node.value for node in judged]), strict=True):
            if best is None or (value, node.depth) > best[:2]:
                best = value, node.depth, node
            if node.depth < task.steps:
                heappush(waiting, (-value, node.id, node))
    tree.ended = tree.ended or "no state is left to go on from"
    return await tree.answer([best[2]] if best else [], "best first", at_once=at_once)
