"""Prompts from DSPy's programs, and predictors of DSPy from prompts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import dspy

from promptlab.errors import DataError, SetupError
from promptlab.prompt import Prompt, shown
from promptlab.types import Example

Program: TypeAlias = Any  # a dspy.Module
QUESTION, ANSWER = "question", "answer"
REASONING = "reasoning"  # what dspy.ChainOfThought calls it
OF_DEMOS = ("augmented", "rationale")  # keys of a demonstration that are no fields


def module_from(prompt: Prompt, question: str = QUESTION, answer: str = ANSWER) -> Program:
    """A dspy.Predict that asks what a prompt asks: its instruction, its type of answer, its demonstrations.

    The words are DSPy's own around it, so the model reads another text than promptlab's. A prompt without an
    instruction gets DSPy's, which is made of the fields' names.
    """
    fields = {question: (str, dspy.InputField()), answer: (prompt.output, dspy.OutputField())}
    predict = dspy.Predict(dspy.Signature(fields, prompt.instruction or None))
    predict.demos = [
        dspy.Example({question: shown(shot.input), answer: shot.target}).with_inputs(question) for shot in prompt.shots
    ]
    return predict


def prompt_from_dspy(
    program: Program | str | Path, prompt: Prompt = Prompt(), *, answer: str | None = None
) -> Prompt | dict[str, Prompt]:
    """The prompt of a DSPy program, or of one saved as JSON; with several predictors, their prompts by their names.

    What DSPy found replaces `prompt`'s instruction and demonstrations; all else, the type of the answer above all, is
    as given: a saved program does not hold it. `answer` is the field that the answer stands in (the last of a
    predictor's if it is not given); what is reasoned before it comes first in a demonstration, which then ends in "The
    answer is …". Demonstrations without an answer are left out. Raises DataError for a file that is no such program.
    """
    state = program.dump_state() if hasattr(program, "dump_state") else read(Path(program))
    signatures = dict(program.named_predictors()) if hasattr(program, "named_predictors") else {}
    predictors = {name: each for name, each in state.items() if isinstance(each, Mapping) and "signature" in each}
    if isinstance(state.get("signature"), Mapping):  # of a bare dspy.Predict
        predictors = {"self": state}
    if not predictors:
        raise DataError("The program has no predictors, so there is no prompt in it.")
    found = {}
    for name, each in predictors.items():
        signature = signatures.get(name)
        outputs = list(signature.signature.output_fields) if signature is not None else None
        found[name] = prompt_of(each, outputs, prompt, answer)
    return next(iter(found.values())) if len(found) == 1 else found


def read(path: Path) -> Any:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = " DSPy's pickles are not read: save the program as .json." if path.suffix in (".pkl", ".pickle") else ""
        raise DataError(f"{path} cannot be read as a saved DSPy program: {error}.{hint}") from error
    if not isinstance(state, dict):
        raise DataError(f"{path} holds a {type(state).__name__}, not the state of a DSPy program.")
    return state


def prompt_of(state: Mapping[str, Any], outputs: Sequence[str] | None, prompt: Prompt, answer: str | None) -> Prompt:
    """A predictor's state as a prompt."""
    try:
        instruction, fields = state["signature"]["instructions"], state["signature"]["fields"]
        demos = [dict(demo) for demo in state.get("demos", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"This is not a predictor's state of DSPy: {error!r}.") from error
    names = [name for demo in demos for name in demo if name not in OF_DEMOS]
    answer = answer or (outputs[-1] if outputs else last_of(fields, names))
    reasons = [REASONING] if outputs is None else list(outputs)
    shots = [shot_from(demo, answer, reasons) for demo in demos if demo.get(answer) is not None]
    return replace(prompt, instruction=instruction, shots=tuple(shots))


def last_of(fields: Sequence[Mapping[str, str]], names: Iterable[str]) -> str:
    """The last field's name: of a saved program only its words are kept ("Answer:"), so it is that which fits them."""
    if not fields:
        raise DataError("The predictor has no fields.")
    words = str(fields[-1].get("prefix", "")).removesuffix(":").strip().casefold()
    fits = [name for name in dict.fromkeys(names) if name.replace("_", " ").casefold() == words]
    return fits[0] if fits else words.replace(" ", "_")


def shot_from(demo: Mapping[str, Any], answer: str, outputs: Iterable[str]) -> Example:
    steps = [str(demo[name]) for name in outputs if name != answer and demo.get(name)]
    said = {*OF_DEMOS, answer, *outputs}
    inputs = {name: str(value) for name, value in demo.items() if name not in said}
    if not inputs:
        raise SetupError(f"A demonstration has nothing but {', '.join(demo)}: say which field is the answer=….")
    asked = next(iter(inputs.values())) if len(inputs) == 1 else shown(inputs)
    target = demo[answer] if not steps else "\n".join([*steps, f"The answer is {demo[answer]}."])
    return Example(asked, target)
