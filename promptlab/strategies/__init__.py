"""Reasoning strategies, one idea a file."""

from promptlab.strategies.chain_of_thought import chain_of_thought
from promptlab.strategies.few_shot import few_shot
from promptlab.strategies.likelihood import likeliest_label
from promptlab.strategies.self_consistency import self_consistency
from promptlab.strategies.zero_shot import zero_shot

__all__ = ["chain_of_thought", "few_shot", "likeliest_label", "self_consistency", "zero_shot"]
