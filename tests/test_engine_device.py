"""The engine beside a CPU: on a device that only computes with what is there, in steps of few shapes, and on a GPU."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from far import FAR, Counted
from torch import Tensor
from waves import request, words

from promptlab import ModelError, Reply, Request
from promptlab.backends.tiny import Tiny
from promptlab.errors import SetupError
from promptlab.tiny.engine import Engine
from promptlab.tiny.engine.keeping import cost
from promptlab.tiny.engine.stage import AHEAD, UNIT, Static, Step
from promptlab.tiny.engine.weights import attention

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU at hand")
HEADER = words(1, 60)


@pytest.fixture(autouse=True)
def by_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLAB_COMPILE", "0")


@pytest.fixture
def random_tiny(random_folder: Path) -> Tiny:
    """Not the one that other files share: what computes is settled when it is first asked."""
    return Tiny(random_folder)


def wave(n: int) -> list[Request]:
    """Replies of many lengths, ends and kinds to prompts that share much, little or all, and continuations."""
    made = []
    for i in range(n):
        prompt = f"{HEADER} {words(i, i % 9)}" if i % 3 else words(i % 5, 3 + i % 40)
        how: dict[str, object] = {"max_tokens": 1 + 11 * i % 45, "logprobs": True}
        if i % 4 == 1:
            how["stop"] = ("ea",)
        if i % 2:
            how |= {"temperature": 0.8, "top_p": 1.0 if i % 5 else 0.7, "branch": (i,)}
        if i % 7 == 6:
            how = {"continuations": ("cough", "", "fever and nausea", words(i, 12))}
        made.append(request(prompt, **how))
    return [*made, request(HEADER, schema={"enum": ["cough", "fever"]}, logprobs=True)]


def near(one: Sequence[Reply | ModelError], other: Sequence[Reply | ModelError], apart: float) -> None:
    for a, b in zip(one, other, strict=True):
        assert isinstance(a, Reply)
        assert isinstance(b, Reply)
        assert (a.text, a.finish, a.usage) == (b.text, b.finish, b.usage)
        assert [t.logprob for t in a.tokens] == pytest.approx([t.logprob for t in b.tokens], abs=apart)
        assert a.scores == pytest.approx(b.scores, abs=apart * 10)  # sums of up to 40 tokens


class Replayed:
    """A graph as a CPU has it: what was captured, done again in the memory that it was captured in."""

    def __init__(self, step: Step, made: Tensor) -> None:
        self.step, self.made = step, made

    def replay(self) -> None:
        self.made.copy_(self.step())


class Graphed(Static):
    """Steps of few shapes on the CPU, each captured once."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.captures = 0

    def clear(self, numbers: int) -> None:
        self.graphed = False  # there is no memory of a GPU to be shared
        super().clear(numbers)
        self.graphed = True

    def captured(self, step: Step) -> tuple[Any, Tensor]:
        self.captures += 1
        made = step().clone()
        return Replayed(step, made), made


def long_and_short(n: int, most: int, seed: int = 0, shared: int = 0) -> list[Request]:
    """Greedy and sampled replies of one length to prompts of n words of their own."""
    return [
        request(f"{words(9, shared)} {words(seed + i, n)}", max_tokens=most, temperature=i % 2 * 1.0, branch=(i,))
        for i in range(8)
    ]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (long_and_short(9, 150), long_and_short(9, 20)),  # of other widths
        (long_and_short(3, 20, shared=90), long_and_short(3, 20, shared=40)),  # with another beginning in common
        (long_and_short(9, 20), long_and_short(9, 20, seed=50)),  # of the same shape
    ],
)
def test_a_graph_is_replayed_where_it_was_captured_alone(random_tiny, monkeypatch, first, then):
    plain = [Engine(random_tiny.model, random_tiny.tokenizer).answer(each) for each in (first, then)]
    monkeypatch.setattr("promptlab.tiny.engine.stage_for", Graphed)
    one = Engine(random_tiny.model, random_tiny.tokenizer)
    near(one.answer(first), plain[0], 1e-5)
    near(one.answer(then), plain[1], 1e-5)
    one.answer(long_and_short(60, 150))  # moves the memory
    near(one.answer(first), plain[0], 1e-5)
    near(one.answer(then), plain[1], 1e-5)


@pytest.mark.parametrize("kind", [Static, Graphed])
def test_a_row_that_has_ended_where_its_room_ends_disturbs_no_other(random_tiny, monkeypatch, kind):
    """The first fills its columns to the last and ends; three go on, and it with them."""
    of = random_tiny.tokenizer
    n = next(n for n in range(200) if len(of.chat(request(words(1, n)).messages)) % UNIT == UNIT - 8)
    asked = [request(words(1, n), max_tokens=8), *(request(words(i, 3), max_tokens=60) for i in range(2, 5))]
    assert len(of.chat(asked[0].messages)) + 8 >= len(of.chat(asked[1].messages)) + 60
    plain = Engine(random_tiny.model, of).answer(asked)
    monkeypatch.setattr("promptlab.tiny.engine.stage_for", kind)
    near(Engine(random_tiny.model, of).answer(asked), plain, 1e-5)


def test_what_is_no_number_behind_a_reply_spoils_no_other(random_tiny, monkeypatch):
    """Rows that end go on for some tokens, here to positions at which the model overflows; others take their place."""
    monkeypatch.setattr("promptlab.tiny.engine.stage_for", Static)
    monkeypatch.setattr("promptlab.tiny.engine.stage.DEVICE_ROWS", 4)
    one = Engine(random_tiny.model, random_tiny.tokenizer)
    stops = {"max_tokens": 100, "stop": ("a", "e", "s", "i"), "temperature": 1.0}
    asked = [request("x", **stops, branch=(i,)) for i in range(24)]
    fine = one.answer(asked)
    longest = max(reply.usage.input_tokens + reply.usage.output_tokens for reply in fine if isinstance(reply, Reply))
    one.forget()
    one.weights.turns[longest + 1 :] = float("nan")
    far = [request(words(i, 20), max_tokens=100) for i in range(4)]
    assert all(isinstance(reply, ModelError) for reply in one.answer(far))
    assert one.answer(asked) == fine


@pytest.mark.parametrize("kind", [Static, Graphed])
def test_steps_of_few_shapes_say_the_same(random_tiny, monkeypatch, kind):
    asked = wave(70)
    plain = Engine(random_tiny.model, random_tiny.tokenizer).answer(asked)
    monkeypatch.setattr("promptlab.tiny.engine.stage_for", kind)
    near(Engine(random_tiny.model, random_tiny.tokenizer).answer(asked), plain, 1e-5)


def test_a_step_is_captured_once_and_replayed_in_later_waves(random_tiny, monkeypatch):
    monkeypatch.setattr("promptlab.tiny.engine.stage_for", Graphed)
    large, small = wave(90), wave(20)
    one = Engine(random_tiny.model, random_tiny.tokenizer)
    one.answer(large)  # takes all memory that is needed, so that none moves
    expected, captures = one.answer(small), one.stage.captures
    one.answer(large)
    near(one.answer(small), expected, 1e-5)
    assert one.stage.captures == captures
    one.forget()
    assert not one.stage.graphs
    monkeypatch.setattr("promptlab.tiny.engine.stage.GRAPHS", 2)
    near(one.answer(small), expected, 1e-5)
    assert len(one.stage.graphs) == 2


def test_more_than_there_is_room_for_at_once_are_all_written(random_tiny, monkeypatch):
    asked = [request(words(i, 9), max_tokens=1 + i % 40, temperature=0.5, branch=(i,)) for i in range(100)]
    plain = Engine(random_tiny.model, random_tiny.tokenizer).answer(asked)
    monkeypatch.setattr("promptlab.tiny.engine.stage_for", Graphed)
    monkeypatch.setattr("promptlab.tiny.engine.stage.DEVICE_ROWS", 16)
    near(Engine(random_tiny.model, random_tiny.tokenizer).answer(asked), plain, 1e-5)


def test_all_that_is_computed_is_on_the_model_s_device(random_tiny):
    """What meets a tensor of the CPU there raises."""
    asked = wave(40)
    plain = Engine(random_tiny.model, random_tiny.tokenizer).answer(asked)
    with Counted():
        there = Tiny.of(copy.deepcopy(random_tiny.model).to(FAR), random_tiny.tokenizer)
        near(there.generate(asked), plain, 1e-5)
        near(there.generate(asked), plain, 1e-5)
        assert there.sha256 == Tiny.of(random_tiny.model, random_tiny.tokenizer).sha256
    assert there.identity["device"] == str(FAR)
    assert "device" not in random_tiny.identity


def test_tokens_are_looked_at_many_at_a_time(random_tiny):
    with Counted() as counted:
        there = Tiny.of(copy.deepcopy(random_tiny.model).to(FAR), random_tiny.tokenizer)
        for asked in (
            [request(words(i, 9), max_tokens=2 * AHEAD + 1) for i in range(32)],
            [request(words(i, 9), max_tokens=AHEAD + 2 + i % AHEAD) for i in range(32)],  # that end one by one
        ):
            there.generate(asked)
            before = counted.waits
            there.generate(asked)  # what is read is known
            assert counted.waits - before <= 2 * 3  # first tokens, and twice as many as are written ahead: ids, log p


def test_half_precision_is_near_to_full(random_tiny):
    """Log-probabilities of the same text, and the prompt's likeliest tokens."""
    half = Tiny.of(copy.deepcopy(random_tiny.model).bfloat16(), random_tiny.tokenizer)
    weighed = [request(words(i, 40), continuations=("cough", words(i, 6))) for i in range(12)]
    for a, b in zip(half.generate(weighed), random_tiny.generate(weighed), strict=True):
        assert a.scores == pytest.approx(b.scores, rel=0.03, abs=0.3)
    asked = [request(words(i, 40), max_tokens=12, logprobs=True) for i in range(12)]
    both = zip(half.generate(asked), random_tiny.generate(asked), strict=True)
    assert sum(a.tokens[0].text == b.tokens[0].text for a, b in both) >= 10
    with Counted():
        there = Tiny.of(copy.deepcopy(half.model).to(FAR), random_tiny.tokenizer)
        for a, b in zip(there.generate(weighed), random_tiny.generate(weighed), strict=True):
            assert a.scores == pytest.approx(b.scores, rel=0.03, abs=0.3)
        assert (
            0 < cost(copy.deepcopy(random_tiny.model).to(FAR), random_tiny.tokenizer, there.engine.weights).nats < 0.1
        )
    assert half.sha256 != random_tiny.sha256


def test_attention_is_the_same_on_a_device():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, n, 8, generator=generator) for n in (5, 7, 7))
    mask = torch.zeros(3, 1, 1, 7).masked_fill(torch.arange(7) > 4, float("-inf"))
    for far_k, far_v, how in ((k, v, mask), (k[:1], v[:1], None)):
        y, log = attention(q, far_k, far_v, how)
        with Counted():
            there = attention(*(x.to(FAR) for x in (q, far_k, far_v)), None if how is None else how.to(FAR))
            y_there, log_there = (x.cpu() for x in there)
        torch.testing.assert_close(y_there, y)
        torch.testing.assert_close(log_there, log)


# ---- bad input


@pytest.mark.parametrize(
    "device", ["cuda:99", "no such device", None, *([] if torch.cuda.is_available() else ["cuda"])]
)
def test_a_device_that_is_not_at_hand_is_refused(random_folder, device):
    with pytest.raises(SetupError, match=rf'The device "{device}" is not at hand: .*\. "auto" takes a GPU'):
        Tiny(random_folder, device=device)


def test_any_cpu_is_the_cpu(random_folder):
    there = Tiny(random_folder, device="cpu:0", dtype="int8", batch_invariant=True)
    assert there.identity == Tiny(random_folder, dtype="int8", batch_invariant=True).identity
    with pytest.raises(SetupError, match='The device "meta" holds no numbers'):
        Tiny(random_folder, device="meta")


def test_auto_is_a_gpu_where_there_is_one(random_folder):
    there = Tiny(random_folder, device="auto")
    assert there.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pickle.loads(pickle.dumps(there)).device == there.device


# ---- on a GPU


@needs_gpu
@pytest.mark.parametrize("n", [1, 70, 600])
def test_a_gpu_answers_as_the_cpu_does(random_folder, random_tiny, n):
    """By graphs that are captured, and that are replayed."""
    there, asked = Tiny(random_folder, device="cuda"), wave(n)
    plain = Engine(random_tiny.model, random_tiny.tokenizer).answer(asked)
    for _ in range(2):
        near(there.generate(asked), plain, 1e-4)
    there.engine.forget()
    near(there.generate(asked), plain, 1e-4)


@needs_gpu
def test_half_precision_on_a_gpu_is_near_to_full_on_the_cpu(random_folder, random_tiny):
    half = Tiny(random_folder, device="cuda", dtype="auto")
    assert half.dtype == "bfloat16"
    assert 0 < half.cost.nats < 0.1
    weighed = [request(words(i, 40), continuations=("cough", words(i, 6))) for i in range(12)]
    for a, b in zip(half.generate(weighed), random_tiny.generate(weighed), strict=True):
        assert a.scores == pytest.approx(b.scores, rel=0.03, abs=0.3)
    assert all(isinstance(reply, Reply) for reply in half.generate(wave(40)))


@needs_gpu
def test_batch_invariance_is_of_the_cpu_alone(random_folder):
    with pytest.raises(SetupError, match="of the CPU alone"):
        Tiny(random_folder, device="cuda", batch_invariant=True)
