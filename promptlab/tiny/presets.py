"""Sizes of model to pretrain, and what a run of each would take: parameters, FLOPs, memory, time.

`small`, `medium` and `large` are the widths and depths of GPT-2 (Radford et al. 2019, table 2) in this package's shape:
SwiGLU of 8/3 the width, heads of 64, rotary positions and the vocabulary of the synthetic world. `organism` is what the
bundled model is, and `nano` what two cores make in ten minutes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from promptlab.errors import SetupError
from promptlab.tiny.data.stream import SHORT
from promptlab.tiny.memory import installed
from promptlab.tiny.model import Config, Transformer, parameter_count
from promptlab.tiny.precision import native_bf16
from promptlab.tiny.train import Batch, next_token_loss

TOKENS_AT_ONCE = 2048  # a quarter of a step stays in the processor's cache: a fifth faster than all of it


@dataclass(frozen=True, slots=True)
class Preset:
    """A model's shape and how long it is trained by default, at which rate, in steps of how many tokens."""

    config: Config
    steps: int
    lr: float
    tokens_per_step: int = 8192


PRESETS = {
    "nano": Preset(Config(vocab_size=1024, n_layers=4, d_ff=320, context=512), 4000, 3e-3, 4096),
    "organism": Preset(Config(), 6400, 2e-3, 4096),
    "small": Preset(Config(d_model=768, n_layers=12, n_heads=12, d_ff=2048), 26_000, 6e-4, 65_536),
    "medium": Preset(Config(d_model=1024, n_layers=24, n_heads=16, d_ff=2752), 46_000, 3e-4, 131_072),
    "large": Preset(Config(d_model=1280, n_layers=36, n_heads=20, d_ff=3456), 54_000, 2.5e-4, 262_144),
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise SetupError(f"There is no preset {name!r}. Known: {', '.join(PRESETS)}.")
    return PRESETS[name]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes. `memory` is the bytes of all its processes together, `seconds` is NaN where not measured."""

    parameters: int
    tokens: int
    flops: float
    memory: float
    seconds: float
    bf16: bool

    def __str__(self) -> str:
        millions = self.tokens / 1e6
        size = (
            f"{self.parameters:,} parameters, {millions:,.{0 if millions >= 10 else 2}f} M tokens, {self.flops:.1e} "
            f"FLOPs (6ND and attention) in {'bf16' if self.bf16 else 'float32'}, {self.memory / 1e9:.1f} GB of memory"
        )
        if self.memory > installed():
            size += f", more than the {installed() / 1e9:.1f} GB there are"
        speed = self.tokens / max(self.seconds, 1e-9)
        return f"{size}, about {duration(self.seconds)} ({speed:,.0f} tokens/s, by steps of one and two layers)"


def duration(seconds: float) -> str:
    """In words, of the unit that suits: 45 seconds, 12 minutes, 3.5 hours, 80 days."""
    for unit, size, most in (("seconds", 1, 100), ("minutes", 60, 100), ("hours", 3600, 72)):
        if seconds < most * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def flops_per_token(config: Config, n: int, size: int) -> float:
    """6N (Kaplan et al. 2020, arXiv 2001.08361) and causal attention: 12 L d T / 2 in rows of T tokens."""
    return 6 * n + 6 * config.n_layers * config.d_model * size


def memory(config: Config, n: int, size: int, bf16: bool) -> float:
    """Bytes a process needs: weights, gradients and both moments in float32, and what one micro-batch keeps.

    A token keeps, for the backward pass, about 40 C + 8 F bytes a layer and its attention shares (2 bytes a head and
    position before it) in bf16, twice as many in float32, and its logits thrice.
    """
    tokens = max(TOKENS_AT_ONCE, size)
    width = 2 if bf16 else 4
    layer = width * (20 * config.d_model + 4 * config.d_ff + config.n_heads * size / 2)
    return 16 * n + tokens * (config.n_layers * layer + 12 * config.vocab_size) + 3e8  # torch itself


def parameters_of(config: Config) -> int:
    with torch.device("meta"):  # without memory for them
        return parameter_count(Transformer(config))


def refuse_too_large(name: str, bf16: bool) -> None:
    """Raises SetupError for a preset that needs more memory than this machine has."""
    config = preset(name).config
    if (needed := memory(config, parameters_of(config), config.context, bf16)) > installed():
        raise SetupError(
            f"{name} needs {needed / 1e9:.1f} GB of memory, more than the {installed() / 1e9:.1f} GB there are; "
            "--estimate says what else it would take."
        )


def estimate(name: str, steps: int, long_from: int, bf16: bool | None = None) -> Estimate:
    """What a run of a preset takes, also where there is too little memory for it.

    The time is measured on as many threads as torch is set to.
    """
    it = preset(name)
    bf16 = native_bf16() if bf16 is None else bf16
    n, context = parameters_of(it.config), it.config.context
    short = min(steps, long_from)
    parts = [(short * it.tokens_per_step, min(SHORT, context)), ((steps - short) * it.tokens_per_step, context)]
    flops = sum(tokens * flops_per_token(it.config, n, size) for tokens, size in parts)
    needed = memory(it.config, n, context, bf16)
    seconds = sum(tokens / TOKENS_AT_ONCE * seconds_at_once(it.config, size, bf16) for tokens, size in parts if tokens)
    return Estimate(n, steps * it.tokens_per_step, flops, needed, seconds, bf16)


def seconds_at_once(config: Config, size: int, bf16: bool) -> float:
    """How long a micro-batch takes, forward and backward, by one layer and by two; each further one is as the second.

    The least of some tries, so another process's work is not counted.
    """
    tokens = torch.randint(0, config.vocab_size, (max(1, TOKENS_AT_ONCE // size), size + 1))
    batch = Batch(tokens, torch.ones(tokens[:, 1:].shape))

    def measured(n_layers: int) -> float:
        model = Transformer(replace(config, n_layers=n_layers)).initialise(torch.Generator().manual_seed(0))
        best, began, tries = float("inf"), time.perf_counter(), 0
        while tries < 2 or (tries < 12 and time.perf_counter() - began < 1.0):  # the first try is slow
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = next_token_loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            best, tries = min(best, time.perf_counter() - start), tries + 1
        return best

    one, two = measured(1), measured(2)
    return one + (config.n_layers - 1) * max(two - one, 0.0)
