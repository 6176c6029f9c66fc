"""Traces: what programs asked of models, call by call, as a page that opens anywhere; timelines of agents."""

from promptlab.trace.rendering import page
from promptlab.trace.timeline import timeline

__all__ = ["page", "timeline"]
