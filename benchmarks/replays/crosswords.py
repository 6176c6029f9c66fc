"""GPT-4's Tree of Thoughts on mini crosswords (princeton-nlp/tree-of-thought-llm, MIT): depth first with pruning.

Every proposal set and every verdict on a visited state is recorded. Through `depth_first` the same states must be
visited in the same order, to the last of a hundred a puzzle. What the answer is then depends on a rule.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean as mean
from typing import Any, NamedTuple

from harness import row

from promptlab import Answer, run
from promptlab.errors import Refused
from promptlab.rules.crossword import EMPTY, PLACES, put, rows, word_at
from promptlab.strategies.puzzles.crosswords import MiniCrosswords, State, with_word
from promptlab.strategies.search import depth_first
from promptlab.testing import Script
from replays.game24 import DATA, read_json

FOLDER = DATA / "crosswords"
Words = tuple[str, ...]


class Recording(NamedTuple):
    """A puzzle's clues, its solution row by row, and what was visited of it, in order."""

    clues: Sequence[str]
    solution: str
    visited: list[dict[str, Any]]


class Score(NamedTuple):
    """The share of letters and of words that are right, and whether all are."""

    letters: float
    words: float
    game: float


def read_recordings() -> tuple[list[Recording], dict[str, dict[str, float]]]:
    """The puzzles with a trajectory, and the words proposed for a board as it was shown; none without the files."""
    puzzles = DATA / "data" / "crosswords" / "mini0505_0_100_5.json"
    kept, visited = list(FOLDER.glob("env_cache.json*")), sorted(FOLDER.glob("infoss_dfs_prune*.json*"))
    if not (puzzles.exists() and kept and visited):
        return [], {}
    trajectories = [each for path in visited for each in read_json(path)]
    found = [
        Recording(clues, "".join(letters), trajectory)
        for (clues, letters), trajectory in zip(read_json(puzzles), trajectories, strict=False)
    ]
    return found, read_json(kept[0])


class AsItWasRun(MiniCrosswords):
    """The recording as a task. There, states are what led to them: equal boards are visited again."""

    def __init__(self, recording: Recording, proposed: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__()
        self.proposed = proposed
        self.impossible = {tuple(each["actions"]): each["count"]["impossible"] for each in recording.visited}

    async def propose(self, state: State, **options: Any) -> list[State]:
        worth = self.proposed[as_shown(state)]
        return [with_word(state, entry) for entry in sorted(worth, key=lambda entry: -worth[entry])]

    async def value(self, state: State, **options: Any) -> float:
        if state.words not in self.impossible:  # a child that the limit of visits kept from being visited
            raise Refused(f"Nothing is recorded of {state.words}.")
        return -float(self.impossible[state.words])

    def canonical_key(self, state: State) -> Words:  # type: ignore[override]
        return state.words

    def show(self, state: State) -> str:
        return state.words[-1] if state.words else ""


def as_shown(state: State) -> str:
    """A state as it was written in the recorded prompts, by which proposals were kept."""
    filled = {entry.split(".")[0] for entry in state.words}
    lines = [f"{p}. {clue}: {word_at(state.board, p)}\n" for p, clue in zip(PLACES, state.clues, strict=True)]
    parts = [
        "".join(line for line, place in zip(lines, PLACES, strict=True) if (place in filled) == wanted)
        for wanted in (False, True)
    ]
    return f"Current Board:\n{rows(state.board)}\n\nUnfilled:\n{parts[0]}\nFilled:\n{parts[1]}\nChanged:\n"


def searched(recording: Recording, proposed: Mapping[str, Mapping[str, float]], output: Any = "deepest") -> Answer:
    """The recorded search, through ours."""
    task = AsItWasRun(recording, proposed)
    search = depth_first(recording.clues, task, 3, prune_below=0, by_value=False, max_states=100, output=output)
    return run(search, Script())


def visited(answer: Answer) -> list[Words]:
    """The words on the board at each visit, in order."""
    nodes = answer.trace["nodes"]
    words: dict[int, Words] = {0: ()}
    for node in nodes[1:]:
        words[node["id"]] = (*words[node["parents"][0]], node["state"])
    return [words[node["id"]] for node in sorted(nodes, key=lambda node: node["order"] or 0) if node["order"]]


def score(words: Words, solution: str) -> Score:
    board = EMPTY
    for entry in words:
        board = put(board, *entry.split(". "))
    letters = sum(a == b for a, b in zip(board, solution, strict=True))
    right = sum(word_at(board, place) == word_at(solution, place) for place in PLACES)
    return Score(letters / 25, right / 10, float(board == solution))


def measure(quick: bool) -> list[dict[str, Any]]:
    """The rows; `quick` changes nothing, as all takes a second or two. Targets are of the puzzles that are at hand."""
    recordings, proposed = read_recordings()
    if not recordings:
        return [row("crosswords", None, "", note="the recording is not at hand")]
    n, started = len(recordings), time.process_time()
    walks = [visited(searched(each, proposed)) for each in recordings]
    recorded = [[tuple(node["actions"]) for node in each.visited] for each in recordings]
    same = sum(ours == theirs for ours, theirs in zip(walks, recorded, strict=True))
    found = [row("crosswords, trajectories as recorded", same / n, "share", n=n, target=1.0)]
    for output in ("deepest", "last"):
        ends = [searched(each, proposed, output).trace for each in recordings]
        scores = [score(end(trace), each.solution) for trace, each in zip(ends, recordings, strict=True)]
        found += scored(f"the {output} state", scores, [end_of(each, output) for each in recordings])
    every = [[score(words, each.solution) for words in walk] for walk, each in zip(walks, recordings, strict=True)]
    best = [max(scores, key=by_words) for scores in every]
    found += scored("the best state in hindsight (an oracle)", best, [])
    seconds = time.process_time() - started
    return [*found, row("crosswords, all of this", seconds, "s of CPU", n=n)]


def end(trace: Mapping[str, Any]) -> Words:
    """The words on the way to the state whose answer it is."""
    return tuple(trace["nodes"][child]["state"] for _, child in pairwise(trace["path"]))


def end_of(recording: Recording, output: str) -> Score:
    """The recorded score of the state that a rule chooses from the recorded visits."""
    nodes = recording.visited
    chosen = nodes[-1] if output == "last" else max(nodes, key=lambda node: node["env_step"])  # the first of them
    letters, words = chosen["info"]["r_letter"], chosen["info"]["r_word"]
    return Score(letters, words, float(letters == 1))


def by_words(score: Score) -> tuple[float, float]:
    return score.words, score.letters


def scored(rule: str, scores: Sequence[Score], recorded: Sequence[Score]) -> list[dict[str, Any]]:
    """A row for letters, words and games; where scores are recorded, it holds at these only."""
    found = []
    for i, name in enumerate(Score._fields):
        made = row(f"crosswords, {rule}: {name}", mean(each[i] for each in scores), "share", n=len(scores))
        if recorded:
            expected = mean(each[i] for each in recorded)
            made |= {"target": expected, "ok": abs(made["value"] - expected) < 1e-12}
        found.append(made)
    return found
