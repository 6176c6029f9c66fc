"""What a study's cells took: tokens trained on, prompts that could be kept, latency of calls that were made, memory."""

import json
from pathlib import Path

import pytest
import torch
from studies import a_task, rows_of
from torch.utils.flop_counter import FlopCounterMode

from promptlab import Message, Reply, Usage, compare, finetuned, gather, in_context, model, run
from promptlab.compare.answering import latency, longest_way
from promptlab.compare.costs import Shape
from promptlab.compare.footprint import Peak, model_told
from promptlab.effort import counted, trained_on, training_begins
from promptlab.learners import Solver
from promptlab.program import Exchange, ask, traced
from promptlab.testing import FakeServer
from promptlab.tiny import block, rlhf
from promptlab.tiny.dpo import dpo
from promptlab.tiny.lora import add_lora
from promptlab.tiny.model import Transformer
from promptlab.tiny.pairs import Pair
from promptlab.tiny.sft import sft
from promptlab.tiny.train import Recipe
from promptlab.types import Answer, Request


class Hosted:
    """A hosted model whose calls take a second each, the first prompt's answer being one that a cache had."""

    batched = False

    def __init__(self):
        self.asked = 0

    def generate(self, requests):
        self.asked += len(requests)
        usage = Usage(input_tokens=100, cached_tokens=8, output_tokens=2, cost_usd=0.001)
        return [Reply("yes", usage=usage, seconds=None if self.asked == 1 else 1.0) for _ in requests]


def cells_of(folder: Path):
    return [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]


def test_tokens_that_a_training_reads_are_counted(tmp_path):
    tiny = model("tiny")
    compare({"sft": finetuned(tiny, "sft"), "few-shot": in_context(tiny)}, a_task(4, 4), (2,), 1, out=tmp_path)
    sft, prompt = cells_of(tmp_path)
    assert sft["trainings"] == 1
    assert sft["parameters"] == prompt["parameters"] > 1e6
    assert (sft["layers"], sft["width"]) == (tiny.model.config.n_layers, tiny.model.config.d_model)
    assert sft["tokens"] > 60 * 2 * 5
    assert sft["attended"] > 5 * sft["tokens"]
    assert prompt["trainings"] == prompt["tokens"] == 0
    assert sft["local"]
    assert sft["price"] is None


def test_only_what_is_trained_in_its_own_context_counts():
    trained_on(2, 10)
    with counted() as effort:
        training_begins()
        trained_on(2, 10)
        with counted() as inner:
            trained_on(1, 3)
    assert (effort.trainings, effort.tokens, effort.attended) == (1, 20, 200)
    assert (inner.tokens, inner.attended) == (3, 9)


def test_what_a_training_only_reads_and_writes_is_counted_beside_it(random_model, tiny_tokenizer, monkeypatch):
    passed = {True: 0, False: 0}  # tokens, forward and backward, or forward only
    forward, wrote = Transformer.forward, rlhf.sample

    def counting(self, tokens, *args, **options):
        passed[torch.is_grad_enabled()] += tokens.numel()
        return forward(self, tokens, *args, **options)

    def sample(*args):
        written = wrote(*args)
        passed[False] += sum(len(reply.ids) for reply in written)
        return written

    monkeypatch.setattr(Transformer, "forward", counting)
    monkeypatch.setattr(rlhf, "sample", sample)
    chat, ppo = [Message("user", "hi")], rlhf.PPO(rollouts=4, max_tokens=8)
    for train in (
        lambda: dpo(random_model, tiny_tokenizer, [Pair(chat, "yes", "no, thank you")] * 3, recipe=Recipe(2)),
        lambda: rlhf.rlhf(random_model, tiny_tokenizer, [chat], lambda *_: 1.0, ppo=ppo, recipe=Recipe(ppo.steps)),
    ):
        passed.update({True: 0, False: 0})
        with counted() as effort:
            train()
        assert effort.tokens == pytest.approx(passed[True], rel=0.15)  # a row's last token is a target only
        assert effort.read_tokens == pytest.approx(passed[False], rel=0.15)


@pytest.mark.parametrize("adapted", [True, False])
def test_flops_of_a_step_are_those_that_pytorch_counts(random_model, tiny_tokenizer, monkeypatch, adapted):
    """Also of adapters, whose gradients pass through the weights that they are added to."""
    monkeypatch.setattr(block, "fits", lambda *_: False)  # it counts its own operations only
    model = add_lora(random_model) if adapted else random_model
    chats = [[Message("user", "a"), Message("assistant", "b " * 120)]] * 16
    with FlopCounterMode(display=False) as flops, counted() as effort:
        sft(model, tiny_tokenizer, chats, recipe=Recipe(1))
    shape = Shape(sum(p.numel() for p in random_model.parameters()))  # attention on a CPU PyTorch does not count
    billed = shape.training(effort.tokens, trained=effort.differentiated)
    assert billed == pytest.approx(flops.get_total_flops(), rel=0.05)


def test_the_beginning_of_a_prompt_is_reused_by_all_items_but_the_first(tmp_path):
    compare({"few-shot": in_context(model("tiny"))}, a_task(8, 6), (0, 4), 1, out=tmp_path)
    without, with_shots = ([r for r in rows_of(tmp_path) if r["labels"] == k] for k in (0, 4))
    reused = [row.get("reused_tokens", 0) for row in with_shots]
    assert reused[0] == 0
    assert all(0 < n < row["input_tokens"] for n, row in zip(reused[1:], with_shots[1:], strict=True))
    assert max(row.get("reused_tokens", 0) for row in without) < min(reused[1:])


def test_a_hosted_models_answer_has_its_latency_and_its_price_and_one_from_a_cache_no_latency(tmp_path):
    compare({"few-shot": in_context(Hosted())}, a_task(4, 4), (0,), 1, out=tmp_path)
    rows = rows_of(tmp_path)
    assert sorted(row.get("latency", -1) for row in rows) == [-1, 1, 1, 1]
    assert all(row["cost_usd"] == 0.001 and row["cached_tokens"] == 8 for row in rows)
    assert not cells_of(tmp_path)[0]["local"]


def test_calls_that_go_together_are_waited_for_together(tmp_path):
    async def program(question):
        await gather([ask(question), ask(question)])
        return Answer((await ask(question)).text)

    def learner(task, examples, seed):
        backend = Hosted()
        backend.asked = 1
        return Solver(program, backend)

    compare({"three calls": learner}, a_task(4, 2), (0,), 1, out=tmp_path)
    assert [(row["latency"], row["calls"]) for row in rows_of(tmp_path)] == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("timed", "seconds"),
    [
        ([((0,), 1.0), ((1,), 2.0)], 3),
        ([((0, 0, 0), 1.0), ((0, 0, 1), 2.0), ((0, 1, 0), 2.5), ((1,), 1.0)], 4),
        ([((0, 0), 1.0), ((0, 1), 4.0)], 4),
        ([((), 1.0)], 1),
    ],
)
def test_the_longest_way_through_a_program(timed, seconds):
    assert longest_way(timed) == seconds
    assert latency([Exchange(Request((), branch=b), Reply(seconds=s)) for b, s in timed]) == seconds
    assert latency([Exchange(Request(()), Reply())]) is None


def test_the_most_memory_since_is_that_of_what_was_held_meanwhile():
    peak = Peak()
    if not peak.known:
        pytest.skip("this system tells no peak")
    before = peak.bytes()
    held = bytearray(100_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert peak.bytes() > before + 90_000_000
    del held
    assert Peak().bytes() < before + 50_000_000


def test_a_model_behind_a_network_has_no_parameters_here():
    assert model_told(Hosted()) == {"parameters": None, "layers": None, "width": None, "local": False, "price": None}


def test_a_call_over_the_network_is_timed_and_the_same_from_a_cache_is_not(tmp_path):
    with FakeServer(["hi"] * 4) as server:
        asking = model(f"openai:m@{server.url}", cache=tmp_path / "cache.db")
        [(_, first)] = run(traced(ask("a")), asking)[1]
        [(_, again)] = run(traced(ask("a")), asking)[1]
        [(_, later)] = run(traced(ask("a")), model(f"openai:m@{server.url}", cache=tmp_path / "cache.db"))[1]
    assert first.seconds > 0
    assert (again.seconds, later.seconds) == (None, None)
    assert first == again == later
