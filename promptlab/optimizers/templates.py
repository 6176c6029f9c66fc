"""Instructions from a bank, and edits of the best: for models that are too small to propose any."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from string import Template
from typing import Any

from promptlab.optimizers.candidate import ONLY, Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, wrong_with
from promptlab.optimizers.search import Search
from promptlab.optimizers.sections import Item
from promptlab.prompt import Prompt, shown

# A phrase ends after a sign, or before a word that begins one.
PHRASE = re.compile(
    r"(?<=[.,;:!?])\s+|\s+(?=(?:and|or|of|in|on|with|for|from|to|into|by|as|that|which|whether|then|if|between)\b)"
)
Edit = Callable[[list[str], Random, list[str]], list[str]]  # phrases, and those deleted before -> phrases


@optimizer
async def templates(search: Search, bank: int = 60, rounds: int = 3, keep: int = 3, edits: int = 4) -> Candidate:
    """A bank of instructions for any task, then rounds of edits of the best: GrIPS (Prasad et al. 2022, arXiv
    2203.07281, section 3), which deletes, swaps, paraphrases or adds back phrases, with nobody asked to propose.

    Up to `bank` instructions (meta/bank.toml, filled in with the labels and the kind of input) are raced for half of
    the calls; each of `rounds` then edits the `keep` best, `edits` times each. Differs: GrIPS begins with the task's
    own instruction only, cuts phrases with a parser and paraphrases them with a model; here they end at signs and small
    words, and a grammar of equal phrases (meta/phrases.toml) rewrites them. It scores all edits on one small set; here
    they are raced.
    """
    pool = [search.seed]
    for slot in search.seed.slots:
        said = banked(search.seed.slot(slot), search.feed)
        drawn = Random(search.rng_key("bank", slot)).sample(said, min(bank, len(said)))
        pool += tried(search, [(text, search.seed, "bank") for text in drawn], slot)
    deleted: list[str] = []
    best = [search.seed]
    with search.until_spent():
        for round in range(rounds):
            of = max(2, rounds - round)  # half of the calls are for the bank
            best = await search.race(pool[: search.room(of)], keep=keep, of=of)
            pool = [*best]
            for i, each in enumerate(best):
                for j in range(edits):
                    rng = Random(search.rng_key("edit", round, i, j))
                    slot = rng.choice(search.seed.slots)
                    text, op = edited(each.slot(slot).instruction, rng, deleted)
                    pool += tried(search, [(text, each, op)], slot)
        best = await search.race([search.seed, *pool][: search.room()])
    return best[0]


def tried(search: Search, said: Sequence[tuple[str, Candidate, str]], slot: str = ONLY) -> list[Candidate]:
    """The new candidates that say these texts, of those that an instruction may be; what may not is counted. The bank
    is English whatever the task is in."""
    made = []
    for text, base, op in said:
        if (why := wrong_with(text, Wish("", base, op, slot, translates=True), search)) is not None:
            search.reject(why)
        else:
            made.append(base.saying(text, op, slot))
    return search.add(made)


@cache
def data(name: str) -> dict[str, Any]:
    return tomllib.loads(files("promptlab.optimizers").joinpath("meta", f"{name}.toml").read_text(encoding="utf-8"))


def banked(prompt: Prompt, feed: Sequence[Item]) -> list[str]:
    """The bank's instructions for a prompt's kind of answer, filled in."""
    if prompt.labels:
        lines = data("bank")["labels"]
    elif prompt.output is bool:
        lines = data("bank")["yes_or_no"]
    else:
        lines = data("bank")["number" if prompt.output in (int, float) else "text"]
    *others, last = prompt.labels or ("",)
    labels = f"{', '.join(others)} or {last}" if others else last
    kind = kind_of([shown(item.example.input) for item in feed])
    return list(dict.fromkeys(Template(line).substitute(labels=labels, kind=kind) for line in lines))


def kind_of(inputs: Sequence[str]) -> str:
    """What to call an input, by what most of them are."""
    kinds = [_kind(text.strip()) for text in inputs] or ["text"]
    return max(dict.fromkeys(kinds), key=kinds.count)


def _kind(text: str) -> str:
    words = text.split()
    if all(re.fullmatch(r"[-+]?\d+(?:[.,]\d+)?", word) for word in words):
        return "number" if len(words) == 1 else "numbers"
    if len(words) == 1:
        return "word"
    if text.endswith("?"):
        return "question"
    if text.endswith((".", "!")) and not re.search(r"[.!?]\s", text):
        return "sentence"
    return "words" if len(words) < 7 and not re.search(r"[.,;:!?]", text) else "text"


# ---- edits


def edited(instruction: str, rng: Random, deleted: list[str]) -> tuple[str, str]:
    """Another instruction, and the kind of edit that makes it: the first, in random order, that changes anything."""
    phrases = [phrase for phrase in PHRASE.split(instruction) if phrase]
    for edit in rng.sample(EDITS, len(EDITS)):
        text = tidy(" ".join(edit(phrases, rng, deleted)))
        if text and text != tidy(instruction):
            return text, edit.__name__
    return instruction, "add"


def delete(phrases: list[str], rng: Random, deleted: list[str]) -> list[str]:
    if len(phrases) < 2:
        return phrases
    gone = rng.randrange(len(phrases))
    if phrases[gone] not in deleted:
        deleted.append(phrases[gone])
    return phrases[:gone] + phrases[gone + 1 :]


def swap(phrases: list[str], rng: Random, deleted: list[str]) -> list[str]:
    if len(phrases) < 2:
        return phrases
    i, j = sorted(rng.sample(range(len(phrases)), 2))
    return [*phrases[:i], phrases[j], *phrases[i + 1 : j], phrases[i], *phrases[j + 1 :]]


def paraphrase(phrases: list[str], rng: Random, deleted: list[str]) -> list[str]:
    """One phrase of the grammar said otherwise, wherever it stands."""
    text = " ".join(phrases)
    ways = []
    for group in data("phrases")["same"]:
        for said in group:
            if match := re.search(rf"\b{re.escape(said)}\b", text, re.IGNORECASE):
                ways += [(match.span(), other) for other in group if other != said]
    if not ways:
        return phrases
    (start, end), other = rng.choice(ways)
    return [text[:start] + other + text[end:]]


def add(phrases: list[str], rng: Random, deleted: list[str]) -> list[str]:
    """A phrase put back that was deleted somewhere, or one that may stand about any instruction."""
    if deleted and rng.random() < 0.5:
        at = rng.randrange(len(phrases) + 1)
        return [*phrases[:at], rng.choice(deleted), *phrases[at:]]
    if rng.random() < 0.5:
        return [rng.choice(data("phrases")["before"]), *phrases]
    return [*phrases, rng.choice(data("phrases")["after"])]


EDITS: tuple[Edit, ...] = (delete, swap, paraphrase, add)


def tidy(text: str) -> str:
    """One space between words, none before a sign, a capital at the beginning."""
    text = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split()))
    return text[:1].upper() + text[1:]
