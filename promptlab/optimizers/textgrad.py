"""Instructions of a program with several steps, improved by criticism that is passed back, the last step first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from promptlab.optimizers.candidate import Candidate, as_text
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, meta
from promptlab.optimizers.search import Search
from promptlab.optimizers.table import Step
from promptlab.optimizers.tries import Try, block, cut, drawn, flawless, input_of, said, tried

DEPTH = 6  # steps of an answer, its last ones, that criticism is passed back through
CRITICISM = 1_000  # characters of one criticism that are read
ON_INPUT = re.compile(r"<input>\s*(.*?)\s*(?:</input>|$)", re.IGNORECASE | re.DOTALL)


@optimizer
async def textgrad(
    search: Search, steps: int = 12, batch: int = 4, momentum: int = 0, constraints: Sequence[str] = ()
) -> Candidate:
    """Yuksekgonul et al. 2024 (arXiv 2406.07496), sections 2 and 3: textual gradients through a multi-step program.

    In each step the program is tried on a `batch` of the feed. For every wrong answer the proposer criticises each of
    the prompts that took part, the last one first: it is told what came out wrong, and what it says about its input is
    the feedback on the output of the step that made this input. Criticism is gathered by prompt, and each prompt with
    any is rewritten once; `momentum` shows the last so many criticisms as well, `constraints` are what a wording has to
    keep to. Differs: right answers are not criticised; the rewritten program is raced against the one before, and
    dropped unless it does better, or as well and is shorter (theirs: kept, or dropped if worse on the same items each
    time); which step made an input is told by its text.
    """
    current, past = search.seed, dict[str, list[str]]()
    with search.until_spent():
        for step in range(steps):
            [tries] = await tried(search, [current], drawn(search, batch, "batch", step))
            gradients = await backward(search, current, [each for each in tries if each.wrong])
            new = await rewritten(search, current, gradients, past, momentum, constraints)
            if new is not None:
                [current] = await search.race([current, new], of=steps - step)
            for slot, criticisms in gradients.items():
                past.setdefault(slot, []).append(block(criticisms))
            if flawless(search, current):
                break
    return current


async def backward(search: Search, candidate: Candidate, wrong: Sequence[Try]) -> dict[str, list[str]]:
    """Criticism of each prompt, by slot: the last steps of all wrong answers in one wave, then those before them."""
    chains = [chain(candidate, each) for each in wrong]
    on_input: list[dict[int, str]] = [{} for _ in chains]  # for each answer, by the number of the step
    gradients: dict[str, list[str]] = {}
    for back in range(1, max(map(len, chains), default=0) + 1):
        live = [i for i, steps in enumerate(chains) if len(steps) >= back]
        feedback = [feedback_on(chains[i], len(chains[i]) - back, on_input[i], wrong[i]) for i in live]
        texts = [criticising(candidate, chains[i], -back, f) for i, f in zip(live, feedback, strict=True)]
        for i, told, reply in zip(live, feedback, await search.ask(texts, "criticised"), strict=True):
            at = len(chains[i]) - back
            criticism, about = parted(reply or "")
            on_input[i][at] = about or criticism or told
            if reply is not None and not criticism:
                search.reject("a criticism is empty")
            elif criticism:
                gradients.setdefault(chains[i][at].slot, []).append(f"- {criticism}")
    return gradients


def chain(candidate: Candidate, each: Try) -> list[Step]:
    """The steps of an answer, the last DEPTH of them; where none can be told apart, all of it is its last prompt's."""
    outcome = each.outcome
    steps = list(outcome.steps[-DEPTH:]) or [Step(candidate.slots[-1], input_of(each.item), outcome.said)]
    if not steps[-1].said:  # labels are scored, not written
        steps[-1] = steps[-1]._replace(said=outcome.said)
    return steps


def feedback_on(steps: Sequence[Step], at: int, on_input: Mapping[int, str], each: Try) -> str:
    """Feedback on a step's output: that on the input of the next step which reads it, else that on the answer.

    Where no later step reads it word for word, the next one of another prompt is taken to.
    """
    output, later = steps[at].said.strip(), range(at + 1, len(steps))
    reading = [each for each in later if output and output in steps[each].asked]
    others = [each for each in later if steps[each].slot != steps[at].slot]
    for reader in (*reading, *others):
        return on_input[reader]
    right = f"The answer is wrong. Right would be: {cut(as_text(each.item.example.target))}"
    remark = each.outcome.feedback or each.outcome.why
    return f"{right}\n{cut(remark)}" if remark else right


def criticising(candidate: Candidate, steps: Sequence[Step], at: int, feedback: str) -> str:
    """The text that asks for criticism of a step: of its input too, where an earlier step may have made it."""
    step = steps[at]
    kind = "textgrad_trace_back" if len(steps) + at > 0 else "textgrad_criticise"
    told = {"instruction": said(candidate, step.slot), "asked": cut(step.asked), "said": cut(step.said)}
    return meta(kind, **told, feedback=feedback)


def parted(reply: str) -> tuple[str, str]:
    """What a reply says about the instruction, and what about the input ("" if nothing)."""
    about = ON_INPUT.search(reply)
    rest = ON_INPUT.sub("", reply).strip()
    return cut(rest, CRITICISM), cut(about[1], CRITICISM) if about else ""


async def rewritten(
    search: Search,
    current: Candidate,
    gradients: Mapping[str, Sequence[str]],
    past: Mapping[str, Sequence[str]],
    momentum: int,
    constraints: Sequence[str],
) -> Candidate | None:
    """The program with every criticised prompt rewritten; None where no rewriting can be used."""
    wishes = []
    for slot, criticisms in gradients.items():
        earlier = past.get(slot, [])[-momentum:] if momentum else []
        text = meta(
            "textgrad_rewrite",
            instruction=said(current, slot),
            feedback=block(criticisms),
            earlier=block(reversed(earlier)) or "(none)",
            constraints=block(f"- {each}" for each in constraints) or "(nothing more)",
        )
        wishes.append(Wish(text, current, "rewritten", slot))
    new = await search.propose(wishes)
    if len(new) < 2:
        return new[0] if new else None
    together = current
    for each in new:
        for slot in current.slots:
            if each.slot(slot) != current.slot(slot):
                together = together.with_prompt(each.slot(slot), "rewritten", slot, [current])
    return next(iter(search.add([together])), None)
