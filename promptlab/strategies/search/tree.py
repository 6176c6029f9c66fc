"""The tree that a search grows: every state that was proposed, what it was worth, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from promptlab.errors import BudgetExceeded, ModelError, SetupError, reason
from promptlab.program import attempt, gather
from promptlab.strategies.search.task import S, Search, hook
from promptlab.types import Answer


@dataclass(slots=True, eq=False)
class Node(Generic[S]):
    """A state. `parents` are all that proposed it, the first of them first; those that come back to it later, too.

    `fate` is what became of it: "open" (proposed, and not followed yet), "kept" (followed), "passed over" (others were
    better), "pruned" (judged hopeless), "invalid" (against the rules), "dead end" (it cannot be a solution), "solved".
    `why` says more, where there is more to say. `order` counts the states that were followed.
    """

    id: int
    state: S
    depth: int
    parents: list[Node[S]]
    children: list[Node[S]] = field(default_factory=list)
    value: float | None = None
    fate: str = "open"
    why: str = ""
    order: int | None = None

    def path(self) -> list[Node[S]]:
        """From the root to this one, by first parents."""
        found = [self]
        while found[-1].parents:
            found.append(found[-1].parents[0])
        return found[::-1]

    def above(self) -> Iterator[Node[S]]:
        """All from which it can be reached, itself among them."""
        waiting, met = [self], {self.id}
        while waiting:
            node = waiting.pop()
            yield node
            waiting += [parent for parent in node.parents if parent.id not in met]
            met |= {parent.id for parent in node.parents}


def check_limits(**given: int | None) -> None:
    """Raises SetupError for a limit of a search that is less than 1."""
    if wrong := [f"{name}={limit!r}" for name, limit in given.items() if limit is not None and limit < 1]:
        raise SetupError(f"The limits of a search are 1 or more, got {', '.join(wrong)}.")


class Tree(Generic[S]):
    """Grown by waves: `expand` has states propose, `judge` has their children valued; both all at once.

    `ended` says why no more can be asked: a solution, the limit of states, a budget, a model that does not answer.
    """

    def __init__(self, question: Any, task: Search[S], max_states: int | None = None, **options: Any) -> None:
        self.task, self.options, self.left = task, options, max_states
        self.ended = ""
        self.root: Node[S] = Node(0, task.start(question), 0, [], fate="kept", order=0)
        self.nodes = [self.root]
        self.met: dict[Hashable, Node[S]] = {hook(task, "canonical_key")(self.root.state): self.root}
        self.followed = 1
        self.solved: Node[S] | None = None

    async def expand(self, nodes: Sequence[Node[S]]) -> list[Node[S]]:
        """What some states propose, in one wave: the new ones that keep to the rules, in the order proposed.

        A state met before is not proposed anew: it has one more parent. A solution ends the search.
        """
        asked = await gather(attempt(self.task.propose(node.state, **self.options)) for node in nodes)
        self._failures(nodes, asked)
        fresh: list[Node[S]] = []
        for node, proposed in zip(nodes, asked, strict=True):
            if not isinstance(proposed, ModelError):
                fresh += [child for state in proposed if (child := self._grown(node, state)) is not None]
        return fresh

    def _grown(self, parent: Node[S], state: S) -> Node[S] | None:
        """The node of a proposed state, if one may go on from it."""
        child = Node(len(self.nodes), state, parent.depth + 1, [parent])
        if why := hook(self.task, "validate")(parent.state, state):
            child.fate, child.why = "invalid", why
        else:
            met = self.met.setdefault(hook(self.task, "canonical_key")(state), child)
            if met is not child:
                if parent not in met.parents and all(met is not node for node in parent.above()):
                    met.parents.append(parent)
                    parent.children.append(met)
                return None
            if (verdict := hook(self.task, "verify")(state)) is not None:
                child.fate = "solved" if verdict else "dead end"
            if verdict and self.solved is None:
                self.solved, self.ended = child, "a solution was found"
        self.nodes.append(child)
        parent.children.append(child)
        return child if child.fate == "open" else None

    async def judge(self, nodes: Sequence[Node[S]]) -> list[Node[S]]:
        """Values for some states, in one wave: for those that there is room for. Not known, or NaN, is None."""
        due = list(nodes if self.left is None else nodes[: self.left])
        if self.left is not None:
            self.left -= len(due)
            if len(due) < len(nodes) or not self.left:
                self.ended = "the limit of states is reached"
            for node in nodes[len(due) :]:
                node.fate, node.why = "passed over", "not judged: the limit of states is reached"
        values = await hook(self.task, "judge")([node.state for node in due], **self.options) if due else []
        self._failures(due, values)
        for node, value in zip(due, values, strict=True):
            if not isinstance(value, ModelError):
                node.value = None if value is None or math.isnan(value) else value
                node.why = node.why or ("" if node.value is not None else "no value could be read")
        return due

    def _failures(self, nodes: Sequence[Node[S]], results: Sequence[Any]) -> None:
        """A failed request is its state's affair; a budget that is spent, or a wave of nothing else, ends the search.

        Raises the first ModelError where there is nothing yet to go on from.
        """
        failed = [result for result in results if isinstance(result, ModelError)]
        for node, result in zip(nodes, results, strict=True):
            if isinstance(result, ModelError):
                node.why = reason(result)
        spent = next((error for error in failed if isinstance(error, BudgetExceeded)), None)
        if failed and (spent or len(failed) == len(results)):
            if len(self.nodes) == 1:
                raise failed[0]
            self.ended = reason(spent or failed[0])

    def follow(self, node: Node[S]) -> None:
        """Notes that a state is the next to go on from."""
        node.fate, node.order = "kept", self.followed
        self.followed += 1

    async def answer(self, nodes: Sequence[Node[S]], strategy: str, **settings: Any) -> Answer:
        """The answer of the solution, else of the first of some states that has one, else of the first state.

        Why there is none, or why the search ended before it was done, is the answer's `why`.
        """
        several = [self.solved] if self.solved else list(nodes) or [self.root]
        node = next((node for node in several if self.task.answer(node.state).value is not None), several[0])
        answer = await attempt(hook(self.task, "finalize")(node.state, **self.options))
        if isinstance(answer, ModelError):
            answer = Answer(None, why=reason(answer))
        said = "" if node is self.root else answer.why
        whys = dict.fromkeys(why for why in (said, "" if self.solved else self.ended) if why)
        trace = self.told(node, {"strategy": strategy, **settings, "ended": self.ended or "all steps are done"})
        return answer.but(why="; ".join(whys) or None, trace=trace)

    def told(self, last: Node[S], about: dict[str, Any]) -> dict[str, Any]:
        """All of it as JSON has it: `nodes` in the order met, `path` the ids from the root to the answer's state."""
        show = hook(self.task, "show")
        nodes = [
            {
                "id": node.id,
                "parents": [parent.id for parent in node.parents],
                "depth": node.depth,
                "state": show(node.state),
                "value": node.value,
                "fate": node.fate,
                "why": node.why,
                "order": node.order,
            }
            for node in self.nodes
        ]
        return {"kind": "tree", **about, "nodes": nodes, "path": [node.id for node in last.path()]}
