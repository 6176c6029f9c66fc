"""The ladder on a checkpoint of Hugging Face's: the exported random model learns what `promptlab.tiny` teaches it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_preferences import some_pairs
from test_train import chats_of

from promptlab import Message, Request, finetuned
from promptlab.backends.hf import HF
from promptlab.errors import DataError, SetupError
from promptlab.learners.hf.preferences import dpo, reward_model
from promptlab.learners.hf.rlhf import rlhf
from promptlab.learners.hf.sft import sft
from promptlab.learners.hf.training import Trained, begin
from promptlab.tiny.checkpoint import load
from promptlab.tiny.lora import LoRA, adapters, load_adapter
from promptlab.tiny.rlhf import PPO
from promptlab.tiny.train import Recipe

for package in ("trl", "datasets", "accelerate", "transformers"):
    pytest.importorskip(package, reason=f"{package} is not installed")

CPU: dict[str, Any] = {"use_cpu": True}
LORA = LoRA(rank=8)


def answers(folder: Path, chats: list[list[Message]], **options: Any) -> list[str]:
    replies = HF(str(folder), dtype="float32", device="cpu", **options).generate(
        [Request(tuple(c[:-1])) for c in chats]
    )
    return [reply.text for reply in replies]


def log_likelihood(trained: Trained, text: list[dict[str, str]], start: int) -> float:
    ids = trained.tokenizer.apply_chat_template(text, return_dict=False)
    with torch.no_grad():
        log_p = torch.log_softmax(trained.model(torch.tensor([ids])).logits[0], -1)
    return sum(float(log_p[at - 1, ids[at]]) for at in range(start, len(ids)))


def test_sft_learns_by_heart_and_its_checkpoint_is_one_of_ours(random_folder, tmp_path):
    chats = chats_of(8)
    trained = sft(random_folder, chats, recipe=Recipe(80, lr=5e-3, warmup=5), **CPU)
    trained.save(tmp_path)
    said = [reply.content for *_, reply in chats]
    assert answers(tmp_path, chats) == said
    assert load(tmp_path).model.config == load(random_folder).model.config


def test_lora_is_an_adapter_that_both_read(random_folder, tmp_path):
    chats = chats_of(4)
    trained = sft(random_folder, chats, lora=LORA, recipe=Recipe(120, lr=2e-2, warmup=5, weight_decay=0.0), **CPU)
    trained.save(tmp_path)
    assert answers(random_folder, chats, adapter=str(tmp_path)) == [reply.content for *_, reply in chats]
    assert len(list(adapters(load_adapter(load(random_folder).model, tmp_path)))) == 2 * 7
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_dpo_comes_to_prefer_what_is_preferred(random_folder, lora):
    told: list[Any] = []
    recipe = Recipe(30, lr=3e-3, warmup=3, weight_decay=0.0)
    trained = dpo(
        random_folder, some_pairs(48), lora=lora, recipe=recipe, on_step=lambda *step: told.append(step), **CPU
    )
    assert [step for step, _ in told] == list(range(30))
    assert told[0][1]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    base, won = begin(random_folder), 0
    for pair in (held_out := some_pairs(24, seed=1)):
        prompt = [{"role": "user", "content": pair.prompt[0].content}]
        start = len(base.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False))
        gained = [
            log_likelihood(trained, chat, start) - log_likelihood(base, chat, start)
            for chat in ([*prompt, {"role": "assistant", "content": text}] for text in pair[1:])
        ]
        won += gained[0] > gained[1]
    assert won >= 0.9 * len(held_out)


def test_a_reward_model_learns_which_reply_is_better_and_rlhf_takes_it(random_folder):
    trained = reward_model(random_folder, some_pairs(48), recipe=Recipe(30, lr=3e-3, warmup=3), **CPU)
    right = 0
    for pair in (held_out := some_pairs(24, seed=1)):
        chats = [
            [{"role": "user", "content": pair.prompt[0].content}, {"role": "assistant", "content": t}] for t in pair[1:]
        ]
        ids = [trained.tokenizer.apply_chat_template(c, return_dict=False) for c in chats]
        with torch.no_grad():
            chosen, rejected = (float(trained.model(torch.tensor([i])).logits) for i in ids)
        right += chosen > rejected
    assert right >= 0.9 * len(held_out)
    ppo = PPO(rollouts=8, epochs=1, minibatches=2, max_tokens=4)
    rlhf(random_folder, [[Message("user", "Advice on cough?")]], trained, ppo=ppo, recipe=Recipe(2, lr=1e-3), **CPU)


def test_what_the_trainer_logs_as_unknown_is_not_told(random_folder):
    judge = reward_model(random_folder, some_pairs(1), recipe=Recipe(1), **CPU)
    judge.model.score.weight.data.fill_(math.nan)
    told: list[Any] = []
    ppo = PPO(rollouts=4, epochs=1, minibatches=1, max_tokens=2)
    ways = {"ppo": ppo, "recipe": Recipe(1), "on_step": lambda *step: told.append(step), **CPU}
    rlhf(random_folder, [[Message("user", "say 1")]], judge, **ways)
    [(step, logs)] = told
    assert (step, "loss" in logs, "reward" in logs) == (0, True, False)


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_the_reward_rises(random_folder, algorithm):
    """The shorter the reply, the better; a reward is told the prompt and the reply as the bundled model's are."""
    seen: list[float] = []

    def shortness(prompt, text: str) -> float:
        assert prompt[0].content.startswith("say")
        seen.append(-float(len(text)))
        return seen[-1]

    ppo = PPO(rollouts=32, epochs=1, minibatches=2, max_tokens=6, beta=0.02)
    prompts = [[Message("user", f"say {i}")] for i in range(8)]
    recipe = Recipe(60, lr=3e-3, warmup=1, weight_decay=0.0)
    rlhf(random_folder, prompts, shortness, algorithm=algorithm, ppo=ppo, recipe=recipe, **CPU)
    assert len(seen) == 30 * 32
    assert sum(seen[-64:]) / 64 > sum(seen[:64]) / 64 + 2


def test_an_adapter_is_no_model_to_ask_or_to_train(random_folder, tmp_path):
    """Nor is one that lies beside the weights trained on: they would be, and it would be lost."""
    sft(random_folder, chats_of(1), lora=LORA, recipe=Recipe(1), **CPU).save(tmp_path / "adapter")
    shutil.copytree(random_folder, tmp_path / "both")
    shutil.copytree(tmp_path / "adapter", tmp_path / "both", dirs_exist_ok=True)
    for act in (HF, lambda name: sft(name, chats_of(1), lora=LORA), lambda name: reward_model(name, some_pairs(1))):
        with pytest.raises(SetupError, match=r'adapter is an adapter: load it by model\("hf:BASE", adapter="/'):
            act(str(tmp_path / "adapter"))
    both = HF(str(tmp_path / "both"), device="cpu")
    assert both.generate([Request((Message("user", "item 0"),), max_tokens=2)])[0].usage.output_tokens
    with_adapter = HF(str(random_folder), device="cpu", adapter=str(tmp_path / "adapter"))
    for act in (
        lambda: dpo(tmp_path / "both", some_pairs(1)),
        lambda: finetuned(both, "lora"),
        lambda: finetuned(with_adapter, "sft"),
    ):
        with pytest.raises(SetupError, match="an adapter is not trained on; merge it"):
            act()


def test_what_cannot_be_learnt_from_is_counted_as_by_tiny(random_folder, tmp_path):
    chat = [Message("user", "hi")]
    with pytest.raises(DataError, match="1 of 2 answers leave no room"):
        sft(random_folder, [[*chat, Message("assistant", "a")], [*chat, Message("assistant", "1" * 300)]])
    pairs = [*some_pairs(1), some_pairs(1)[0]._replace(chosen=""), some_pairs(1)[0]._replace(chosen="a", rejected="a")]
    for learn in (dpo, reward_model):
        with pytest.raises(DataError, match="2 of 3 pairs cannot be learnt from: 1 with an empty reply"):
            learn(random_folder, pairs)
    with pytest.raises(DataError, match="1 of 1 prompts leave no room"):
        rlhf(random_folder, [[Message("user", "long " * 999)]], lambda prompt, text: 0.0)
    with pytest.raises(SetupError, match="cannot be loaded"):
        sft(tmp_path / "nowhere", chats_of(1))


@pytest.mark.parametrize("method", ["sft", "lora", "dpo"])
def test_a_study_fine_tunes_them_as_it_does_the_bundled_model(random_folder, method):
    from studies import a_task

    from promptlab import run

    base = HF(str(random_folder), dtype="float32", device="cpu")
    task = a_task(6, 2)
    solver = finetuned(base, method)(task, task.train, 0)
    [answer] = run([solver.program(task.test[0].input)], solver.backend)
    assert answer.value in task.labels
    assert solver.backend.identity["weights"] != base.identity["weights"]
    assert (solver.trained_parameters < 12_000) == (method == "lora")
