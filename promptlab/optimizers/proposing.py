"""What is asked of a proposer, and what of its replies may be tried. It may write anything, and nothing it writes ends
a run: what cannot be used is counted, by the reason."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from promptlab.optimizers.candidate import ONLY, Candidate, as_text
from promptlab.optimizers.tries import block, pair
from promptlab.prompt import shown
from promptlab.types import Message

if TYPE_CHECKING:
    from promptlab.optimizers.search import Search
    from promptlab.optimizers.sections import Item

TAGGED = re.compile(
    r"<(prompt|instruction|improved)>(.*?)</\1>|<start>(.*?)</?(?:start|end)>", re.IGNORECASE | re.DOTALL
)
ANNOUNCED = re.compile(r"\A[^\n]*\b(?:here|instruction|prompt|version|variation)\b[^\n]*:\s*\n", re.IGNORECASE)
FENCED = re.compile(r"\s*```[^\n]*\n((?:(?!```).)*)```", re.DOTALL)
WORD = re.compile(r"\w+")
JAPANESE = ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC")  # how names of its own letters begin
SAME = 0.95  # how alike two instructions are that are not worth two races
COPIED = 5  # words in a row that stand in an example and in a proposal
REPAIR = "\n\nWrite only the new instruction, between <prompt> and </prompt>, and nothing else."


@dataclass(frozen=True)
class Limits:
    """What an instruction may be: characters at most, and texts it may not hold. `reply_tokens` bound a proposal."""

    characters: int = 4_000
    forbidden: tuple[str, ...] = ()
    reply_tokens: int = 1_024


@dataclass(frozen=True)
class Wish:
    """One thing asked of the proposer: a text, and whose instruction the reply stands in for.

    `parents` are those that the new candidate comes from, `base` alone if there are none. `changes` False lets the
    reply say again what `base` says: it was not shown to the proposer. `translates` lets it be in another script.
    `before` is a talk that the text goes on with.
    """

    text: str
    base: Candidate
    op: str
    slot: str = ONLY
    parents: tuple[Candidate, ...] = ()
    changes: bool = True
    translates: bool = False
    before: tuple[Message, ...] = ()


def meta(name: str, **given: object) -> str:
    """A text for the proposer, from the file of that name with what is given in its places ($name)."""
    text = files("promptlab.optimizers").joinpath("meta", f"{name}.txt").read_text(encoding="utf-8")
    return Template(text.strip()).substitute({name: str(value) for name, value in given.items()})


async def proposed(search: Search, wishes: Sequence[Wish]) -> list[Candidate]:
    """The new candidates that come of wishes, in their order. A reply that cannot be used is asked for once more."""
    found: dict[int, Candidate] = {}
    todo = list(enumerate(wishes))
    for again in (False, True):
        if not todo or (again and len(todo) > search.left):
            break
        texts = [wish.text + (REPAIR if again else "") for _, wish in todo]
        chats = [(*wish.before, Message("user", text)) for text, (_, wish) in zip(texts, todo, strict=True)]
        replies = await search.ask(chats, wishes[todo[0][0]].op)
        unread = []
        for (i, wish), reply in zip(todo, replies, strict=True):
            said = None if reply is None else instruction_in(reply)
            why = "no answer" if said is None else wrong_with(said, wish, search)
            if said is not None and why is None:
                found[i] = wish.base.saying(said, wish.op, wish.slot, wish.parents)
            elif reply is not None:
                search.reject(str(why))
                search.note("rejected", op=wish.op, why=why, said=reply[:500])
                unread.append((i, wish))
        todo = unread
    return search.add(unlike(search, [found[i] for i in sorted(found)]))


def instruction_in(reply: str) -> str:
    """The instruction in a reply: between tags, else in a fence or in a JSON object, where the reply is that alone or a
    first line announces it, else all: an instruction may hold JSON, fences and tags of its own."""
    if tagged := TAGGED.findall(reply):
        _, between, started = tagged[-1]
        return str(between or started).strip()
    whole = reply.strip()
    announced = ANNOUNCED.match(whole)
    told = whole[announced.end() :] if announced else whole
    if fenced := FENCED.match(told) if announced else FENCED.fullmatch(told):
        told = whole = str(fenced[1]).strip()
    with suppress(ValueError, AttributeError):
        fields = json.loads(told)
        texts = [value for value in fields.values() if isinstance(value, str)]
        if len(texts) == 1 or "instruction" in fields or "prompt" in fields:
            return str(fields.get("instruction", fields.get("prompt", texts[0] if texts else ""))).strip()
    return whole


def wrong_with(said: str, wish: Wish, search: Search) -> str | None:
    """Why an instruction is not to be tried, in words that are counted; None if nothing is wrong with it."""
    before = wish.base.slot(wish.slot).instruction
    if not WORD.search(said):
        return "it is empty"
    if len(said) > search.limits.characters:
        return f"it is longer than {search.limits.characters:,} characters"
    if TAG_LEFT.search(said):
        return "its tags do not match"
    if wish.changes and plain(said) == plain(before):
        return "it changes nothing"
    if any(text.casefold() in said.casefold() for text in search.limits.forbidden):
        return "it holds what is forbidden"
    wanted = None if wish.translates else script(before)
    if wanted is not None and script(said) not in (None, wanted):
        return "it is in another script"
    if copies(said, before, search.feed):
        return "it copies an example"
    return None


TAG_LEFT = re.compile(r"</?(?:prompt|instruction|improved|start)>", re.IGNORECASE)


def plain(text: str) -> str:
    """A text without case, spacing and punctuation."""
    return " ".join(WORD.findall(text.casefold()))


def script(text: str) -> str | None:
    """The script that most letters are of: LATIN, CYRILLIC, CJK …; None without letters. Kana are of one script with
    the characters of Chinese: Japanese is written in both."""
    names = [unicodedata.name(c, "").split(" ")[0] for c in unicodedata.normalize("NFKC", text[:2_000]) if c.isalpha()]
    names = ["CJK" if name in JAPANESE else name for name in names]
    return max(set(names), key=lambda name: (names.count(name), name)) if names else None


def copies(said: str, before: str, items: Iterable[Item]) -> bool:
    """Whether a text holds an example, where the text before did not: five words in a row of an input, or a short input
    together with its answer."""
    words, old = f" {plain(said)} ", f" {plain(before)} "
    for item in items:
        text, target = plain(shown(item.example.input)), plain(as_text(item.example.target))
        parts = text.split()
        runs = [" ".join(parts[i : i + COPIED]) for i in range(len(parts) - COPIED + 1)]
        if any(f" {run} " in words and f" {run} " not in old for run in runs):
            return True
        whole = f" {text} {target} "
        if text and target and len(parts) < COPIED and whole in words and whole not in old:
            return True
    return False


def unlike(search: Search, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those of the candidates that say something new: nearly the same is not worth a race of its own."""
    kept: list[Candidate] = []
    for each in candidates:
        if any(alike(each, other) for other in (*search.known.values(), *kept)):
            search.reject("nearly the same as another")
            continue
        kept.append(each)
    return kept


def alike(a: Candidate, b: Candidate) -> bool:
    """Whether two candidates say nearly the same, and show the same."""
    for slot in a.slots:
        one, other = a.slot(slot), b.slot(slot)
        if (one.shots, one.frame, one.says_format) != (other.shots, other.frame, other.says_format):
            return False
        x, y = plain(one.instruction), plain(other.instruction)
        if x == y:
            continue
        matcher = SequenceMatcher(None, x, y, autojunk=False)
        if len(x) * len(y) > 1_000_000 or min(matcher.real_quick_ratio(), matcher.quick_ratio()) <= SAME:
            return False
        if matcher.ratio() <= SAME:
            return False
    return True


def pairs(items: Iterable[Item]) -> str:
    """Examples as input and output, one after the other, for a proposer to read; long ones are cut."""
    return block(map(pair, items))
