"""Which examples are trained on and which are tested on, so that nothing on one side is known from the other.

Every order here comes from hashing (seed, text), not from a random stream: a split does not depend on the order of the
rows, on PYTHONHASHSEED, or on a library's version.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from math import fsum
from typing import NamedTuple

from promptlab.errors import DataError
from promptlab.prompt import shown
from promptlab.types import Example
from promptlab.words import UNSPACED

# Signs that do not tell two texts apart. Signs that may are kept: "2 - 3" and "2 + 3", "HER2+" and "HER2-", "<", ">".
_IDLE = re.compile(
    r"[.,;:!?'\"`´‘’“”„…()\[\]{}]|(?<=\w)[-‐-―](?=\w)"
    r"|[。、〈-】〔-〛〝-〟・．，：；！？＂＇（）［］｀｛｝｟-･]|——"  # of Chinese and Japanese, in full or half width
    rf"|(?<=[{UNSPACED}])·|·(?=[{UNSPACED}])"  # between parts of a name; elsewhere it may be a decimal point
)
_GAP = re.compile(rf" (?=[{UNSPACED}])|(?<=[{UNSPACED}]) ")
_TEXT = re.compile(f"[ {UNSPACED}]")


class Split(NamedTuple):
    """Two sides, each in the order the examples came in."""

    train: list[Example]
    test: list[Example]


def text_key(given: str | Mapping[str, str]) -> bytes:
    """16 bytes that are equal for texts equal apart from case, spacing and punctuation ("top-up?", "Top up").

    Fields are the text that is shown of them. In scripts that put no space between words, none tells texts apart, nor
    does a sign that stands for one.
    """
    text = shown(given)
    plain = (text if text.isascii() else unicodedata.normalize("NFC", text)).casefold()
    words = _IDLE.sub(" ", plain).split() or plain.split()
    known = " ".join(words)
    return _hash(known if known.isascii() else _GAP.sub("", known))


def group_key(group: str) -> str:
    """A group named by an id is compared to the letter; one named by a text (a question, an abstract) as a text."""
    return text_key(group).hex() if _TEXT.search(group) else group


def clusters(examples: Sequence[Example]) -> list[int]:
    """The cluster of each example, numbered from 0 as they first occur: same group or same text, in any chain."""
    return joined(_keys(example) for example in examples)


def _keys(example: Example) -> Iterator[Hashable]:
    """Bytes of the text, and a string of the group if there is one."""
    yield text_key(example.input)
    if example.group is not None:
        yield group_key(example.group)


def joined(keys: Iterable[Iterable[Hashable]]) -> list[int]:
    """Which keys each item has, to the cluster of each: those that share a key are one, in any chain. Numbered from 0
    as they first occur."""
    parent = list[int]()

    def root(of: int) -> int:
        while parent[of] != of:
            parent[of] = parent[parent[of]]
            of = parent[of]
        return of

    first: dict[Hashable, int] = {}
    for at, of_item in enumerate(keys):
        parent.append(at)
        for key in of_item:
            a, b = root(first.setdefault(key, at)), root(at)
            parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(at), len(numbers)) for at in range(len(parent))]


def split(
    examples: Sequence[Example],
    *,
    test_share: float = 0.3,
    test_size: int | None = None,
    at_most: bool = False,
    seed: int = 0,
) -> Split:
    """Hold whole clusters out for testing, `test_size` examples (or that share of all), classes in proportion.

    Minimisation (Pocock and Simon 1975, Biometrics 31:103): one cluster after the other goes where it keeps the classes
    seen so far near to their shares of the test set, large clusters first (by powers of two, else by a hash of seed and
    texts), so that small ones even out what large ones leave. What is then missing is filled up with clusters that fit,
    and at the end with one that does not if that comes nearer to the size (not where `at_most` so many are wanted).
    Where no text occurs twice and no group is given, sizes and proportions are exact. Every class keeps an example in
    train. The same examples in another order give the same two sides. (sklearn's StratifiedGroupKFold knows folds, not
    sizes, and goes by the order of the rows.)

    Raises DataError where that is impossible: one cluster, or each class in a cluster of its own.
    """
    n = len(examples)
    wanted = round(n * test_share) if test_size is None else test_size
    if not 0 < wanted < n:
        raise DataError(f"{wanted} of {n} examples asked for as test set. Ask for at least 1 and leave at least 1.")
    members = defaultdict[int, list[int]](list)
    for at, cluster in enumerate(clusters(examples)):
        members[cluster].append(at)
    grouped = any(example.group is not None for example in examples)
    if len(members) < 2:
        one = "one group (or copies of one text)" if grouped else "copies of one text"
        hint = "Name another group." if grouped else "Bring more texts."
        raise DataError(f"All examples are {one}, so they cannot be split. {hint}")
    keys = {cluster: min(text_key(examples[at].input) for at in rows) for cluster, rows in members.items()}
    order = sorted(members, key=lambda c: (-len(members[c]).bit_length(), _hash(f"{seed}:", keys[c])))
    start = (int.from_bytes(_hash(f"{seed}:start")[:4]) + 0.5) / 2**32
    labels = [str(example.target) for example in examples]
    taken = _take([members[c] for c in order], labels, wanted, start, at_most)
    if not taken:
        raise DataError(_why_nothing(labels, grouped, wanted if at_most else None))
    train, test = list[Example](), list[Example]()
    for at, example in enumerate(examples):
        (test if at in taken else train).append(example)
    return Split(train, test)


def _why_nothing(labels: Sequence[str], grouped: bool, at_most: int | None) -> str:
    if at_most is not None:
        return f"No {at_most} or fewer test items can be drawn by class and whole groups. Ask for more, or for all."
    if grouped:
        return "Each split along the groups would leave a class out of training. Give another group column."
    return (
        f"Every text is the only one of a class ({len(set(labels))} classes), so a test would leave a class out of "
        "training. Bring more texts of each class, or name another label column."
    )


def _take(groups: Sequence[Sequence[int]], labels: Sequence[str], wanted: int, start: float, at_most: bool) -> set[int]:
    """The rows to test on. `groups` are rows, in the order in which they are considered.

    A group is taken when its classes lag behind by more than `start` (between 0 and 1) of its size, as in systematic
    sampling: always at 0.5, the nearest choice each time, the first and the largest group would never be tested on.
    """
    total = Counter(labels)
    target = _apportion(total, wanted)
    have, seen = Counter[str](), Counter[str]()
    taken: set[int] = set()

    def leaves_every_class(counts: Mapping[str, int]) -> bool:
        return all(have[label] + count < total[label] for label, count in counts.items())

    def gain(counts: Mapping[str, int]) -> float:
        """At start 0.5, half of what the chi-squared distance to the targets (as far as seen) falls by."""
        goal = {y: target[y] * seen[y] / total[y] for y in counts}
        # fsum, since a sum that depended on the order of the rows could tip a balance
        return fsum(c * (goal[y] - have[y] - c * start) / max(target[y], 1) for y, c in counts.items())

    for must_gain in (True, False):
        for rows in groups:
            counts = Counter(labels[at] for at in rows)
            seen.update(counts)
            if len(taken) + len(rows) > wanted or rows[0] in taken:
                continue
            if leaves_every_class(counts) and (not must_gain or gain(counts) > 0):
                have.update(counts)
                taken.update(rows)
    if at_most:
        return taken
    # All that are left are too large; the least of them may still come nearer than stopping short does.
    for rows in sorted((rows for rows in groups if rows[0] not in taken), key=len):
        if len(taken) + len(rows) - wanted >= wanted - len(taken) and taken:
            break
        if leaves_every_class(Counter(labels[at] for at in rows)):
            taken.update(rows)
            break
    return taken


def _apportion(total: Mapping[str, int], wanted: int) -> dict[str, int]:
    """`wanted` test items among the classes by largest remainder."""
    n = sum(total.values())
    target = {label: count * wanted // n for label, count in total.items()}
    by_remainder = sorted(total, key=lambda label: (-(total[label] * wanted % n), label))
    for label in by_remainder[: wanted - sum(target.values())]:
        target[label] += 1
    return target


def label_budgets(pool: Sequence[Example], ks: Iterable[int], seed: int = 0) -> dict[int, tuple[Example, ...]]:
    """Nested sets of k labelled examples: a smaller one is the beginning of a larger one, whatever `ks` were asked for.

    First one example of every class, the commonest class first, so k >= the number of classes holds them all; then in
    the order of Webster's (Sainte-Laguë's) method, so that every k holds the classes as near to the pool's proportions
    as one-of-each allows (least sum of (have - share)² / share). Inside a class the order depends on (seed, text).
    The pool in another order gives the same sets. Groups are not kept together: they are all on one side of the split.

    Raises DataError for a k that is negative or larger than the pool.
    """
    ks = sorted(set(ks))
    if ks and (ks[0] < 0 or ks[-1] > len(pool)):
        bad = ks[0] if ks[0] < 0 else ks[-1]
        raise DataError(f"{bad} labelled examples asked for; there are {len(pool)} to draw from.")
    by_class = defaultdict[str, list[Example]](list)
    for example in pool:
        by_class[str(example.target)].append(example)
    queue = list[tuple[bool, float, bytes, Example]]()
    for label, members in by_class.items():
        lot, n = _hash(f"{seed}:", label.encode()), len(members)
        for j, example in enumerate(sorted(members, key=lambda example: _draw(example, seed))):
            queue.append((j > 0, (j + 0.5) / n, lot, example))
    queue.sort(key=lambda entry: entry[:3])
    drawn = tuple(entry[3] for entry in queue)
    return {k: drawn[:k] for k in ks}


def _draw(example: Example, seed: int) -> tuple[bytes, str, str]:
    return _hash(f"{seed}:", text_key(example.input)), shown(example.input), example.id


def _hash(text: str, more: bytes = b"") -> bytes:
    # "surrogatepass": half a surrogate pair is a legal JSON string, and a text like any other
    return blake2b(text.encode("utf-8", "surrogatepass") + more, digest_size=16).digest()
