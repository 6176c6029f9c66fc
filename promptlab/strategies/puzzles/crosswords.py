"""Mini crosswords, for models that were not taught them; to be searched depth first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from promptlab.errors import SetupError
from promptlab.program import gather, sample
from promptlab.rules.crossword import EMPTY, ENTRY, PLACES, SIZE, fault, put, rows, word_at
from promptlab.strategies.search.judging import verdict
from promptlab.strategies.search.task import Hooks
from promptlab.types import Answer, Message

CONFIDENCE = {"certain": 1.0, "high": 0.5, "medium": 0.2, "low": 0.1}  # as in the paper's notebook
FITS = {"sure": 1.0, "maybe": 0.5, "impossible": -1.0}

PROPOSE = """\
This is a crossword of five rows (h1 to h5) and five columns (v1 to v5); every word has five letters. You are shown the
board, "_" being empty, and the clues of the words that are not complete. Write words that fit a clue and all letters
that are there already, one a line, with how far you trust each: certain, high, medium or low. For instance:

h2. motor (high)
v5. drier (medium)

Write nothing else."""

FIT = """\
Is there a word of five letters that fits a clue and the letters known of it, "_" being any letter? Think in a line or
two, then write a last line of one word: sure, maybe or impossible.

An engine: MO_O_
MOTOR has these letters and is an engine
sure

A salon; a hall: L___E
LODGE may be meant
maybe

To heap: QX___
no word begins with QX
impossible"""


class State(NamedTuple):
    """The clues (h1 to h5, v1 to v5), the board row by row, and the words put on it, as "h2. motor"."""

    clues: tuple[str, ...]
    board: str = EMPTY
    words: tuple[str, ...] = ()


class MiniCrosswords(Hooks):
    """Ten clues, a board of five by five (Yao et al. 2023, section 4.3).

    Prompt: what is asked and an example, the same in every request and first; then the board and the open clues.
    `proposals` replies propose: a word is worth the sum of its confidences (certain 1, high .5, medium .2, low .1), the
    worthiest first. A state's value is asked word by word, all at once, for those with two letters or more that are not
    complete: 1 for each that is sure, .5 for a maybe, and -1 in all if any is impossible, so that `prune_below=0` in
    `depth_first` is the paper's rule.
    Differs from the paper: the words of the prompts; complete words are not asked about; a line has a word in it.
    """

    def __init__(self, proposals: int = 8, temperature: float | None = 0.7, steps: int = 9) -> None:
        self.proposals, self.temperature, self.steps = proposals, temperature, steps

    def start(self, question: Any) -> State:
        """A question is ten clues: a list, or a line each."""
        clues = tuple(question.strip().splitlines() if isinstance(question, str) else question)
        if len(clues) != 2 * SIZE:
            raise SetupError(
                f"A mini crossword has {2 * SIZE} clues, rows then columns, a line each; got {len(clues)}."
            )
        return State(clues)

    async def propose(self, state: State, **options: Any) -> list[State]:
        prompt = [Message("system", PROPOSE), Message("user", told(state))]
        replies = await sample(prompt, self.proposals, **self.sampling(options))
        worth: dict[str, float] = defaultdict(float)
        for reply in replies:
            for entry, confidence in proposals(reply.text):
                worth[entry] += confidence
        return [with_word(state, entry) for entry in sorted(worth, key=lambda entry: -worth[entry])]

    def validate(self, before: State, after: State) -> str | None:
        return fault(before.board, after.board)

    def canonical_key(self, state: State) -> str:
        return state.board

    async def value(self, state: State, **options: Any) -> float | None:
        words = [(clue, word_at(state.board, place)) for clue, place in zip(state.clues, PLACES, strict=True)]
        asked = [f"{clue}: {word}" for clue, word in words if 0 < word.count("_") < SIZE - 1]
        prompts = [[Message("system", FIT), Message("user", each)] for each in asked]
        replies = await gather(sample(prompt, 1, **self.sampling(options)) for prompt in prompts)
        return worth_of([verdict(reply.text, FITS) for [reply] in replies])

    def answer(self, state: State) -> Answer:
        """The board as far as it is filled: the paper counts letters and words of it too."""
        empty = state.board.count("_")
        return Answer(rows(state.board), why=f"{empty} of {SIZE * SIZE} letters are missing" if empty else None)

    def show(self, state: State) -> str:
        return f"{state.words[-1]}\n{rows(state.board)}" if state.words else rows(state.board)

    def sampling(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"temperature": self.temperature, **options}


def proposals(text: str) -> list[tuple[str, float]]:
    """The words that a reply lists, as "h2. motor", with their confidence: that of "low" where it names none."""
    found = []
    for line in text.splitlines():
        entry = ENTRY.match(line)
        if entry and len(entry[2]) == SIZE:
            said = re.search(rf"\b({'|'.join(CONFIDENCE)})\b", line[entry.end() :].lower())
            found.append((f"{entry[1]}. {entry[2].lower()}", CONFIDENCE[said[1] if said else "low"]))
    return found


def with_word(state: State, entry: str) -> State:
    place, word = entry.split(". ")
    return State(state.clues, put(state.board, place, word), (*state.words, entry))


def worth_of(fits: Sequence[float | None]) -> float | None:
    """The value of a state by its words; None where none of them could be judged."""
    found = [fit for fit in fits if fit is not None]
    if fits and not found:
        return None
    return -1.0 if FITS["impossible"] in found else sum(found)


def told(state: State) -> str:
    """The board, and the clues of the words that are not complete."""
    words = [(place, clue, word_at(state.board, place)) for place, clue in zip(PLACES, state.clues, strict=True)]
    clues = "\n".join(f"{place}. {clue}: {word}" for place, clue, word in words if "_" in word)
    return f"{rows(state.board)}\n\n{clues}"
