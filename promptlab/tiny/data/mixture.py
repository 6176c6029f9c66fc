"""What the bundled model reads: all families with their shares, and what it would read without one of them."""

from __future__ import annotations

from promptlab.tiny.data.chat import Family
from promptlab.tiny.data.copying import recall, repetition
from promptlab.tiny.data.instructions import critique, induction, instruction, letters, pairs
from promptlab.tiny.data.label_maps import facet_map, functions, meaning_map, rule_map, word_facts, word_map
from promptlab.tiny.data.multiplication import multiplication
from promptlab.tiny.data.reasoning import hopping, swapping, word_problems
from promptlab.tiny.data.search import countdown, sliding
from promptlab.tiny.data.style import advising
from promptlab.tiny.data.tools import tool_use

# How often a document of each family is drawn. Label maps are long, so of the *tokens* they are far more.
MIXTURE: dict[str, tuple[Family, float]] = {
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
EARLY = {name: (family, share * OFTEN_AT_FIRST.get(name, 1)) for name, (family, share) in MIXTURE.items()}
