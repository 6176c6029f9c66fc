"""Searches over partial solutions: one tree, four orders in which it is grown, and what a task tells of its states."""

from promptlab.strategies.search.best_first import best_first
from promptlab.strategies.search.depth_first import depth_first
from promptlab.strategies.search.monte_carlo import monte_carlo
from promptlab.strategies.search.task import Hooks, Search

__all__ = ["Hooks", "Search", "best_first", "depth_first", "monte_carlo"]
