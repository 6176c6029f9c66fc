"""Traces: what programs asked of models, call by call, as a page that opens anywhere."""

from promptlab.trace.rendering import page

__all__ = ["page"]
