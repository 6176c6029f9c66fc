"""Programs driven in step: all that the live programs ask in one wave is one batch. No event loop, no threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from promptlab.errors import Unsupported
from promptlab.program import Calls, Exchange, Gather, Program, Requests, discard
from promptlab.runners.acting import Wait, act
from promptlab.runners.step import Node, Prefix, checked, names
from promptlab.tool import bound, observing
from promptlab.types import Backend, Message, Request


@dataclass(slots=True, eq=False)
class Live(Node):
    """A program in step: whose child it is and which, whose parent, and how it ended."""

    parent: Live | None = None
    place: int = 0
    family: Family | None = None
    ended: bool = False
    result: Any = None
    error: Exception | None = None
    in_step: ClassVar[bool] = True

    def close(self) -> None:
        """Ends the program and, before it, its children."""
        self.ended = True
        if self.family is not None:
            self.family.close()
        discard(self.program)


@dataclass(slots=True)
class Family:
    """The children of a gather. No more than `useful` of them are started: those after a failed one never count."""

    children: list[Live]
    prefix: Prefix
    useful: int = field(init=False)
    started: int = 0

    def __post_init__(self) -> None:
        self.useful = len(self.children)

    def settle(self) -> tuple[Any, Exception | None] | None:
        """The outcome, (results, None) or (None, error), or None while it is open."""
        while not self.prefix.decided:
            child = self.children[len(self.prefix.results)]
            if not child.ended:
                return None
            if child.error is not None:
                return None, child.error
            try:
                self.prefix.add(child.result)
            except Exception as error:  # raised by `until`: the parent's own function
                return None, error
        return self.prefix.results, None

    def close(self, first: int = 0) -> None:
        self.useful = min(self.useful, first)
        for child in self.children[first:]:
            child.close()


def in_step(programs: Sequence[Program[Any]], model: Backend, wait: Wait) -> list[Any]:
    """The results of programs on a batched backend. `wait` runs an async tool to its end."""
    roots = [Live(program, name=name) for program, name in zip(programs, names(programs), strict=True)]
    waves = _Waves(model, wait)
    try:
        for root in roots:
            waves.drive(root)
        while waves.asked:
            waves.send()
    finally:
        for root in roots:
            root.close()
    return [root.result for root in roots]


class _Waves:
    def __init__(self, model: Backend, wait: Wait) -> None:
        self.model, self.wait = model, wait
        self.asked: list[tuple[Live, list[Request]]] = []  # in tree order, as programs are driven in that order

    def send(self) -> None:
        """One batch, and every program that waited for it driven on."""
        wave = [(node, requests) for node, requests in self.asked if not node.ended]
        self.asked = []
        batch = [request for _, requests in wave for request in requests]
        replies = iter(checked(self.model, batch, self.model.generate(batch)) if batch else [])
        for node, requests in wave:
            answer = [Exchange(request, reply) for request, reply in zip(requests, replies, strict=False)]
            if not node.ended:
                self.drive(node, answer)

    def drive(self, node: Live, answer: Any = None) -> None:
        """Drives a program until it waits or ends, and then the parents whose gather that settles."""
        self.advance(node, answer, None)
        while node.ended and node.parent is not None:
            node = node.parent
            outcome = self.tend(node)
            if outcome is None:
                return
            self.advance(node, *outcome)

    def advance(self, node: Live, answer: Any, error: Exception | None) -> None:
        """Drives one program until it waits for replies or children, or ends."""
        while True:
            try:
                effect = node.step(answer, error)
            except StopIteration as stop:
                node.ended, node.result = True, stop.value
                return
            except Exception as raised:  # whatever a child raises is raised in its parent
                if node.parent is None:
                    raise
                node.ended, node.error = True, raised
                if node.parent.family is not None:
                    node.parent.family.close(node.place + 1)
                return
            outcome = self.happen(node, effect)
            if outcome is None:
                return
            answer, error = outcome

    def happen(self, node: Live, effect: Any) -> tuple[Any, Exception | None] | None:
        """The outcome of an effect, or None if the program has to wait for it."""
        if isinstance(effect, Requests):
            try:
                requests = node.stamped(effect, self.model)
            except Unsupported as unsupported:
                return None, unsupported
            if requests:
                self.asked.append((node, requests))
            return None if requests else ([], None)
        round = node.next_round()
        if isinstance(effect, Calls):
            return self.call(effect), None
        assert isinstance(effect, Gather)
        branches = effect.branches_from(node.branch, round)
        children = [
            Live(program, branch, name=node.name, parent=node, place=i)
            for i, (program, branch) in enumerate(zip(effect.programs, branches, strict=True))
        ]
        try:
            node.family = Family(children, Prefix(len(children), effect.until))
        except Exception as error:  # raised by `until`: the parent's own function
            discard(effect.programs)
            return None, error
        return self.tend(node)

    def tend(self, parent: Live) -> tuple[Any, Exception | None] | None:
        """Starts the smallest number of children that could decide; the outcome of their gather once it is settled."""
        family = parent.family
        assert family is not None
        while (outcome := family.settle()) is None:
            if family.started >= min(family.prefix.due, family.useful):
                return None
            family.started += 1
            self.advance(family.children[family.started - 1], None, None)
        family.close()
        parent.family = None
        return outcome

    def call(self, effect: Calls) -> list[Message]:
        messages: list[Message] = []
        for call in effect.calls:
            with observing(call, messages) as tell:
                tell(act(bound(call, effect.tools), self.wait))
        return messages
