"""DPO: learn from preferences without a reward model (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from promptlab.errors import SetupError
from promptlab.tiny.model import Transformer
from promptlab.tiny.pairs import Pair, PairBatch, Row, log_likelihoods, pair_batch, pair_rows, width
from promptlab.tiny.reward import share_right
from promptlab.tiny.sft import BATCH, alike, epochs, steps_for
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.tiny.train import Recipe, train

Kind = Literal["sigmoid", "ipo", "hinge", "robust"]


def preference_losses(
    chosen: Tensor,
    rejected: Tensor,
    lengths: tuple[Tensor, Tensor],
    kind: Kind = "sigmoid",
    beta: float = 0.1,
    smoothing: float = 0.0,
) -> Tensor:
    """A loss a pair, (n,), from the log-ratios log π(y|x) − log π_ref(y|x) of its chosen and rejected reply, (n,).

    Log-ratios are *sums* over a reply's tokens, in nats. With Δ = chosen − rejected:
    - sigmoid: −log σ(β Δ), eq. 7 of the paper;
    - hinge: max(0, 1 − β Δ) (SLiC, Zhao et al. 2023, arXiv 2305.10425);
    - robust: ((1 − ε)(−log σ(β Δ)) − ε (−log σ(−β Δ))) / (1 − 2 ε), without bias where a share ε = `smoothing` of the
      preferences is the wrong way round (Chowdhury et al. 2024, arXiv 2403.00409, eq. 12);
    - ipo: (Δ − 1 / (2 β))² (Azar et al. 2023, arXiv 2310.12036, eq. 17), its log-ratios *means* over their reply's
      tokens, (n,) `lengths`, as its authors use it: for replies of ten tokens the same β asks for a Δ ten times wider.
    """
    if kind == "ipo":
        return (chosen / lengths[0] - rejected / lengths[1] - 1 / (2 * beta)).square()
    z = beta * (chosen - rejected)
    if kind == "hinge":
        return F.relu(1 - z)
    right = -F.logsigmoid(z)
    if kind == "robust":
        return ((1 - smoothing) * right + smoothing * F.logsigmoid(-z)) / (1 - 2 * smoothing)
    return right


class Preferences(NamedTuple):
    """Means over pairs. Log-probabilities are sums over a reply and its end, in nats, and may fall on both sides.

    That the chosen reply itself loses probability is likelihood displacement (Razin et al. 2024, arXiv 2410.08847).
    """

    chosen: float  # log π(chosen)
    rejected: float  # log π(rejected)
    chosen_ratio: float  # log π(chosen) − log π_ref(chosen): below 0 where the likelihood is displaced
    rejected_ratio: float
    accuracy: float  # share of pairs whose chosen reply has the higher ratio; a tie counts half

    @property
    def margin(self) -> float:
        """In nats; β times this is the margin of implicit rewards."""
        return self.chosen_ratio - self.rejected_ratio


class DPOStep(NamedTuple):
    """A step's loss and its pairs, as they were before the step."""

    step: int
    loss: float
    pairs: Preferences


def dpo(
    base: Transformer,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    *,
    kind: Kind = "sigmoid",
    beta: float = 0.1,
    smoothing: float = 0.0,
    sft_weight: float = 0.0,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_step: Callable[[DPOStep], None] | None = None,
) -> Transformer:
    """A copy of `base` trained to prefer each pair's chosen reply, `base` itself being the reference.

    The reference's log-probabilities are computed once. `beta` is on sums over tokens, but for ipo (see
    `preference_losses`). `sft_weight` adds that much of −log π(chosen) / length, which keeps the chosen reply likely
    (RPO: Pang et al. 2024, arXiv 2404.19733, eq. 3). Raises DataError, with counts, where pairs cannot be learnt from.
    """
    check(kind, beta, smoothing, sft_weight)
    rows = pair_rows(tokenizer, pairs, base.config.context)
    reference = reference_of(base, rows)
    model = copy.deepcopy(base)
    recipe = recipe or recipe_for(len(rows))
    batch_of = epochs(len(rows), min(BATCH, len(rows)), recipe.steps, seed)
    seen: list[tuple[Tensor, Tensor]] = []

    def batch_at(step: int) -> list[PairBatch]:
        some = alike(batch_of(step), width(rows))
        return [pair_batch([rows[i] for i in few], [reference[i] for i in few]) for few in some]

    def loss(model: nn.Module, batch: PairBatch) -> Tensor:
        assert isinstance(model, Transformer)
        log_p = log_likelihoods(model, batch)
        seen.append((log_p.detach(), batch.given))
        chosen, rejected = (log_p - batch.given).chunk(2)
        of_chosen, of_rejected = batch.weights.sum(1).chunk(2)
        losses = preference_losses(chosen, rejected, (of_chosen, of_rejected), kind, beta, smoothing)
        return (losses - sft_weight * log_p.chunk(2)[0] / of_chosen).sum()

    def report(step: int, value: float) -> None:
        if on_step is not None:
            on_step(DPOStep(step, value, preferences(seen)))
        seen.clear()

    train(model, batch_at, loss, recipe, on_step=report)
    return model


def recipe_for(n: int) -> Recipe:
    """What suits n pairs."""
    return Recipe(steps_for(n, epochs=4), lr=1e-4, warmup=10, weight_decay=0.0)


def check(kind: str, beta: float, smoothing: float, sft_weight: float) -> None:
    if kind not in get_args(Kind):
        raise SetupError(f"dpo(kind={kind!r}): known are {', '.join(get_args(Kind))}.")
    if not 0 < beta < math.inf:
        raise SetupError(f"dpo(beta={beta}): it must be a number above 0.")
    if not 0 <= smoothing < 0.5 or (smoothing and kind != "robust"):
        raise SetupError(f"dpo(smoothing={smoothing}): it is of kind='robust', and from 0 to below .5.")
    if not 0 <= sft_weight < math.inf:
        raise SetupError(f"dpo(sft_weight={sft_weight}): it must be a number of at least 0.")


@torch.no_grad()
def reference_of(model: Transformer, rows: Sequence[tuple[Row, Row]]) -> list[tuple[float, float]]:
    """log π(chosen) and log π(rejected) of each pair under the model."""
    found: dict[int, tuple[float, float]] = {}
    for few in alike(range(len(rows)), width(rows)):
        batch = pair_batch([rows[i] for i in few], [(0.0, 0.0)] * len(few))
        chosen, rejected = log_likelihoods(model, batch).chunk(2)
        found.update(zip(few, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
    return [found[i] for i in range(len(rows))]


def preferences(seen: Sequence[tuple[Tensor, Tensor]]) -> Preferences:
    """Means over batches of (log-probabilities, those of the reference), each (2n,), the chosen first."""
    log_p = torch.cat([log_p.view(2, -1) for log_p, _ in seen], dim=1)  # (2, pairs): chosen, rejected
    ratios = log_p - torch.cat([reference.view(2, -1) for _, reference in seen], dim=1)
    chosen, rejected = log_p.mean(1).tolist()
    chosen_ratio, rejected_ratio = ratios.mean(1).tolist()
    return Preferences(chosen, rejected, chosen_ratio, rejected_ratio, share_right((ratios[0] - ratios[1]).tolist()))


def measured(model: Transformer, base: Transformer, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> Preferences:
    """How a model stands to pairs, held-out ones for instance, with `base` as the reference."""
    rows = pair_rows(tokenizer, pairs, base.config.context)
    log_p, reference = (torch.tensor(reference_of(m, rows)).T.flatten() for m in (model, base))
    return preferences([(log_p, reference)])
