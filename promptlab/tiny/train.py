"""The one training loop: AdamW, warm-up, a constant rate with a linear end, clipping, bf16, exact resume.

Pretraining, fine-tuning and everything later are this loop with another `batch_at` and another `loss`. A batch is a
function of the step alone and nothing else is random, so a resumed run goes on bit for bit where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from promptlab.effort import trained_on, training_begins
from promptlab.errors import Diverged, SetupError
from promptlab.tiny import parallel
from promptlab.tiny.checkpoint import read_json, tensors_in, weights_like, write_json
from promptlab.tiny.model import Transformer


class Counted(Protocol):
    """What a step trains on, token ids (B, T+1); `counted` is what the loss of a step is divided by."""

    @property
    def tokens(self) -> Tensor: ...

    @property
    def counted(self) -> float: ...


B = TypeVar("B", bound=Counted)


class Batch(NamedTuple):
    """Token ids (B, T+1) with the weight of each *target* token (B, T); `labels` (B,) where a head is trained."""

    tokens: Tensor
    weights: Tensor
    labels: Tensor | None = None

    @property
    def counted(self) -> float:
        """What the loss of a step is divided by: the weight of its targets, or the number of its labels."""
        return float(self.weights.sum()) if self.labels is None else len(self.labels)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. `decay` is the share of the steps at the end in which the rate falls linearly to a tenth.

    The schedule is warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395): lengthening a run changes only its end.
    """

    steps: int
    lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    bf16: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise SetupError(f"Recipe(decay={self.decay}): it is a share of the steps, from 0 to 1.")
        for name in ("lr", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SetupError(f"Recipe({name}={getattr(self, name)}): it must be a number of at least 0.")

    def lr_at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        stable_until = self.steps * (1 - self.decay)
        fall = (step - stable_until) / max(1.0, self.steps - stable_until)
        return self.lr * min((step + 1) / max(1, self.warmup), 1.0) * (1 - 0.9 * max(0.0, fall))


def next_token_loss(
    model: nn.Module, batch: Batch, positions: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Σ wₜ · −log p(xₜ₊₁ | x₁…xₜ), the causal language-modelling loss, over targets whose weight is not 0.

    Raises SetupError for a masked model.
    """
    assert isinstance(model, Transformer)
    refuse_masked(model)
    inputs, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
    hidden = model(inputs, positions, mask)  # (B, T, C)
    counted = batch.weights.flatten().nonzero().squeeze(1)  # (N,): padding and masked prompts need no output matrix
    logits = model.logits(hidden.flatten(0, 1).index_select(0, counted))  # (N, V)
    losses = F.cross_entropy(logits.float(), targets.flatten()[counted], reduction="none")  # (N,)
    return (losses * batch.weights.flatten()[counted]).sum()


def refuse_masked(model: Transformer) -> None:
    """Raises SetupError for a masked model, which would see the tokens that it has to foretell."""
    if not model.config.causal:
        raise SetupError("A masked model, made by `train mlm`, fills gaps: it cannot be trained to go on with texts.")


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices only, not norms or biases."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.lr, betas=recipe.betas, fused=True)


def train(
    model: nn.Module,
    batch_at: Callable[[int], Sequence[B]],
    loss: Callable[[nn.Module, B], Tensor],
    recipe: Recipe,
    *,
    state: Path | None = None,
    save_every: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train in place and return the model. `batch_at(step)` gives the step's micro-batches, whose gradients add up.

    `loss` gives a batch's weighted *sum*, a scalar. The loss of a step is the weighted mean over *all* its targets,
    however they are cut into micro-batches.
    With `state`, a folder, the run is saved there every `save_every` steps and at the end, and goes on from there if
    the folder holds a run. `on_step(step, loss)` is told each step's loss in nats.
    Of several processes (`promptlab.tiny.parallel`) each is given a batch of its own, and the step is over all of them.
    Raises Diverged, before any weight is touched, where a loss or its gradient is not finite; and before the run is
    saved, or at the end, where a weight is not.
    """
    optimizer = optimizer_for(model, recipe)
    done = load_state(state, model, optimizer) if state is not None and (state / "state.json").exists() else 0
    model.train()
    training_begins()
    for step in range(done, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(step)
        batches = batch_at(step)
        total = parallel.summed(sum(b.counted for b in batches))
        value = 0.0
        for batch in batches:
            trained_on(*batch.tokens.shape)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
                part = loss(model, batch) / total
            part.backward()  # type: ignore[no-untyped-call]
            value += float(part.detach())
        value = parallel.summed(value)
        parallel.add_gradients(model)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise Diverged(diverged(step, value, norm, state))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_step is not None:
            on_step(step, value)
        if step + 1 == recipe.steps or (save_every and (step + 1) % save_every == 0):
            refuse_diverged(model, f" after step {step + 1}" + (f": {state} was left as it was" if state else ""))
            if state is not None and parallel.rank() == 0:
                save_state(state, model, optimizer, step + 1)
    return model.eval()


def refuse_diverged(model: nn.Module, told: str = "") -> None:
    """Raises Diverged where a weight is no finite number; `told` goes on with the sentence."""
    if not all(bool(weight.isfinite().all()) for weight in model.state_dict().values()):
        raise Diverged(f"Training diverged: weights are not finite numbers{told}. Lower the rate.")


def diverged(step: int, loss: float, norm: float, state: Path | None) -> str:
    """What is said where training cannot go on: the step, counted from 1, and what there is to go back to."""
    what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    kept = steps_done(state) if state else 0
    there = f"The last good checkpoint is step {kept}, {state}" if kept else "There is no earlier checkpoint"
    return f"Training stopped in step {step + 1}: {what}. No weights were changed by it. {there}. Lower the rate."


def save_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Weights, moments and the step as safetensors and JSON; a crash half-way leaves the earlier state whole."""
    folder.mkdir(parents=True, exist_ok=True)
    moments = {
        f"{i}.{name}": value
        for i, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
        if isinstance(value, Tensor)
    }
    files = {"model": f"model-{step}.safetensors", "optimizer": f"optimizer-{step}.safetensors"}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / files["model"])
    save_file(moments, folder / files["optimizer"])
    write_json(folder / "state.json", {"step": step, **files})  # from here on the new state is the state
    for old in (*folder.glob("model-*.safetensors"), *folder.glob("optimizer-*.safetensors")):
        if old.name not in files.values():
            old.unlink()


def steps_done(folder: Path) -> int:
    """The steps of a saved run; 0 where there is none. Raises SetupError where that cannot be read."""
    return int(read_json(folder / "state.json")["step"]) if (folder / "state.json").exists() else 0


def finished(state: Path, steps: int) -> str | None:
    """What is said where the run saved there has as many steps as are asked for, and nothing is left to train."""
    done = steps_done(state)
    return f"already done: {done} step{'s' * (done > 1)}" if done >= steps else None


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a saved run's weights and moments back; returns the steps it had done.

    Raises SetupError where a file is broken, or tells what differs where the weights are another model's.
    """
    saved = read_json(folder / "state.json")
    model.load_state_dict(weights_like(model.state_dict(), folder / saved["model"]))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors_in(folder / saved["optimizer"]).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({**whole, "state": state})
    return int(saved["step"])
