"""A program's own right answers as its demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from promptlab.optimizers.candidate import Candidate, as_text
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.search import Search
from promptlab.optimizers.sections import Item
from promptlab.optimizers.table import Outcome
from promptlab.splits import text_key
from promptlab.strategies.shots import balanced
from promptlab.types import Example

Shown = Mapping[str, tuple[Example, ...]]  # what each slot shows
HARVESTED = 4  # one in so many of the calls left is spent on it, at most


@optimizer
async def bootstrap(
    search: Search, sets: int = 16, most: int = 8, labelled: int = 16, threshold: float = 1.0
) -> Candidate:
    """BootstrapFewShot with random search of DSPy (Khattab et al. 2023, arXiv 2310.03714, section 4).

    The prompt, and the same with `labelled` labelled demonstrations, answers the feed; what scores `threshold` or more
    is kept, with its reasoning where the strategy gives it, for each slot of a program what that slot was asked and
    said. `sets` sets of up to `most` of these, filled up with labelled examples to `most` + `labelled` (a program of
    several slots has none for each), in random number and order, are raced. Differs: theirs scores every set on all
    validation examples and keeps the best mean; here no demonstration is an example that is raced on, answers that were
    paid for are harvested whoever gave them (Wan et al. 2024, arXiv 2406.15708), and the last comparison is on fresh
    ones.
    """
    found = await harvest(search, labelled, threshold)
    pool = [search.seed]
    for i, shots in enumerate(demo_sets(search, found, sets, most, labelled)):
        pool += search.add([showing(search.seed, shots, "labelled" if i == 0 else "bootstrapped")])
    [winner] = await search.race(pool[: search.room()])
    return winner


async def harvest(search: Search, labelled: int, threshold: float = 1.0) -> list[Shown]:
    """Right answers to the feed as demonstrations, one for each example that anyone answered rightly: the prompt as it
    is, or with labelled demonstrations, which asks none of these."""
    order = Random(search.rng_key("harvest")).sample(search.feed, len(search.feed))
    teachers = [search.seed]
    if labelled and len(search.seed.slots) == 1 and len(order) > labelled:
        teacher = search.seed.showing(label_turns(search, order[:labelled], "teacher"), "labelled")
        teachers, order = [*search.add([teacher]), search.seed], order[labelled:]
    affordable = search.left // HARVESTED // (len(teachers) * search.each * search.table.repeats)
    asked = order[:affordable]
    await search.score(teachers, asked)
    return right_answers(search, asked, teachers, threshold)


def right_answers(search: Search, items: Sequence[Item], by: Sequence[Candidate], threshold: float) -> list[Shown]:
    """For every item the demonstration that the first right answer among all candidates' makes, `by` before others."""
    candidates = list({each.key: each for each in (*by, *search.known.values())}.values())
    found = []
    for item in items:
        outcomes = [(each, outcome) for each in candidates for outcome in search.table.outcomes(each, item)]
        for candidate, outcome in outcomes:
            if outcome.score >= threshold and not outcome.failed and (shown := demonstration(candidate, item, outcome)):
                found.append(shown)
                break
    return found


def demonstration(candidate: Candidate, item: Item, outcome: Outcome) -> Shown:
    """What each slot was asked and said in an answer. Where there is one slot: the input, and all that was said."""
    if len(candidate.slots) == 1:
        said = outcome.said.strip() or as_text(outcome.value)
        prompt = candidate.slot()
        # An answer in other words than its target's is shown as it was given; that is how the model puts it.
        target = said if prompt.parse(said).value is not None else item.example.target
        return {candidate.slots[0]: (Example(item.example.input, target),)}
    shown: dict[str, tuple[Example, ...]] = {}
    for step in outcome.steps:
        before, after = candidate.slot(step.slot).frame
        asked = step.asked.removeprefix(before).removesuffix(after)
        shown.setdefault(step.slot, (Example(asked, step.said),))
    return shown


def demo_sets(search: Search, found: Sequence[Shown], sets: int, most: int, labelled: int) -> list[Shown]:
    """Sets of demonstrations: labelled ones only, then harvested ones filled up with labelled ones, in random order."""
    slots = search.seed.slots
    made: list[Shown] = []
    if len(slots) == 1 and labelled + most > 0:
        made.append({slots[0]: tuple(label_turns(search, search.feed, "set", 0)[: most + labelled])})
    for i in range(1, sets + 1):
        rng = Random(search.rng_key("set", i))
        own = rng.sample(found, rng.randint(min(1, len(found)), min(most, len(found))))
        shots = {slot: [shot for each in own for shot in each.get(slot, ())] for slot in slots}
        if len(slots) == 1:
            keys = {text_key(shot.input) for shot in shots[slots[0]]}
            others = [e for e in label_turns(search, search.feed, "set", i) if text_key(e.input) not in keys]
            shots[slots[0]] += others[: rng.randint(0, most + labelled - len(own))]
            rng.shuffle(shots[slots[0]])
        made.append({slot: tuple(each) for slot, each in shots.items()})
    return [each for each in made if any(each.values())]


def label_turns(search: Search, items: Sequence[Item], *key: object) -> list[Example]:
    """The items' examples in random order, the labels taking turns."""
    seed = Random(search.rng_key("turns", *key)).getrandbits(32)
    return list(balanced([item.example for item in items], seed)(""))


def showing(candidate: Candidate, shots: Shown, op: str) -> Candidate:
    """The candidate with these demonstrations in its slots: its child."""
    made = candidate
    for slot, each in shots.items():
        made = made.with_prompt(made.slot(slot).with_shots(each), op, slot, parents=(candidate,))
    return made
