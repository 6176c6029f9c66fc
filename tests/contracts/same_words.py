"""What must come out of any engine with the bundled weights, in process or behind a server: `other`."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from promptlab import Message, ModelError, Reply, Request, arun, ask, gather, run, sample
from promptlab.backends.tiny import Tiny
from promptlab.errors import ContextOverflow, SetupError, Unsupported
from promptlab.options import OPTIONS
from promptlab.strategies.structured import closed
from promptlab.tiny.data.reasoning import word_problem
from promptlab.types import ToolSpec

ODD = {
    "accents": "café Ωμέγα",
    "joined": "👩‍⚕️ e\u0301",
    "right to left": "שלום مرحبا",
    "wide": "日本語 한국어",
    "markup": '<b>&amp; {"a": 1}',
    "special": "<eos><user>x<assistant>y",
    "odd spaces": "a\u00a0b\u200bc\tf  g\n\nh",
    "beyond": "𝒳 𐍈 🧬",
    "digits": "3.14159 1,000,000 -7 1e-9",
    "nothing": "",
}


def problem(i: int, **options: Any) -> Request:
    text = word_problem(Random(f"same/{i}"), 1 + i % 5).question
    return Request((Message("user", f"{text}\nLet's think step by step."),), **{"max_tokens": 64, **options})


def texts(replies: Any) -> list[str]:
    assert all(isinstance(reply, Reply) for reply in replies), replies
    return [reply.text for reply in replies]


def test_greedy_replies_are_the_same_words(tiny: Tiny, other: Any):
    problems = [problem(i) for i in range(12)]
    ours, theirs = tiny.generate(problems), other.generate(problems)
    assert [reply.text for reply in theirs] == [reply.text for reply in ours]
    assert [reply.finish for reply in theirs] == [reply.finish for reply in ours]
    assert [reply.usage.output_tokens for reply in theirs] == [reply.usage.output_tokens for reply in ours]


STOPS = {
    "a sign": ("=",),
    "a space": (" ",),
    "a word": ("answer",),
    "several": ("The", "1", "+"),
    "never said": ("zebra",),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_stop_string_ends_a_reply_at_the_same_place(tiny: Tiny, other: Any, stop: tuple[str, ...]):
    problems = [problem(i, stop=stop) for i in range(6)]
    if "stop" not in other.can:
        with pytest.raises(Unsupported):
            other.generate(problems)
        return
    ours, theirs = tiny.generate(problems), other.generate(problems)
    assert [(r.text, r.finish) for r in theirs] == [(r.text, r.finish) for r in ours]
    assert not any(word in reply.text for word in stop for reply in theirs)


def test_a_stop_string_may_lie_across_tokens(tiny: Tiny, other: Any):
    if "stop" not in other.can:
        with pytest.raises(Unsupported):
            other.generate([problem(0, stop=("x",))])
        return
    said = tiny.generate([problem(i, logprobs=True) for i in range(6)])
    asked = []
    for i, reply in enumerate(said):
        one, two, three = (token.text for token in reply.tokens[4:7])
        asked.append(problem(i, stop=(one[-1] + two + three[:1],)))
    ours, theirs = tiny.generate(asked), other.generate(asked)
    assert [(r.text, r.finish) for r in theirs] == [(r.text, r.finish) for r in ours]
    assert all(len(r.text) < len(whole.text) for r, whole in zip(theirs, said, strict=True))


def test_the_log_probabilities_of_a_reply_are_the_same(tiny: Tiny, other: Any):
    problems = [problem(i, logprobs=True) for i in range(6)]
    if "logprobs" not in other.can:
        with pytest.raises(Unsupported):
            other.generate(problems)
        return
    for ours, theirs in zip(tiny.generate(problems), other.generate(problems), strict=True):
        assert [t.text for t in theirs.tokens] == [t.text for t in ours.tokens]
        assert [t.logprob for t in theirs.tokens] == pytest.approx([t.logprob for t in ours.tokens], abs=1e-4)


def test_log_probabilities_of_what_was_drawn_are_the_models_own(tiny: Tiny, other: Any):
    """Those before temperature and top-p."""
    asked = [problem(i, logprobs=True, temperature=0.8, top_p=0.95) for i in range(6)]
    if not {"logprobs", "temperature", "top_p"} <= other.can:
        with pytest.raises(Unsupported):
            other.generate(asked)
        return
    for request, reply in zip(asked, other.generate(asked), strict=True):
        expected = log_p_of(tiny, request, [token.text for token in reply.tokens])
        assert [token.logprob for token in reply.tokens] == pytest.approx(expected, abs=1e-3)


def log_p_of(tiny: Tiny, request: Request, written: list[str]) -> list[float]:
    """The bundled engine's log p of a reply, token by token."""
    import torch

    known = {tiny.tokenizer.decode([id]): id for id in range(len(tiny.tokenizer))}
    prompt, ids = tiny.tokenizer.chat(request.messages), [known[text] for text in written]
    with torch.inference_mode():
        log_p = torch.log_softmax(tiny.model.logits(tiny.model(torch.tensor([prompt + ids])))[0], -1)
    return [float(log_p[len(prompt) - 1 + at, id]) for at, id in enumerate(ids)]


def test_the_tokens_of_a_reply_make_up_its_text(other: Any):
    problems = [problem(i, logprobs=True) for i in range(6)]
    if "logprobs" not in other.can:
        with pytest.raises(Unsupported):
            other.generate(problems)
        return
    for reply in other.generate(problems):
        assert "".join(token.text for token in reply.tokens) == reply.text
        assert all(token.logprob <= 0 for token in reply.tokens)


@pytest.mark.parametrize("option", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 1e-6, "seed": 9}], ids=str)
def test_no_temperature_and_no_choice_are_greedy(tiny: Tiny, other: Any, option: dict[str, Any]):
    problems = [problem(i, **option) for i in range(4)]
    if not option.keys() <= other.can:
        with pytest.raises(Unsupported):
            other.generate(problems)
        return
    assert texts(other.generate(problems)) == texts(tiny.generate([problem(i) for i in range(4)]))


def test_equal_requests_get_equal_replies(other: Any):
    first, *others = texts(other.generate([problem(7)] * 9))
    assert others == [first] * 8


def test_usage_counts_the_tokens_read_and_written(tiny: Tiny, other: Any):
    problems = [problem(i) for i in range(5)]
    for asked, reply in zip(problems, other.generate(problems), strict=True):
        if getattr(other, "api", "") != "completions":
            assert reply.usage.input_tokens == tiny.count_tokens(asked.messages)
        assert 0 <= reply.usage.cached_tokens <= reply.usage.input_tokens
        assert 0 < reply.usage.output_tokens <= 64
        assert reply.usage.reasoning_tokens == 0


CONTINUATIONS = {
    "words": ("wheeze", "12 cough"),
    "one": ("A",),
    "nothing": ("", "A"),
    "a longer one": ("the cough went on for days and days. " * 8, "no"),
    "beyond": ("é", "日本", "🧬"),
    "the same twice": ("cough", "cough"),
    "special": ("<eos>", "a<user>b"),
    "one begins another": ("cough", "cough and wheeze", "coughing"),
}


@pytest.mark.parametrize("alternatives", [False, True])
@pytest.mark.parametrize("given", CONTINUATIONS.values(), ids=CONTINUATIONS)
def test_given_texts_score_the_same(tiny: Tiny, other: Any, given: tuple[str, ...], alternatives: bool):
    symptoms = ["wheeze", "cough and wheeze, " * 9, "rash"]  # of different lengths, to be padded
    how = {"continuations": given, "alternatives": alternatives}
    asked = [Request((Message("user", f"symptom: {symptom}"),), **how) for symptom in symptoms]
    if not other.scores:
        with pytest.raises(Unsupported):
            other.generate(asked)
        return
    if not other.batched:
        pytest.skip("scores plain text, not chats")
    for ours, theirs in zip(tiny.generate(asked), other.generate(asked), strict=True):
        assert theirs.scores == pytest.approx(ours.scores, abs=1e-3)
        assert theirs.usage.input_tokens == ours.usage.input_tokens


def test_requests_of_every_kind_may_come_together(tiny: Tiny, other: Any):
    long = Request((Message("user", "12 " * 3000),), max_tokens=9)
    mixed = [problem(0), long, problem(1, max_tokens=1), problem(2, max_tokens=3)]
    if other.batched:  # hosted models write at least one token, and score no chats
        mixed += [problem(1, max_tokens=0), Request((Message("user", "x"),), continuations=("a", "b"))]
    ours, theirs = tiny.generate(mixed), other.generate(mixed)
    assert isinstance(theirs[1], ContextOverflow)
    assert [(r.text, r.finish) for r in theirs if isinstance(r, Reply)] == [
        (r.text, r.finish) for r in ours if isinstance(r, Reply)
    ]


def test_what_is_drawn_depends_on_seed_and_branch_not_on_the_batch(other: Any):
    if not other.batched:
        pytest.skip("what a server draws is its own affair")
    drawn = [problem(3, temperature=1.5, seed=1, branch=(i,)) for i in range(8)]
    together = texts(other.generate(drawn))
    assert [other.generate([one])[0].text for one in drawn[::3]] == together[::3]
    assert len(set(together)) > 1
    assert texts(other.generate([problem(3, temperature=1.5, seed=2, branch=(i,)) for i in range(8)])) != together


@pytest.mark.parametrize("i", range(100, 116))
def test_alone_as_in_company(tiny: Tiny, other: Any, i: int):
    [reply] = other.generate([problem(i)])
    assert reply.text == tiny.generate([problem(i), problem(i + 1)])[0].text


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_texts_are_read_alike(tiny: Tiny, other: Any, odd: str):
    asked = [Request((Message("user", f"{odd} symptom: {odd}"),), max_tokens=12)]
    assert texts(other.generate(asked)) == texts(tiny.generate(asked))


@pytest.mark.parametrize("most", [1, 2, 3, 8, 40])
def test_replies_end_at_the_most_tokens(tiny: Tiny, other: Any, most: int):
    asked = [problem(i, max_tokens=most) for i in range(4)]
    ours, theirs = tiny.generate(asked), other.generate(asked)
    assert [(r.text, r.finish, r.usage.output_tokens) for r in theirs] == [
        (r.text, r.finish, r.usage.output_tokens) for r in ours
    ]


@pytest.mark.parametrize("shots", [1, 4, 16])
def test_chats_of_many_turns_are_read_alike(tiny: Tiny, other: Any, shots: int):
    turns = [Message("system", "Answer with one of: A, B.")]
    for i in range(shots):
        turns += [Message("user", f"wheeze {i % 3}"), Message("assistant", "AB"[i % 2])]
    asked = [Request((*turns, Message("user", "wheeze 1")), max_tokens=6)]
    ours, theirs = tiny.generate(asked), other.generate(asked)
    if getattr(other, "api", "") == "completions":  # one text, in which turns are paragraphs
        assert isinstance(theirs[0], Reply)
        return
    assert (theirs[0].text, theirs[0].usage.input_tokens) == (ours[0].text, ours[0].usage.input_tokens)


def test_a_reply_that_is_begun_is_gone_on_with(tiny: Tiny, other: Any):
    if not other.batched:
        pytest.skip("what a server makes of it is its own affair")
    chat = (*problem(0).messages, Message("assistant", tiny.generate([problem(0)])[0].text[:4]))
    ours, theirs = tiny.generate([Request(chat, max_tokens=40)]), other.generate([Request(chat, max_tokens=40)])
    assert texts(theirs) == texts(ours)
    assert "answer" in texts(ours)[0]


def test_the_order_of_a_batch_is_kept(tiny: Tiny, other: Any):
    asked = [problem(i) for i in range(12)]
    mixed = Random(0).sample(asked, len(asked))
    alike = dict(zip(asked, texts(tiny.generate(asked)), strict=True))
    assert texts(other.generate(mixed)) == [alike[one] for one in mixed]


def test_nothing_asked_is_nothing_answered_by_any(other: Any):
    assert other.generate([]) == []


def test_a_prompt_that_is_too_long_fails_in_its_place(other: Any):
    long = Request((Message("user", "12 " * 3000),), max_tokens=4)
    first, failed, last = other.generate([problem(0), long, problem(1)])
    assert isinstance(failed, ContextOverflow), failed
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)


def test_draws_differ_and_come_again_with_their_seed(other: Any):
    async def drawn() -> list[str]:
        options: Any = {"temperature": 2.0, "max_tokens": 24}
        if "seed" in other.can:
            options["seed"] = 5
        return [reply.text for reply in await sample("symptom: wheeze", 6, **options)]

    if "temperature" not in other.can:
        with pytest.raises(Unsupported):
            run(drawn(), other)
        return
    first = run(drawn(), other)
    assert len(first) == 6
    assert len(set(first)) > 1 or "seed" not in other.can  # a server may draw the same for the same
    if "seed" in other.can and not getattr(other, "native_n", False):
        assert run(drawn(), other) == first


@pytest.mark.parametrize("name", OPTIONS)
def test_what_it_cannot_do_is_refused_at_once(other: Any, name: str):
    value: Any = {
        "temperature": 0.5,
        "top_p": 0.5,
        "stop": ("x",),
        "seed": 3,
        "logprobs": True,
        "tools": (ToolSpec("add", "adds", {"type": "object", "properties": {}}),),
        "schema": {"enum": ["a", "b"]},
    }[name]
    asked = problem(0, max_tokens=8, **{name: value})
    if name in other.can:
        [reply] = other.generate([asked])
        refused_behind_the_door = not other.batched and isinstance(reply, ModelError) and "cannot take" in str(reply)
        assert isinstance(reply, Reply) or refused_behind_the_door, reply
    else:
        with pytest.raises(Unsupported):
            other.generate([asked])


class Finding(BaseModel):
    sign: Literal["fever", "cough", "none of these"]
    days: Literal[1, 2, 7]
    sure: bool | None


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0}], ids=["greedy", "sampled"])
def test_replies_held_to_a_schema_are_of_it_and_those_beside_them_are_free(other: Any, how: dict[str, Any]):
    if not {"schema", *how} <= other.can:
        with pytest.raises(Unsupported):
            other.generate([problem(0, schema=closed(Finding.model_json_schema()), **how)])
        return
    held = [problem(i, schema=closed(Finding.model_json_schema()), branch=(i,), **how) for i in range(6)]
    free = [problem(i, branch=(i,), **how) for i in range(6)]
    replies = other.generate([request for both in zip(held, free, strict=True) for request in both])
    for reply in replies[::2]:
        assert reply.finish == "stop", reply
        Finding.model_validate_json(reply.text, strict=True)
    if not how:  # servers may draw by what else they are asked
        assert texts(replies[1::2]) == texts(other.generate(free))


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"stop": ("a", "")},
        {"max_tokens": -1},
        {"max_tokens": "3"},
        {"temperature": "hot"},
        {"seed": "one"},
        {"seed": 1.5},
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused_at_once(other: Any, option: dict[str, Any]):
    with pytest.raises(SetupError, match="means nothing"):
        other.generate([problem(0), problem(1, **{"max_tokens": 8, **option})])
    with pytest.raises(SetupError, match="means nothing"):
        run(ask("wheeze", **option), other)


def test_programs_run_on_it_in_step_or_in_a_loop(tiny: Tiny, other: Any):
    async def two() -> list[str]:
        async def one(i: int) -> str:
            return (await ask(list(problem(i).messages), max_tokens=64)).text

        return await gather(one(0), one(1))

    async def in_a_loop() -> list[str]:
        found = await arun(two(), other)
        if hasattr(other, "aclose"):
            await other.aclose()
        return found

    expected = texts(tiny.generate([problem(0), problem(1)]))
    assert run(two(), other) == expected
    assert asyncio.run(in_a_loop()) == expected


__all__ = ["problem", "texts", *(name for name in dir() if name.startswith("test_"))]
