"""Best first: always go on from the most promising state there is, wherever it stands."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from promptlab.strategies.search.selecting import known
from promptlab.strategies.search.task import S, Search
from promptlab.strategies.search.tree import Node, Tree
from promptlab.types import Answer


async def best_first(
    question: Any, task: Search[S], at_once: int = 1, *, max_states: int = 100, **options: Any
) -> Answer:
    """Pearl 1984 (Heuristics, ch. 2): greedy best-first search, a model proposing and judging.

    Each round takes the `at_once` most promising of all states that have not been gone on from, wherever they stand in
    the tree: one wave in which they propose, one in which what they proposed is judged. It ends at a solution, when
    `max_states` were judged, or when no state shallower than the task's `steps` is left.

    Prompt, stop, parse: the task's.
    Hyper-parameters: `at_once` 1, more of which are fewer and larger waves; `max_states` 100.
    Output: without a solution, the deepest of the states with the highest value.
    Ties: the state met first; an unread value is the median of those judged with it.
    Cost: at most `max_states` values and a proposal for every state gone on from; two waves a round.
    Pinned by: an exact search of the same tree (`tests/test_search.py`).
    """
    tree = Tree(question, task, max_states, **options)
    best: list[Node[S]] = []
    waiting: list[tuple[float, int, Node[S]]] = [(0.0, 0, tree.root)]
    while waiting and not tree.ended:
        chosen = [heappop(waiting)[2] for _ in range(min(at_once, len(waiting)))]
        for node in chosen[chosen[0] is tree.root :]:
            tree.follow(node)
        fresh = await tree.expand(chosen)
        if tree.solved:
            break
        judged = await tree.judge(fresh)
        best = sorted([*best, *judged], key=lambda node: (-(node.value or 0.0), -node.depth))[:1]
        for node, value in zip(judged, known([node.value for node in judged]), strict=True):
            if node.depth < task.steps:
                heappush(waiting, (-value, node.id, node))
    tree.ended = tree.ended or "no state is left to go on from"
    return await tree.answer(best, "best first", at_once=at_once)
