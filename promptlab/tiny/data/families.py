"""The families of documents the bundled model is pretrained on. A family is `(rng, room) -> chat`.

`room` is how many tokens are left for the document, roughly; families that can be of any length fill some or all of it.
Label maps: Chan et al. 2022 (arXiv 2205.05055) and Kirsch et al. 2022 (2212.04458) show what makes in-context learning
emerge (many fresh maps); repetition and recall break its plateau (Bratulic et al. 2025, 2501.06256).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from promptlab.tiny.data.world import WORDS, sentence
from promptlab.types import Message

Chat = list[Message]
Family = Callable[[Random, int], Chat]

STEP_BY_STEP = "Let's think step by step."
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
ALL_WORDS = tuple(word for classes in WORDS.values() for words in classes.values() for word in words)
# Label names the bundled model never meets as labels, kept for the demonstration set and the probes. `nonsense` cannot
# spell any of them.
HELD_OUT_LABELS = ("amber", "blue", "green", "orange", "north", "south", "east", "west")
NAMED_LABELS = (
    "yes,no,maybe,true,false,good,bad,high,low,left,right,up,down,hot,cold,open,shut,first,second,third,day,night,"
    "positive,negative,neutral,urgent,routine,wait,go,stop,home,refer,none,weak,strong,black,white,sun,moon,star,"
    "one,two,three,four,cat,tree,stone,river,fire,wind"
).split(",")


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def nonsense(rng: Random, syllables: int | None = None) -> str:
    """A word that means nothing, of one to three syllables."""
    syllables = syllables or rng.choice((1, 1, 2, 2, 3))
    word = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables))
    return word + rng.choice(CONSONANTS) if rng.random() < 0.5 else word


def distinct(rng: Random, make: Callable[[], str], n: int) -> list[str]:
    """n different strings from make(), in the order met."""
    seen: dict[str, None] = {}
    while len(seen) < n:
        seen[make()] = None
    return list(seen)


def label_names(rng: Random, n: int) -> list[str]:
    """n different labels of one kind: nonsense, plain words, letters, digits or capitalised nonsense."""
    kind = rng.random()
    if kind < 0.40:
        return distinct(rng, lambda: nonsense(rng), n)
    if kind < 0.65:
        return rng.sample(NAMED_LABELS, n)
    if kind < 0.75:
        return rng.sample("ABCDEFGHIJ", n)
    if kind < 0.85:
        return rng.sample("0123456789", n)
    if kind < 0.95:
        return distinct(rng, lambda: nonsense(rng).capitalize(), n)
    return distinct(rng, lambda: nonsense(rng, 1) + " " + nonsense(rng, 1), n)


def number_of_labels(rng: Random) -> int:
    return rng.choice((2, 2, 2, 3, 3, 4, 4, 4, 5, 6, 8))


def options(labels: Sequence[str]) -> str:
    """How a prompt names the labels it wants; the same words as `promptlab.Prompt` renders."""
    return "Answer with one of: " + ", ".join(labels) + "."


def demonstrations(rng: Random, labels: list[str], item: Callable[[str], str], room: int, cost: int) -> Chat:
    """Turns of item and label, as many as a log-uniform share of the room holds at `cost` tokens each, at least 2."""
    most = max(2, room // cost)
    n = max(2, round(most ** rng.uniform(0.35, 1.0)))
    chat: Chat = []
    order: list[str] = []
    for _ in range(n):
        if not order:  # balanced in the long run, in random order: as real few-shot prompts are
            order = rng.sample(labels, len(labels)) if rng.random() < 0.7 else [rng.choice(labels)]
        label = order.pop()
        chat += [user(item(label)), assistant(label)]
    return chat


def repetition(rng: Random, room: int) -> Chat:
    """A string of random words, shown two to four times or copied on request."""
    words = [rng.choice(ALL_WORDS) if rng.random() < 0.5 else nonsense(rng) for _ in range(rng.randint(3, 14))]
    text = " ".join(words)
    if rng.random() < 0.5:
        return [user(text), assistant(text)]
    return [user(" ".join([text] * rng.randint(2, 4)))]


def recall(rng: Random, room: int) -> Chat:
    """Key and value pairs, then questions for the values of some keys."""
    n = rng.randint(3, 12)
    keys = distinct(rng, lambda: nonsense(rng) if rng.random() < 0.5 else rng.choice(ALL_WORDS), n)
    values = label_names(rng, n) if n <= 8 else distinct(rng, lambda: nonsense(rng), n)
    chat = [user(", ".join(f"{k} = {v}" for k, v in zip(keys, values, strict=True)) + f". {keys[0]}")]
    chat.append(assistant(values[0]))
    for _ in range(rng.randint(2, 8)):
        i = rng.randrange(n)
        chat += [user(keys[i]), assistant(values[i])]
    return chat


def word_map(rng: Random, room: int) -> Chat:
    """A fresh label map over words: every label is tied to three words, an item shows one or two of them."""
    labels = label_names(rng, number_of_labels(rng))
    pool = distinct(rng, lambda: nonsense(rng) if rng.random() < 0.5 else rng.choice(ALL_WORDS), 3 * len(labels))
    words = {label: pool[3 * i : 3 * i + 3] for i, label in enumerate(labels)}
    shown = rng.choice((1, 2, 2))
    between = rng.choice((" ", " ", ", "))

    def item(label: str) -> str:
        return between.join(rng.sample(words[label], shown))

    head = [system(options(labels))] if rng.random() < 0.5 else []
    return head + demonstrations(rng, labels, item, room, 3 + 5 * shown)


def facet_map(rng: Random, room: int) -> Chat:
    """A fresh label map over sentences: the classes of one facet, which the reader must find out, are tied to labels.

    In three documents of four a label is tied to a few words of its class only, which then come back often. One
    document in seven uses the classes' own names, and one in three says which facet it is about.
    """
    facet = rng.choice(("symptom", "symptom", "person", "place", "exposure", "time"))
    classes = list(WORDS[facet])
    n = min(number_of_labels(rng), len(classes))
    chosen = rng.sample(classes, n)
    labels = chosen if rng.random() < 0.15 else label_names(rng, n)
    class_of = dict(zip(labels, chosen, strict=True))
    few = rng.choice((2, 3, 5, 8))  # eight are nearly all of a class
    narrow = {label: tuple(rng.sample(WORDS[facet][name], few)) for label, name in class_of.items()}

    def item(label: str) -> str:
        return sentence(rng, {facet: class_of[label]}, narrow=narrow[label])

    said = [f"Sort by {facet}."] if rng.random() < 0.35 else []
    if rng.random() < 0.6:
        said.append(options(labels))
    head = [system("\n".join(said))] if said else []
    return head + demonstrations(rng, labels, item, room, 19)


def word_facts(rng: Random, room: int) -> Chat:
    """What class a word belongs to, and plain sentences: the knowledge that lets a label reach words not yet shown."""
    chat: Chat = []
    for _ in range(rng.randint(2, 8)):
        facet = rng.choice(list(WORDS))
        name = rng.choice(list(WORDS[facet]))
        if rng.random() < 0.6:
            chat += [user(f"{facet}: {rng.choice(WORDS[facet][name])}"), assistant(name)]
        else:
            n = min(len(WORDS[facet][name]), rng.randint(3, 6))
            chat += [user(f"{facet} words for {name}"), assistant(", ".join(rng.sample(WORDS[facet][name], n)))]
    return chat


CONTAINERS = (("jug", "litres"), ("box", "masks"), ("ward", "patients"), ("bag", "tablets"), ("bus", "people"))
GAINS = ("{n} more come", "add {n}", "{n} are put in", "then {n} arrive")
LOSSES = ("{n} leave", "take out {n}", "{n} are lost", "then {n} are used")


def steps_of(rng: Random, start: int, changes: list[int]) -> list[str]:
    """One of several correct derivations: in order, gains before losses, or all gains and all losses summed first."""
    way = rng.random()
    gains, losses = [c for c in changes if c > 0], [c for c in changes if c < 0]
    if way < 0.5 or not gains or not losses:
        order = changes
    elif way < 0.75:
        order = gains + losses
    else:
        lines, totals = [], []
        for group in (gains, losses):
            total = abs(group[0])
            for c in group[1:]:
                lines.append(f"{total} + {abs(c)} = {total + abs(c)}.")
                total += abs(c)
            totals.append(total)
        up = start + totals[0]
        return [*lines, f"{start} + {totals[0]} = {up}.", f"{up} - {totals[1]} = {up - totals[1]}."]
    lines, value = [], start
    for c in order:
        sign = "+" if c > 0 else "-"
        lines.append(f"{value} {sign} {abs(c)} = {value + c}.")
        value += c
    return lines


def word_problem(rng: Random, n_steps: int) -> tuple[str, list[str], int]:
    """A question in `n_steps` changes, one correct derivation, and its result (0 to 99 all the way)."""
    thing, unit = rng.choice(CONTAINERS)
    value = start = rng.randint(5, 30)
    said, changes = [f"A {thing} holds {start} {unit}."], []
    for _ in range(n_steps):
        n = rng.randint(1, 9)
        gain = value <= n or (value + n <= 60 and rng.random() < 0.5)
        changes.append(n if gain else -n)
        value += changes[-1]
        phrase = rng.choice(GAINS if gain else LOSSES).format(n=n)
        said.append(phrase[0].upper() + phrase[1:] + ".")
    question = " ".join([*said, f"How many {unit} now?"])
    return question, steps_of(rng, start, changes), value


def arithmetic(rng: Random, room: int) -> Chat:
    """Word problems, alone or a few in a row: step by step, or answered directly, taught for two steps at most."""
    chat: Chat = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        direct = rng.random() < 0.35
        question, steps, result = word_problem(rng, rng.randint(1, 2) if direct else rng.randint(1, 5))
        if direct:
            chat += [user(question), assistant(str(result))]
        else:
            worked = " ".join([*steps, f"The answer is {result}."])
            chat += [user(f"{question}\n{STEP_BY_STEP}"), assistant(worked)]
    return chat


# How often a document of each family is drawn. Label maps are long: of the *tokens* of full-length rows they are nearly
# two thirds, arithmetic a fifth, the rest a sixth.
MIXTURE: dict[str, tuple[Family, float]] = {
    "repetition": (repetition, 0.16),
    "recall": (recall, 0.11),
    "word_map": (word_map, 0.27),
    "facet_map": (facet_map, 0.06),
    "word_facts": (word_facts, 0.11),
    "arithmetic": (arithmetic, 0.29),
}
