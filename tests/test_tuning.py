"""`promptlab train sft|head|lora|dpo|reward|rlhf`: what they read, what they leave behind, what they refuse."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import write_csv
from test_cli import promptlab  # noqa: F401  the fixture
from test_preferences import some_pairs

from promptlab import Message, model
from promptlab.commands.files import read_pairs, read_prompts
from promptlab.errors import SetupError
from promptlab.tiny.checkpoint import load
from promptlab.tiny.heads import load_head, save_head
from promptlab.tiny.lora import adapters, load_adapter
from promptlab.tiny.reward import RewardModel

QUICK = ("--steps", "2", "--out", "out")


@pytest.fixture
def typed(promptlab, random_folder, tmp_path):  # noqa: F811
    """Types `promptlab train …` with the random model, beside its data files."""
    write_csv(tmp_path / "fruit.csv")
    wishes = [{"prompt": p.prompt[0].content, "chosen": p.chosen, "rejected": p.rejected} for p in some_pairs(6)]
    write(tmp_path / "wishes.jsonl", wishes)
    write(tmp_path / "prompts.jsonl", [{"prompt": f"say {i}"} for i in range(4)])
    (tmp_path / "rewards.py").write_text("def shortness(prompt, text):\n    return -len(text)\n\nlimit = 3\n")

    def train(command: str, *more: str, kind: str = "tiny") -> tuple[int, str, str]:
        return promptlab(f"train {command}", *more, "--model", f"{kind}:{random_folder}")

    return train


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def differs(folder: str, from_: Path) -> bool:
    one, other = load(folder).model.state_dict(), load(from_).model.state_dict()
    return any(not torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.parametrize("command", ["sft fruit.csv", "dpo wishes.jsonl --kind ipo --sft-weight 0.5"])
def test_what_is_trained_is_a_model_to_ask(typed, random_folder, command):
    code, said, progress = typed(command, *QUICK)
    assert (code, said) == (0, "tiny:out\n")
    assert "2 of 2: loss" in progress
    assert model("tiny:out").count_tokens([Message("user", "a")]) > 0
    assert differs("out", random_folder)


@pytest.mark.parametrize("kind", ["tiny", "hf"])
def test_what_diverged_in_the_last_step_is_not_saved(typed, kind):
    if kind == "hf":
        pytest.importorskip("trl", reason="TRL is not installed")
    code, _, err = typed("sft fruit.csv --steps 1 --lr 1e39 --quiet --out out", kind=kind)
    assert (code, "Training diverged: weights are not finite numbers" in err) == (1, True)
    assert not Path("out", "model.safetensors").exists()


def test_adapters_are_left_beside_their_sum_with_the_model(typed, random_folder):
    code, said, _ = typed("lora fruit.csv --rank 3", *QUICK)
    assert (code, said) == (0, "tiny:out/merged\n")
    adapted = load_adapter(load(random_folder).model, Path("out"))
    assert {adapter.lora.rank for _, adapter in adapters(adapted)} == {3}
    assert differs("out/merged", random_folder)


def test_a_head_comes_back_with_its_labels(typed):
    code, _, _ = typed("head fruit.csv --quiet", *QUICK)
    assert code == 0
    classifier, tokenizer = load_head("out", "classifier")
    assert classifier.labels == ("no", "yes")
    assert classifier.head.weight.any()
    assert len(classifier.log_probabilities(tokenizer, ["a plum"])[0]) == 2
    with pytest.raises(SetupError, match="out holds a classifier, not a reward model"):
        load_head("out", "reward model")


@pytest.mark.parametrize(("made_by", "loader"), [("head fruit.csv", "load_head"), ("reward wishes.jsonl", "--reward")])
def test_a_model_with_a_head_is_not_taken_for_a_language_model(typed, promptlab, made_by, loader):  # noqa: F811
    assert typed(made_by, "--steps", "1", "--quiet", "--out", "headed")[0] == 0
    train = "train sft fruit.csv --steps 1 --out more --model"
    for command in ("ask hello --model", "export exported --model", train):
        code, _, err = promptlab(command, "tiny:headed")
        assert (code, "no language model" in err, loader in err, err.count("\n")) == (2, True, True, 1)
    code, _, err = promptlab("train mlm more --steps 1 --init headed")
    assert (code, "no language model" in err, Path("more").exists()) == (2, True, False)


@pytest.mark.parametrize("command", ["sft", "lora", "head"])
def test_texts_of_which_only_the_end_is_read_are_counted_beforehand(typed, tmp_path, command):
    text = (tmp_path / "fruit.csv").read_text()
    (tmp_path / "fruit.csv").write_text(text.replace("lot", "lot " * 4000, 2))
    code, _, err = typed(f"{command} fruit.csv", *QUICK)
    assert code == 0
    assert re.match(r"2 of \d+ train texts are longer than the [\d,]+ tokens that the model reads: ", err)


def test_a_reward_model_is_what_rlhf_takes(typed, random_folder):
    assert typed("reward wishes.jsonl --steps 2 --out judge")[0] == 0
    bundled = load()
    save_head(Path("other"), RewardModel(bundled.model), bundled.tokenizer)
    reward, tokenizer = load_head("judge", "reward model")
    assert len(set(reward.rewards(tokenizer, [(p.prompt, p.chosen) for p in some_pairs(3)]))) == 3
    small = ("--rollouts", "8", "--max-tokens", "4", "--iterations", "1", "--lr", "1e-3")
    for i, judge in enumerate(("judge", "rewards:shortness")):
        code, said, told = typed("rlhf prompts.jsonl", "--reward", judge, "--out", f"policy{i}", *small)
        assert (code, said) == (0, f"tiny:policy{i}\n")
        assert "1 of 1: reward" in told
        assert differs(f"policy{i}", random_folder)
    code, _, err = typed("rlhf prompts.jsonl --reward other --out policy")
    assert (code, "other has another tokenizer than the model" in err) == (2, True)


@pytest.mark.parametrize("rollouts", ["1", "2", "3"])
def test_an_iteration_may_write_a_few_replies_only(typed, rollouts):
    small = ("--rollouts", rollouts, "--max-tokens", "2", "--iterations", "2", "--lr", "1e-3", "--quiet")
    assert typed("rlhf prompts.jsonl --reward rewards:shortness --out out", *small) == (0, "", "")


def test_pairs_that_teach_nothing_are_counted_and_left_out_when_asked(typed, tmp_path):
    rows = [json.loads(line) for line in (tmp_path / "wishes.jsonl").read_text().splitlines()]
    same, empty = {**rows[0], "rejected": rows[0]["chosen"]}, {**rows[0], "chosen": " "}
    write(tmp_path / "some.jsonl", [*rows, same, empty, same])
    code, _, err = typed("dpo some.jsonl", *QUICK)
    assert code == 2
    assert "3 of 9 pairs cannot be learnt from" in err
    code, _, err = typed("dpo some.jsonl --skip", *QUICK)
    assert code == 0
    assert "2 pair(s) whose replies are identical left out (first: number 7)." in err
    assert "1 pair(s) with an empty reply left out (first: number 8)." in err


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_messages_are_read_as_the_chats_that_they_are(tmp_path):
    """TRL's conversational preferences, with the prompt in a column or once more before each reply."""
    asked, yes, no = (
        [said("system", "Be brief."), said("user", "cough?")],
        said("assistant", "yes"),
        said("assistant", "no"),
    )
    pair = {"prompt": asked, "chosen": [yes], "rejected": [*asked, no]}
    of_text = {"prompt": "cough?", "chosen": [said("user", "cough?"), yes], "rejected": "no"}
    write(tmp_path / "wishes.jsonl", [pair, of_text])
    chat = [Message("system", "Be brief."), Message("user", "cough?")]
    expected = [(chat, "yes", "no"), (chat[1:], "yes", "no")]
    assert [tuple(pair) for pair in read_pairs(tmp_path / "wishes.jsonl")] == expected
    assert read_prompts(tmp_path / "wishes.jsonl", "prompt") == [chat, chat[1:]]
    with (tmp_path / "wishes.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["prompt", "chosen", "rejected"], map(json.dumps, pair.values())])
    assert [tuple(pair) for pair in read_pairs(tmp_path / "wishes.csv")] == expected[:1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": {"role": "user", "content": "a"}},
        {"prompt": [{"role": "nobody", "content": "a"}]},
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}]},
        {"chosen": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
        {"chosen": [said("user", "b")]},
        {"rejected": [said("user", "another prompt"), said("assistant", "b")]},
    ],
    ids=str,
)
def test_what_is_no_text_and_no_chat_is_told_with_its_place(typed, tmp_path, wrong):
    given = {"prompt": "a", "chosen": "b", "rejected": '{"json": "as a text"}'}
    write(tmp_path / "some.jsonl", [given, given | wrong])
    code, _, err = typed("dpo some.jsonl", *QUICK)
    assert (code, "some.jsonl, line 2" in err, err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sft nothing.csv --out out", "No file nothing.csv"),
        ("sft fruit.csv --out out --lr 0", "'--lr': 0 is not above 0"),
        ("head fruit.csv --out out --lr -3", "'--lr': -3 is not above 0"),
        ("rlhf prompts.jsonl --reward rewards:shortness --out out --lr nan", "'--lr': nan is not above 0"),
        ("sft fruit.csv --instruction @nowhere.txt --out out", "nowhere.txt cannot be read"),
        ("sft fruit.csv --text nose --out out", 'has no text column "nose"'),
        ("dpo fruit.csv --out out", 'has no preference column "prompt"'),
        ("dpo wishes.jsonl --beta inf --out out", "dpo(beta=inf): it must be a number above 0"),
        ("dpo wishes.jsonl --sft-weight nan --out out", "dpo(sft_weight=nan)"),
        ("dpo wishes.jsonl --kind kto --out out", "known are sigmoid, ipo, hinge, robust"),
        ("sft fruit.csv --out .", ". exists and is no empty folder"),
        ("rlhf prompts.jsonl --reward nowhere:at_all --out out", "the module nowhere is not installed"),
        ("rlhf prompts.jsonl --reward rewards:limit --out out", "is a int, not a function"),
        ("rlhf prompts.jsonl --reward rewards:shortness --algorithm grpo --out out", "--algorithm is ppo"),
    ],
)
def test_wrong_use_is_one_line(typed, command, said):
    code, _, err = typed(command)
    assert code in (1, 2)
    assert said in err
    assert err.count("\n") == 1


def test_a_head_is_of_tiny_only(typed):
    code, _, err = typed("head fruit.csv --out out", kind="hf")
    assert (code, "--model is tiny." in err) == (2, True)


@pytest.mark.parametrize("command", ["sft fruit.csv", "lora fruit.csv", "dpo wishes.jsonl", "reward wishes.jsonl"])
def test_checkpoints_of_hugging_faces_are_trained_by_the_same_commands(typed, command):
    pytest.importorskip("trl", reason="TRL is not installed")
    code, said, progress = typed(command, *QUICK, "--lr", "1e-3", kind="hf")
    folder = {"lora": "hf:out/merged", "reward": "out"}.get(command.split()[0], "hf:out")
    assert (code, said) == (0, f"{folder}\n")
    assert "2 of 2: loss" in progress
    assert Path(folder.removeprefix("hf:"), "model.safetensors").exists()
    assert Path("out", "adapter_model.safetensors").exists() == command.startswith("lora")


def test_an_adapter_is_not_trained_on_as_if_it_were_its_base_and_its_sum_with_the_model_is(typed, promptlab):  # noqa: F811
    pytest.importorskip("trl", reason="TRL is not installed")
    assert typed("lora fruit.csv", *QUICK, kind="hf")[0] == 0
    for i, command in enumerate(("lora fruit.csv", "dpo wishes.jsonl")):
        given = ("--steps", "1", "--out", f"more{i}", "--quiet", "--model")
        code, _, err = promptlab(f"train {command}", *given, "hf:out")
        assert (code, 'out is an adapter: load it by model("hf:BASE", adapter="out")' in err) == (2, True)
        assert promptlab(f"train {command}", *given, "hf:out/merged")[0] == 0
