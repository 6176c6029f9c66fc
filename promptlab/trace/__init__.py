"""Traces: what programs asked of models, call by call, and how an answer came about, as pages that open anywhere."""

from promptlab.trace.answered import answer_page
from promptlab.trace.rendering import page

__all__ = ["answer_page", "page"]
