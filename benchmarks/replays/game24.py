"""GPT-4's Tree of Thoughts on Game of 24 (princeton-nlp/tree-of-thought-llm, MIT), every proposal and value recorded.

As it was run, through `tree_of_thoughts`: the selections and final states must be those of the log. Then with the same
proposals and values, what a search makes of them that checks steps, merges equal states and composes the answer.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness import row

from promptlab import Answer, ModelError, Reply, Request, run
from promptlab.errors import Refused
from promptlab.rules.arithmetic import Step, composed, fault, is_solution, numbers_of, read, told
from promptlab.strategies import tree_of_thoughts
from promptlab.strategies.puzzles import Game24
from promptlab.strategies.puzzles.game24 import PROPOSE
from promptlab.strategies.search.judging import VERDICTS
from promptlab.strategies.search.selecting import greedy
from promptlab.testing import Script

DATA = Path(__file__).parents[3] / "shared" / "data" / "recorded" / "tree_of_thoughts"
LOG = DATA / "game24"
Log = dict[str, Any]


def by_value(values: Sequence[float], breadth: int, level: int) -> list[int]:
    """`greedy`, but of every step: in the log all states were judged, those as well that leave no choice."""
    return greedy(values, breadth, level)


def read_log() -> list[Log]:
    """The puzzles of the log, those of all its files; none where it is not at hand."""
    found: list[Log] = []
    for path in sorted(LOG.glob("*propose1_value3_greedy5*.json*")):
        found += read_json(path)
    return found


def read_json(path: Path) -> Any:
    """A JSON file, packed or not."""
    found = path.read_bytes()
    return json.loads(gzip.decompress(found) if path.suffix == ".gz" else found)


# ---- as it was run


class Text(NamedTuple):
    """A state as the log has it: the lines so far, and how many equal ones of its level came before it."""

    lines: str
    copy: int = 0

    @property
    def steps(self) -> int:
        return self.lines.count("\n")


def copies(lines: Sequence[str]) -> list[Text]:
    """The log's states of a level; where two are equal they stay two, as there, the second being worth 0."""
    met: Counter[str] = Counter()
    found = []
    for each in lines:
        found.append(Text(each, met[each]))
        met[each] += 1
    return found


class AsItWasRun:
    """The log as a task: what was proposed from a state, and what that was worth."""

    def __init__(self, log: Log) -> None:
        self.steps = len(log["steps"])
        self.numbers = numbers_of(log["steps"][0]["x"])
        self.children: dict[Text, list[Text]] = {}
        self.values: dict[Text, float] = {}
        for step in log["steps"]:
            parents, new = copies(step["ys"]), copies(step["new_ys"])
            self.values |= dict(zip(new, step["values"], strict=True))
            for parent in parents:
                self.children[parent] = []
            at = 0
            for child in new:  # those of one parent stand together, parents in their order
                while not child.lines.startswith(parents[at].lines):
                    at += 1
                self.children[parents[at]].append(child)

    def start(self, question: str) -> Text:
        return Text("")

    async def propose(self, state: Text, **options: Any) -> list[Text]:
        return self.children[state]

    async def value(self, state: Text, **options: Any) -> float:
        return self.values[state]

    def answer(self, state: Text) -> Answer:
        *_, last = state.lines.strip().lower().split("\n")
        expression = last.replace("answer: ", "").split("=")[0]
        if not is_solution(expression, self.numbers):
            return Answer(None, why=f"{expression!r} is no solution")
        return Answer(expression)

    def show(self, state: Text) -> str:
        return state.lines


class Composing(AsItWasRun):
    """The same, and the expression is composed of the steps, whatever was written of it."""

    def answer(self, state: Text) -> Answer:
        left, steps = self.numbers, legal_steps(self.numbers, state.lines)
        left = steps[-1].left if steps else left
        return Answer(composed(steps)) if told(left) == "24" else Answer(None, why=f"what is left is {told(left)}")


def legal_steps(numbers: tuple[Any, ...], lines: str) -> list[Step]:
    """The steps that some lines say, as far as they keep to the rules."""
    found: list[Step] = []
    for line in lines.strip().split("\n"):
        step = read(line)
        if step is None or fault(found[-1].left if found else numbers, step):
            break
        found.append(step)
    return found


def levels(answer: Answer) -> list[list[str]]:
    """What went on at each step, best first."""
    kept = sorted((node for node in answer.trace["nodes"] if node["fate"] == "kept"), key=lambda node: node["order"])
    found: dict[int, list[str]] = defaultdict(list)
    for node in kept:
        found[node["depth"]].append(node["state"])
    return [found[depth] for depth in sorted(found) if depth]


# ---- the same proposals and values, searched as we do


class Recorded:
    """GPT-4's recorded replies to the prompts of Game24, for one puzzle; what was not asked then fails.

    A proposal's reply is what was proposed from those numbers first. Of values the log has the sum of three samples,
    which says how many were sure, likely and impossible; the others could not be read. They come in this order, and
    there is no fourth. `prompts` are those answered, the samples of a value being one prompt.
    """

    batched = True

    def __init__(self, log: Log) -> None:
        numbers = numbers_of(log["steps"][0]["x"])
        self.proposals: dict[str, str] = {}
        self.verdicts: dict[str, Iterator[str]] = {}
        self.missed = self.waves = 0
        self.prompts: dict[str, list[str]] = {"propose": [], "value": []}
        for i, step in enumerate(log["steps"][:3]):
            for parent in step["ys"]:
                steps = legal_steps(numbers, parent)
                if len(steps) == i:
                    lines = "\n".join(y[len(parent) :].strip() for y in step["new_ys"] if y.startswith(parent))
                    self.proposals.setdefault(told(steps[-1].left if steps else numbers), lines)
            for lines, value in zip(step["new_ys"], step["values"], strict=True):
                steps = legal_steps(numbers, lines)
                if len(steps) == i + 1:
                    self.verdicts.setdefault(told(steps[-1].left), verdicts(value))

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        self.waves += 1
        return [self.reply(request) for request in requests]

    def reply(self, request: Request) -> Reply | ModelError:
        system, numbers = asked_of(request)
        kind = "propose" if system == PROPOSE else "value"
        text = self.proposals.get(numbers) if kind == "propose" else next(self.verdicts[numbers], None)
        if text is None:
            self.missed += kind == "propose"
            return Refused(f"Nothing more is recorded for the {kind} prompt of {numbers}.")
        if kind == "propose" or numbers not in self.prompts[kind]:
            self.prompts[kind].append(numbers)
        return Reply(text)


def asked_of(request: Request) -> tuple[str, str]:
    """What Game24 asks, and of which numbers."""
    system, user = (message.content for message in request.messages)
    return system, user.removeprefix("Numbers: ")


def verdicts(value: float, samples: int = 3) -> Iterator[str]:
    """The words that add up to a value."""
    left = round(value * 1000)
    for word, each in VERDICTS.items():
        count, left = divmod(left, round(each * 1000))
        samples -= count
        yield from [word] * count
    yield from ["?"] * samples


def recorded_prompts(logs: Sequence[Log]) -> int:
    """What the log's run took: a prompt for every state that proposed, and every value prompt that was not kept yet."""
    proposals, values = 0, set()
    for log in logs:
        for step in log["steps"]:
            proposals += len(step["ys"])
            for lines in step["new_ys"]:
                *_, last = lines.strip().split("\n")
                written = last.split("left: ")[-1].split(")")[0] if "left: " in last else (step["x"], last.lower())
                values.add(written)
    return proposals + len(values)


def measure(quick: bool) -> list[dict[str, Any]]:
    """The rows; `quick` changes nothing, as all takes a second or two. Targets are of the puzzles that are at hand."""
    logs = read_log()
    if not logs:
        return [row("Game of 24", None, "", note=f"there is no log at {LOG.parent.name}/{LOG.name}")]
    started = time.process_time()
    rows = [*as_it_was_run(logs), *searched(logs)]
    seconds = time.process_time() - started
    return [*rows, row("Game of 24, all of this", seconds, "s of CPU", n=len(logs), target=2.0, at_most=True)]


def as_it_was_run(logs: Sequence[Log]) -> list[dict[str, Any]]:
    """The plain search against the log's selections, final states and scores."""
    tasks = [AsItWasRun(log) for log in logs]
    answers = [
        run(tree_of_thoughts(log["steps"][0]["x"], task, select=by_value), Script())
        for log, task in zip(logs, tasks, strict=True)
    ]
    pairs = [
        (level, step["select_new_ys"])
        for answer, log in zip(answers, logs, strict=True)
        for level, step in zip(levels(answer), log["steps"], strict=True)
    ]
    same = sum(level == recorded for level, recorded in pairs)
    finals = [(levels(answer)[-1], log["ys"]) for answer, log in zip(answers, logs, strict=True)]
    right = [
        [task.answer(Text(lines)).value is not None for lines in log["ys"]]
        for log, task in zip(logs, tasks, strict=True)
    ]
    flags = [[bool(info["r"]) for info in log["infos"]] for log in logs]
    n = len(logs)
    named = {
        "any of 5 right (an oracle)": (sum(map(any, right)), sum(map(any, flags))),
        "the first right": (sum(each[0] for each in right), sum(each[0] for each in flags)),
        "mean of 5 right": (sum(map(sum, right)) / 5, sum(map(sum, flags)) / 5),
    }
    agree = [a == b for a, b in zip(right, flags, strict=True)]
    return [
        row("Game of 24, selections as in the log", same / len(pairs), "share", n=len(pairs), target=1.0),
        row("Game of 24, final states as in the log", sum(a == b for a, b in finals) / n, "share", n=n, target=1.0),
        row("Game of 24, our checker's verdicts as in the log", sum(agree) / n, "share", n=n, target=1.0),
        *(exactly(f"Game of 24, {name}", got / n, of / n, n) for name, (got, of) in named.items()),
    ]


def searched(logs: Sequence[Log]) -> list[dict[str, Any]]:
    """What comes of the same proposals and values."""
    n, puzzles = len(logs), [log["steps"][0]["x"] for log in logs]
    composing = [
        run(tree_of_thoughts(x, Composing(log), select=by_value), Script())
        for x, log in zip(puzzles, logs, strict=True)
    ]
    made = [answer.value is not None for answer in composing]
    backends = [Recorded(log) for log in logs]
    validated = [run(tree_of_thoughts(x, Game24()), each) for x, each in zip(puzzles, backends, strict=True)]
    solved = [is_solution(a.value or "", numbers_of(x)) for a, x in zip(validated, puzzles, strict=True)]
    proposals = sum(len(each.prompts["propose"]) for each in backends)
    values = len({numbers for each in backends for numbers in each.prompts["value"]})
    missed, before = sum(each.missed for each in backends), recorded_prompts(logs)
    any_right = sum(any(info["r"] for info in log["infos"]) for log in logs) / n
    took = f"{proposals} propose and {values} distinct value prompts, where the log's run took {before}"
    least = f"at least: {missed} states that went on have no recorded proposals"
    return [
        row("Game of 24, composed by arithmetic", sum(made) / n, "accuracy", n=n, target=any_right),
        row("Game of 24, validated", sum(solved) / n, "accuracy", n=n, target=any_right, note=least),
        row(
            "Game of 24, validated: prompts", proposals + values, "", n=n, target=0.52 * before, at_most=True, note=took
        ),
        row(
            "Game of 24, validated: most waves a puzzle",
            max(each.waves for each in backends),
            "waves",
            n=n,
            target=8,
            at_most=True,
            note=f"{sum(each.waves for each in backends) / n:.1f} on average; one by one, {before / n:.1f} prompts",
        ),
    ]


def exactly(name: str, value: float, expected: float, n: int) -> dict[str, Any]:
    """A row that holds only at its target."""
    return {**row(name, value, "share", n=n, target=expected), "ok": abs(value - expected) < 1e-12}
