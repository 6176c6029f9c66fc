"""A prompt said otherwise, where nothing that matters has changed: along one axis at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from promptlab.prompt import Prompt
from promptlab.types import Example

# Sclar et al. 2023 (arXiv 2310.11324), appendix A, has more separators and spaces; these are the plainest of them.
DESCRIPTORS = ("", "Text", "Input", "Question", "Passage")
ANSWERS = ("", "Answer", "Label", "Output")
SEPARATORS = (": ", ":\n", " - ", " :: ", "\t", ":")
CASINGS: tuple[Callable[[str], str], ...] = (str, str.upper, str.lower)
BETWEEN = ("\n", "\n\n", " ", " || ")

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "yes": ("true", "right"),
    "no": ("false", "wrong"),
    "true": ("yes", "correct"),
    "false": ("no", "incorrect"),
    "positive": ("good", "favourable"),
    "negative": ("bad", "unfavourable"),
    "neutral": ("neither", "mixed"),
    "0": ("no", "false"),
    "1": ("yes", "true"),
}
EDITS: tuple[Callable[[str], str], ...] = (
    lambda text: f"Please follow this instruction. {text}",
    lambda text: f"Your task: {text[:1].lower()}{text[1:]}",
    lambda text: f"{text.rstrip('.! ')}!",
    lambda text: f"{text} Do it carefully.",
)


def as_it_is(text: Any) -> Any:
    return text


@dataclass(frozen=True)
class Variant:
    """A prompt on an axis, what is done to each input, and which of the task's labels each of its own stands for."""

    axis: str
    name: str
    prompt: Prompt
    noise: Callable[[Any], Any] = as_it_is
    means: Mapping[str, str] = field(default_factory=dict)

    def meant(self, value: Any) -> Any:
        """An answer in the task's own labels."""
        return self.means.get(value, value) if isinstance(value, str) else value


def variants(
    prompt: Prompt, pool: Sequence[Example], paraphrases: Sequence[str], each: int, seed: int
) -> list[Variant]:
    """Up to `each` variants on every axis that the prompt has: no order without demonstrations, say."""
    axes = {
        "format": formats(prompt, seed),
        "order of demonstrations": orders(prompt, seed),
        "other demonstrations": resampled(prompt, pool, seed),
        "names of labels": renamed(prompt),
        "wording of the instruction": reworded(prompt, paraphrases),
        "noise in inputs": noisy(prompt, seed),
    }
    found = []
    for axis, made in axes.items():
        seen: list[Variant] = []
        for one in made:
            if one.prompt != prompt or one.noise is not as_it_is:
                seen += [] if any(one.prompt == o.prompt and one.noise is o.noise for o in seen) else [one]
            if len(seen) == each:
                break
        found += [replace(one, axis=axis, name=f"{i + 1}: {one.name}") for i, one in enumerate(seen)]
    return found


def formats(prompt: Prompt, seed: int) -> Iterator[Variant]:
    """Frames drawn from a grammar of descriptors, casings, separators and what is between, and with or without words
    on the answer's format (Sclar et al. 2023, arXiv 2310.11324, section 3.1)."""
    rng = Random(f"{seed}/format")
    for _ in range(200):
        case, sep = rng.choice(CASINGS), rng.choice(SEPARATORS)
        asked, answer, between = rng.choice(DESCRIPTORS), rng.choice(ANSWERS), rng.choice(BETWEEN)
        before = f"{case(asked)}{sep}" if asked else ""
        after = f"{between}{case(answer)}{sep.rstrip()}" if answer else ""
        says = prompt.says_format if rng.random() < 0.75 else not prompt.says_format
        name = (
            f"{before!r}, {after!r}{'' if says == prompt.says_format else ', format ' + ('not ' * (not says)) + 'told'}"
        )
        yield Variant("", name, replace(prompt, frame=(before, after), says_format=says))


def orders(prompt: Prompt, seed: int) -> Iterator[Variant]:
    """Other orders of the demonstrations (Lu et al. 2022, arXiv 2104.08786), the reverse one first."""
    rng = Random(f"{seed}/order")
    if len(prompt.shots) > 1:
        yield Variant("", "reversed", prompt.with_shots(reversed(prompt.shots)))
        for i in range(20):
            yield Variant("", f"shuffled {i + 1}", prompt.with_shots(rng.sample(prompt.shots, len(prompt.shots))))


def resampled(prompt: Prompt, pool: Sequence[Example], seed: int) -> Iterator[Variant]:
    """As many other demonstrations, each of the label that it replaces, as far as there are any."""
    rng = Random(f"{seed}/resample")
    shown = {shot.input for shot in prompt.shots}
    others = [example for example in pool if example.input not in shown]
    for i in range(20 if prompt.shots and others else 0):
        left = rng.sample(others, len(others))
        drawn = []
        for shot in prompt.shots:
            fits = [e for e in left if str(e.target) == str(shot.target)] or left
            if fits:
                drawn.append(fits[0])
                left.remove(fits[0])
        if len(drawn) == len(prompt.shots):
            yield Variant("", f"draw {i + 1}", prompt.with_shots(drawn))


def renamed(prompt: Prompt) -> Iterator[Variant]:
    """Other names for the labels: synonyms that are in the table for all of them, capitals, and capital letters."""
    labels = prompt.labels
    if not labels:
        return
    known = [SYNONYMS.get(label.casefold(), ()) for label in labels]
    for i in range(min(map(len, known))):
        yield from named(prompt, [words[i] for words in known])
    for case in (str.upper, str.capitalize, str.lower):
        yield from named(prompt, [case(label) for label in labels])
    yield from named(prompt, [f"option {chr(ord('A') + i % 26)}{i // 26 or ''} ({x})" for i, x in enumerate(labels)])


def named(prompt: Prompt, names: Sequence[str]) -> Iterator[Variant]:
    """The prompt with these names for its labels, unless two are the same."""
    if len(set(names)) < len(names) or tuple(names) == prompt.labels:
        return
    to = dict(zip(prompt.labels, names, strict=True))
    output: Any = Literal[tuple(names)]
    shots = tuple(replace(shot, target=to.get(str(shot.target), shot.target)) for shot in prompt.shots)
    back = {name: label for label, name in to.items()}
    yield Variant("", ", ".join(names), replace(prompt, output=output, shots=shots), means=back)


def reworded(prompt: Prompt, paraphrases: Sequence[str]) -> Iterator[Variant]:
    """The instruction in the proposer's words, then with small edits that change nothing of what is asked."""
    for text in dict.fromkeys(paraphrases):
        yield Variant("", text[:60], replace(prompt, instruction=text))
    if prompt.instruction:
        for edit in EDITS:
            text = edit(prompt.instruction)
            yield Variant("", text[:60], replace(prompt, instruction=text))


def noisy(prompt: Prompt, seed: int) -> Iterator[Variant]:
    """Inputs with typing errors, in other capitals, with other blanks: a person reads them as before."""
    yield Variant("", "typing errors", prompt, noise=in_text(lambda text: mistyped(text, seed)))
    yield Variant("", "all in lower case", prompt, noise=in_text(str.lower))
    yield Variant("", "blanks doubled", prompt, noise=in_text(lambda text: "  ".join(text.split(" "))))
    yield Variant("", "ALL IN CAPITALS", prompt, noise=in_text(str.upper))
    yield Variant("", "a blank line after it", prompt, noise=in_text(lambda text: f"{text}\n\n"))


def in_text(noise: Callable[[str], str]) -> Callable[[Any], Any]:
    """Noise for a text, or for the value of each field."""

    def noised(question: Any) -> Any:
        if isinstance(question, Mapping):
            return {name: noise(str(value)) for name, value in question.items()}
        return noise(str(question))

    return noised


def mistyped(text: str, seed: int) -> str:
    """Two neighbouring letters swapped in about every sixth word of four letters or more, in one at least."""
    rng, words = Random(f"{seed}/{text}"), text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    for i in rng.sample(long, -(-len(long) // 6)):
        word, at = words[i], rng.randrange(1, len(words[i]) - 2)
        words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)
