"""PPO: its formulas by hand, and a reward that rises at the price of a KL divergence."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from promptlab import Message
from promptlab.errors import DataError, SetupError
from promptlab.tiny.model import Transformer
from promptlab.tiny.reward import RewardModel
from promptlab.tiny.rlhf import (
    PPO,
    Iteration,
    adapted,
    clipped_policy_losses,
    clipped_value_losses,
    gae,
    k1,
    k3,
    negative,
    rlhf,
    sample,
    whiten,
)
from promptlab.tiny.tokenizer import PAD
from promptlab.tiny.train import Recipe

SMALL = PPO(rollouts=32, max_tokens=6, beta=0.02)
PROMPTS = [[Message("user", f"say {i}")] for i in range(8)]


def shortness(prompt: object, text: str) -> float:
    return -float(len(text))


def test_advantages_are_discounted_sums_of_surprises():
    """δ = 1 + .9·.5 − .2 = 1.25, 2 + .9·.1 − .5 = 1.59, 3 − .1 = 2.9; A₁ = δ₁ + .9·.8·A₂ and so on."""
    rewards, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.2, 0.5, 0.1]])
    third = 2.9
    second = 1.59 + 0.72 * third
    first = 1.25 + 0.72 * second
    found = gae(rewards, values, torch.ones(1, 3), gamma=0.9, lam=0.8)
    assert found.tolist()[0] == pytest.approx([first, second, third], abs=1e-6)


def test_advantages_know_where_a_reply_ends():
    rewards, values = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.5, 0.25, 9.0]])
    weights = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    found = gae(rewards, values, weights, gamma=1.0, lam=1.0)
    assert found.tolist()[0] == pytest.approx([0, 0.5, -0.25, 0], abs=1e-6)


def test_whitening_leaves_a_variance_of_one_and_the_mean_if_it_is_told_to():
    x, weights = torch.tensor([[1.0, 3.0, 5.0, 99.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert whiten(x, weights).tolist()[0] == pytest.approx([-1, 0, 1, 0], abs=1e-6)
    assert whiten(x, weights, shift_mean=False).tolist()[0] == pytest.approx([2, 3, 4, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.1, 2.0, -2.2), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6)],
)
def test_what_a_ratio_gains_is_clipped_and_what_it_loses_is_not(ratio, advantage, expected):
    log_p, old = torch.tensor([math.log(ratio)]), torch.zeros(1)
    assert float(clipped_policy_losses(log_p, old, torch.tensor([advantage]), 0.2)) == pytest.approx(expected, abs=1e-6)


def test_a_value_that_moved_too_far_counts_at_the_worse_of_two():
    def loss(value: float) -> float:
        return float(clipped_value_losses(torch.tensor([value]), torch.tensor([0.0]), torch.tensor([1.0]), 0.2))

    assert (loss(0.1), loss(0.9)) == (pytest.approx(0.405), pytest.approx(0.32))


def test_estimators_of_the_divergence_have_its_mean():
    """Two words at .7 and .3, .5 and .5 under the reference: KL = .7 log 1.4 + .3 log .6."""
    p, q = torch.tensor([0.7, 0.3], dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
    kl = 0.7 * math.log(1.4) + 0.3 * math.log(0.6)
    for estimator in (k1, k3):
        assert float((p * estimator(p.log(), q.log())).sum()) == pytest.approx(kl, abs=1e-9)
    assert (k3(p.log(), q.log()) >= 0).all()
    assert (k1(p.log(), q.log()) < 0).any()


def test_beta_follows_its_target_within_bounds():
    assert adapted(1.0, kl=6.0, target=6.0) == 1.0
    assert adapted(1.0, kl=6.6, target=6.0) == pytest.approx(1.01)
    assert (adapted(1.0, 600.0, 6.0), adapted(1.0, 0.0, 6.0)) == (pytest.approx(1.02), pytest.approx(0.98))


def test_only_a_divergence_below_zero_beyond_chance_is_an_alarm():
    assert negative(torch.full((64,), -0.5) + 0.01 * torch.arange(64).remainder(2))
    assert not negative(torch.tensor([-3.0, 2.0, 1.0, -1.0, 0.5]))
    assert not negative(torch.tensor([-3.0]))  # of one reply, or of a few, nothing is known of chance


def test_the_reward_rises_and_the_divergence_with_it(random_model, tiny_tokenizer):
    seen = []
    recipe = Recipe(12 * SMALL.steps, lr=3e-3, warmup=3, weight_decay=0.0)
    rlhf(
        random_model, tiny_tokenizer, PROMPTS, shortness, ppo=SMALL, recipe=recipe, gold=shortness, on_step=seen.append
    )
    assert [it.iteration for it in seen] == list(range(12))
    assert seen[0].kl == pytest.approx(0, abs=1e-3)
    assert seen[-1].reward == seen[-1].gold > seen[0].reward + 2
    assert seen[-1].kl > 0.1
    assert seen[-1].kl_k3 > 0


def test_a_run_is_its_seed_and_goes_on_where_it_stopped(random_model, tiny_tokenizer, tmp_path):
    def weights(iterations: int, state=None, seed: int = 0) -> torch.Tensor:
        recipe = Recipe(iterations * SMALL.steps, lr=1e-3, warmup=1, decay=0.0, weight_decay=0.0)
        given = {"ppo": SMALL, "recipe": recipe, "seed": seed, "state": state}
        return rlhf(random_model, tiny_tokenizer, PROMPTS, shortness, **given).model.embed_tokens.weight

    whole = weights(2)
    weights(1, tmp_path / "state")
    assert torch.equal(weights(2, tmp_path / "state"), whole)
    assert not torch.equal(weights(2, seed=1), whole)


def test_a_run_is_not_gone_on_with_as_another_one(random_model, tiny_tokenizer, tmp_path):
    few = replace(SMALL, rollouts=4, max_tokens=2)
    recipe = Recipe(few.steps, lr=1e-3)
    judge = RewardModel(random_model)
    scaled = copy.deepcopy(random_model)
    with torch.no_grad():
        scaled.model.norm.weight *= 2
    begun = {"base": random_model, "prompts": PROMPTS, "reward": judge, "ppo": few, "recipe": recipe, "seed": 0}
    others = {
        "base": scaled,
        "prompts": PROMPTS[:7],
        "reward": RewardModel(scaled),
        "ppo": replace(few, epochs=1, minibatches=1),  # other steps an iteration
        "recipe": replace(recipe, lr=2e-3),
        "seed": 5,
    }
    rlhf(tokenizer=tiny_tokenizer, state=tmp_path / "state", **begun)
    for name, other in others.items():
        with pytest.raises(SetupError, match="was begun with"):
            rlhf(tokenizer=tiny_tokenizer, state=tmp_path / "state", **{**begun, name: other})
    rlhf(tokenizer=tiny_tokenizer, state=tmp_path / "state", **begun)


def test_a_divergence_that_is_aimed_at_is_aimed_at_alike_after_a_stop(random_model, tiny_tokenizer, tmp_path):
    ppo = replace(SMALL, beta=0.05, kl_target=0.01)

    def told(iterations: int, state=None) -> list[Iteration]:
        seen = []
        recipe = Recipe(iterations * ppo.steps, lr=1e-3, warmup=1, decay=0.0, weight_decay=0.0)
        given = {"ppo": ppo, "recipe": recipe, "state": state, "on_step": seen.append}
        rlhf(random_model, tiny_tokenizer, PROMPTS, shortness, **given)
        return seen

    whole = told(3)
    assert whole[2].beta != whole[1].beta != whole[0].beta == 0.05
    assert told(1, tmp_path / "state") + told(3, tmp_path / "state") == whole


def test_every_token_of_a_reply_is_learnt_from_the_one_that_pads_too(random_model, tiny_tokenizer):
    """At first all values are 0 and, with a reward of 1 at the end, all returns 1: a loss of ½ for every token.

    Each reply is a minibatch of its own, and as good as nothing is learnt in one.
    """
    ppo = PPO(rollouts=256, epochs=1, minibatches=256, max_tokens=6, beta=0.0, lam=1.0, no_end_penalty=0.0)
    seen = []
    recipe = Recipe(256, lr=1e-9)
    rlhf(random_model, tiny_tokenizer, PROMPTS, lambda _, __: 1.0, ppo=ppo, recipe=recipe, on_step=seen.append)
    written = sample(random_model, tiny_tokenizer, [PROMPTS[i % 8] for i in range(256)], ppo, 0, 0)
    assert any(PAD in reply.ids for reply in written)
    assert seen[0].value_loss == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("worth", [math.nan, math.inf, None, "fine", torch.zeros(2)], ids=str)
def test_a_reward_that_is_no_finite_number_is_told_with_its_reply(random_model, random_folder, tiny_tokenizer, worth):
    ppo = PPO(rollouts=4, max_tokens=2)
    with pytest.raises(DataError, match=r"the reward of '.*' is .*; it must be a finite number"):
        rlhf(random_model, tiny_tokenizer, PROMPTS, lambda prompt, text: worth, ppo=ppo)
    if worth is not None and worth is not math.nan:  # what TRL would pass over is enough to see of it
        return
    pytest.importorskip("trl", reason="TRL is not installed")
    from promptlab.learners.hf.rlhf import rlhf as by_trl

    with pytest.raises(DataError, match=r"the reward of '.*' is .*; it must be a finite number"):
        by_trl(random_folder, PROMPTS, lambda prompt, text: worth, ppo=ppo, use_cpu=True)


def test_what_cannot_be_learnt_from_is_refused(random_model, tiny_tokenizer):
    with pytest.raises(DataError, match="at least one prompt"):
        rlhf(random_model, tiny_tokenizer, [], shortness)
    with pytest.raises(DataError, match="no room"):
        rlhf(random_model, tiny_tokenizer, [[Message("user", "long " * 999)]], shortness)
    wrong = {"temperature": 0, "kl_target": 0, "beta": math.nan, "value_weight": -1, "lam": 1.5, "gamma": math.nan}
    for name, number in wrong.items():
        with pytest.raises(SetupError, match=name):
            PPO(**{name: number})
    masked = Transformer(replace(random_model.config, causal=False))
    with pytest.raises(SetupError, match="masked model"):
        rlhf(masked, tiny_tokenizer, PROMPTS, shortness, ppo=SMALL)
