"""The training loop: its losses are the references', and a run that was stopped goes on as if it had not been."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from small_run import CONFIG, RECIPE, batch_of, fresh
from torch import nn

from promptlab import Message
from promptlab.backends.tiny import Tiny, TinyClassifier
from promptlab.errors import DataError, Diverged, SetupError
from promptlab.tiny.head import Classifier, encoded, label_loss, train_head
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.sft import BATCH, epochs, padded, sft, steps_for
from promptlab.tiny.tokenizer import EOS
from promptlab.tiny.train import Batch, Recipe, next_token_loss, optimizer_for, train
from promptlab.types import Request


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def losses_of(model: nn.Module, recipe: Recipe, batch_at=lambda step: [batch_of(step)], **options) -> list[float]:
    losses: list[float] = []
    train(model, batch_at, next_token_loss, recipe, on_step=lambda _, loss: losses.append(loss), **options)
    return losses


# ---- loss


def test_the_loss_is_the_weighted_sum_of_cross_entropies():
    model, batch = fresh(), batch_of(0)
    logits = model.logits(model(batch.tokens[:, :-1]))
    each = F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="none")
    expected = (each * batch.weights.flatten()).sum()
    torch.testing.assert_close(next_token_loss(model, batch), expected, atol=1e-4, rtol=1e-6)


def test_the_loss_is_that_of_transformers(random_model, random_folder):
    transformers = pytest.importorskip("transformers", reason="transformers, the reference, is not installed")
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(random_folder, dtype=torch.float32)
    tokens = torch.randint(10, random_model.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(0))
    counted = torch.rand(3, 39, generator=torch.Generator().manual_seed(1)) < 0.5
    labels = torch.cat((torch.full((3, 1), -100), torch.where(counted, tokens[:, 1:], -100)), dim=1)
    with torch.no_grad():
        ours = next_token_loss(random_model, Batch(tokens, counted.float())) / counted.sum()
        assert float(ours) == pytest.approx(float(theirs(tokens, labels=labels).loss), abs=1e-5)


def test_targets_of_weight_zero_are_nothing_to_the_loss():
    model, batch = fresh(), batch_of(0)
    tokens = batch.tokens.clone()
    last = batch.weights[:, -1] == 0
    tokens[last, -1] = (tokens[last, -1] + 1) % CONFIG.vocab_size  # targets only: no input follows
    assert last.any()
    assert torch.equal(next_token_loss(model, batch._replace(tokens=tokens)), next_token_loss(model, batch))


# ---- the loop


def test_a_model_overfits_one_batch():
    losses = losses_of(fresh(), Recipe(150, lr=5e-3, warmup=10), lambda step: [batch_of(0)])
    assert losses[0] == pytest.approx(np.log(CONFIG.vocab_size), abs=0.1)
    assert losses[-1] < 0.01


def test_unequal_micro_batches_are_one_batch():
    whole = batch_of(0, rows=7)
    parts = [Batch(whole.tokens[a:b], whole.weights[a:b]) for a, b in ((0, 1), (1, 3), (3, 7))]
    recipe = Recipe(3, warmup=1, clip=1e9)
    one, several = fresh(), fresh()
    assert losses_of(one, recipe, lambda _: [whole]) == pytest.approx(
        losses_of(several, recipe, lambda _: parts), abs=1e-6
    )


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch():
    whole = batch_of(0, rows=7)
    model = fresh()
    total = whole.weights.sum()
    (next_token_loss(model, whole) / total).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for a, b in ((0, 1), (1, 3), (3, 7)):
        (next_token_loss(model, Batch(whole.tokens[a:b], whole.weights[a:b])) / total).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], atol=1e-6, rtol=0)


def test_the_same_seed_gives_the_same_losses():
    recipe = Recipe(6, warmup=2)
    losses = losses_of(fresh(), recipe)
    assert losses == losses_of(fresh(), recipe)
    assert losses != losses_of(fresh(seed=1), recipe)


def test_the_schedule_warms_up_stays_and_falls_to_a_tenth():
    recipe = Recipe(steps=100, lr=1.0, warmup=10, decay=0.4)
    assert [recipe.lr_at(s) for s in (0, 4, 9, 10, 60)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0])
    assert recipe.lr_at(80) == pytest.approx(1 - 0.9 * 0.5)
    assert recipe.lr_at(100) == pytest.approx(0.1)
    assert Recipe(steps=1, warmup=0).lr_at(0) == pytest.approx(2e-3)


@pytest.mark.parametrize(
    "wrong", [{"decay": math.nan}, {"decay": 1.5}, {"lr": math.inf}, {"weight_decay": -1}], ids=str
)
def test_a_recipe_that_no_other_rate_mends_is_refused(wrong):
    with pytest.raises(SetupError, match=next(iter(wrong))):
        Recipe(2, **wrong)


def test_lengthening_a_run_changes_only_its_end():
    short, long = Recipe(100), Recipe(200)
    assert [short.lr_at(s) for s in range(61)] == [long.lr_at(s) for s in range(61)]
    assert short.lr_at(70) < long.lr_at(70)


def test_matrices_decay_and_vectors_do_not():
    model = fresh()
    decayed, plain = optimizer_for(model, Recipe(1, weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_what_does_not_require_a_gradient_does_not_move():
    model = fresh()
    model.model.embed_tokens.requires_grad_(False)
    before = weights_of(model)
    losses_of(model, Recipe(2, warmup=1))
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert "model.embed_tokens.weight" not in moved
    assert "model.layers.0.mlp.up_proj.weight" in moved


def test_a_step_is_clipped_adamw():
    """One step against the equations of Loshchilov & Hutter 2019, at t = 1, where m̂ = g and v̂ = g²."""
    model, batch = fresh(), batch_of(0)
    recipe = Recipe(1, lr=1e-2, warmup=0, decay=0.0, weight_decay=0.1, clip=0.05)
    (next_token_loss(model, batch) / batch.weights.sum()).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert norm > recipe.clip
    expected = {}
    for name, p in model.named_parameters():
        g = p.grad * recipe.clip / (norm + 1e-6)
        w = p.detach() * (1 - recipe.lr * recipe.weight_decay * (p.dim() >= 2))
        expected[name] = w - recipe.lr * g / (g.abs() + 1e-8)
    model.zero_grad()
    losses_of(model, recipe, lambda _: [batch])
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name], atol=1e-6, rtol=0)


# ---- stopping and going on


RESUMED = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from small_run import RECIPE, batch_of, fresh
from promptlab.tiny.train import next_token_loss, train
torch.set_num_threads(1)
for state in map(Path, sys.argv[2:]):
    train(fresh(seed=9), lambda step: [batch_of(step)], next_token_loss, RECIPE, state=state)
"""


class Stopped(Exception):
    """The run was stopped."""


def run_until(step: int, state: Path, save_every: int = 4) -> None:
    def stop_at(done: int, _: float) -> None:
        if done == step:
            raise Stopped

    with pytest.raises(Stopped):
        train(
            fresh(),
            lambda s: [batch_of(s)],
            next_token_loss,
            RECIPE,
            state=state,
            save_every=save_every,
            on_step=stop_at,
        )


def test_a_run_stopped_after_any_step_goes_on_in_another_process_bit_for_bit(tmp_path):
    torch.set_num_threads(1)
    straight = tmp_path / "straight"
    losses_of(fresh(), RECIPE, state=straight)
    resumed = [tmp_path / f"after {done}" for done in range(1, RECIPE.steps)]
    for done, state in enumerate(resumed, start=1):
        run_until(done, state, save_every=1)
        assert json.loads((state / "state.json").read_text())["step"] == done
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", RESUMED, here, *map(str, resumed)], check=True)
    for state in resumed:
        for name in ("model-8.safetensors", "optimizer-8.safetensors"):
            assert_equal(load_file(straight / name), load_file(state / name))
    assert load_file(straight / "optimizer-8.safetensors")["0.exp_avg"].abs().sum() > 0


def test_a_crash_before_the_state_is_named_leaves_the_earlier_one(tmp_path):
    run_until(6, tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "model-8.safetensors").write_bytes(b"half")  # as a kill in the middle of a save leaves things
    (tmp_path / "state.json.part").write_text('{"step"')
    assert {name: (tmp_path / name).read_bytes() for name in whole} == whole
    model = fresh(seed=3)
    steps: list[int] = []
    train(
        model,
        lambda s: [batch_of(s)],
        next_token_loss,
        RECIPE,
        state=tmp_path,
        on_step=lambda step, _: steps.append(step),
    )
    assert steps == [4, 5, 6, 7]
    straight = fresh()
    losses_of(straight, RECIPE)
    assert_equal(weights_of(model), weights_of(straight))


def test_a_full_disk_leaves_the_earlier_state(tmp_path):
    run_until(6, tmp_path)
    (tmp_path / "optimizer-8.safetensors").mkdir()  # nothing can be written there
    with pytest.raises(Exception, match="directory"):
        losses_of(fresh(), RECIPE, state=tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["step"] == 4
    assert all((tmp_path / state[name]).is_file() for name in ("model", "optimizer"))


def test_a_finished_run_is_not_trained_further(tmp_path):
    model = fresh()
    losses_of(model, RECIPE, state=tmp_path)
    again = fresh(seed=5)
    assert losses_of(again, RECIPE, state=tmp_path) == []
    assert_equal(weights_of(again), weights_of(model))


def test_a_state_is_safetensors_and_json_only(tmp_path):
    losses_of(fresh(), RECIPE, state=tmp_path, save_every=2)
    names = sorted(os.listdir(tmp_path))
    assert names == ["model-8.safetensors", "optimizer-8.safetensors", "state.json"]  # earlier ones are gone
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 8


@pytest.mark.parametrize(("broken", "what"), [("loss", "the loss is nan"), ("gradient", "the gradient's norm is nan")])
def test_a_loss_that_is_no_number_stops_with_the_step_and_the_last_good_checkpoint(tmp_path, broken, what):
    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        value = next_token_loss(model, batch)
        if batch.labels is None:
            return value
        return value * math.nan if broken == "loss" else value + (value * 0).sqrt()  # whose slope at 0 is no number

    def batch_at(step: int) -> list[Batch]:
        batch = batch_of(step)
        return [batch._replace(labels=torch.ones(6)) if step == 5 else batch]

    model, straight = fresh(), fresh()
    losses_of(straight, RECIPE)
    with pytest.raises(Diverged, match=rf"stopped in step 6: {what}\..* step 4, {tmp_path / 'run'}\. Lower"):
        train(model, batch_at, loss, RECIPE, state=tmp_path / "run", save_every=2)
    assert all(bool(weight.isfinite().all()) for weight in model.state_dict().values())
    again = fresh(seed=7)
    losses_of(again, RECIPE, state=tmp_path / "run")  # what was kept is good to go on with
    assert_equal(weights_of(again), weights_of(straight))
    with pytest.raises(Diverged, match=r"stopped in step 6: .* There is no earlier checkpoint"):
        train(fresh(), batch_at, loss, RECIPE)


@pytest.mark.parametrize("at", [0, 7])
def test_a_weight_that_is_no_number_is_told_before_it_is_saved_also_of_the_last_step(tmp_path, at):
    """A step's loss is of the weights before it, so that of the last one does not tell."""
    calm, wild = replace(RECIPE, steps=at, decay=0.0, warmup=0), replace(RECIPE, steps=at + 1, lr=1e39, warmup=0)
    losses_of(fresh(), calm, state=tmp_path / "run")
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("run/*")}
    with pytest.raises(Diverged, match=rf"not finite numbers after step {at + 1}: {tmp_path / 'run'} was left as it"):
        losses_of(fresh(), wild, state=tmp_path / "run")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("run/*")} == kept
    with pytest.raises(Diverged, match=r"not finite numbers after step 1\. Lower"):
        losses_of(fresh(), replace(wild, steps=1))


@pytest.mark.parametrize("broken", ["state.json", "model-8.safetensors", "optimizer-8.safetensors"])
def test_a_broken_state_is_named(tmp_path, broken):
    losses_of(fresh(), RECIPE, state=tmp_path)
    whole = (tmp_path / broken).read_bytes()
    (tmp_path / broken).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SetupError, match=broken):
        losses_of(fresh(), RECIPE, state=tmp_path)


def test_a_state_of_another_model_tells_what_differs(tmp_path):
    losses_of(fresh(), RECIPE, state=tmp_path)
    deeper = fresh(replace(CONFIG, n_layers=3))
    with pytest.raises(SetupError, match=r"holds another model: it lacks 9 weights \(model\.layers\.2"):
        losses_of(deeper, RECIPE, state=tmp_path)


# ---- supervised fine-tuning


def chats_of(n: int) -> list[list[Message]]:
    colours = ("red", "green 1", "blue", "amber", "pink", "grey 22", "teal", "white")
    return [[Message("user", f"item {i}"), Message("assistant", colours[i % 8])] for i in range(n)]


def test_a_random_model_learns_eight_examples_by_heart(tiny_tokenizer):
    base = fresh(Config(len(tiny_tokenizer), d_model=32, n_layers=2, n_heads=2, d_ff=64, context=64))
    before = weights_of(base)
    tuned = Tiny.of(sft(base, tiny_tokenizer, chats_of(8), recipe=Recipe(120, lr=1e-2, warmup=5)), tiny_tokenizer)
    replies = tuned.generate([Request(tuple(prompt)) for *prompt, _ in chats_of(8)])
    assert [r.text for r in replies] == [said.content for *_, said in chats_of(8)]
    assert all(r.finish == "stop" for r in replies)  # it learnt to stop, too
    assert_equal(weights_of(base), before)


def test_fine_tuning_is_a_function_of_its_seed(random_model, tiny_tokenizer):
    recipe = Recipe(3, warmup=1)
    one, same, other = (weights_of(sft(random_model, tiny_tokenizer, chats_of(20), s, recipe)) for s in (0, 0, 1))
    assert_equal(one, same)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_only_the_answer_and_its_end_are_learnt(random_model):
    rows = [[1, 4, 20, 21, 5, 30, 31, EOS], [1, 4, 22, 5, 32, EOS]]
    batch = padded(rows, [5, 4])
    counted = [
        [int(t) for t, w in zip(ts, ws, strict=True) if w]
        for ts, ws in zip(batch.tokens[:, 1:], batch.weights, strict=True)
    ]
    assert counted == [[30, 31, EOS], [32, EOS]]
    logits = random_model.logits(random_model(batch.tokens[:, :-1]))
    logits.retain_grad()
    losses = F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="none")
    (losses * batch.weights.flatten()).sum().backward()
    touched = logits.grad.abs().sum(-1) > 0
    assert touched.tolist() == [[False] * 4 + [True] * 3, [False] * 3 + [True] * 2 + [False] * 2]
    random_model.zero_grad(set_to_none=True)


def test_what_a_prompts_tokens_are_as_targets_does_not_matter(random_model):
    batch = padded([[1, 4, 20, 21, 5, 30, EOS]], [5])
    as_given = next_token_loss(random_model, batch)
    every = next_token_loss(random_model, batch._replace(weights=torch.ones_like(batch.weights)))
    inputs, targets = batch.tokens[:, :-1], batch.tokens[0, 1:].clone()
    targets[:4] = 40  # other targets, same inputs
    log_p = torch.log_softmax(random_model.logits(random_model(inputs))[0], -1)
    expected = -(log_p[torch.arange(6), targets] * batch.weights[0]).sum()
    torch.testing.assert_close(as_given, expected, atol=1e-5, rtol=0)
    assert float(every.detach()) > float(as_given.detach()) + 1


def test_a_chat_longer_than_the_context_loses_its_oldest_tokens(random_model, tiny_tokenizer):
    long = [Message("user", "12 " * 300), Message("assistant", "red")]
    sft(
        random_model, tiny_tokenizer, [long], recipe=Recipe(1)
    )  # more positions than the context would show as a loss of nan
    fits, does_not = ([Message("user", "a"), Message("assistant", "1" * n)] for n in (9, 256))
    with pytest.raises(DataError, match=r"2 of 3 answers .* the first is number 2, of \d+ tokens; .* context is 256"):
        sft(random_model, tiny_tokenizer, [fits, does_not, does_not])
    with pytest.raises(DataError, match="at least one"):
        sft(random_model, tiny_tokenizer, [])


def test_every_example_comes_once_an_epoch_in_an_order_of_its_own():
    taken = [i for step in range(6) for i in epochs(10, 5, 6, seed=0)(step)]
    first, second, third = taken[:10], taken[10:20], taken[20:]
    assert sorted(first) == sorted(second) == sorted(third) == list(range(10))
    assert first != second
    assert len(epochs(3, 2, 10, seed=0)(9)) == 2


def test_steps_grow_with_the_examples_within_bounds():
    assert [steps_for(n) for n in (1, 48, 160, 100_000)] == [60, 60, 12 * 160 // BATCH, 160]


# ---- a classification head


TEXTS = [f"{word} {i} {word}" for i in range(12) for word in ("cough", "nausea", "itch")]
TARGETS = ["lung", "gut", "skin"] * 12
LABELS = ("gut", "lung", "skin")


def test_a_classifier_learns_its_labels(random_model, tiny_tokenizer):
    recipe = Recipe(30, lr=5e-3, warmup=3)
    classifier = train_head(random_model, tiny_tokenizer, TEXTS, TARGETS, ("gut", "lung", "skin"), recipe=recipe)
    backend = TinyClassifier(classifier, tiny_tokenizer)
    asked = [
        Request((Message("user", t),), continuations=("lung", "gut", "skin", "other"))
        for t in ("cough 99", "itch 77 itch")
    ]
    lung, skin = backend.generate(asked)
    assert (lung.text, skin.text) == ("lung", "skin")
    assert np.exp(lung.scores).sum() == pytest.approx(1.0)
    assert lung.scores[0] == max(lung.scores)
    assert lung.scores[3] == float("-inf")


def test_a_frozen_body_does_not_move(random_model, tiny_tokenizer):
    before = weights_of(random_model)
    tuned = train_head(
        random_model, tiny_tokenizer, TEXTS, TARGETS, ("gut", "lung", "skin"), frozen=True, recipe=Recipe(2)
    )
    assert_equal(weights_of(tuned.body), before)
    assert tuned.head.weight.abs().sum() > 0


def test_a_frozen_head_is_logistic_regression_on_the_pooled_states(random_model, tiny_tokenizer):
    """Both minimise Σ −log p + ‖W‖²/2, the bias being free; the texts' labels are noisy, so neither separates them."""
    labels = ("gut", "lung", "skin")
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, len(TEXTS))
    batch = encoded(tiny_tokenizer, TEXTS, 256)._replace(labels=torch.from_numpy(targets))
    classifier = Classifier(copy.deepcopy(random_model).requires_grad_(False), labels)
    with torch.no_grad():
        features = classifier.pooled(batch)  # (n, C)
    torch.testing.assert_close(
        features[3],
        random_model(batch.tokens[3:4])[0, : int(batch.weights[3].sum())].detach().mean(0),
        atol=1e-5,
        rtol=0,
    )

    class Head(nn.Module):
        """The head alone, its features computed once."""

        def __init__(self) -> None:
            super().__init__()
            self.head = classifier.head

        def forward(self, _: Batch) -> torch.Tensor:
            return self.head(features)

    def with_penalty(model: nn.Module, batch: Batch) -> torch.Tensor:
        penalty = model.head.weight.square().sum() / 2 / len(TEXTS)
        return label_loss(model, batch) + penalty * len(TEXTS)

    steps = Recipe(1500, lr=0.02, warmup=1, decay=0.9, weight_decay=0.0, betas=(0.9, 0.999))
    train(Head(), lambda _: [batch], with_penalty, steps)
    exact = features.double().numpy()  # in float32 it is scikit-learn's solver that stops early
    theirs = LogisticRegression(C=1.0, tol=1e-9, max_iter=10_000).fit(exact, targets)
    ours = np.exp(classifier.log_probabilities(tiny_tokenizer, TEXTS))
    np.testing.assert_allclose(ours, theirs.predict_proba(exact), atol=1e-4)
    np.testing.assert_allclose(classifier.head.weight.detach().numpy(), theirs.coef_, atol=1e-4)


def test_long_texts_lose_their_oldest_tokens(tiny_tokenizer):
    texts: Sequence[str] = ["1" * 100, "22"]
    batch = encoded(tiny_tokenizer, texts, 20)
    assert batch.tokens.shape == (2, 20)
    assert batch.weights.sum(1).tolist() == [20.0, 5.0]
    assert batch.tokens[0, -1] == tiny_tokenizer.role["assistant"]


def of_both_sides(model: Transformer) -> Transformer:
    masked = Transformer(replace(model.config, causal=False))
    masked.load_state_dict(model.state_dict())
    return masked


def test_a_text_is_classified_alike_alone_and_beside_longer_ones_also_on_a_masked_model(random_model, tiny_tokenizer):
    for base in (random_model, of_both_sides(random_model)):
        classifier = train_head(base, tiny_tokenizer, TEXTS[:8], TARGETS[:8], LABELS, recipe=Recipe(8, lr=1e-2))
        beside = [*TEXTS[:3], f"{TEXTS[3]} and so on"]
        alone = [classifier.log_probabilities(tiny_tokenizer, [text])[0] for text in beside]
        torch.testing.assert_close(
            torch.tensor(classifier.log_probabilities(tiny_tokenizer, beside)), torch.tensor(alone), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("method", ["sft", "head", "head of a masked model"])
def test_how_many_examples_are_taken_at_once_changes_rounding_only(random_model, tiny_tokenizer, monkeypatch, method):
    """Of a batch, texts of like length go together; weights after two steps are those of the whole batch at once."""
    texts = [f"{TEXTS[i]} " * (1 + i % 7) for i in range(20)]

    def tuned() -> nn.Module:
        if method.startswith("head"):
            base = random_model if method == "head" else of_both_sides(random_model)
            return train_head(base, tiny_tokenizer, texts, TARGETS[:20], LABELS, recipe=Recipe(2, lr=1e-3))
        chats = [[Message("user", t), Message("assistant", y)] for t, y in zip(texts, TARGETS, strict=False)]
        return sft(random_model, tiny_tokenizer, chats, recipe=Recipe(2, lr=1e-3))

    by_length = tuned().double()
    monkeypatch.setattr("promptlab.tiny.sft.TOGETHER", 10**9)
    whole = tuned().double()
    for one, other, before in zip(
        by_length.parameters(), whole.parameters(), random_model.parameters(), strict=method == "sft"
    ):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=0)
        assert not torch.equal(one.float(), before)
