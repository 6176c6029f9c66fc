"""Prompt optimisers over one core. A new one is a file and a row of this table."""

from promptlab.optimizers.ape import ape
from promptlab.optimizers.copro import copro
from promptlab.optimizers.duels import duels, position_bias
from promptlab.optimizers.evoprompt import evoprompt
from promptlab.optimizers.gepa import gepa
from promptlab.optimizers.opro import opro
from promptlab.optimizers.optimizer import Optimizer
from promptlab.optimizers.pool import pool
from promptlab.optimizers.prompt_file import load_prompt, save_prompt
from promptlab.optimizers.protegi import protegi
from promptlab.optimizers.textgrad import textgrad

__all__ = [
    "OPTIMIZERS",
    "ape",
    "copro",
    "duels",
    "evoprompt",
    "gepa",
    "load_prompt",
    "opro",
    "pool",
    "position_bias",
    "protegi",
    "save_prompt",
    "textgrad",
]

# The methods of `promptlab optimize --method`.
OPTIMIZERS: dict[str, Optimizer] = {
    "ape": ape,
    "protegi": protegi,
    "opro": opro,
    "copro": copro,
    "textgrad": textgrad,
    "gepa": gepa,
    "evoprompt": evoprompt,
    "pool": pool,
}
