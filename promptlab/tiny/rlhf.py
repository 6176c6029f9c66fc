"""RLHF: PPO (Schulman et al. 2017, arXiv 1707.06347) against a reward, held near the model it starts from.

The details are those of Huang et al. 2024 (arXiv 2403.17031): the temperature stands inside the log-probabilities, the
value head starts at 0, advantages are whitened, a reply without an end is punished, and the KL divergence is a penalty
in the reward of every token (k1; as a loss its gradient would be biased). An action is a token of the reply or its end.
Shapes: B replies, T targets; what is of a token is (B, T), 0 where `weights` is, at prompts and padding.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from promptlab.errors import DataError, SetupError
from promptlab.tiny.checkpoint import sha256_in_memory
from promptlab.tiny.engine import Engine, begin
from promptlab.tiny.model import Transformer
from promptlab.tiny.pairs import Chat
from promptlab.tiny.reward import RewardModel
from promptlab.tiny.same_run import same_run
from promptlab.tiny.sft import alike, epochs, padded
from promptlab.tiny.text import digest
from promptlab.tiny.tokenizer import EOS, Tokenizer
from promptlab.tiny.train import Recipe, refuse_masked, train
from promptlab.types import Request

Reward = Callable[[Chat, str], float]


@dataclass(frozen=True, slots=True)
class PPO:
    """An iteration writes `rollouts` replies and takes epochs × minibatches steps on them.

    `beta` is in reward a nat, on log-probabilities *summed* over a reply. With `kl_target`, in nats a reply, it adapts
    (Ziegler et al. 2019, arXiv 1909.08593, section 2.2).
    """

    rollouts: int = 64
    epochs: int = 2
    minibatches: int = 4
    max_tokens: int = 64
    temperature: float = 1.0
    beta: float = 0.05
    kl_target: float | None = None
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    no_end_penalty: float = 1.0  # taken from the reward of a reply that was cut off at max_tokens

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise SetupError(f"PPO(temperature={self.temperature}): it samples, so it must be a number above 0.")
        for name in ("beta", "clip", "value_clip", "value_weight", "no_end_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SetupError(f"PPO({name}={getattr(self, name)}): it must be a number of at least 0.")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise SetupError(f"PPO({name}={getattr(self, name)}): it is from 0 to 1.")
        if not 1 <= self.minibatches <= self.rollouts or self.epochs < 1:
            raise SetupError("PPO needs at least one epoch, and from one minibatch to as many as there are rollouts.")
        if self.kl_target is not None and not 0 < self.kl_target < math.inf:
            raise SetupError(f"PPO(kl_target={self.kl_target}): it is nats a reply, above 0.")

    @property
    def steps(self) -> int:
        """Steps of the optimizer an iteration."""
        return self.epochs * self.minibatches


# ---- the formulas


def gae(rewards: Tensor, values: Tensor, weights: Tensor, gamma: float, lam: float) -> Tensor:
    """Schulman et al. 2015 (arXiv 1506.02438, eq. 16): A_t = δ_t + γ λ A_{t+1}, δ_t = r_t + γ V_{t+1} − V_t.

    After the last action the value is 0. All are (B, T), a row's actions in one stretch where `weights` is 1.
    """
    advantages = torch.zeros_like(rewards)
    after = value_after = rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * value_after - values[:, t]
        after = (delta + gamma * lam * after) * weights[:, t]
        value_after = values[:, t] * weights[:, t]
        advantages[:, t] = after
    return advantages


def whiten(x: Tensor, weights: Tensor, shift_mean: bool = True) -> Tensor:
    """x with variance 1 over what `weights` counts, and mean 0, or its own without `shift_mean`; 0 elsewhere."""
    n = weights.sum()
    mean = (x * weights).sum() / n
    variance = ((x - mean).square() * weights).sum() / (n - 1).clamp_min(1)
    white = (x - mean) * torch.rsqrt(variance + 1e-8)
    return (white if shift_mean else white + mean) * weights


def clipped_policy_losses(log_p: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """−min(ρ A, clamp(ρ, 1 − ε, 1 + ε) A) with ρ = π / π_old, one a token (Schulman et al. 2017, eq. 7)."""
    ratio = (log_p - old).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def clipped_value_losses(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½ max((V − R)², (clamp(V, V_old ± ε) − R)²), one a token."""
    near = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())


def k1(log_p: Tensor, reference: Tensor) -> Tensor:
    """log π − log π_ref of sampled tokens: its mean is KL(π ‖ π_ref), single ones may be negative (Schulman 2020)."""
    return log_p - reference


def k3(log_p: Tensor, reference: Tensor) -> Tensor:
    """r − 1 − log r with r = π_ref / π: the mean of k1, but never negative, and steadier where the two are near."""
    log_r = reference - log_p
    return log_r.expm1() - log_r


def adapted(beta: float, kl: float, target: float) -> float:
    """β after an iteration at this KL: a tenth of the error, itself within ±.2, up or down (Ziegler et al. 2019)."""
    return beta * (1 + 0.1 * max(-0.2, min(0.2, kl / target - 1)))


def negative(kl: Tensor) -> bool:
    """Whether the mean of k1 (B,) is below 0 beyond chance: replies were sampled from what they are not scored by.

    Fewer than four replies do not tell what is chance.
    """
    mean, error = float(kl.mean()), float(kl.std(correction=0)) / math.sqrt(len(kl))
    return len(kl) >= 4 and mean < -0.1 and mean + 4 * error < 0


# ---- the policy, and what it writes


class Policy(nn.Module):
    """The model that is trained, with a value read from its hidden states; the state of a run includes β."""

    beta: Tensor

    def __init__(self, body: Transformer, beta: float):
        super().__init__()
        self.body = body
        self.value = nn.Linear(body.config.d_model, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self.register_buffer("beta", torch.tensor(beta, dtype=torch.float64))

    def forward(self, tokens: Tensor, weights: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the targets at a temperature, values before them, entropies: (B, T) each."""
        counted = weights.flatten().nonzero().squeeze(1)  # (N,)
        hidden = self.body(tokens[:, :-1]).flatten(0, 1).index_select(0, counted)  # (N, C)
        log_p = torch.log_softmax(self.body.logits(hidden).float() / temperature, dim=-1)  # (N, V)
        of_target = log_p.gather(1, tokens[:, 1:].flatten()[counted, None])
        entropy = -(log_p.exp() * log_p).sum(1)
        columns = (of_target.squeeze(1), self.value(hidden).squeeze(1).float(), entropy)
        of_log_p, of_value, of_entropy = (
            c.new_zeros(weights.numel()).index_put((counted,), c).view_as(weights) for c in columns
        )
        return of_log_p, of_value, of_entropy


class Written(NamedTuple):
    """A sampled reply: prompt, reply and its end (where it has one) as ids; the reply starts at `start`."""

    ids: list[int]
    start: int
    text: str
    ended: bool


def sample(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Chat], ppo: PPO, iteration: int, seed: int
) -> list[Written]:
    """A reply to every prompt, from the engine. What reply i is depends on the weights, seed, iteration and i alone."""
    request = Request((), max_tokens=ppo.max_tokens, temperature=ppo.temperature)
    rows = [
        begin(tuple(tokenizer.chat(prompt)), replace(request, branch=(iteration, i)), model.config.context, seed)
        for i, prompt in enumerate(prompts)
    ]
    Engine(model, tokenizer).work(rows)
    written = []
    for row in rows:
        ended = row.finish == "stop"
        ids = [*row.prompt, *row.ids, *([EOS] if ended else [])]
        written.append(Written(ids, len(row.prompt), tokenizer.decode(row.ids), ended))
    return written


class Rollouts(NamedTuple):
    """Replies with what PPO needs to know of their tokens, (B, T) each, as they were when written."""

    tokens: Tensor  # (B, T+1)
    weights: Tensor
    log_p: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    @property
    def counted(self) -> float:
        return float(self.weights.sum())

    def length(self, row: int) -> int:
        return int(self.weights[row].nonzero().max()) + 2  # the last target stands one place further on in the tokens

    def of(self, rows: Sequence[int]) -> Rollouts:
        """Some rows, no wider than they need to be."""
        end, some = max(map(self.length, rows)), list(rows)
        return Rollouts(self.tokens[some, :end], *(x[some, : end - 1] for x in self[1:]))


class Iteration(NamedTuple):
    """Means over an iteration's replies, which were written before its steps; KL in nats a reply, entropy a token."""

    iteration: int
    reward: float  # before penalties
    gold: float | None
    kl: float  # k1
    kl_k3: float
    entropy: float
    length: float  # tokens, the end included
    ended: float  # share of replies that ended of themselves
    beta: float
    clipped: float = math.nan  # share of tokens whose ratio left 1 ± clip, over the iteration's steps
    value_loss: float = math.nan


# ---- training


def rlhf(
    base: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Chat],
    reward: Reward | RewardModel,
    *,
    gold: Reward | None = None,
    ppo: PPO | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    state: Path | None = None,
    on_step: Callable[[Iteration], None] | None = None,
) -> Transformer:
    """A copy of `base` trained to write replies of high reward, `base` itself being the reference of the KL divergence.

    `reward` is a function of a prompt and a reply, or a RewardModel, best whitened under `base`; `gold` is reported
    only. `recipe.steps` are steps of the optimizer, of which an iteration takes `ppo.steps`; `on_step` is told of every
    iteration. With `state`, a folder, every iteration is saved, and a stopped run goes on bit for bit; with another
    start, seed, rate, precision, PPO, prompts or RewardModel it is a SetupError (what a function gives is not known).
    A KL that is negative beyond chance is warned of. Raises DataError where there is no prompt, a prompt leaves no room
    for a reply, or a reward is not a finite number.
    """
    ppo = ppo or PPO()
    recipe = recipe or recipe_for(ppo)
    if recipe.steps % ppo.steps:
        raise SetupError(f"rlhf: {recipe.steps} steps are no whole number of iterations of {ppo.steps} steps.")
    refuse_masked(base)
    asked = [tokenizer.chat(prompt) for prompt in prompts]
    refuse_prompts([len(ids) for ids in asked], base.config.context)
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
        judge = sha256_in_memory(reward) if isinstance(reward, RewardModel) else None
        given = {"prompts": digest(map(str, asked)), "sha256": sha256_in_memory(base), "reward": judge}
        same_run(state / "rlhf.json", {"seed": seed, "lr": recipe.lr, "bf16": recipe.bf16, **asdict(ppo), **given})
    policy = Policy(copy.deepcopy(base), ppo.beta)
    prompts_of = epochs(len(prompts), ppo.rollouts, recipe.steps // ppo.steps, seed)
    rollouts: Rollouts
    told: Iteration
    seen: list[tuple[float, float]] = []  # of every batch: tokens clipped, and the sum of value losses

    def batch_at(step: int) -> list[Rollouts]:
        nonlocal rollouts, told
        iteration, within = divmod(step, ppo.steps)
        if within == 0:
            asked = [prompts[i] for i in prompts_of(iteration)]
            rollouts, told = roll_out(policy, base, tokenizer, asked, reward, gold, ppo, iteration, seed)
        epoch, part = divmod(within, ppo.minibatches)
        order = Random(f"minibatches/{seed}/{iteration}/{epoch}").sample(range(ppo.rollouts), ppo.rollouts)
        return [rollouts.of(few) for few in alike(order[part :: ppo.minibatches], rollouts.length)]

    def loss(model: nn.Module, batch: Rollouts) -> Tensor:
        log_p, values, _ = model(batch.tokens, batch.weights, ppo.temperature)
        of_policy = clipped_policy_losses(log_p, batch.log_p, batch.advantages, ppo.clip) * batch.weights
        of_value = clipped_value_losses(values, batch.values, batch.returns, ppo.value_clip) * batch.weights
        left = ((log_p.detach() - batch.log_p).exp() - 1).abs() > ppo.clip
        seen.append((float((left * batch.weights).sum()), float(of_value.detach().sum())))
        return (of_policy + ppo.value_weight * of_value).sum()

    def report(step: int, _: float) -> None:
        if (step + 1) % ppo.steps == 0:
            clipped, value_loss = (sum(column) / ppo.epochs / rollouts.counted for column in zip(*seen, strict=True))
            seen.clear()
            if on_step is not None:
                on_step(told._replace(clipped=clipped, value_loss=value_loss))

    train(policy, batch_at, loss, recipe, state=state, save_every=ppo.steps, on_step=report)
    return policy.body


def recipe_for(ppo: PPO, iterations: int = 20) -> Recipe:
    """So many iterations at a rate that suits the bundled model."""
    return Recipe(iterations * ppo.steps, lr=1e-4, warmup=5, weight_decay=0.0)


def refuse_prompts(prompts: Sequence[int], context: int) -> None:
    """Raises DataError, with counts, where prompts of so many tokens leave no room for a reply, or there are none."""
    if not prompts:
        raise DataError("rlhf needs at least one prompt.")
    if long := [i for i, n in enumerate(prompts) if n >= context]:
        raise DataError(
            f"{len(long)} of {len(prompts)} prompts leave no room for a reply in the context of {context} tokens; "
            f"the first is number {long[0] + 1}."
        )


def roll_out(
    policy: Policy,
    base: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Chat],
    reward: Reward | RewardModel,
    gold: Reward | None,
    ppo: PPO,
    iteration: int,
    seed: int,
) -> tuple[Rollouts, Iteration]:
    """Write a reply to every prompt and see what it is worth, token by token; β adapts, if it is to."""
    with parametrize.cached(), torch.no_grad():  # weights with LoRA adapters are computed once
        written = sample(policy.body, tokenizer, prompts, ppo, iteration, seed)
        replies = [(prompt, w.text) for prompt, w in zip(prompts, written, strict=True)]
        scores = scored(reward, tokenizer, replies)
        log_p, values, entropy, reference, tokens, weights = read_again(policy, base, written, ppo.temperature)
    kl = k1(log_p, reference)
    rewards = -float(policy.beta) * kl
    last = torch.tensor([len(w.ids) - 2 for w in written])  # the target that is the reply's last token
    cut_off = torch.tensor([not w.ended for w in written])
    rewards[torch.arange(len(written)), last] += scores - ppo.no_end_penalty * cut_off
    advantages = gae(rewards, values, weights, ppo.gamma, ppo.lam)
    told = Iteration(
        iteration,
        reward=float(scores.mean()),
        gold=float(scored(gold, tokenizer, replies).mean()) if gold is not None else None,
        kl=float(kl.sum(1).mean()),
        kl_k3=float((k3(log_p, reference) * weights).sum(1).mean()),
        entropy=float(entropy.sum() / weights.sum()),
        length=float(weights.sum(1).mean()),
        ended=1 - float(cut_off.float().mean()),
        beta=float(policy.beta),
    )
    if negative(kl.sum(1)):
        words = f"the KL to the reference is {told.kl:.2f} nats: replies are not samples of what they are scored by."
        warnings.warn(words, RuntimeWarning, stacklevel=2)
    if ppo.kl_target is not None:
        policy.beta.fill_(adapted(told.beta, told.kl, ppo.kl_target))
    return Rollouts(tokens, weights, log_p, values, whiten(advantages, weights), advantages + values), told


def read_again(policy: Policy, base: Transformer, written: Sequence[Written], temperature: float) -> tuple[Tensor, ...]:
    """Log-probabilities, values and entropies of what was written, its log-probabilities under `base`; tokens, weights.

    They are not taken from the engine: its log-probabilities are those before the temperature.
    """
    tokens, weights, *_ = padded([w.ids for w in written], [w.start for w in written])
    whole = [torch.zeros_like(weights) for _ in range(4)]
    reference = Policy(base, 0.0)
    for few in alike(range(len(written)), lambda i: len(written[i].ids)):
        end = max(len(written[i].ids) for i in few)
        part = tokens[few, :end], weights[few, : end - 1], temperature
        for grid, of_few in zip(whole, (*policy(*part), reference(*part)[0]), strict=True):
            grid[few, : end - 1] = of_few
    return (*whole, tokens, weights)


def scored(reward: Reward | RewardModel, tokenizer: Tokenizer, replies: Sequence[tuple[Chat, str]]) -> Tensor:
    """The reward of each (prompt, reply)."""
    if isinstance(reward, RewardModel):
        scores = reward.rewards(tokenizer, replies)
        return torch.tensor([finite(score, text) for score, (_, text) in zip(scores, replies, strict=True)])
    return torch.tensor([finite(reward(prompt, text), text) for prompt, text in replies])


def finite(reward: Any, text: str) -> float:
    """What a reply was given. Raises DataError where it is no finite number."""
    try:
        score = float(reward)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is PyTorch's, of several numbers
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"the reward of {text!r} is {reward!r}; it must be a finite number.")
    return score
