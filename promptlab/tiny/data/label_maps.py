"""Label maps that are new in every document: what the labels mean has to be learnt from the demonstrations.

Chan et al. 2022 (arXiv 2205.05055) and Kirsch et al. 2022 (2212.04458) show what makes in-context learning emerge: many
fresh maps. Some labels keep a meaning of their own, so that a question without demonstrations has an answer, and
labels that are flipped have something to overcome (Wei et al. 2023, arXiv 2303.03846).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from promptlab.tiny.data.chat import ALL_WORDS, CONSONANTS, VOWELS, Chat, assistant, distinct, nonsense, system, user
from promptlab.tiny.data.world import COMMON_WORDS, WORDS, sentence

# Label names the bundled model never meets as labels, kept for the demonstration set and the probes. `nonsense` cannot
# spell any of them.
HELD_OUT_LABELS = ("amber", "blue", "green", "orange", "north", "south", "east", "west")
NAMED_LABELS = (
    "yes,no,maybe,true,false,good,bad,high,low,left,right,up,down,hot,cold,open,shut,first,second,third,day,night,"
    "positive,negative,neutral,urgent,routine,wait,go,stop,home,refer,none,weak,strong,black,white,sun,moon,star,"
    "one,two,three,four,cat,tree,stone,river,fire,wind"
).split(",")
PLAIN_LABELS = tuple(dict.fromkeys((*NAMED_LABELS, *ALL_WORDS, *COMMON_WORDS)))  # many of several tokens


def label_names(rng: Random, n: int) -> list[str]:
    """n different labels of one kind: nonsense, plain words, letters, digits or capitalised nonsense."""
    kind = rng.random()
    if kind < 0.30:
        return distinct(rng, lambda: nonsense(rng), n)
    if kind < 0.40:
        return rng.sample(NAMED_LABELS, n)
    if kind < 0.65:
        return rng.sample(PLAIN_LABELS, n)
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


def demonstrations(
    rng: Random, labels: list[str], item: Callable[[str], str], room: int, cost: int, least: float = 0.35
) -> Chat:
    """Turns of item and label, as many as a log-uniform share of the room holds at `cost` tokens each, at least 2.

    The fewest are what the room holds to the power `least`.
    """
    most = max(2, room // cost)
    n = max(2, round(most ** rng.uniform(least, 1.0)))
    chat: Chat = []
    order: list[str] = []
    for _ in range(n):
        if not order:  # balanced in the long run, in random order: as real few-shot prompts are
            order = rng.sample(labels, len(labels)) if rng.random() < 0.7 else [rng.choice(labels)]
        label = order.pop()
        chat += [user(item(label)), assistant(label)]
    return chat


def always(label: str) -> tuple[str, ...]:
    """The words that mean a named label in every document, where labels are fixed."""
    return tuple(dict.fromkeys(ALL_WORDS))[NAMED_LABELS.index(label) :: len(NAMED_LABELS)]


def words_to_tell_apart(rng: Random, n: int) -> list[str]:
    """n different words: of all kinds, or all nonsense of two syllables, or of few letters too.

    A model that reads mixed ones only gets by with part of a word, and takes words that look alike for each other.
    """
    kind = rng.random()
    if kind < 0.40:
        return distinct(rng, lambda: nonsense(rng) if rng.random() < 0.5 else rng.choice(ALL_WORDS), n)
    if kind < 0.85:
        return distinct(rng, lambda: nonsense(rng, 2), n)
    consonants, vowels = rng.sample(CONSONANTS, 5), rng.sample(VOWELS, 3)

    def alike() -> str:
        word = "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(2))
        return word + rng.choice(consonants) if rng.random() < 0.5 else word

    return distinct(rng, alike, n)


def word_map(rng: Random, room: int, fixed: bool = False) -> Chat:
    """A fresh label map over words: every label is tied to three words, an item shows one or two of them.

    With `fixed`, here and below, labels mean the same in every document: there is nothing to learn from demonstrations.
    """
    n = rng.choice((number_of_labels(rng), 8))
    if fixed:
        labels = rng.sample(NAMED_LABELS, n)
        words = {label: rng.sample(always(label), 3) for label in labels}
    else:
        labels = label_names(rng, n)
        pool = words_to_tell_apart(rng, 3 * n)
        words = {label: pool[3 * i : 3 * i + 3] for i, label in enumerate(labels)}
    shown = rng.choice((1, 2, 2))
    between = rng.choice((" ", " ", ", "))

    def item(label: str) -> str:
        return between.join(rng.sample(words[label], shown))

    head = [system(options(labels))] if rng.random() < 0.5 else []
    return head + demonstrations(rng, labels, item, room, 3 + 5 * shown, least=0.6)


def meaning_map(rng: Random, room: int, fixed: bool = False) -> Chat:
    """Words of a facet and the names of their classes: each by its own name, or the names dealt out anew.

    Without demonstrations only the own name can be right; in a document whose names are flipped, only they tell so.
    """
    facet = rng.choice(("symptom", "symptom", "symptom", "person", "place", "exposure", "time"))
    classes = rng.sample(list(WORDS[facet]), min(len(WORDS[facet]), rng.choice((2, 3, 4, 4, 6))))
    flipped = rng.random() < 0.5 and not fixed
    named = dict(zip(classes, rng.sample(classes, len(classes)) if flipped else classes, strict=True))
    class_of = {label: name for name, label in named.items()}
    few = rng.choice((2, 3, 4, 8))
    words = {name: rng.sample(WORDS[facet][name], min(few, len(WORDS[facet][name]))) for name in classes}
    head = [system(options(classes))] if rng.random() < 0.7 else []
    said = demonstrations(rng, classes, lambda label: rng.choice(words[class_of[label]]), room, 9)
    if named == {name: name for name in classes} and rng.random() < 0.3:
        said = said[:2]  # and no demonstration before it
    return head + said


def facet_map(rng: Random, room: int, fixed: bool = False) -> Chat:
    """A fresh label map over sentences: the classes of one facet, which the reader must find out, are tied to labels.

    In three documents of four a label is tied to a few words of its class only, which then come back often. One
    document in seven uses the classes' own names, and one in three says which facet it is about.
    """
    facet = rng.choice(("symptom", "symptom", "person", "place", "exposure", "time"))
    classes = list(WORDS[facet])
    n = min(number_of_labels(rng), len(classes))
    chosen = rng.sample(classes, n)
    labels = chosen if rng.random() < 0.15 or fixed else label_names(rng, n)
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


def is_first(words: Sequence[str], special: str) -> bool:
    return words[0] == special


def is_last(words: Sequence[str], special: str) -> bool:
    return words[-1] == special


def holds(words: Sequence[str], special: str) -> bool:
    return special in words


def is_short(words: Sequence[str], special: str) -> bool:
    return len(words) == 2


def ends_alike(words: Sequence[str], special: str) -> bool:
    return words[0] == words[-1]


def is_second(words: Sequence[str], special: str) -> bool:
    return words[1] == special


Rule = Callable[[Sequence[str], str], bool]
RULES: tuple[Rule, ...] = (is_first, is_last, holds, is_short, ends_alike)
HELD_OUT_RULES: tuple[Rule, ...] = (is_second,)


def rule_items(rng: Random, rule: Rule, n: int) -> list[tuple[str, bool]]:
    """n lists of two to four words with what the rule says of each; about half of them fulfil it."""
    pool = distinct(rng, lambda: nonsense(rng, 1), 6)
    special = pool[0]
    found: list[tuple[str, bool]] = []
    for _ in range(n):
        wanted, words = rng.random() < 0.5, list[str]()
        while not words or rule(words, special) != wanted:
            words = [rng.choice(pool) for _ in range(rng.choice((2, 2, 3, 4)))]
            if rng.random() < 0.4:
                words[rng.randrange(len(words))] = special
        found.append((" ".join(words), wanted))
    return found


def rule_map(rng: Random, room: int, fixed: bool = False) -> Chat:
    """Lists of words sorted in two by a rule that nobody says: what comes first, last, at all, how many there are."""
    yes, no = ("yes", "no") if fixed else label_names(rng, 2)
    items = rule_items(rng, rng.choice(RULES), max(4, round((room // 14) ** rng.uniform(0.5, 1.0))))
    head = [system(options(sorted((yes, no))))] if rng.random() < 0.5 else []
    return head + [turn for text, is_so in items for turn in (user(text), assistant(yes if is_so else no))]


def functions(rng: Random, room: int) -> Chat:
    """A function of whole numbers, from its values: x + c, c - x, 2x, 3x, x², x² + c, and which is larger."""
    c = rng.randint(1, 20)
    function: Callable[[int], int] = rng.choice(
        (
            lambda x: x + c,
            lambda x: 40 + c - x,
            lambda x: 2 * x,
            lambda x: 3 * x,
            lambda x: x * x,
            lambda x: x * x + c,
            lambda x: max(x, c),
            lambda x: x % 10,
        )
    )
    numbers = rng.sample(range(21), rng.randint(3, 16))
    before, after = rng.choice((("", ""), ("", ""), ("f(", ") ="), ("x = ", "")))
    return [turn for x in numbers for turn in (user(f"{before}{x}{after}"), assistant(str(function(x))))]


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
