"""A prompt as a file: what an optimiser may change of it, as JSON that a person can read and edit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from promptlab.errors import SetupError
from promptlab.optimizers.candidate import prompt_json
from promptlab.prompt import Prompt
from promptlab.types import Example

PLAIN = {"str": str, "int": int, "float": float, "bool": bool}


def save_prompt(prompt: Prompt, path: str | Path) -> None:
    """Write a prompt's instruction, demonstrations, frame and output to a file.

    Its `rule` is not among them: where in a reply the answer stands is the program's affair.
    """
    text = json.dumps(prompt_json(prompt), indent=2, ensure_ascii=False)
    Path(path).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def load_prompt(path: str | Path, output: Any = None) -> Prompt:
    """The prompt of a file that `save_prompt` wrote. `output` is its pydantic model, where it has one.

    Raises SetupError for what is no such file.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        return prompt_from(told, output)
    except OSError as error:
        raise SetupError(f"{path} cannot be read ({error.strerror}). Give the prompt.json of a run.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"there is no {error} in it" if isinstance(error, KeyError) else error
        raise SetupError(
            f"{path} is no prompt as `promptlab optimize` writes one ({why}). Give a run's prompt.json."
        ) from error


def prompt_from(told: Mapping[str, Any], output: Any = None) -> Prompt:
    """What `prompt_json` told."""
    if not isinstance(told, Mapping):
        raise TypeError("it is no JSON object")
    said = told["output"]
    if isinstance(said, list):
        output = Literal[tuple(said)]
    elif output is None:
        if said not in PLAIN:
            raise ValueError(f"its answers are of the type {said}, which is not known here")
        output = PLAIN[said]
    reads = json.loads if output in (int, float, bool) else str
    shots = tuple(Example(shot["input"], reads(shot["target"])) for shot in told["shots"])
    before, after = told["frame"]
    return Prompt(str(told["instruction"]), output, shots, bool(told["says_format"]), frame=(str(before), str(after)))
