"""Instruction, demonstrations, order and format together: which parts are good is learnt from whole prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from promptlab.optimizers.bootstrap import Shown, demo_sets, harvest
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.factored import Combination, Factored
from promptlab.optimizers.found import Over
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, meta, pairs
from promptlab.optimizers.search import Search
from promptlab.optimizers.templates import banked, data, tried
from promptlab.prompt import Prompt, shown
from promptlab.types import Example

BLOCK = 6  # items that a combination is asked at a time
WAVE = 8  # combinations asked between two looks at what was learnt
SHARE = 0.65  # of the calls for learning; the rest races the best


def reverse(shots: Sequence[Example]) -> list[Example]:
    return list(shots[::-1])


def short_first(shots: Sequence[Example]) -> list[Example]:
    return sorted(shots, key=lambda shot: len(shown(shot.input)))


def by_target(shots: Sequence[Example]) -> list[Example]:
    return sorted(shots, key=lambda shot: str(shot.target))


def in_turn(prompt: Prompt) -> Prompt:
    """The instruction in the turn of every question, not in the system's message."""
    before, after = prompt.frame
    said = f"{prompt.instruction}\n" if prompt.instruction else ""
    return replace(prompt, instruction="", frame=(said + before, after))


ORDERS: tuple[Callable[[Sequence[Example]], Sequence[Example]], ...] = (list, reverse, short_first, by_target)
FORMATS: tuple[Callable[[Prompt], Prompt], ...] = (
    lambda prompt: prompt,
    in_turn,
    lambda prompt: replace(prompt, frame=("Input: ", "\nOutput:")),
    lambda prompt: replace(prompt, frame=("Text: ", "")),
    lambda prompt: replace(prompt, frame=("Q: ", "\nA:")),
    lambda prompt: replace(prompt, says_format=not prompt.says_format),  # stays last: of free text there is none to say
)


@dataclass(frozen=True)
class Parts:
    """What there is to combine: a level of each factor makes a candidate. Level 0 of all is the prompt as it was.

    The factors are an instruction for every slot, the demonstrations, their order, the format.
    """

    seed: Candidate
    instructions: dict[str, list[str]]
    demos: list[Shown]

    @property
    def sizes(self) -> tuple[int, ...]:
        said = (len(texts) for texts in self.instructions.values())
        tells = any(prompt.output is not str for prompt in self.seed.by_slot.values())
        return (*said, len(self.demos), len(ORDERS), len(FORMATS) if tells else len(FORMATS) - 1)

    def shown(self, level: int) -> Shown:
        return self.demos[level] if level else {slot: self.seed.slot(slot).shots for slot in self.seed.slots}

    def plain(self, combination: Combination) -> Combination:
        """The same without an order, where there is nothing to order: what is said once is not counted twice."""
        *said, demos, order, format = combination
        several = any(len(shots) > 1 for shots in self.shown(demos).values())
        return (*said, demos, order if several else 0, format)

    def candidate(self, combination: Combination) -> Candidate:
        *said, demos, order, format = combination
        made = self.seed
        for level, (slot, texts) in zip(said, self.instructions.items(), strict=True):
            shots = self.shown(demos).get(slot, ())
            prompt = replace(self.seed.slot(slot), instruction=texts[level], shots=tuple(ORDERS[order](shots)))
            made = made.with_prompt(FORMATS[format](prompt), "combined", slot, parents=(self.seed,))
        return made if made.key != self.seed.key else self.seed


@optimizer
async def mipro(
    search: Search, proposals: int = 8, bank: int = 24, sets: int = 8, most: int = 8, labelled: int = 16, keep: int = 6
) -> Candidate:
    """A joint search as in MIPRO (Opsahl-Ong et al. 2024, arXiv 2406.11695): instructions grounded in a summary of the
    data and a tip, and bootstrapped demonstrations, then the best combination.

    `proposals` instructions come from the proposer and `bank` from that of `templates`; with `proposals=0` nobody is
    asked to propose. `sets` sets of demonstrations come as in `bootstrap`. Differs: the order of demonstrations and the
    format (the frame around an input, whether the answer's form is told, where the instruction stands) are searched
    too; which combinations are asked is decided by Thompson sampling from a factored model of single scores (see
    `factored`), on nested common items, where theirs fits a tree-structured Parzen estimator to means of minibatches;
    the `keep` best by the model are raced, and the best without each of its parts, where theirs are rescored on all
    validation examples.
    """
    found = await harvest(search, labelled)
    demos: list[Shown] = [{}, *demo_sets(search, found, sets, most, labelled)]
    parts = Parts(search.seed, await instructions(search, proposals, bank), demos)
    slots, some = len(search.seed.slots), [int(any(parts.shown(i).values())) for i in range(len(demos))]
    model = Factored(parts.sizes, crossed=(slots - 1, slots, some))  # demonstrations may do what an instruction would
    await learn(search, parts, model)
    [best, *others] = model.likely(keep)
    simpler = [(*best[:i], 0, *best[i + 1 :]) for i in range(len(best))]  # is every part of it needed?
    pool = {each.key: each for each in map(parts.candidate, [best, *simpler, *others])}
    search.add(each for each in pool.values() if each.key not in search.known)
    [winner] = await search.race([search.seed, *pool.values()][: search.room()])
    return winner


async def instructions(search: Search, proposals: int, bank: int) -> dict[str, list[str]]:
    """What each slot may say: what it says, then proposals grounded in the data, then some of the bank."""
    said = {}
    summary = ""
    if proposals:
        drawn = Random(search.rng_key("summary")).sample(search.feed, min(8, len(search.feed)))
        [told] = await search.ask([meta("describe", pairs=pairs(drawn))], "summary")
        summary = (told or "").strip()[:2_000]
    for slot in search.seed.slots:
        prompt, wishes = search.seed.slot(slot), []
        for i in range(proposals):
            rng = Random(search.rng_key("ground", slot, i))
            shown = pairs(rng.sample(search.feed, min(4, len(search.feed))))
            tip = data("tips")["tips"][i % len(data("tips")["tips"])]
            text = meta("ground", summary=summary, pairs=shown, instruction=prompt.instruction, tip=tip)
            wishes.append(Wish(text, search.seed, "grounded", slot))
        lines = banked(prompt, search.feed)
        drawn_lines = Random(search.rng_key("bank", slot)).sample(lines, min(bank, len(lines)))
        new = [*await search.propose(wishes)] if wishes else []
        new += tried(search, [(line, search.seed, "bank") for line in drawn_lines], slot)
        said[slot] = list(dict.fromkeys([prompt.instruction, *(each.slot(slot).instruction for each in new)]))
    return said


async def learn(search: Search, parts: Parts, model: Factored) -> None:
    """Asks combinations, each on the next items of one order, and tells the model; the first differ in one part."""
    items = search.sections.in_order(search.random_seed, search.lap)  # a race goes through them in this order, too
    rng = np.random.default_rng(Random(search.rng_key("thompson")).getrandbits(64))
    budget = int(SHARE * search.left)
    asked: dict[str, int] = {}
    wave = star(parts.sizes)
    while wave:
        made = {parts.candidate(each).key: each for each in dict.fromkeys(map(parts.plain, wave))}
        new = {key: each for key, each in made.items() if asked.get(key, 0) < len(items)}
        begins = {key: asked.get(key, 0) for key in new}
        for begin in sorted(set(begins.values())):  # those that are as far are asked together
            block = items[begin : begin + BLOCK]
            affordable = budget // (len(block) * search.each * search.table.repeats)
            group = [key for key in new if begins[key] == begin][: max(affordable, 0)]
            candidates = [parts.candidate(new[key]) for key in group]
            search.add(each for each in candidates if each.key not in search.known)
            before = search.spent
            await search.score(candidates, block)
            budget -= search.spent - before
            for candidate in candidates:
                asked[candidate.key] = begin + len(block)
                for item in (each for each in block if search.table.answered(candidate, each)):
                    model.add(item.number, new[candidate.key], search.table.on(candidate, item))
        if not any(score for _, _, score in model.data):
            if len(asked) < len(made):
                n, scored = len(asked), ", and nothing was right" if asked else ""
                raise Over(f"the calls sufficed to ask {n} of {len(made)} combinations, on {BLOCK} items each{scored}")
            raise Over(f"the task is out of reach: none of {len(asked)} prompts scored anything on {BLOCK} items each")
        if budget < BLOCK * search.each * search.table.repeats or not new:
            return
        wave = model.draws(WAVE, rng)


def star(sizes: Sequence[int]) -> list[Combination]:
    """The prompt as it was, and every level of each factor with all else as it was, the factors taking turns; an order
    with the first set of demonstrations. What is good without demonstrations only is seen at once."""
    *said, demos, _, _ = sizes
    order = len(said) + 1
    made = [(0,) * len(sizes)]
    for level in range(1, max(sizes)):
        for factor, size in enumerate(sizes):
            if level < size:
                levels = [0] * len(sizes)
                levels[factor] = level
                levels[order - 1] = min(1, demos - 1) if factor == order else levels[order - 1]
                made.append(tuple(levels))
    return made
