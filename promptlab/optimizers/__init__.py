"""Prompt optimisers over one core. A new one is a file and a row of this table."""

from promptlab.optimizers.ape import ape
from promptlab.optimizers.optimizer import Optimizer
from promptlab.optimizers.pool import pool

__all__ = ["OPTIMIZERS", "ape", "pool"]

# The methods of `promptlab optimize --method`.
OPTIMIZERS: dict[str, Optimizer] = {
    "ape": ape,
    "pool": pool,
}
