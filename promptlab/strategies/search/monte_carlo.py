"""Monte Carlo tree search: go down where it pays or little is known, judge what is there, tell all above."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Generic

from promptlab.strategies.search.selecting import known
from promptlab.strategies.search.task import S, Search
from promptlab.strategies.search.tree import Node, Tree, check_limits
from promptlab.types import Answer


@dataclass(slots=True)
class Statistics(Generic[S]):
    """Visits and summed rewards by the nodes' ids, the range of all rewards so far, and which nodes have proposed."""

    c: float
    visits: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    total: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    low: float = math.inf
    high: float = -math.inf
    expanded: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)  # nothing is left below

    def note(self, path: list[Node[S]], reward: float) -> None:
        """Backpropagation: along the path that was gone, not along other parents."""
        self.low, self.high = min(self.low, reward), max(self.high, reward)
        for node in path:
            self.visits[node.id] += 1
            self.total[node.id] += reward

    def own(self, node: Node[S]) -> float:
        return self.total[node.id] / self.visits[node.id]

    def uct(self, parent: Node[S], node: Node[S]) -> float:
        """Rewards are put between 0 and 1 by the range of those so far (Schrittwieser et al. 2020, eq. 5)."""
        spread = self.high - self.low
        q = (self.own(node) - self.low) / spread if spread else 0.5
        return q + self.c * math.sqrt(math.log(self.visits[parent.id]) / self.visits[node.id])

    def children(self, node: Node[S]) -> list[Node[S]]:
        return [child for child in node.children if self.visits[child.id]]  # those that were judged

    def descent(self, root: Node[S]) -> list[Node[S]]:
        """The way from the root to the next leaf; empty when nothing is left to try."""
        while root.id not in self.closed:
            path = [root]
            while path[-1].id in self.expanded:
                live = [child for child in self.children(path[-1]) if child.id not in self.closed]
                live = [child for child in live if child not in path]
                if not live:
                    break
                path.append(max(live, key=lambda child: self.uct(path[-1], child)))
            else:
                return path
            self.closed.add(path[-1].id)
        return []

    def favourite(self, root: Node[S]) -> Node[S]:
        """The end of the way down by visits; of equally visited children the one of higher mean, then the first."""
        node = root
        while children := self.children(node):
            node = max(children, key=lambda child: (self.visits[child.id], self.own(child)))
        return node


async def monte_carlo(
    question: Any,
    task: Search[S],
    simulations: int = 30,
    *,
    c: float = math.sqrt(2),
    max_states: int | None = None,
    **options: Any,
) -> Answer:
    """Kocsis & Szepesvári 2006 (ECML), UCT, with a judged state in place of a random playout, as LATS has it
    (Zhou et al. 2023, arXiv 2310.04406).

    A simulation goes down from the root to a leaf, each time to the child of highest mean + c · √(ln N / n). There the
    leaf proposes, in one wave, and its children are judged, in another: their best value is the reward that is told to
    all nodes on the way. A leaf at depth `steps` is never expanded, its own value is told again. A state that the task
    verifies ends the search; without one, the answer is that of the last node going down by visits from the root.

    Nothing is drawn, so a run is the same for the same replies. Differs from LATS: no reflection, no reward from
    outside, and the gold answer is never looked at.

    Prompt: the task's, the part that never changes first (promptlab.strategies.puzzles).
    Stop: a reply as the task has it; the search at a verified state, after `simulations`, or at a limit.
    Parse: the task's; a value that cannot be read is asked once more, and is then left out.
    Ties: the child proposed first; a value that is not known is the siblings' median.
    Cost: a proposal and its children's values for each simulation that meets a new leaf; two waves each.
    Pinned by: tests/test_search.py
    """
    check_limits(simulations=simulations, max_states=max_states)
    tree = Tree(question, task, max_states, **options)
    seen: Statistics[S] = Statistics(c)
    for _ in range(simulations):
        path = seen.descent(tree.root)
        if not path:
            tree.ended = "all there is was tried"
        else:
            await simulate(tree, seen, path, task.steps)
        if tree.ended:
            break
    tree.ended = tree.ended or f"{simulations} simulations are done"
    return await tree.answer([seen.favourite(tree.root)], "Monte Carlo", simulations=simulations, c=c)


async def simulate(tree: Tree[S], seen: Statistics[S], path: list[Node[S]], steps: int) -> None:
    """Expands the leaf of a path, if it may be, and tells the path what there is."""
    leaf = path[-1]
    if leaf.order is None:
        tree.follow(leaf)
    if leaf.depth == steps:
        seen.note(path, seen.own(leaf))
        return
    seen.expanded.add(leaf.id)
    fresh = await tree.expand([leaf])
    judged = [] if tree.ended else await tree.judge(fresh)
    values = known([child.value for child in judged])
    for child, value in zip(judged, values, strict=True):
        seen.note([child], value)
    if values:
        seen.note(path, max(values))
