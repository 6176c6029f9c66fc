"""Instructions in many phrasings, some common and some rare; and what prompt optimisers ask a model for.

An operation on a short list is asked for in words drawn by Zipf's law, so that rare phrasings are followed less well
and there is something to optimise. The other way round, from pairs to the instruction, is taught too (Honovich et al.
2022, arXiv 2205.10782), as are other words for an instruction (Zhou et al. 2022, 2211.01910) and, from an example that
went wrong, what is wrong with it and a better one (Pryzant et al. 2023, 2305.03495).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from promptlab.tiny.data.chat import CONSONANTS, Chat, assistant, by_rank, nonsense, system, user

GIVE = ("Give", "Write", "Say", "Name", "Tell me", "Return", "Find", "Show", "Pick out", "State")
ENDINGS = (".", " of the list.", " only.", ", please.", " and nothing else.")
CHANGE_ENDINGS = (".", ", please.", " and write it out.", " and nothing else.")


@dataclass(frozen=True)
class Operation:
    """What is done to a list of words or numbers, and the ways to ask for it, the commonest first in each slot."""

    do: Callable[[Sequence[str]], str]
    slots: tuple[tuple[str, ...], ...]
    numbers: bool = False

    @property
    def phrasings(self) -> list[str]:
        """All of them, those made of common parts first."""
        ranked = sorted(product(*map(enumerate, self.slots)), key=lambda parts: sum(rank for rank, _ in parts))
        return ["".join(text for _, text in parts) for parts in ranked]

    def phrase(self, rng: Random) -> str:
        """One that is taught, common ones more often."""
        while True:
            text = "".join(by_rank(rng, slot) for slot in self.slots)
            if not held_out(text):
                return text


def held_out(phrasing: str) -> bool:
    """Whether a phrasing is never taught: one in eight is."""
    return hashlib.sha256(phrasing.encode()).digest()[0] % 8 == 0


def giving(*what: str) -> tuple[tuple[str, ...], ...]:
    return (GIVE, tuple(f" {each}" for each in what), ENDINGS)


def doing(*what: str) -> tuple[tuple[str, ...], ...]:
    return (what, CHANGE_ENDINGS)


def words_of(n: int) -> str:
    return str(n)


OPERATIONS: dict[str, Operation] = {
    "first": Operation(
        lambda w: w[0], giving("the first word", "the word at the start", "the opening word", "what comes first")
    ),
    "last": Operation(
        lambda w: w[-1], giving("the last word", "the word at the end", "the final word", "what comes last")
    ),
    "second": Operation(lambda w: w[1], giving("the second word", "word number two", "the word after the first")),
    "count": Operation(
        lambda w: words_of(len(w)), giving("the number of words", "how many words there are", "the length", "the count")
    ),
    "reverse": Operation(
        lambda w: " ".join(reversed(w)),
        doing(
            "Reverse the words", "Turn the order around", "Write the words backwards", "Go from the end to the start"
        ),
    ),
    "sort": Operation(
        lambda w: " ".join(sorted(w)),
        doing("Sort the words", "Put the words in order", "Order the words by letter", "Arrange them from a to z"),
    ),
    "repeat": Operation(
        lambda w: " ".join([*w, *w]),
        doing("Repeat the words", "Say the words twice", "Write it two times", "Double the list"),
    ),
    "drop first": Operation(
        lambda w: " ".join(w[1:]),
        doing(
            "Remove the first word",
            "Leave out the first word",
            "Drop the word at the start",
            "Cut off the opening word",
        ),
    ),
    "drop last": Operation(
        lambda w: " ".join(w[:-1]),
        doing("Remove the last word", "Leave out the last word", "Drop the word at the end", "Cut off the final word"),
    ),
    "swap": Operation(
        lambda w: " ".join([w[-1], *w[1:-1], w[0]]),
        doing("Swap the first and the last word", "Exchange the two ends", "Let the ends change places"),
    ),
    "comma": Operation(
        lambda w: ", ".join(w),
        doing("Join the words with commas", "Put commas between the words", "Make it a list with commas"),
    ),
    "copy": Operation(
        lambda w: " ".join(w), doing("Copy the words", "Write the words as they are", "Change nothing", "Say it again")
    ),
    "largest": Operation(
        lambda w: max(w, key=int),
        giving("the largest number", "the biggest number", "the highest value", "the maximum"),
        numbers=True,
    ),
    "smallest": Operation(
        lambda w: min(w, key=int),
        giving("the smallest number", "the least number", "the lowest value", "the minimum"),
        numbers=True,
    ),
    "add one": Operation(
        lambda w: " ".join(str(int(n) + 1) for n in w),
        doing("Add one to each number", "Raise every number by one", "Count each number up", "Make each one more"),
        numbers=True,
    ),
}
# Operations asked for in the same words differ between lists of words and of numbers by nothing but the list.


def item(rng: Random, operation: Operation, n: int | None = None) -> list[str]:
    """A list to work on: two to five short words, or numbers up to 50."""
    n = n or rng.randint(2, 5)
    if operation.numbers:
        return [str(k) for k in rng.sample(range(1, 51), n)]
    return [nonsense(rng, rng.choice((1, 1, 2))) if rng.random() < 0.5 else rng.choice(SHORT) for _ in range(n)]


SHORT = (
    "cough,rash,fever,nurse,baker,boy,girl,uncle,pond,barn,field,shop,ice,smoke,dust,eggs,rats,lice,home,water,red,sun,"
    "tree,stone,day,night,hot,cold,bed,hand,word,light"
).split(",")


def any_operation(rng: Random) -> Operation:
    return rng.choice(tuple(OPERATIONS.values()))


def instruction(rng: Random, room: int) -> Chat:
    """An instruction and a list, in one turn or as a system's word and a turn; once, or for several lists."""
    operation = any_operation(rng)
    said = operation.phrase(rng)
    lists = [item(rng, operation) for _ in range(rng.choice((1, 1, 2, 3)))]
    turns = [(" ".join(words), operation.do(words)) for words in lists]
    if rng.random() < 0.5:
        return [system(said), *(turn for text, answer in turns for turn in (user(text), assistant(answer)))]
    return [turn for text, answer in turns for turn in (user(f"{said}\n{text}"), assistant(answer))]


def pairs(rng: Random, room: int) -> Chat:
    """An operation that nobody names, from its examples."""
    operation = any_operation(rng)
    lists = [item(rng, operation) for _ in range(rng.randint(3, 10))]
    return [turn for words in lists for turn in (user(" ".join(words)), assistant(operation.do(words)))]


APE = (
    "I gave a friend an instruction and {n} inputs. The friend read the instruction and wrote an output for every one "
    "of the inputs. Here are the input-output pairs:\n\n{pairs}\n\nThe instruction was"
)
INDUCTION = ("{pairs}\nWhat was the instruction?", "{pairs}\nThe instruction was", APE)
REPHRASE = ("Say it in other words: {said}", "Another way to say: {said}", "Write a variation of: {said}")


def induction(rng: Random, room: int) -> Chat:
    """From pairs to the instruction, or from an instruction to another phrasing of it."""
    operation = any_operation(rng)
    if rng.random() < 0.3:
        return [user(rng.choice(REPHRASE).format(said=operation.phrase(rng))), assistant(operation.phrase(rng))]
    lists = [item(rng, operation) for _ in range(rng.randint(2, 5))]
    shown = "\n".join(f"Input: {' '.join(words)}\nOutput: {operation.do(words)}" for words in lists)
    asked = by_rank(rng, INDUCTION).format(n=len(lists), pairs=shown)
    return [user(asked), assistant(operation.phrase(rng))]


WRONG = "Instruction: {said}\nInput: {input}\nRight: {right}\nGot: {got}\nWhat is wrong with the instruction?"


def critique(rng: Random, room: int) -> Chat:
    """An instruction that got something wrong: what should be otherwise, and a better one."""
    while True:
        one, other = any_operation(rng), any_operation(rng)
        words = item(rng, one)
        if one.numbers == other.numbers and one.do(words) != other.do(words):
            break
    said, wanted = other.phrase(rng), one.phrase(rng)
    shown = WRONG.format(said=said, input=" ".join(words), right=one.do(words), got=other.do(words))
    name = {id(operation): name for name, operation in OPERATIONS.items()}
    meant = f"It asks for {name[id(other)]}, but {name[id(one)]} is wanted."
    return [user(shown), assistant(meant), user("Write a better instruction."), assistant(wanted)]


def letters(rng: Random, room: int) -> Chat:
    """Spelling: a word letter by letter, or from its letters, which a tokenizer hides."""
    word = nonsense(rng)
    spelt = " ".join(word)
    assert set(word) <= {*CONSONANTS, *"aeiou"}
    if rng.random() < 0.5:
        return [user(f"Spell the word.\n{word}"), assistant(spelt)]
    return [user(f"Join the letters.\n{spelt}"), assistant(word)]
