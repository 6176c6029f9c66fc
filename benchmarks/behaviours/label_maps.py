"""In-context learning: label maps that were never seen, and labels whose own meaning is flipped."""

from __future__ import annotations

from random import Random

from behaviours.figures import Rows, at_chance, likeliest, share
from promptlab import run, score
from promptlab.backends.tiny import Tiny
from promptlab.tiny.data.chat import Chat, assistant, system, user
from promptlab.tiny.data.label_maps import options
from promptlab.tiny.data.world import WORDS
from promptlab.tiny.probe import label_map_question


def unseen(tiny: Tiny, n: int, n_labels: int, shots: int) -> list[bool]:
    """Whether the likeliest of the labels is the right one, for n maps of labels never met in training."""
    questions = [label_map_question(Random(f"organism/{n_labels}/{i}"), n_labels, shots) for i in range(n)]
    scored = run([score(chat, labels) for chat, _, labels in questions], tiny)
    return [likeliest(labels, s) == answer for (_, answer, labels), s in zip(questions, scored, strict=True)]


def flipped_question(rng: Random, shots: int, n_labels: int = 4) -> tuple[Chat, str, str, list[str]]:
    """Classes of symptoms under each other's names: the chat, the name that follows the demonstrations, its own."""
    classes = rng.sample(list(WORDS["symptom"]), n_labels)
    named = dict(zip(classes, [*classes[1:], classes[0]], strict=True))  # no class keeps its own name
    words = {name: rng.sample(WORDS["symptom"][name], 3) for name in classes}
    chat: Chat = [system(options(sorted(classes)))]
    order: list[str] = []
    for _ in range(shots):
        order = order or rng.sample(classes, n_labels)
        name = order.pop()
        chat += [user(rng.choice(words[name])), assistant(named[name])]
    asked = rng.choice(classes)
    return [*chat, user(rng.choice(words[asked]))], named[asked], asked, sorted(classes)


def flipped(tiny: Tiny, n: int, shots: int) -> tuple[list[bool], list[bool]]:
    """For n questions: whether the demonstrations are followed, and whether the class's own name is said."""
    questions = [flipped_question(Random(f"organism/flipped/{i}"), shots) for i in range(n)]
    scored = run([score(chat, labels) for chat, _, _, labels in questions], tiny)
    said = [likeliest(labels, s) for (_, _, _, labels), s in zip(questions, scored, strict=True)]
    return (
        [text == followed for text, (_, followed, _, _) in zip(said, questions, strict=True)],
        [text == own for text, (_, _, own, _) in zip(said, questions, strict=True)],
    )


def measure(tiny: Tiny, n: int) -> Rows:
    rows = []
    for n_labels, wanted in ((4, 0.90), (8, 0.80)):
        for shots in (0, 1, 2, 4, 8, 16):
            asked_for = wanted if shots == 16 else None
            right = unseen(tiny, 3 * n if asked_for else n, n_labels, shots)  # more where a few points decide
            found = share(f"{n_labels}-way label maps never seen, {shots} shots", right, asked_for)
            rows.append(at_chance(found, 1 / n_labels) if shots == 0 else found)
    rows.append(share("labels with a meaning, 0 shots: their own", flipped(tiny, n, 0)[1]))
    rows.append(share("the same, flipped, 16 shots: demonstrations followed", flipped(tiny, n, 16)[0], 0.80))
    return rows
