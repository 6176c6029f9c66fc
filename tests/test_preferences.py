"""Learning from preferences: losses as their papers write them, a start at ln 2, and what they change in the end."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptlab import Message
from promptlab.errors import DataError, SetupError
from promptlab.tiny.data.style import ADVICE, phrased
from promptlab.tiny.dpo import dpo, measured, preference_losses
from promptlab.tiny.model import Transformer
from promptlab.tiny.pairs import Pair, faults
from promptlab.tiny.reward import bradley_terry_losses, reward_accuracy, reward_model
from promptlab.tiny.train import Recipe

ratios = st.floats(-20, 20, width=32)
FAST = Recipe(30, lr=3e-3, warmup=3, weight_decay=0.0)


def some_pairs(n: int, seed: int = 0) -> list[Pair]:
    """Polite before blunt."""
    found = []
    for i in range(n):
        rng = Random(f"pairs/{seed}/{i}")
        advice = rng.choice(ADVICE)
        chat = [Message("user", f"Advice on {advice.about}?")]
        found.append(Pair(chat, phrased(rng, advice, True, True), phrased(rng, advice, False, True)))
    return found


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


@given(ratios, ratios, st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.01, 0.1, 1.0]))
def test_a_pairs_loss_is_what_the_papers_write(chosen: float, rejected: float, m: int, n: int, beta: float):
    z = beta * (chosen - rejected)
    expected = {
        "sigmoid": -log_sigmoid(z),
        "hinge": max(0.0, 1 - z),
        "robust": (0.9 * -log_sigmoid(z) - 0.1 * -log_sigmoid(-z)) / 0.8,
        "ipo": (chosen / m - rejected / n - 1 / (2 * beta)) ** 2,
    }
    lengths = (torch.tensor([m], dtype=torch.float64), torch.tensor([n], dtype=torch.float64))
    both = (torch.tensor([chosen], dtype=torch.float64), torch.tensor([rejected], dtype=torch.float64))
    for kind, value in expected.items():
        smoothing = 0.1 if kind == "robust" else 0.0
        found = preference_losses(*both, lengths, kind, beta, smoothing)  # type: ignore[arg-type]
        assert float(found) == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(ratios, ratios, st.floats(0, 3), st.floats(0, 1))
def test_a_rewards_loss_is_bradley_and_terrys(chosen: float, rejected: float, margin: float, centre: float):
    found = bradley_terry_losses(torch.tensor([chosen]).double(), torch.tensor([rejected]).double(), margin, centre)
    expected = -log_sigmoid(chosen - rejected - margin) + centre * (chosen + rejected) ** 2
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_dpo_starts_at_ln_2_and_comes_to_prefer_what_is_preferred(random_model, tiny_tokenizer):
    steps = []
    trained = dpo(random_model, tiny_tokenizer, some_pairs(48), recipe=FAST, on_step=steps.append)
    assert steps[0].loss == pytest.approx(math.log(2), abs=1e-6)
    assert (steps[0].pairs.margin, steps[0].pairs.accuracy) == (pytest.approx(0, abs=1e-4), pytest.approx(0.5, abs=0.5))
    held_out = some_pairs(48, seed=1)
    assert measured(random_model, random_model, tiny_tokenizer, held_out).accuracy == 0.5
    after = measured(trained, random_model, tiny_tokenizer, held_out)
    assert after.accuracy >= 0.9
    assert after.margin > 0


def test_a_term_of_sft_keeps_the_chosen_reply_likely(random_model, tiny_tokenizer):
    def chosen_ratio(weight: float) -> float:
        trained = dpo(random_model, tiny_tokenizer, some_pairs(48), sft_weight=weight, recipe=FAST)
        return measured(trained, random_model, tiny_tokenizer, some_pairs(48)).chosen_ratio

    assert chosen_ratio(1.0) > chosen_ratio(0.0)


def test_a_reward_model_starts_at_ln_2_and_learns_which_reply_is_better(random_model, tiny_tokenizer):
    steps = []
    model = reward_model(random_model, tiny_tokenizer, some_pairs(48), recipe=FAST, on_step=steps.append)
    assert steps[0].loss == pytest.approx(math.log(2), abs=1e-6)
    assert reward_accuracy(model, tiny_tokenizer, some_pairs(48, seed=1)) >= 0.9


@pytest.mark.parametrize("causal", [True, False])
def test_rewards_do_not_depend_on_who_is_scored_beside_them(random_model, tiny_tokenizer, causal):
    base = Transformer(replace(random_model.config, causal=causal))
    base.load_state_dict(random_model.state_dict())
    model = reward_model(base, tiny_tokenizer, some_pairs(16), recipe=FAST)
    replies = [(pair.prompt, text) for pair in some_pairs(8) for text in pair[1:]]
    alone = [model.rewards(tiny_tokenizer, [reply])[0] for reply in replies]
    assert model.rewards(tiny_tokenizer, replies) == pytest.approx(alone, abs=1e-5)


def test_pairs_that_teach_nothing_are_counted_and_named(random_model, tiny_tokenizer):
    chat = [Message("user", "hi")]
    bad = [Pair(chat, "a", "b"), Pair(chat, "", "b"), Pair(chat, "same", "same"), Pair(chat, "long " * 999, "b")]
    assert {tuple(of) for of in faults(tiny_tokenizer, bad, random_model.config.context).values()} == {(1,), (2,), (3,)}
    for learn in (dpo, reward_model):
        with pytest.raises(DataError, match="3 of 4 pairs"):
            learn(random_model, tiny_tokenizer, bad)
        with pytest.raises(DataError, match="at least one pair"):
            learn(random_model, tiny_tokenizer, [])


def test_a_masked_model_which_sees_what_it_has_to_say_is_refused(random_model, tiny_tokenizer):
    masked = Transformer(replace(random_model.config, causal=False))
    with pytest.raises(SetupError, match="masked model"):
        dpo(masked, tiny_tokenizer, some_pairs(2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "kto"},
        {"beta": 0},
        {"beta": math.inf},
        {"kind": "robust", "smoothing": 0.5},
        {"sft_weight": math.nan},
        {"sft_weight": -3},
    ],
    ids=str,
)
def test_what_dpo_cannot_be_is_refused(random_model, tiny_tokenizer, wrong):
    with pytest.raises(SetupError, match="dpo"):
        dpo(random_model, tiny_tokenizer, some_pairs(2), **wrong)
