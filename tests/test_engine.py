"""What the engine shares, keeps and refills changes nothing but the time it takes."""

from __future__ import annotations

import copy
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from types import FrameType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from waves import request, words

from promptlab import Message, ModelError, Reply, Request
from promptlab.backends.tiny import Tiny
from promptlab.backends.wrappers.cached import Cached
from promptlab.backends.wrappers.record import Record
from promptlab.errors import Interrupted, SetupError
from promptlab.tiny.engine import Engine
from promptlab.tiny.engine.compiling import library
from promptlab.tiny.engine.stage import ROWS
from promptlab.tiny.engine.store import places
from promptlab.tiny.engine.weighing import Weighing
from promptlab.tiny.tokenizer import Tokenizer


@pytest.fixture(scope="module", params=["compiled", "pytorch"], autouse=True)
def arithmetic(request: pytest.FixtureRequest) -> Iterator[str]:
    """All of it with a compiler and without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "pytorch":
            patch.setenv("PROMPTLAB_COMPILE", "0")
        elif library() is None:
            pytest.skip("no C compiler on this machine")
        yield request.param


@st.composite
def waves(draw: st.DrawFn, drawn: bool = True) -> list[Request]:
    """Prompts that part after any number of words, equal ones among them, asked for all that can be asked.

    Where replies are `drawn`, a rounding may make another of one, so they are compared to the bit or not at all.
    """
    made = []
    for i in range(draw(st.integers(1, 8))):
        prompt = words(0, draw(st.integers(0, 60))) + words(draw(st.integers(0, 2)), draw(st.integers(0, 20)))
        kind = draw(st.sampled_from(["greedy", "weighed", *(["sampled", "nucleus"] if drawn else [])]))
        how: dict[str, object] = {
            "greedy": {"max_tokens": draw(st.integers(0, 6)), "logprobs": True},
            "sampled": {"max_tokens": 5, "temperature": 1.0, "branch": (i,), "logprobs": True},
            "nucleus": {"max_tokens": 5, "temperature": 0.7, "top_p": 0.8, "branch": (i,), "logprobs": True},
            "weighed": {"continuations": ("cough", "", "fever and nausea", words(i, 12))},
        }[kind]
        made.append(request(prompt, **how))
    return made


SCHEMAS = {"enum": ["cough", "cough and fever", "fever"]}, {"type": "integer", "minimum": 0, "maximum": 99}


@st.composite
def samples(draw: st.DrawFn) -> list[Request]:
    """Many of few prompts, asked for alike and otherwise, that go on alike for some tokens or to the end."""
    made = []
    for i in range(draw(st.integers(1, 24))):
        how = {
            "max_tokens": draw(st.sampled_from([0, 1, 9, 40, 40])),
            "temperature": draw(st.sampled_from([0.0, 0.02, 0.1, 0.5])),
            "top_p": draw(st.sampled_from([1.0, 0.7])),
            "stop": draw(st.sampled_from([(), (), ("e",), ("a", "in")])),
            "schema": draw(st.sampled_from([None, None, None, *SCHEMAS])),
            "seed": draw(st.integers(0, 2)),
            "branch": (draw(st.integers(0, i)),),
            "logprobs": draw(st.booleans()),
        }
        made.append(request(words(draw(st.integers(0, 2)), 9), **how))
    return made


def same(one: Sequence[Reply | ModelError], other: Sequence[Reply | ModelError], apart: float = 1e-5) -> None:
    for a, b in zip(one, other, strict=True):
        assert isinstance(a, Reply)
        assert isinstance(b, Reply)
        assert (a.text, a.finish, a.usage) == (b.text, b.finish, b.usage)
        assert [t.text for t in a.tokens] == [t.text for t in b.tokens]
        assert [t.logprob for t in a.tokens] == pytest.approx([t.logprob for t in b.tokens], abs=apart)
        assert a.scores == pytest.approx(b.scores, abs=apart * 10)  # sums of up to 40 tokens


def engine(of: Tiny, share: bool = True, cache_mb: float = 256.0, batch_invariant: bool = False) -> Engine:
    made = Engine(of.model, of.tokenizer, cache_mb, batch_invariant)
    made.share = share
    return made


def exact(of: Tiny, share: bool = True, cache_mb: float = 256.0) -> Engine:
    """One in which batches change no bit: only PyTorch's has to be told."""
    return engine(of, share, cache_mb, batch_invariant=library() is None)


@settings(deadline=None, max_examples=40)
@given(waves(drawn=False))
def test_sharing_changes_nothing(random_tiny, wave):
    same(engine(random_tiny).answer(wave), engine(random_tiny, share=False).answer(wave))


@settings(deadline=None, max_examples=40)
@given(waves())
def test_sharing_changes_no_bit_where_batches_do_not(random_tiny, wave):
    one, other = (exact(random_tiny, share=share) for share in (True, False))
    assert one.answer(wave) == other.answer(wave)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=3), st.integers(0, 9))
def test_prompts_cut_anywhere_are_read_as_the_plain_model_reads_them(random_tiny, steps, seed):
    """A chat that grows, all its beginnings being asked in the same wave."""
    tokens = [1, *(Random(seed).randrange(10, 500) for _ in range(sum(steps)))]
    prompts = [tuple(tokens[: 1 + sum(steps[: k + 1])]) for k in range(len(steps))]
    weighings = [Weighing(prompt, [[k] for k in range(20)]) for prompt in prompts]
    engine(random_tiny).work(weighings)
    with torch.no_grad():
        log_p = torch.log_softmax(random_tiny.model.logits(random_tiny.model(torch.tensor([tokens])))[0], -1)
    for weighing in weighings:
        assert weighing.sums == pytest.approx(log_p[len(weighing.prompt) - 1, :20].tolist(), abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(waves(drawn=False))
def test_a_request_is_answered_as_it_would_be_alone(random_tiny, wave):
    alone = [reply for each in wave for reply in engine(random_tiny).answer([each])]
    same(engine(random_tiny).answer(wave), alone)


@settings(deadline=None, max_examples=40)
@given(waves(), st.integers(0, 200))
def test_a_request_is_answered_to_the_bit_as_it_would_be_alone(random_tiny, wave, many):
    """Also beside many others of one prompt, which would be looked at in one place."""
    beside = [request(words(0, 60), temperature=1.0, max_tokens=i % 9, branch=(i,)) for i in range(many)]
    together = exact(random_tiny).answer(wave + beside)
    for each, reply in list(zip(wave + beside, together, strict=True))[: len(wave) + 3]:
        assert exact(random_tiny).answer([each]) == [reply]


@settings(deadline=None, max_examples=40)
@given(st.lists(waves(), min_size=2, max_size=4), st.booleans())
def test_what_was_asked_before_changes_no_bit(random_tiny, asked, little):
    """Also where the cache is so small that most of it has been read anew."""
    cache_mb = 0.2 if little else 256.0
    one = engine(random_tiny, cache_mb=cache_mb)
    for wave in asked[:-1]:
        one.answer(wave)
    fresh = engine(random_tiny, cache_mb=cache_mb)
    assert one.answer(asked[-1]) == fresh.answer(asked[-1])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(20, 21), min_size=1, max_size=90).map(tuple), min_size=1, max_size=12), st.data())
def test_a_token_comes_out_the_same_to_the_bit_whatever_is_read_beside_and_was_before(random_tiny, prompts, data):
    """The prompts part and end anywhere, and are read in one wave, in several, and each by itself."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(prompts)), max_size=3)))
    one = engine(random_tiny)
    for start, end in zip([0, *cuts], [*cuts, len(prompts)], strict=True):
        one.work([Weighing(prompt, [[30]]) for prompt in prompts[start:end]])
    for prompt in prompts:
        alone = engine(random_tiny)
        alone.work([Weighing(prompt, [[30]])])
        of_both = [e.store.hidden[torch.from_numpy(places(e.store.path(prompt)))] for e in (one, alone)]
        assert torch.equal(*of_both)


@settings(deadline=None, max_examples=40)
@given(waves(), waves())
def test_a_small_cache_changes_nothing_and_is_kept_to(random_tiny, first, second):
    small, large = (exact(random_tiny, cache_mb=cache_mb) for cache_mb in (0.2, 256.0))
    assert small.store.capacity < 320
    assert small.answer(first + second) == large.answer(first + second)
    held = sum(small.store.size(chunk) for chunk in small.store.order)
    assert held + small.store.n_free * small.store.unit == small.store.capacity


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.lists(st.integers(20, 21), max_size=90), min_size=1, max_size=6), min_size=1, max_size=5))
def test_no_wave_reads_again_what_an_earlier_one_has_read(random_tiny, asked):
    one, before = engine(random_tiny), set()
    for wave in asked:
        prompts = {(1, *tokens) for tokens in wave}
        beginnings = {prompt[: n + 1] for prompt in prompts for n in range(len(prompt))}
        new = sum(prompt[: n + 1] not in before for prompt in prompts for n in range(len(prompt)))
        already = one.tokens_read
        one.work([Weighing(prompt, [[30]]) for prompt in prompts])
        assert len(beginnings - before) <= one.tokens_read - already <= new
        before |= beginnings


def test_what_a_thousand_prompts_begin_with_is_read_once(random_tiny):
    one = engine(random_tiny)
    header = words(1, 60)
    wave = [request(f"{header} {words(i, 5)}", continuations=("cough", "fever")) for i in range(200)]
    chats = [one.tokenizer.chat(each.messages) for each in wave]
    shared = next(i for i, column in enumerate(zip(*chats, strict=False)) if len(set(column)) > 1)
    one.answer(wave)
    assert one.tokens_read <= 1.05 * (shared + sum(len(chat) - shared for chat in chats))


def test_a_prompt_is_read_once_for_all_samples_and_waves(random_tiny):
    one = engine(random_tiny)
    samples = [request(words(1, 60), temperature=1.0, max_tokens=3, branch=(i,)) for i in range(40)]
    one.answer(samples)
    prompt = len(one.tokenizer.chat(samples[0].messages))
    assert one.tokens_read == prompt
    one.answer([replace(each, branch=(each.branch[0] + 40,)) for each in samples])
    assert one.tokens_read == prompt
    grown = (*samples[0].messages, Message("assistant", "cough"), Message("user", words(2, 10)))
    one.answer([Request(grown, max_tokens=1)])
    assert one.tokens_read == len(one.tokenizer.chat(grown))


@settings(deadline=None, max_examples=60)
@given(samples(), st.sampled_from([0, 400, 16_384]))
def test_samples_that_are_written_together_are_the_same_to_the_bit_as_each_alone(random_tiny, wave, spare):
    """Also where there is so little room that some of those that part have to wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("promptlab.tiny.engine.store.SPARE", spare)
        together = exact(random_tiny).answer(wave)
        assert exact(random_tiny, share=False).answer(wave) == together
    one = exact(random_tiny)
    assert [reply for each in wave for reply in one.answer([each])] == together


def test_what_samples_write_alike_is_computed_once(random_tiny):
    if library() is None:
        pytest.skip("by the compiled program alone")
    prompt, one = words(1, 20), engine(random_tiny)

    def computed(wave: Sequence[Request], share: bool = True) -> int:
        before, one.share = one.tokens_written, share
        replies = one.answer(wave)
        assert all(isinstance(reply, Reply) and reply.usage.output_tokens for reply in replies)
        return one.tokens_written - before

    greedy = [request(prompt, max_tokens=40, seed=i) for i in range(20)]
    assert computed(greedy) == computed(greedy[:1]) == 40
    assert computed(greedy, share=False) == 20 * 40
    stopped = [request(prompt, max_tokens=5 + i, branch=(i,)) for i in range(20)]
    assert computed(stopped) == 24
    drawn = [request(prompt, max_tokens=40, temperature=0.02, branch=(i,)) for i in range(20)]
    assert computed(greedy[:1]) < computed(drawn) < computed(drawn, share=False)


def test_samples_of_which_there_is_room_for_few_are_all_written(random_tiny, monkeypatch):
    wave = [request(words(i % 3, 9), max_tokens=60, temperature=0.8, branch=(i,), logprobs=True) for i in range(150)]
    large = exact(random_tiny).answer(wave)
    monkeypatch.setattr("promptlab.tiny.engine.store.SPARE", 0)  # one context's
    assert exact(random_tiny).answer(wave) == large


def test_rows_that_wait_take_the_place_of_those_that_end(random_tiny):
    wave = [
        request(words(i % 7, 3 + i % 5), max_tokens=1 + i * 7 % 23, temperature=0.5, branch=(i,)) for i in range(300)
    ]
    assert len(wave) > 2 * ROWS
    together = exact(random_tiny).answer(wave)
    for i in range(0, 300, 29):
        assert exact(random_tiny).answer([wave[i]]) == [together[i]]


# ---- bad input


def test_threads_that_share_a_model_with_a_small_cache_wait_for_each_other(random_folder):
    shared, alone = Tiny(random_folder, cache_mb=0.2), Tiny(random_folder)
    waves = [[request(words(10 * k + i, 30), max_tokens=4) for i in range(10)] for k in range(12)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(shared.generate, waves))
    for replies, wave in zip(found, waves, strict=True):
        same(replies, alone.generate(wave))


def test_a_cache_smaller_than_one_prompt_may_be_is_refused(random_folder):
    with pytest.raises(SetupError, match=r"holds .* tokens of this model, less than its context of 256"):
        Tiny(random_folder, cache_mb=0.1)
    for wrong in (float("nan"), -1, "x", 10**9):
        with pytest.raises(SetupError, match=r"cache_mb is a number of MB, of the [\d,]+ there are; got"):
            Tiny(random_folder, cache_mb=wrong)


def test_half_a_surrogate_pair_is_read_and_scored_like_any_text(random_tiny):
    half, sign = ([request(f"note {end}"), request("note", continuations=(f"a{end}",))] for end in ("\ud83d", "\ufffd"))
    assert random_tiny.generate(half) == random_tiny.generate(sign)


def test_prompts_of_nothing_are_answered(random_tiny):
    replies = random_tiny.generate(
        [Request((), max_tokens=2), request("", max_tokens=2), request("", continuations=("a",))]
    )
    assert all(isinstance(reply, Reply) for reply in replies)


@pytest.fixture
def overflowing(random_tiny) -> tuple[Tiny, str]:
    """A model that overflows at one word and nowhere else: one channel tells of it, which values are made huge by."""
    model = copy.deepcopy(random_tiny.model)
    [token, *_] = random_tiny.tokenizer.encode("Q")
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 0.0
        model.model.embed_tokens.weight[token] = 0.0  # it is never the likeliest, so no reply says it
        model.model.embed_tokens.weight[token, 0] = 1.0
        for block in model.model.layers:
            block.self_attn.o_proj.weight[0] = 0.0
            block.mlp.down_proj.weight[0] = 0.0
            block.self_attn.v_proj.weight[:, 0] = 3e38
    return Tiny.of(model, random_tiny.tokenizer), "Q"


def test_a_row_whose_scores_are_no_numbers_fails_and_the_others_do_not(overflowing):
    tiny, word = overflowing
    fine = [request(words(i, 9), max_tokens=20) for i in range(3)]
    broken = [request(f"cough {word}", max_tokens=20), request(f"cough {word}", continuations=("a", "b"))]
    replies = tiny.generate([fine[0], broken[0], fine[1], broken[1], fine[2]])
    for reply in replies[1::2]:
        assert isinstance(reply, ModelError)
        assert "not numbers" in str(reply)
    assert replies[::2] == Tiny.of(tiny.model, tiny.tokenizer).generate(fine)
    alike = [request(f"cough {words(i, 9)}", max_tokens=20) for i in range(3)]  # begin as what failed
    assert tiny.generate(alike) == Tiny.of(tiny.model, tiny.tokenizer).generate(alike)
    many = [request(f"{words(i, 4)} {word if i % 3 else ''}", max_tokens=12) for i in range(2 * ROWS)]
    kinds = [type(reply) for reply in tiny.generate(many)]  # a row takes the place of one that failed
    assert kinds == [ModelError if i % 3 else Reply for i in range(2 * ROWS)]


class Pressed(Tokenizer):
    """Ctrl-C, pressed while a reply is looked at for its stop string."""

    left = 40

    def decode(self, ids: Sequence[int]) -> str:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().decode(ids)


def test_after_ctrl_c_the_engine_answers_as_if_it_were_new(random_tiny):
    one = Engine(random_tiny.model, Pressed(random_tiny.tokenizer.bpe))
    wave = [request(words(i, 30), max_tokens=9, stop=("never",)) for i in range(20)]
    with pytest.raises(KeyboardInterrupt):
        one.answer(wave)
    assert one.answer(wave) == engine(random_tiny).answer(wave)


@contextmanager
def ctrl_c_at(name: str, times: int) -> Iterator[None]:
    """Ctrl-C, pressed as a function of this name is called for the last of so many times."""
    left = times

    def called(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event == "call" and frame.f_code.co_name == name:
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("times", [30, 31, 45, 60])
def test_ctrl_c_while_many_tokens_are_written_in_one_go_keeps_what_is_whole(random_tiny, times):
    wave = [request(words(i, 9), max_tokens=1 + 5 * i) for i in range(20)]
    one, calm = engine(random_tiny), engine(random_tiny).answer(wave)
    with ctrl_c_at("extend", times), pytest.raises(Interrupted) as stopped:
        one.answer(wave)
    whole = [reply for reply in stopped.value.replies if reply is not None]
    assert 0 < len(whole) < len(wave)
    assert all(a is None or a == b for a, b in zip(stopped.value.replies, calm, strict=True))
    assert one.answer(wave) == calm


def test_what_was_answered_before_ctrl_c_is_kept_and_not_asked_again(random_tiny, tmp_path):
    wave = [request(words(i, 9), max_tokens=1 + i, stop=("never",)) for i in range(12)]
    wave += [request(words(i, 9), continuations=("cough", "fever")) for i in range(3)]
    pressed, calm = (Tiny.of(random_tiny.model, kind(random_tiny.tokenizer.bpe)) for kind in (Pressed, Tokenizer))
    with pytest.raises(KeyboardInterrupt):
        Cached(pressed, tmp_path / "cache.db").generate(wave)
    assert 5 <= len(Record(tmp_path / "cache.db")) < len(wave)
    assert Cached(calm, tmp_path / "cache.db").generate(wave) == calm.generate(wave)


def test_what_was_read_with_other_weights_is_forgotten(random_tiny):
    model = copy.deepcopy(random_tiny.model)
    one = Engine(model, random_tiny.tokenizer)
    asked = [request(words(1, 40), max_tokens=8, logprobs=True)]
    before = one.answer(asked)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(-1)
    after = one.answer(asked)
    assert after == Engine(model, random_tiny.tokenizer).answer(asked)
    assert after != before


def test_what_was_no_number_with_other_weights_spoils_nothing_in_the_memory_it_leaves(random_tiny):
    model = copy.deepcopy(random_tiny.model)
    one = Engine(model, random_tiny.tokenizer)
    asked = [request(words(i, 5 * i), max_tokens=30, logprobs=True) for i in range(1, 9)]
    asked += [request(words(0, 20), continuations=("cough", words(i, 12))) for i in range(4)]
    before, weights = one.answer(asked), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    assert all(isinstance(reply, ModelError) for reply in one.answer(asked))
    model.load_state_dict(weights)
    numbers = one.store.hidden.data_ptr()
    assert one.answer(asked) == before
    assert one.store.hidden.data_ptr() == numbers  # in the same memory
    asked = asked[::-1]
    assert one.answer(asked) == Engine(model, random_tiny.tokenizer).answer(asked)


def test_a_model_that_became_of_another_type_is_answered_in_it(random_tiny):
    model = copy.deepcopy(random_tiny.model)
    one, asked = Engine(model, random_tiny.tokenizer), [request(words(1, 40), max_tokens=8)]
    one.answer(asked)
    model.double()
    assert one.answer(asked) == Engine(model, random_tiny.tokenizer).answer(asked)
