"""What the files given to `promptlab train` hold: labelled texts, preferences, prompts and rewards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from promptlab.characters import whole_text
from promptlab.commands.chats import prompt_in, reply_in
from promptlab.compare.data.tables import column_named, read_table, read_text
from promptlab.compare.data.textfile import plain_name
from promptlab.errors import DataError, SetupError
from promptlab.prompt import Prompt
from promptlab.types import Example, Message

if TYPE_CHECKING:
    from promptlab.tiny.pairs import Pair

WHOLE = (".txt", ".md", ".markdown", ".text")
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
END = "<|endoftext|>"  # cuts a text file into documents, as it does in files made for GPT-2


class Labelled(NamedTuple):
    """Labelled texts, how they are asked, and warnings about their rows."""

    examples: tuple[Example, ...]
    labels: tuple[str, ...]
    prompt: Prompt
    warnings: list[str]


def read_labelled(file: Path, text: str, label: str, instruction: str = "", *, free: bool = False) -> Labelled:
    """A file of labelled texts, all of it to learn from, and the prompt that the arm "sft" of a study asks with.

    Where answers are `free`, each may be another, and there are no labels to choose from.
    """
    from promptlab.compare.study import Arguments, read_source

    source = read_source(Arguments(str(file), text=text, label=label), str(file), for_test=free)
    if free:
        return Labelled(source.examples, (), Prompt(instruction), list(source.warnings))
    labels = tuple(sorted({str(example.target) for example in source.examples}))
    prompt = Prompt(instruction, Literal[labels], says_format=False)
    return Labelled(source.examples, labels, prompt, list(source.warnings))


def read_texts(files: Sequence[Path], column: str | None) -> list[str]:
    """The texts of files, what is odd about one told on stderr. Raises DataError for one that cannot be read whole."""
    if not files:
        raise DataError("Give files to read.")
    return [text for file in files for text in texts_of(file, column)]


def texts_of(file: Path, column: str | None) -> list[str]:
    """Of a table each cell of `column`; of a text file the whole, or what lines of <|endoftext|> cut it into."""
    kind = plain_name(file).suffix.lower()
    if kind in WHOLE:
        content, warnings = read_text(file)
        texts = content.split(END)
    elif kind in TABLES:
        table = read_table(file)
        if column is None:
            raise DataError(f"{file} is a table: say which --column holds the text, of {', '.join(table.columns)}.")
        if wide := table.too_wide:
            many = f"{len(wide):,} row(s) have more cells than the first line names (first: line {wide[0]})"
            raise DataError(f"{file}: {many}. Put quotes around cells that hold what separates them.")
        column = column_named(table, column, "text")
        texts, warnings = [whole_text(row[column] or "") for row in table.rows], table.warnings
    else:
        raise DataError(
            f"{file} is a {kind or 'file without an ending'}; text is read from {', '.join(WHOLE + TABLES)}."
        )
    for warning in warnings:
        print(f"{file.name}: {warning}", file=sys.stderr)
    return texts


def read_pairs(file: Path) -> list[Pair]:
    """Preferences: columns prompt, chosen and rejected, of a JSONL or CSV file, as texts or as messages."""
    from promptlab.tiny.pairs import Pair

    table = read_table(file)
    names = [column_named(table, name, "preference") for name in ("prompt", "chosen", "rejected")]
    pairs = []
    for i, row in enumerate(table.rows):
        asked, *replies = (row[name] or "" for name in names)
        where = f"{file.name}, {table.where(i)}"
        prompt = prompt_in(asked, where)
        pairs.append(Pair(prompt, *(reply_in(reply, prompt, where) for reply in replies)))
    return pairs


def without(pairs: Sequence[Pair], found: Mapping[str, list[int]]) -> tuple[list[Pair], list[str]]:
    """The pairs that can be learnt from, and a line on every kind that cannot."""
    left_out = {i for places in found.values() for i in places}
    told = [
        f"{len(places):,} pair(s) {kind} left out (first: number {places[0] + 1})." for kind, places in found.items()
    ]
    return [pair for i, pair in enumerate(pairs) if i not in left_out], told


def read_prompts(file: Path, name: str) -> list[list[Message]]:
    """Prompts: a column of a JSONL or CSV file, of texts or of messages."""
    table = read_table(file)
    column = column_named(table, name, "prompt")
    read = [prompt_in(row[column] or "", f"{file.name}, {table.where(i)}") for i, row in enumerate(table.rows)]
    found = [[replace(message, content=message.content.strip()) for message in prompt] for prompt in read]
    if empty := sum(not any(message.content for message in prompt) for prompt in found):
        raise DataError(f"{empty} of {len(found)} prompts in {file.name} are empty.")
    return found


def reward_function(name: str) -> Callable[[Any, str], float]:
    """The function of a prompt and a reply that "module:function" names."""
    from promptlab.backends import load_attribute

    found = load_attribute(name)
    if not callable(found):
        raise SetupError(f"--reward {name} is a {type(found).__name__}, not a function of a prompt and a reply.")
    return found  # type: ignore[no-any-return]


def empty_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SetupError(f"{folder} exists and is no empty folder: choose another one.")
    return folder
