"""Prompt optimisers over one core. A new one is a file and a row of this table."""

from promptlab.optimizers.ape import ape
from promptlab.optimizers.bootstrap import bootstrap
from promptlab.optimizers.copro import copro
from promptlab.optimizers.demos import demos
from promptlab.optimizers.duels import duels, position_bias
from promptlab.optimizers.evoprompt import evoprompt
from promptlab.optimizers.gepa import gepa
from promptlab.optimizers.mipro import mipro
from promptlab.optimizers.opro import opro
from promptlab.optimizers.optimizer import Optimizer
from promptlab.optimizers.pool import pool
from promptlab.optimizers.prompt_file import load_prompt, save_prompt
from promptlab.optimizers.protegi import protegi
from promptlab.optimizers.templates import templates
from promptlab.optimizers.textgrad import textgrad

__all__ = [
    "OPTIMIZERS",
    "ape",
    "bootstrap",
    "copro",
    "demos",
    "duels",
    "evoprompt",
    "gepa",
    "load_prompt",
    "mipro",
    "opro",
    "pool",
    "position_bias",
    "protegi",
    "save_prompt",
    "templates",
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
    "bootstrap": bootstrap,
    "templates": templates,
    "demos": demos,
    "mipro": mipro,
    "pool": pool,
}
