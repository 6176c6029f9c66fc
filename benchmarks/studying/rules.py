"""Five rules that the bundled model was never taught, each as a table of texts and labels.

What each is meant to tell apart is said in `RULES`. Where labels are words they are `HELD_OUT_LABELS`, which no
document of its pretraining uses as labels; letters mean something else in every document there.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from promptlab.tiny.data.chat import distinct, nonsense
from promptlab.tiny.data.label_maps import HELD_OUT_LABELS, HELD_OUT_RULES
from promptlab.tiny.data.world import WORDS

Row = tuple[str, str]  # text, label
Draw = Callable[[Random], Row]


class Rule(NamedTuple):
    """What is decided by what, and how to make a drawer of rows; `make(rng)` fixes the words that the rule is about."""

    about: str
    make: Callable[[Random], Draw]


def second_word(rng: Random) -> Draw:
    """Whether the second of three or four words is a certain one."""
    pool = distinct(rng, lambda: nonsense(rng, 1), 20)
    yes, no = HELD_OUT_LABELS[:2]
    [is_second] = HELD_OUT_RULES

    def draw(rng: Random) -> Row:
        wanted = rng.random() < 0.5
        while True:
            words = [rng.choice(pool) for _ in range(rng.choice((3, 4)))]
            if rng.random() < 0.6:
                words[rng.randrange(len(words))] = pool[0]
            if is_second(words, pool[0]) == wanted:
                return " ".join(words), yes if wanted else no

    return draw


def word_map(rng: Random) -> Draw:
    """Which of four sets of six words the two to four words of a text are from."""
    labels = HELD_OUT_LABELS[4:]
    words = distinct(rng, lambda: nonsense(rng), 6 * len(labels))
    of = {label: words[6 * i : 6 * i + 6] for i, label in enumerate(labels)}

    def draw(rng: Random) -> Row:
        label = rng.choice(labels)
        return " ".join(rng.sample(of[label], rng.choice((2, 3, 4)))), label

    return draw


def overruled(rng: Random) -> Draw:
    """Three places go to three labels, unless a traveller is named: then it is the fourth."""
    labels = dict(zip(rng.sample(list(WORDS["place"]), 3), "EFG", strict=True))
    joined_by = (", ", " and ", " with ", " plus ", " then ", " beside ", " near ", " after ")

    def draw(rng: Random) -> Row:
        place = rng.choice(list(labels))
        signs = rng.sample(WORDS["place"][place], 2)
        exception = rng.random() < 0.25
        if exception:
            signs[rng.randrange(2)] = rng.choice(WORDS["person"]["traveller"])
        return rng.choice(joined_by).join(signs), "H" if exception else labels[place]

    return draw


def majority_word(rng: Random) -> Draw:
    """Which of two words is there more often, among others that say nothing."""
    a, b, *others = distinct(rng, lambda: nonsense(rng, 1), 8)
    of_a, of_b = HELD_OUT_LABELS[2:4]

    def draw(rng: Random) -> Row:
        less = rng.choice((0, 1, 1, 2))
        more = less + rng.choice((1, 1, 2))
        is_a = rng.random() < 0.5
        words = [a if is_a else b] * more + [b if is_a else a] * less
        words += [rng.choice(others) for _ in range(rng.choice((1, 2, 3)))]
        return " ".join(rng.sample(words, len(words))), of_a if is_a else of_b

    return draw


def comes_first(rng: Random) -> Draw:
    """Which of two words that are both there comes before the other: no word says anything by itself."""
    a, b, *others = distinct(rng, lambda: nonsense(rng, 1), 8)
    before, after = HELD_OUT_LABELS[0], HELD_OUT_LABELS[3]

    def draw(rng: Random) -> Row:
        words = [rng.choice(others) for _ in range(rng.choice((3, 4, 5)))]
        places = sorted(rng.sample(range(len(words)), 2))
        is_a = rng.random() < 0.5
        words[places[0]], words[places[1]] = (a, b) if is_a else (b, a)
        return " ".join(words), before if is_a else after

    return draw


RULES: dict[str, Rule] = {
    "second-word": Rule("a position: is the second word a certain one?", second_word),
    "word-map": Rule("a fresh map of words to labels, which demonstrations alone can teach", word_map),
    "overruled": Rule("a map of signs to labels in which one kind of sign overrules the others", overruled),
    "majority-word": Rule("a count: which of two words is there more often?", majority_word),
    "comes-first": Rule("an order: which of two words comes before the other?", comes_first),
}


def rows(name: str, n: int) -> list[Row]:
    """n rows of a rule with different texts; the first of more are those of fewer."""
    rng = Random(f"held-out rule/{name}")
    draw = RULES[name].make(rng)
    found: dict[str, str] = {}
    while len(found) < n:
        text, label = draw(rng)
        found.setdefault(text, label)
    return list(found.items())


def write(name: str, folder: Path, n_train: int, n_test: int) -> tuple[Path, Path]:
    """A rule's train.csv and test.csv in a folder, with the columns text and label; none of their texts are the same.

    The training rows are the same whatever the size of the test.
    """
    made = rows(name, n_train + n_test)
    paths = folder / "train.csv", folder / "test.csv"
    folder.mkdir(parents=True, exist_ok=True)
    for path, some in zip(paths, (made[:n_train], made[n_train:]), strict=True):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["text", "label"])
            writer.writerows(some)
    return paths
