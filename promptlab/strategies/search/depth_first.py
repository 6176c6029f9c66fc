"""Depth first: follow the most promising thought to its end, go back where it is hopeless, take the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from promptlab.strategies.search.selecting import greedy, known
from promptlab.strategies.search.task import S, Search
from promptlab.strategies.search.tree import Node, Tree, check_limits
from promptlab.types import Answer

Output = Literal["deepest", "last", "best"]

# Of the states followed, in the order followed: whose answer it is.
OUTPUTS: dict[Output, Callable[[list[Node[Any]]], Node[Any]]] = {
    "deepest": lambda nodes: max(nodes, key=lambda node: node.depth),  # the first of them
    "last": lambda nodes: nodes[-1],
    "best": lambda nodes: nodes[greedy(known([node.value for node in nodes]), 1)[0]],
}


async def depth_first(
    question: Any,
    task: Search[S],
    breadth: int = 3,
    *,
    prune_below: float | None = None,
    by_value: bool = True,
    max_states: int = 100,
    output: Output = "deepest",
    **options: Any,
) -> Answer:
    """Yao et al. 2023 (arXiv 2305.10601), Algorithm 2: depth-first search with pruning and backtracking.

    A state's children are judged in one wave, and the best `breadth` visited one by one, the best first; with
    `by_value=False`, as in the paper's crosswords, those are the first proposed, and only they are judged. A child
    whose value is below `prune_below` is not gone on from. The search ends at a solution, after `max_states` visits, or
    when nothing is left.

    Without a solution the answer is that of the first of the deepest states visited (`output` "deepest": what the
    paper's 78/60/20 on crosswords are), of the "last", or of the "best" by value; which one is noted in `trace`.
    Differs from the notebook: a state's children are judged together, equal states are visited once, and a failed
    request ends the branch, not the search.

    Prompt: the task's, the part that never changes first (promptlab.strategies.puzzles).
    Stop: a reply as the task has it; the search at a verified state, at a limit, or when nothing is left.
    Parse: the task's; a value that cannot be read is asked once more, and is then left out.
    Ties: the order proposed; a value that is not known is the siblings' median for the order, and prunes nothing.
    Cost: a proposal and its children's values (at most `breadth`, with `by_value=False`) for each state gone on from,
        in two waves each.
    Pinned by: tests/test_search.py; benchmarks/replays/crosswords.py
    """
    check_limits(breadth=breadth, max_states=max_states)
    tree = Tree(question, task, **options)
    visited: list[Node[S]] = []
    waiting = [tree.root]  # the next to visit is the last
    while waiting and not tree.ended:
        node = waiting.pop()
        if node is not tree.root:
            if len(visited) == max_states:
                tree.ended = f"{max_states} states were visited"
                break
            tree.follow(node)
            visited.append(node)
            if prune_below is not None and node.value is not None and node.value < prune_below:
                node.fate = "pruned"
                continue
        if node.depth < task.steps:
            waiting += reversed(await grown(tree, node, breadth, by_value))
    tree.ended = tree.ended or "nothing is left to visit"
    settings = {"breadth": breadth, "prune_below": prune_below, "output": output}
    return await tree.answer([OUTPUTS[output](visited)] if visited else [], "depth first", **settings)


async def grown(tree: Tree[S], node: Node[S], breadth: int, by_value: bool) -> list[Node[S]]:
    """A state's children, judged, in the order in which they are visited."""
    fresh = await tree.expand([node])
    if tree.ended:
        return []
    judged = await tree.judge(fresh if by_value else fresh[:breadth])
    order = greedy(known([child.value for child in judged]), breadth) if by_value else range(len(judged))
    chosen = [judged[i] for i in order]
    for child in fresh:
        if child not in chosen:
            child.fate, child.why = "passed over", f"{breadth} children of a state are visited at most"
    return chosen
