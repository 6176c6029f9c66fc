"""Losses beside TRL's own trainers, on one model in both of their hands: the same tokens, losses and gradients."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from test_preferences import some_pairs

from promptlab.tiny import checkpoint
from promptlab.tiny.dpo import Kind, dpo, preference_losses, reference_of
from promptlab.tiny.model import Transformer
from promptlab.tiny.pairs import Pair, PairBatch, log_likelihoods, pair_batch, pair_rows
from promptlab.tiny.reward import RewardModel, bradley_terry_losses
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.tiny.train import Recipe

trl = pytest.importorskip("trl", reason="TRL, the reference, is not installed")
datasets = pytest.importorskip("datasets", reason="datasets, which TRL reads from, is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

PAIRS = some_pairs(6)
ON_CPU: dict[str, Any] = {
    "activation_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": [],
    "max_length": None,
    "disable_tqdm": True,
}
LOSSES: list[tuple[Kind, float]] = [("sigmoid", 0.0), ("ipo", 0.0), ("hinge", 0.0), ("robust", 0.2)]


@pytest.fixture(scope="module", autouse=True)
def quiet():
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def policy(random_model: Transformer) -> Transformer:
    """The random model after some training."""
    model = copy.deepcopy(random_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model


def theirs(folder: Path, model: Transformer, tokenizer: Tokenizer, kind: str = "CausalLM", **options: Any) -> Any:
    """Our model in transformers' hands."""
    checkpoint.save(folder, model, tokenizer)
    return getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder, dtype=torch.float32, **options)


def told(pair: Pair) -> dict[str, list[dict[str, str]]]:
    """A pair as TRL reads conversations."""

    def reply(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    prompt = [{"role": m.role, "content": m.content} for m in pair.prompt]
    return {"prompt": prompt, "chosen": reply(pair.chosen), "rejected": reply(pair.rejected)}


def dpo_trainer(model: Any, reference: Any, folder: Path, pairs: list[Pair], **options: Any) -> Any:
    return trl.DPOTrainer(
        model,
        reference,
        args=trl.DPOConfig(str(folder / "out"), **ON_CPU, **options),
        train_dataset=datasets.Dataset.from_list([told(pair) for pair in pairs]),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
    )


def batch_of(trainer: Any, some: list[int]) -> dict[str, torch.Tensor]:
    return trainer.data_collator([trainer.train_dataset[i] for i in some])  # type: ignore[no-any-return]


def pairs_with(base: Transformer, tokenizer: Tokenizer) -> PairBatch:
    """The pairs as a batch of ours, with the log-probabilities of the reference."""
    rows = pair_rows(tokenizer, PAIRS, base.config.context)
    return pair_batch(rows, reference_of(base, rows))


def assert_same_gradients(ours: dict[str, torch.nn.Parameter], model: torch.nn.Module) -> None:
    named = dict(model.named_parameters())
    assert ours.keys() == named.keys()
    for name, weight in ours.items():
        assert (weight.grad - named[name].grad).norm() < 1e-5 * named[name].grad.norm(), name


@pytest.mark.parametrize(("kind", "smoothing"), LOSSES)
def test_dpo_is_that_of_trl(random_model, policy, tiny_tokenizer, tmp_path, kind, smoothing):
    ours = copy.deepcopy(policy)
    batch = pairs_with(random_model, tiny_tokenizer)
    log_p = log_likelihoods(ours, batch)
    chosen, rejected = (log_p - batch.given).chunk(2)
    found = preference_losses(chosen, rejected, batch.weights.sum(1).chunk(2), kind, 0.1, smoothing).mean()

    model = theirs(tmp_path, policy, tiny_tokenizer)
    reference = theirs(tmp_path / "reference", random_model, tiny_tokenizer)
    options = {"beta": 0.1, "loss_type": [kind], "label_smoothing": smoothing}
    trainer = dpo_trainer(model, reference, tmp_path, PAIRS, **options)
    inputs = batch_of(trainer, list(range(len(PAIRS))))
    assert torch.equal(inputs["input_ids"], batch.tokens)
    assert torch.equal(inputs["completion_mask"][:, 1:].float(), batch.weights)
    expected = trainer.compute_loss(trainer.model, inputs)
    grown = 1 / (1 - 2 * smoothing) if kind == "robust" else 1  # what that loss makes of a rounding of the margin
    assert found.item() == pytest.approx(expected.item(), rel=1e-6 * grown)
    found.backward()
    expected.backward()
    assert_same_gradients(dict(ours.named_parameters()), trainer.model)


def test_a_term_of_sft_is_that_of_trl(random_model, tiny_tokenizer, tmp_path):
    """As `dpo` trains: the loss that it tells of its second step, beside TRL's of the model after the first.

    TRL's term is a mean over tokens, that of the paper over replies: on one pair at a time they are the same.
    """
    steps: list[Any] = []
    trained = [
        dpo(
            random_model,
            tiny_tokenizer,
            PAIRS,
            sft_weight=0.3,
            recipe=Recipe(n, lr=1e-2, warmup=0, decay=0.0),
            on_step=steps.append,
        )
        for n in (1, 2)
    ]
    model = theirs(tmp_path, trained[0], tiny_tokenizer)
    reference = theirs(tmp_path / "reference", random_model, tiny_tokenizer)
    options = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}
    trainer = dpo_trainer(model, reference, tmp_path, PAIRS, **options)
    with torch.no_grad():
        each = [trainer.compute_loss(model, batch_of(trainer, [i])).item() for i in range(len(PAIRS))]
    assert [step.step for step in steps] == [0, 0, 1]
    assert steps[2].loss == pytest.approx(sum(each) / len(each), rel=1e-6)
    assert abs(steps[2].loss - steps[0].loss) > 0.01


@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_a_reward_model_is_that_of_trl(policy, tiny_tokenizer, tmp_path, margin):
    ours = RewardModel(copy.deepcopy(policy))
    with torch.no_grad():
        ours.head.weight.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(2))
    rows = pair_rows(tiny_tokenizer, PAIRS, policy.config.context)
    batch = pair_batch(rows, [(margin, 0.0)] * len(rows))
    chosen, rejected = ours(batch.tokens, batch.weights).chunk(2)
    found = bradley_terry_losses(chosen, rejected, batch.given.chunk(2)[0], centre=0.01).mean()

    model = theirs(tmp_path, policy, tiny_tokenizer, "SequenceClassification", num_labels=1)
    with torch.no_grad():
        model.score.weight.copy_(ours.head.weight)
    trainer = trl.RewardTrainer(
        model,
        args=trl.RewardConfig(str(tmp_path / "out"), center_rewards_coefficient=0.01, **ON_CPU),
        train_dataset=datasets.Dataset.from_list([told(pair) | {"margin": margin} for pair in PAIRS]),
        processing_class=transformers.AutoTokenizer.from_pretrained(tmp_path),
    )
    inputs = batch_of(trainer, list(range(len(PAIRS))))
    assert torch.equal(inputs["input_ids"], batch.tokens)
    expected = trainer.compute_loss(trainer.model, inputs)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    expected.backward()
    assert_same_gradients({**dict(ours.body.named_parameters()), "score.weight": ours.head.weight}, model)
