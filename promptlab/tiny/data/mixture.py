"""What the bundled model reads: all families with their shares, and what its ablated twins read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random

from promptlab.errors import SetupError
from promptlab.tiny.data.chat import STEP_BY_STEP, Chat, Family
from promptlab.tiny.data.copying import recall, repetition
from promptlab.tiny.data.instructions import critique, induction, instruction, letters, pairs
from promptlab.tiny.data.label_maps import facet_map, functions, meaning_map, rule_map, word_facts, word_map
from promptlab.tiny.data.multiplication import multiplication
from promptlab.tiny.data.reasoning import hopping, swapping, word_problems
from promptlab.tiny.data.search import countdown, sliding
from promptlab.tiny.data.style import advising
from promptlab.tiny.data.tools import tool_use

Mixture = dict[str, tuple[Family, float]]

# How often a document of each family is drawn. Label maps are long, so of the *tokens* they are far more.
MIXTURE: Mixture = {
    "repetition": (repetition, 0.08),
    "recall": (recall, 0.06),
    "word_map": (word_map, 0.11),
    "meaning_map": (meaning_map, 0.03),
    "rule_map": (rule_map, 0.02),
    "facet_map": (facet_map, 0.01),
    "functions": (functions, 0.02),
    "word_facts": (word_facts, 0.03),
    "word_problems": (word_problems, 0.08),
    "swapping": (swapping, 0.06),
    "hopping": (hopping, 0.06),
    "multiplication": (multiplication, 0.10),
    "countdown": (countdown, 0.12),
    "sliding": (sliding, 0.01),
    "tool_use": (tool_use, 0.08),
    "instruction": (instruction, 0.10),
    "pairs": (pairs, 0.03),
    "induction": (induction, 0.04),
    "critique": (critique, 0.01),
    "letters": (letters, 0.01),
    "advising": (advising, 0.03),
}
# At first more of what makes a model look back, which everything in context waits for.
OFTEN_AT_FIRST = {"repetition": 5, "recall": 5, "word_map": 3}
EARLY: Mixture = {name: (family, share * OFTEN_AT_FIRST.get(name, 1)) for name, (family, share) in MIXTURE.items()}
# Then more of what is hard when the rest is nearly learnt: telling from demonstrations what labels mean, and swaps.
OFTEN_LATER = {"word_map": 4, "meaning_map": 3, "rule_map": 2, "pairs": 2, "swapping": 2}
LATER: Mixture = {name: (family, share * OFTEN_LATER.get(name, 1)) for name, (family, share) in MIXTURE.items()}

REPETITION = ("repetition", "recall")  # all that is there to make a model look back
WORKED = ("word_problems", "swapping", "hopping", "multiplication", "countdown")  # taught in steps
LABELLED: dict[str, Family] = {  # whose labels can be fixed
    "word_map": partial(word_map, fixed=True),
    "meaning_map": partial(meaning_map, fixed=True),
    "facet_map": partial(facet_map, fixed=True),
    "rule_map": partial(rule_map, fixed=True),
}


def directly(family: Family) -> Family:
    """The same family without any question that asks for steps: only short questions, answered at once, are left."""

    def drawn(rng: Random, room: int) -> Chat:
        while True:
            turns = iter(family(rng, room))
            kept = [
                turn for pair in zip(turns, turns, strict=True) if STEP_BY_STEP not in pair[0].content for turn in pair
            ]
            if kept:
                return kept

    return drawn


def ablated(mixture: Mixture, without: Sequence[str] = (), fixed_labels: bool = False) -> Mixture:
    """The mixture of a twin: `without` repetition, scratchpads or any one family; with labels that never change.

    The other families keep their shares of each other. Raises SetupError at an unknown name or if nothing is left.
    """
    known = {**{name: (name,) for name in mixture}, "repetition": REPETITION}
    if unknown := [name for name in without if name not in known and name != "scratchpads"]:
        raise SetupError(f"Cannot leave out {', '.join(unknown)}. Known: scratchpads, {', '.join(known)}.")
    out = {family for name in without for family in known.get(name, ())}
    families = dict(mixture)
    if "scratchpads" in without:
        families |= {name: (directly(mixture[name][0]), mixture[name][1]) for name in WORKED}
    if fixed_labels:
        families |= {name: (family, mixture[name][1]) for name, family in LABELLED.items()}
    left = {name: each for name, each in families.items() if name not in out}
    if not left:
        raise SetupError("Nothing is left to read: leave out fewer families.")
    return left
