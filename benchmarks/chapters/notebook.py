"""The chapters as a notebook: each one's text, its figures worked out, and what the model does, with a picture."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from inspect import getdoc

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

TITLE = """# The lecture, measured

Every formula and worked example of the lecture, computed by promptlab's own functions; beside each, the same thing
happening on the model that ships in the package. In what is printed, a row with a target holds (`ok`) if the value
rounds to the figure that the lecture, or a sum by hand, states; a row without one is what was measured, with a 95 %
interval where there is one and the number of items or steps n.

The text and the functions are in `benchmarks/chapters/`; `python benchmarks/lecture.py` prints all rows at once.
Shapes: B rows, T positions, S positions looked at, C channels, H heads, D channels a head, V tokens. Logarithms are
natural: nats.
"""
SET_UP = """from promptlab.backends.tiny import Tiny

tiny = Tiny()  # the bundled model; Tiny("runs/nano") is one of your own
quick = True  # False: more items and steps, in some minutes"""


def as_notebook(chapters: Sequence[str]) -> str:
    """The notebook's file, without outputs; the same text for the same chapters."""
    cells = [new_markdown_cell(TITLE, id="title"), new_code_cell(SET_UP, id="set-up")]
    for name in chapters:
        text = getdoc(importlib.import_module(f"chapters.{name}"))
        cells += [
            new_markdown_cell(f"## {text}", id=name),
            new_code_cell(f"from chapters import {name}\n\n{name}.worked()", id=f"{name}-worked"),
            new_code_cell(f"{name}.measure(tiny, quick)", id=f"{name}-measured"),
        ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    return str(nbformat.writes(book)) + "\n"
