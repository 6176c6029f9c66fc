"""ReAct on FEVER, text-davinci-002: recorded thoughts, actions and observations through our `react`.

The observations are Wikipedia's of that day, given back by the tools in the order recorded.
"""

from __future__ import annotations

import gzip
import json
import re
import string
import time
from collections.abc import Iterator, Sequence
from itertools import count, pairwise
from typing import Any, NamedTuple

from harness import DATA, row

from promptlab import Answer, Tool, run
from promptlab.strategies import react
from promptlab.strategies.acting.actions import FINISH, OBSERVATION, repaired
from promptlab.strategies.acting.loop_guard import NUDGE
from promptlab.strategies.acting.talk import Rules
from promptlab.testing import Script
from promptlab.types import ToolSpec

FILE = DATA.parent / "recorded" / "react_fever_text-davinci-002_even250.jsonl.gz"
MOST_STEPS = 7
TOOLS = ("search", "lookup", "think")
STRICT = Rules(repair=False, repeats=0, malformed=0)
GUARDED = Rules(repair=False, malformed=0)


class Step(NamedTuple):
    reply: str
    action: str
    observation: str

    @property
    def is_invalid(self) -> bool:
        return self.observation.startswith("Invalid action")


class Episode(NamedTuple):
    claim: str
    gold: str
    em: int
    steps: list[Step]

    @property
    def loops(self) -> bool:
        """Whether an action had the same observation three times running."""
        same = [a[1:] == b[1:] for a, b in pairwise(self.steps)]
        return any(a and b for a, b in pairwise(same))


def episodes() -> list[Episode]:
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        told = [json.loads(line) for line in lines]
    return [
        Episode(each["claim"], each["info"]["gt_answer"], each["info"]["em"], list(steps(each["raw"]))) for each in told
    ]


def steps(raw: str) -> Iterator[Step]:
    """The steps of a recorded episode; what a model writes may itself hold other numbers of turns."""
    at = 0
    for i in count(1):
        found = re.compile(rf"\nThought {i}:(.*?)\nAction {i}: ?(.*?)\nObservation {i}:", re.DOTALL).search(raw, at)
        if found is None:
            return
        following = raw.find(f"\nThought {i + 1}:", found.end())
        at = following if following >= 0 else len(raw)
        reply = f"Thought {i}:{found[1]}\nAction {i}: {found[2]}"
        yield Step(reply, found[2].strip(), raw[found.end() : at].strip())


def replayed(episode: Episode, rules: Rules) -> Answer:
    """Our answer to an episode's claim, the model and the world saying what they said."""
    model = Script([step.reply for step in episode.steps])

    def observed(**given: str) -> str:
        return episode.steps[len(model.requests) - 1].observation

    tools = [Tool(ToolSpec(name, "", {"properties": {"argument": {}}}), observed) for name in TOOLS]
    return run(react(f"Claim: {episode.claim}", tools, max_steps=MOST_STEPS, native=False, rules=rules), model)


def is_right(answer: Answer, episode: Episode) -> bool:
    return normal(str(answer.value or "")) == normal(episode.gold)


def normal(text: str) -> str:
    return " ".join(text.casefold().translate(str.maketrans("", "", string.punctuation)).split())


def observations(answer: Answer) -> list[str]:
    return [m.content for m in answer.trace if m.role == "user" and m.content.startswith(OBSERVATION)]


def as_recorded(answer: Answer, episode: Episode) -> bool:
    """Whether each step was understood, or not, as it was then, and the end is the same."""
    seen = [text.startswith(f"{OBSERVATION}Error: there is no action") for text in observations(answer)]
    then = [step.is_invalid for step in episode.steps]
    return seen == then[: len(seen)] and len(then) - len(seen) in (0, 1) and is_right(answer, episode) == episode.em


def mended(answer: Answer, episode: Episode) -> Iterator[bool]:
    """Of each step that was invalid then: whether it is now carried out, or answered by what is wrong with it."""
    seen = observations(answer)
    for i, step in enumerate(episode.steps[: len(seen) + 1]):
        if step.is_invalid:
            action = repaired(step.reply, {*TOOLS, FINISH})
            is_known = action is not None and action.name in (*TOOLS, FINISH)
            yield is_known or seen[i].startswith(f"{OBSERVATION}Error: there is no ")


def measure(quick: bool) -> Sequence[dict[str, Any]]:
    if not FILE.exists():
        return [row("FEVER, ReAct: exact match", None, "share", note="the recording is not at hand")]
    all_of = episodes()
    n, started = len(all_of), time.perf_counter()
    strictly = [replayed(each, STRICT) for each in all_of]
    seconds = time.perf_counter() - started
    forgiving = [replayed(each, Rules()) for each in all_of]
    guarded = [replayed(each, GUARDED) for each in all_of]
    recorded = sum(each.em for each in all_of) / n
    right = {
        name: [is_right(a, e) for a, e in zip(answers, all_of, strict=True)]
        for name, answers in {"strict": strictly, "repaired": forgiving}.items()
    }
    same = sum(as_recorded(a, e) for a, e in zip(strictly, all_of, strict=True))
    invalid = [fine for a, e in zip(forgiving, all_of, strict=True) for fine in mended(a, e)]
    fired = [any(NUDGE in m.content for m in a.trace) for a in guarded]
    looping = [each.loops for each in all_of]
    saved = sum(len(e.steps) - len(observations(a)) for a, e, f in zip(guarded, all_of, fired, strict=True) if f)
    return [
        row("FEVER, ReAct: exact match, strict", sum(right["strict"]) / n, "share", n=n, target=recorded),
        row("FEVER: episodes step for step as recorded", same, "episodes", n=n, target=n),
        row("FEVER, ReAct: exact match, repaired", sum(right["repaired"]) / n, "share", n=n, target=recorded),
        row(
            "FEVER: invalid actions repaired or asked again",
            sum(invalid),
            "actions",
            n=len(invalid),
            target=len(invalid),
        ),
        row(
            "FEVER: looping episodes that the guard finds",
            sum(f and x for f, x in zip(fired, looping, strict=True)),
            "episodes",
            n=n,
            target=sum(looping),
        ),
        row(
            "FEVER: other episodes that it stops in",
            sum(f and not x for f, x in zip(fired, looping, strict=True)),
            "episodes",
            n=n,
            target=0,
            at_most=True,
        ),
        row("FEVER: steps that it saves", saved, "steps", n=sum(looping), note="one is spent on a nudge"),
        row("FEVER: all episodes, once", seconds, "s", n=n),
    ]
