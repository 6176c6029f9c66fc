"""The engine: a batch answers as its requests would alone, and as the plain model says."""

from __future__ import annotations

import copy
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from waves import request, words

from promptlab import Message, ModelError, Reply, Request, ask, gather, run, sample
from promptlab import score as scored
from promptlab.backends.tiny import Tiny
from promptlab.errors import ContextOverflow, SetupError, Unsupported
from promptlab.tiny.engine import answer
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.tokenizer import EOS, Tokenizer
from promptlab.types import ToolSpec


@pytest.fixture(scope="module")
def exact(random_tiny) -> Tiny:
    """The random model in float64, whose greedy replies do not depend on rounding."""
    return Tiny.of(copy.deepcopy(random_tiny.model).double(), random_tiny.tokenizer)


def next_logits(backend: Tiny, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return backend.model.logits(backend.model(torch.tensor([ids])))[0, -1]


def plain_greedy(backend: Tiny, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
    """A reply token by token, everything read anew for each."""
    ids, log_p = [], []
    while len(ids) < n:
        p = torch.log_softmax(next_logits(backend, prompt + ids), -1)
        token = int(p.argmax())
        if token == EOS:
            break
        ids.append(token)
        log_p.append(float(p[token]))
    return ids, log_p


def plain_score(backend: Tiny, prompt: list[int], continuation: str) -> float:
    ids = backend.tokenizer.encode(continuation)
    with torch.no_grad():
        log_p = torch.log_softmax(backend.model.logits(backend.model(torch.tensor([prompt + ids])))[0], -1)
    return sum(float(log_p[len(prompt) + k - 1, token]) for k, token in enumerate(ids))


def mixed_batch() -> list[Request]:
    """Short and long, with a start in common or none, scored, greedy and sampled, some of the same prompt."""
    shared = words(0, 50)
    prompts = [words(i, n) for i, n in enumerate((1, 5, 30, 70), start=1)] + [
        f"{shared} {words(i, i)}" for i in range(5)
    ]
    batch: list[Request] = []
    for i, prompt in enumerate(prompts):
        batch += [
            request(prompt, max_tokens=3 + 2 * i),
            request(prompt, continuations=("cough", "fever and nausea", "", "12 clinic water")[: 2 + i % 3]),
            request(prompt, max_tokens=12, temperature=0.8, top_p=0.9, branch=(i,)),
            request(prompt, max_tokens=6, temperature=1.0, branch=(i, 1), seed=7, logprobs=True),
        ]
    return Random(0).sample(batch, len(batch))


def test_a_mixed_batch_answers_as_each_request_alone(exact):
    batch = mixed_batch()
    together = exact.generate(batch)
    for asked, reply in zip(batch, together, strict=True):
        [alone] = exact.generate([asked])
        assert isinstance(reply, Reply)
        assert isinstance(alone, Reply)
        assert (reply.text, reply.finish, reply.usage) == (alone.text, alone.finish, alone.usage)
        assert reply.scores == pytest.approx(alone.scores, abs=1e-9)
        assert [t.logprob for t in reply.tokens] == pytest.approx([t.logprob for t in alone.tokens], abs=1e-9)


def test_in_float32_scores_depend_on_the_batch_by_rounding_only(random_tiny):
    batch = [r for r in mixed_batch() if r.continuations]
    for asked, reply in zip(batch, random_tiny.generate(batch), strict=True):
        [alone] = random_tiny.generate([asked])
        assert reply.scores == pytest.approx(alone.scores, abs=1e-4)


def test_sixty_four_prompts_at_once_are_answered_as_one_by_one_also_in_float32(random_tiny):
    batch = [request(words(i, 1 + i), max_tokens=12) for i in range(64)]
    assert [r.text for r in random_tiny.generate(batch)] == [random_tiny.generate([r])[0].text for r in batch]


def test_the_order_of_a_batch_changes_nothing(exact):
    batch = mixed_batch()
    backwards = exact.generate(batch[::-1])[::-1]
    assert [r.text for r in backwards] == [r.text for r in exact.generate(batch)]


def test_greedy_replies_are_those_of_the_plain_model(exact):
    prompts = [words(i, 3 + 17 * i) for i in range(5)]
    replies = exact.generate([request(p, max_tokens=20, logprobs=True) for p in prompts])
    for prompt, reply in zip(prompts, replies, strict=True):
        ids, log_p = plain_greedy(exact, exact.tokenizer.chat([Message("user", prompt)]), 20)
        assert reply.text == exact.tokenizer.decode(ids)
        assert [t.text for t in reply.tokens] == [exact.tokenizer.decode([i]) for i in ids]
        assert [t.logprob for t in reply.tokens] == pytest.approx(log_p, abs=1e-9)
        assert reply.finish == ("length" if len(ids) == 20 else "stop")


def test_scores_are_sums_of_the_plain_models_log_probabilities(random_tiny):
    continuations = ("cough", "fever and nausea", "", "a", words(9, 40), "12")
    prompts = [words(i, 1 + 20 * i) for i in range(4)]
    replies = random_tiny.generate([request(p, continuations=continuations) for p in prompts])
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = random_tiny.tokenizer.chat([Message("user", prompt)])
        expected = [plain_score(random_tiny, ids, c) for c in continuations]
        assert reply.scores == pytest.approx(expected, abs=1e-4)
        assert reply.scores[2] == 0.0


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 60), min_size=1, max_size=5)), max_size=6))
def test_scores_do_not_depend_on_how_continuations_are_packed(exact, asked):
    """However many continuations of whatever lengths, several requests of one prompt among them."""
    batch = [request(words(p, 4 * p + 1), continuations=tuple(words(n, n) for n in ns)) for p, ns in asked]
    for each, reply in zip(batch, exact.generate(batch), strict=True):
        prompt = exact.tokenizer.chat(each.messages)
        assert reply.scores == pytest.approx([plain_score(exact, prompt, c) for c in each.continuations], abs=1e-9)


def test_scores_are_those_of_transformers(random_tiny, random_folder):
    transformers = pytest.importorskip("transformers", reason="transformers, the reference, is not installed")
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(random_folder, dtype=torch.float32)
    prompt, said = "the patient reports cough", "fever and nausea"
    ids, answer = random_tiny.tokenizer.chat([Message("user", prompt)]), random_tiny.tokenizer.encode(said)
    tokens = torch.tensor([ids + answer])
    with torch.no_grad():
        loss = theirs(tokens, labels=torch.tensor([[-100] * len(ids) + answer])).loss  # the mean over the answer
    assert run(scored(prompt, [said]), random_tiny) == pytest.approx([-float(loss) * len(answer)], abs=1e-4)


def test_an_assistants_open_turn_is_gone_on_with(exact):
    chat = (Message("user", "fever?"), Message("assistant", "The patient reports"))
    [reply] = exact.generate([Request(chat, max_tokens=8)])
    prompt = exact.tokenizer.chat(chat)
    assert prompt[-1] not in (EOS, exact.tokenizer.role["assistant"])
    assert reply.text == exact.tokenizer.decode(plain_greedy(exact, prompt, 8)[0])


# ---- sampling


def test_a_sample_depends_on_seed_and_branch_alone(exact):
    def one(others: list[Request], **options: object) -> str:
        asked = request("the patient", max_tokens=12, temperature=1.0, **options)
        return exact.generate([*others, asked])[-1].text

    text = one([], branch=(3,), seed=1)
    assert text == one(mixed_batch(), branch=(3,), seed=1)
    assert text != one([], branch=(4,), seed=1)
    assert text != one([], branch=(3,), seed=2)
    unseeded = one([], branch=(3,))
    assert unseeded == one(mixed_batch()[:3], branch=(3,))
    assert unseeded != text


def test_the_backends_seed_is_for_requests_without_one(random_folder):
    asked = request("the patient", max_tokens=12, temperature=1.0)
    texts = [Tiny(random_folder, seed=s).generate([asked, replace(asked, seed=5)]) for s in (0, 1)]
    assert texts[0][0].text != texts[1][0].text
    assert texts[0][1].text == texts[1][1].text


def test_samples_of_one_prompt_differ_and_repeat(exact):
    first, again = (run(sample("the patient", 8, temperature=1.0, max_tokens=8), exact) for _ in range(2))
    assert [r.text for r in first] == [r.text for r in again]
    assert len({r.text for r in first}) > 4


def test_sampling_at_a_low_temperature_is_greedy(exact):
    greedy = exact.generate([request(words(i, 5), max_tokens=10) for i in range(6)])
    cold = exact.generate([request(words(i, 5), max_tokens=10, temperature=1e-9) for i in range(6)])
    assert [r.text for r in cold] == [r.text for r in greedy]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.5), (1.5, 0.8)])
def test_first_tokens_come_as_often_as_their_probabilities_say(random_tiny, temperature, top_p):
    n, prompt = 4000, "water"
    asked = request(prompt, max_tokens=1, temperature=temperature, top_p=top_p, logprobs=True)
    replies = random_tiny.generate([replace(asked, branch=(i,)) for i in range(n)])
    logits = next_logits(random_tiny, random_tiny.tokenizer.chat(asked.messages)).double()
    log_p, p = torch.log_softmax(logits, -1), torch.softmax(logits / temperature, -1)
    observed = np.zeros(len(p))
    for said, count in Counter(r.tokens[0].logprob if r.tokens else None for r in replies).items():
        token = EOS if said is None else int((log_p - said).abs().argmin())  # a token is known by its log-probability
        observed[token] += count
    order = p.argsort(descending=True)
    nucleus = order[p[order].cumsum(0) - p[order] < top_p]
    expected = (p[nucleus] / p[nucleus].sum() * n).numpy()
    assert (observed > 0).sum() == (observed[nucleus] > 0).sum()  # nothing outside it
    observed = observed[nucleus]
    often = expected >= 5
    if not often.all():
        observed = np.append(observed[often], observed[~often].sum())
        expected = np.append(expected[often], expected[~often].sum())
    assert len(expected) > 10
    assert chisquare(observed, expected).pvalue > 0.001


def test_nothing_outside_the_nucleus_is_drawn(random_tiny):
    asked = request("water", max_tokens=1, temperature=1.0, top_p=1e-6)
    [greedy] = random_tiny.generate([request("water", max_tokens=1)])
    assert {r.text for r in random_tiny.generate([replace(asked, branch=(i,)) for i in range(50)])} == {greedy.text}


# ---- where replies end


def test_a_stop_string_ends_a_reply_and_is_not_part_of_it(exact):
    [whole] = exact.generate([request("cough", max_tokens=30)])
    stop = whole.text[6:9]
    [cut] = exact.generate([request("cough", max_tokens=30, stop=("never said", stop), logprobs=True)])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish == "stop"
    assert cut.usage.output_tokens == len(cut.tokens) < 30


def test_max_tokens_ends_a_reply_for_want_of_room(exact):
    [reply] = exact.generate([request("cough", max_tokens=5)])
    assert (reply.finish, reply.usage.output_tokens) == ("length", 5)
    [none] = exact.generate([request("cough", max_tokens=0)])
    assert (none.text, none.finish, none.usage.output_tokens) == ("", "length", 0)


def test_the_end_of_text_token_ends_a_reply_and_counts(exact):
    sampled = exact.generate(
        [request("x", max_tokens=200, temperature=1.5, branch=(i,), logprobs=True) for i in range(60)]
    )
    stopped = [r for r in sampled if r.finish == "stop"]
    assert len(stopped) > 5
    assert all(r.usage.output_tokens == len(r.tokens) + 1 for r in stopped)
    assert all(len(r.tokens) == 200 for r in sampled if r.finish == "length")
    assert {len(r.tokens) for r in stopped} > {len(stopped[0].tokens)}


def test_replies_end_where_the_context_does(exact):
    context = exact.context_tokens
    prompt = words(1, 60)
    n = exact.count_tokens([Message("user", prompt)])
    assert context - 60 < n + 60
    [reply] = exact.generate([request(prompt, max_tokens=1000)])
    assert reply.finish == "stop" or reply.usage.output_tokens == context - n


def test_a_prompt_too_long_is_an_error_in_its_place(exact):
    fine = request("cough", max_tokens=4)
    batch = [fine, request(words(0, 300)), fine, request("cough", continuations=("a", words(1, 300)))]
    replies = exact.generate(batch)
    assert [type(r) for r in replies] == [Reply, ContextOverflow, Reply, ContextOverflow]
    n, context = exact.count_tokens(batch[1].messages), exact.context_tokens
    assert f"{n + 1 - context} tokens too long: it has {n}, and the context of {context} " in str(replies[1])
    assert replies[0] == replies[2] == exact.generate([fine])[0]


def test_a_program_gets_the_overflow_raised(exact):
    with pytest.raises(ModelError, match="context"):
        run(ask(words(0, 300)), exact)


def test_no_requests_no_replies(exact):
    assert exact.generate([]) == []


def test_usage_counts_the_prompt_and_what_was_said(exact):
    chat = [Message("system", "s"), Message("user", "cough and fever")]
    asked = Request(tuple(chat), max_tokens=3)
    written, weighed = exact.generate([asked, replace(asked, continuations=("a b", "c"))])
    n = len(exact.tokenizer.chat(chat))
    assert exact.count_tokens(chat) == written.usage.input_tokens == n
    more = sum(len(exact.tokenizer.encode(c)) for c in ("a b", "c"))
    assert (weighed.usage.input_tokens, weighed.usage.output_tokens) == (n + more, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"max_tokens": -1}, {"stop": ("",)}, {"schema": "foo"}],
)
def test_options_that_mean_nothing_are_refused_by_name(exact, wrong):
    with pytest.raises(SetupError, match=next(iter(wrong))):
        exact.generate([request("x", **wrong)])


def test_what_the_engine_cannot_do_is_refused(exact):
    with pytest.raises(Unsupported, match="tools"):
        exact.generate([request("x", tools=(ToolSpec("add", "Adds.", {"type": "object", "properties": {}}),))])


# ---- size


def test_many_samples_of_one_prompt_are_in_one_call(random_tiny):
    replies = run(gather(sample(f"q{i}", 5, temperature=1.0, max_tokens=2) for i in range(100)), random_tiny)
    assert sum(map(len, replies)) == 500


def peak_mb() -> float:
    """The most memory this process has had since the peak was last forgotten."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's way to forget a memory peak")
def test_sixty_four_long_prompts_take_little_memory():
    """A mask for every prompt would be 64 MB of booleans, and 256 MB as the floats that attention needs."""
    tokenizer = Tokenizer.train(["a"], 266)
    model = Transformer(Config(266, d_model=16, n_layers=1, n_heads=1, d_ff=32, context=1024))
    model.initialise(torch.Generator().manual_seed(0))
    batch = [request(f"{10 + i}" + "a" * 998, max_tokens=2) for i in range(64)]
    answer(model, tokenizer, batch[:1])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak_mb()
    assert all(reply.usage.input_tokens == 1003 for reply in answer(model, tokenizer, batch))
    assert peak_mb() - before < 60
