"""Columns that give the label away: by their values, or, as PubMedQA's LONG_ANSWER, by what they were written to say.

Two signs, as a text that tells the label is what every classifier hopes for and so no sign by itself:
- the values say it: on either half of the rows, taking for each value the label that is commonest with it on the other
  half is right on more than half of the rows that always saying the commonest label gets wrong;
- the name says that it was written when the label was known: an answer, a decision, a rationale.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from promptlab.compare.data.tables import Table

FEWEST = 20  # rows, below which a share says nothing
AFTERWARDS = set(
    "answer answers label labels gold target truth decision decided verdict conclusion conclusions rationale "
    "explanation explanations justification annotation annotations annotator pred prediction predicted".split()
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def telling(table: Table, text: Sequence[str], label: str, group: str | None = None) -> Iterator[str]:
    """A line for each column beside the label and the group that may give the label away; `text` are those asked."""
    labelled = [row for row in table.rows if (row[label] or "").strip()]
    labels = [(row[label] or "").strip() for row in labelled]
    most = max(Counter(labels).values(), default=0)
    for column in table.columns:
        if column in (label, group):
            continue
        right = lookup([(row[column] or "").strip().casefold() for row in labelled], labels)
        told = ""
        if len(labels) >= FEWEST and right - most > (len(labels) - most) / 2:
            shares = (right / len(labels), most / len(labels))
            told = "its values tell {:.0%} of the labels, the commonest label alone {:.0%}".format(*shares)
        elif AFTERWARDS & {word.lower() for word in _WORDS.findall(column)}:
            told = "its name says that it was written when the label was known"
        if told and column in text:
            yield f'Does the text column "{column}" give the label away? It looks so: {told}.'
        elif told:
            yield f'The column "{column}" may give the label away ({told}): do not add it to the text.'


def lookup(values: Sequence[str], labels: Sequence[str]) -> int:
    """How many labels are right that a table of values gives, each half of the rows by a table made of the other."""
    right = 0
    for half in (0, 1):
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for value, label in zip(values[half::2], labels[half::2], strict=True):
            seen[value][label] += 1
        every = sum(seen.values(), Counter[str]())
        if not every:
            continue
        usual = every.most_common(1)[0][0]
        best = {value: counts.most_common(1)[0][0] for value, counts in seen.items()}
        others = zip(values[1 - half :: 2], labels[1 - half :: 2], strict=True)
        right += sum(best.get(value, usual) == label for value, label in others)
    return right
