"""The calls of a program as a tree: by their branches, which are (round, child, round, child, …, round)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from promptlab.types import Usage

Branch = tuple[int, ...]
DEEPEST = 40  # gathers within gathers; what is below stands in a list
NOTHING = Usage()
NO_ERROR = ("cancelled", "unknown")  # outcomes of calls of which nothing is known to have gone wrong


class Line(NamedTuple):
    """What is kept of every call, however many there are."""

    id: int
    at: float
    program: str
    branch: Branch
    model: str
    decision: str
    outcome: str
    seconds: float
    usage: Usage
    size: int

    @property
    def failed(self) -> bool:
        return self.outcome != "ok" and self.outcome not in NO_ERROR


@dataclass(frozen=True, slots=True)
class Sum:
    """What calls come to. `seconds` is the time in which at least one of them was under way."""

    calls: int
    sent: int
    kept: int
    failed: int
    cancelled: int
    unknown: int
    usage: Usage
    seconds: float
    begin: float
    end: float

    @classmethod
    def of(cls, lines: Sequence[Line]) -> Sum:
        sent = [line for line in lines if line.decision == "sent"]
        outcomes = Counter(line.outcome for line in sent)
        return cls(
            calls=len(lines),
            sent=len(sent),
            kept=len(lines) - len(sent),
            failed=sum(line.failed for line in sent),
            cancelled=outcomes["cancelled"],
            unknown=outcomes["unknown"],
            # The money is None if the price of any that used tokens is.
            usage=sum((line.usage for line in sent if line.usage != NOTHING), Usage(cost_usd=0.0)),
            seconds=under_way(sent),
            begin=min((line.at for line in lines), default=0.0),
            end=max((line.at + line.seconds for line in lines), default=0.0),
        )


def under_way(lines: Iterable[Line]) -> float:
    """The seconds in which at least one of the calls was under way."""
    seconds, until = 0.0, float("-inf")
    for line in sorted(lines, key=lambda line: line.at):
        end = line.at + line.seconds
        seconds += max(0.0, end - max(line.at, until))
        until = max(until, end)
    return seconds


@dataclass(slots=True)
class Node:
    """A program, or a child of a gather: its own calls and its children, by what comes after its branch.

    The keys of `calls` are (round,) for an `ask` and (round, j) for a `sample`; those of `children` are (round, child).
    A branch has several calls where one was tried again.
    """

    branch: Branch = ()
    calls: dict[Branch, list[Line]] = field(default_factory=lambda: defaultdict(list))
    children: dict[Branch, Node] = field(default_factory=dict)

    def lines(self) -> list[Line]:
        """All calls in and below."""
        found: list[Line] = []
        nodes = [self]
        while nodes:
            node = nodes.pop()
            nodes += node.children.values()
            for tries in node.calls.values():
                found += tries
        return found

    def in_order(self) -> Iterator[tuple[Branch, list[Line] | Node]]:
        """Calls and children, round by round."""
        found: list[tuple[Branch, list[Line] | Node]] = [*self.calls.items(), *self.children.items()]
        yield from sorted(found, key=lambda item: item[0])


def tree(lines: Iterable[Line]) -> Node:
    """The tree of one program's calls.

    A branch of even length ends in a sample's number: of its pairs the last is the call's, those before are children.
    """
    root = Node()
    for line in lines:
        node = root
        own = 2 - len(line.branch) % 2 if line.branch else 0
        for i in range(0, len(line.branch) - own, 2):
            step = line.branch[i : i + 2]
            node = node.children.setdefault(step, Node((*node.branch, *step)))
        node.calls[line.branch[len(line.branch) - own :]].append(line)
    return root


class Step(NamedTuple):
    """What stands on the page, in the order of reading: "open" a program or child, "call", "close"."""

    kind: str
    label: str = ""
    line: Line | None = None
    sum: Sum | None = None
    branch: Branch = ()


def steps(root: Node) -> Iterator[Step]:
    """A tree as a flat list, without the recursion that a deep one would be. A child with one call is that call."""
    waiting: list[Iterator[tuple[Branch, list[Line] | Node]]] = [root.in_order()]
    while waiting:
        for key, found in waiting[-1]:
            if isinstance(found, list):
                yield from _tries(_called(key), found)
            elif len(found.calls) == 1 and not found.children:
                yield from _tries(_named(key), next(iter(found.calls.values())))
            elif len(waiting) == DEEPEST:
                for line in sorted(found.lines(), key=lambda line: line.branch):
                    yield Step("call", f"branch {line.branch}", line)
            else:
                yield Step("open", _named(key), sum=Sum.of(found.lines()), branch=found.branch)
                waiting.append(found.in_order())
                break
        else:
            waiting.pop()
            if waiting:
                yield Step("close")


def _tries(label: str, lines: Sequence[Line]) -> Iterator[Step]:
    for i, line in enumerate(lines):
        yield Step("call", f"{label}, try {i + 1} of {len(lines)}" if len(lines) > 1 else label, line)


def _named(key: Branch) -> str:
    return f"round {key[0]}, child {key[1]}"


def _called(key: Branch) -> str:
    return {0: "call", 1: "round {}", 2: "round {}, sample {}"}[len(key)].format(*key)


def by_program(lines: Iterable[Line]) -> Mapping[str, list[Line]]:
    """Calls by the program that made them, programs in the order they began."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.program, []).append(line)
    return found
