"""Answers of the shapes that real servers give, and of odd ones, told as they come over the wire."""

from __future__ import annotations

from typing import Any

import pytest
from doors import KEY, answering

from promptlab import Message, ModelError, Reply, Request, model
from promptlab.backends.wrappers.budget import Amount, Budget
from promptlab.errors import Malformed, Refused, Unavailable

HI = Request((Message("user", "hi"),))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def read(api: str, answer: Any, request: Request = HI, **options: Any) -> Reply | ModelError:
    """What a backend makes of an answer; a list is one that is streamed."""
    options |= {"key": KEY, "attempts": 1, "stream": isinstance(answer, list)}
    with answering(answer) as url:
        if api == "anthropic":
            backend = model(f"anthropic:m@{url}", **options)
        else:
            backend = model(f"openai:m@{url}", api=api, **options)
        [reply] = backend.generate([request])
    return reply


def chat(content: Any = "hi", finish: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish, **more}
    return {"choices": [choice], "usage": USAGE}


def chunk(delta: dict[str, Any], finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": usage}


# ---- scores


def scored(tokens: list[str], logprobs: list[float | None], context: str, text: str) -> float:
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]  # as vLLM counts them
    told = {"tokens": tokens, "token_logprobs": logprobs, "text_offset": offsets}
    answer = {"choices": [{"index": 0, "text": context + text, "logprobs": told, "finish_reason": "length"}]}
    reply = read("completions", answer, Request((Message("user", context),), continuations=(text,)))
    if isinstance(reply, ModelError):
        raise reply
    return reply.scores[0]


BOS = "<|begin_of_text|>"
PART = "\ufffd"


@pytest.mark.parametrize(
    ("tokens", "context", "text", "n"),
    [
        (["one", " two", " th", "ree"], "one two", " three", 2),
        ([BOS, "one", " two", " th", "ree"], "one two", " three", 2),
        ([BOS, "th", "ree"], "", "three", 2),
        ([BOS, "hi ", PART, PART, PART, PART, ":", " yes"], "hi 🧬:", " yes", 1),
        ([BOS, "hi", f" {PART}", PART, PART, " yes"], "hi 🧬", " yes", 1),
        (["hi", f" {PART}", PART, PART], "hi", " 🧬", 3),
        (["a", PART, PART, "b"], "a", "éb", 3),
        (["：", PART, PART], "：", "é", 2),
        (["a", "", "", "", "🧬"], "a", "🧬", 4),  # newer vLLM: the last of a character's tokens has all of it
        (["<s>", "foo", ":", "yes", "sir"], "foo:", " yes sir", 2),  # a sentencepiece token's space is lost
        (["hi ", "bytes:\\xf0\\x9f", "bytes:\\xa7\\xac", "!"], "hi ", "🧬!", 3),
        (["a", " ", " yes"], "a ", " yes", 1),
    ],
)
def test_a_text_is_scored_by_its_own_tokens_whatever_stands_before_it(tokens, context, text, n):
    logprobs = [None, *(-(2.0**i) for i in range(1, len(tokens)))]
    assert scored(tokens, logprobs, context, text) == sum(logprobs[-n:])


def test_the_very_first_token_of_all_has_no_log_probability():
    assert scored(["one", " two"], [None, -2.0], "", "one two") == -2.0


@pytest.mark.parametrize(
    ("tokens", "logprobs", "context", "text"),
    [
        ([], [], "one", " two"),  # llama.cpp
        (["one", " two"], [None], "one", " two"),
        (["one", " two"], [None, None], "one", " two"),
        (["one ", "two"], [None, -1.0], "one", " two"),
        (["one t", "wo"], [None, -1.0], "one ", "two"),
        (["one", " two"], [None, -1.0], "one", " three"),
        ([PART] * 8, [None, *[-1.0] * 7], "🧬", "🧬"),  # where does the second begin?
        (["cut", " two"], [None, -1.0], "one", " two and more"),
    ],
)
def test_what_cannot_be_scored_is_no_score(tokens, logprobs, context, text):
    with pytest.raises(Malformed):
        scored(tokens, logprobs, context, text)


# ---- how replies end

OPENAI_ENDS = [("stop", "stop"), ("eos_token", "stop"), ("stop_sequence", "stop"), ("length", "length")]


@pytest.mark.parametrize(("said", "finish"), [*OPENAI_ENDS, ("model_length", "length"), ("tool_calls", "calls")])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_known_ends_of_a_chat(said: str, finish: str, streamed: bool):
    answer: Any = [chunk({"content": "hi"}), chunk({}, said)] if streamed else chat(finish=said)
    assert read("chat", answer).finish == finish


def ended(api: str, said: str) -> Any:
    if api == "completions":
        return {"choices": [{"index": 0, "text": "hi", "finish_reason": said}], "usage": USAGE}
    if api == "anthropic":
        usage = {"input_tokens": 3, "output_tokens": 2}
        return {"content": [{"type": "text", "text": "hi"}], "stop_reason": said, "usage": usage}
    if api == "responses":
        message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
        usage = {"input_tokens": 3, "output_tokens": 2}
        return {"status": "incomplete", "incomplete_details": {"reason": said}, "output": [message], "usage": usage}
    return chat(finish=said)


every_api = pytest.mark.parametrize("api", ["chat", "completions", "responses", "anthropic"])


@every_api
@pytest.mark.parametrize("said", ["error", "abort", "insufficient_system_resource"])
def test_a_reply_that_the_server_broke_off_may_be_asked_for_again(api: str, said: str):
    failed = read(api, ended(api, said))
    assert isinstance(failed, Unavailable)
    assert failed.reply is not None
    assert (failed.reply.text, failed.reply.usage.output_tokens) == ("hi", 2)


@every_api
def test_a_reply_that_ended_for_an_unknown_reason_is_malformed_and_kept(api: str):
    failed = read(api, ended(api, "repetition"))
    assert isinstance(failed, Malformed)
    assert "repetition" in str(failed)
    assert failed.reply is not None
    assert (failed.reply.text, failed.reply.usage.output_tokens) == ("hi", 2)


def test_a_response_that_failed_has_its_error_beside_its_output():
    error = {"code": "server_error", "message": "no luck"}
    failed = read("responses", {"status": "failed", "error": error, "output": []})
    assert isinstance(failed, Unavailable)
    assert str(failed).endswith("the provider failed: no luck")


def test_a_filtered_reply_is_refused_and_a_paused_turn_is_a_reply():
    assert isinstance(read("chat", chat(finish="content_filter")), Refused)
    assert isinstance(read("responses", ended("responses", "content_filter")), Refused)
    assert isinstance(read("anthropic", ended("anthropic", "refusal")), Refused)
    assert read("anthropic", ended("anthropic", "pause_turn")).text == "hi"


# ---- usage


@pytest.mark.parametrize(
    ("prompt", "completion", "reasoning", "total", "output"),
    [
        (10, 5, 300, 315, 305),  # xAI's: beside the completion
        (10, 200, 150, 360, 350),
        (10, 5, 300, None, 305),
        (10, 305, 300, 315, 305),  # OpenAI's: part of it
        (10, 300, 300, 310, 300),
        (10, 200, 150, None, 200),
        (10, 5, 0, 15, 5),
        (10, 5, None, 15, 5),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_was_reasoned_is_part_of_the_output_however_it_is_counted(
    prompt, completion, reasoning, total, output, streamed
):
    details = {"reasoning_tokens": reasoning}
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "completion_tokens_details": details}
    usage = told if total is None else {**told, "total_tokens": total}
    answer: Any = [chunk({"content": "hi"}, "stop"), {"choices": [], "usage": usage}]
    found = read("chat", answer if streamed else {**chat(), "usage": usage}).usage
    assert (found.input_tokens, found.output_tokens, found.reasoning_tokens) == (prompt, output, reasoning or 0)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "upstream failed", "code": 502},  # vLLM's and OpenRouter's
        {"message": "slow down", "code": 429},
        {"message": "no more", "code": 400},
        {"message": "a filter", "code": "content_filter"},
        {"message": "maximum context length is 9", "code": 400},
        {"message": "upstream failed"},
    ],
)
def test_a_reply_that_breaks_off_counts_at_its_most_whatever_the_error_says(error: dict[str, Any]):
    budget = Budget(usd=1)
    price = {"input": 1.0, "output": 1.0}
    request = Request(HI.messages, max_tokens=20)
    answer = [*[chunk({"content": "so "})] * 15, {"error": error}]
    failed = read("chat", answer, request, budget=budget, usd_per_million=price)
    assert isinstance(failed, ModelError)
    assert budget.spent == Amount(1, 2 + 16 + 20, 1_000 * (2 + 16 + 20))


# ---- streams

COUNTED = [  # vLLM with continuous_usage_stats
    chunk({"role": "assistant", "content": ""}, usage=USAGE),
    chunk({"content": "one "}, usage=USAGE),
    chunk({"content": "two"}, usage=USAGE),
    chunk({}, "stop", usage=USAGE),
    {"choices": [], "usage": USAGE},
]


def test_usage_in_every_chunk_is_no_end_of_a_stream():
    assert read("chat", COUNTED).text == "one two"
    for n in (1, 2, 3):
        assert isinstance(read("chat", COUNTED[:n]), Malformed)


def test_usage_at_last_is_the_end_of_a_stream_that_tells_none():
    said = [chunk({"role": "assistant", "content": ""}), chunk({"content": "hi"})]
    for last in ({"choices": [], "usage": USAGE}, chunk({"role": "assistant", "content": ""}, usage=USAGE)):
        assert read("chat", [*said, last]).text == "hi"
        assert isinstance(read("chat", said), Malformed)
    assert isinstance(read("chat", [*said, chunk({"content": " the"}, usage=USAGE)]), Malformed)
    assert isinstance(read("chat", [{"choices": [], "usage": USAGE}, *said]), Malformed)


def wish(index: int | None, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    told = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return chunk({"tool_calls": [{name: value for name, value in told.items() if value is not None}]})


@pytest.mark.parametrize("index", [0, None])
def test_calls_of_one_index_with_ids_of_their_own_are_several(index: int | None):
    """Gemini, at its endpoint that speaks OpenAI's protocol."""
    answer = [
        wish(index, "a", "add", '{"x": 1}'),
        wish(index, "b", "add", '{"x"'),
        wish(index, None, None, ": 2}"),
        chunk({}, "stop"),
    ]
    reply = read("chat", answer)
    assert [(call.id, dict(call.arguments)) for call in reply.calls] == [("a", {"x": 1}), ("b", {"x": 2})]
    assert reply.finish == "calls"


def test_calls_come_in_the_order_of_their_index_however_they_are_interleaved():
    answer = [
        wish(1, "b", "second", ""),
        wish(0, "a", "first", '{"x": '),
        wish(1, "b", "second", '{"x": 2}'),  # told again
        wish(0, None, None, "1}"),
        chunk({}, "tool_calls"),
    ]
    reply = read("chat", answer)
    assert [(call.id, call.name, dict(call.arguments)) for call in reply.calls] == [
        ("a", "first", {"x": 1}),
        ("b", "second", {"x": 2}),
    ]


@pytest.mark.parametrize(
    ("given", "first"),
    [(["call_1", None], "call_1"), ([None, "call_0"], "call_0_1"), (["a", "a", "a_1"], "a"), (["a", "a_1", "a"], "a")],
)
def test_no_two_calls_have_one_id_and_ids_given_once_are_kept(given: list[str | None], first: str):
    answer = chat(None, "tool_calls")
    made = [{"id": id, "type": "function", "function": {"name": "add", "arguments": "{}"}} for id in given]
    answer["choices"][0]["message"]["tool_calls"] = made
    ids = [call.id for call in read("chat", answer).calls]
    assert len(set(ids)) == len(given)
    assert ids[0] == first
    assert {id for id in given if id} <= set(ids)


# ---- tokens


def row(token: str, spelled: bytes | None = None) -> dict[str, Any]:
    return {"token": token, "logprob": -1.0, "bytes": list(spelled if spelled is not None else token.encode())}


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        (row("\\x89", b"\x89"), True),  # OpenAI's: the end of a character
        (row("\ufffd"), True),  # vLLM's
        (row("<|im_end|>"), False),
    ],
)
def test_a_token_that_ends_a_character_is_not_taken_for_the_end(last: dict[str, Any], kept: bool):
    answer = chat("≉", logprobs={"content": [row("\\xe2\\x89", b"\xe2\x89"), last]})
    reply = read("chat", answer, Request(HI.messages, logprobs=True))
    assert len(reply.tokens) == 1 + kept


def test_completions_escape_their_parts_of_characters_too():
    told = {"tokens": ["bytes:\\xe2\\x89", "bytes:\\x89"], "token_logprobs": [-1.0, -2.0]}
    answer = {"choices": [{"index": 0, "text": "≉", "finish_reason": "stop", "logprobs": told}], "usage": USAGE}
    assert len(read("completions", answer, Request(HI.messages, logprobs=True)).tokens) == 2


# ---- answers of no format


ODD: list[tuple[str, Any]] = [
    ("chat", {"choices": [None]}),
    ("chat", {"choices": ["hi"]}),
    ("chat", {"choices": [{"message": "hi", "finish_reason": "stop"}]}),
    ("chat", chat(["hi"])),
    ("chat", chat({"text": "hi"})),
    ("chat", chat(logprobs={"content": [{"token": "hi", "logprob": None}]})),
    ("chat", {**chat(), "usage": "none"}),
    ("chat", [{"choices": [{"delta": {"content": "hi"}}]}]),
    ("chat", [{"choices": [None]}]),
    ("chat", [chunk({"content": 1})]),
    ("completions", {"choices": [None]}),
    ("completions", {"choices": [{"text": ["hi"], "finish_reason": "stop"}]}),
    ("completions", [{"choices": [{"text": "hi"}]}]),
    ("responses", {"status": "completed", "output": ["hi"]}),
    ("responses", {"status": "completed", "output": [{"type": "message", "content": ["hi"]}]}),
    ("responses", [{"type": "response.completed", "response": None}]),
    ("anthropic", {"content": ["hi"], "stop_reason": "end_turn"}),
    ("anthropic", {"content": [{"type": "text"}], "stop_reason": "end_turn"}),
    ("anthropic", {"content": None, "stop_reason": "end_turn"}),
    ("anthropic", [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}]),
    ("anthropic", [{"type": "message_start"}]),
]


@pytest.mark.parametrize(("api", "answer"), ODD)
def test_an_answer_of_no_format_is_malformed_and_told_in_short(api: str, answer: Any):
    failed = read(api, answer, Request(HI.messages, logprobs=api == "chat"))
    assert isinstance(failed, Malformed)
    assert len(str(failed)) < 250


def test_a_content_in_parts_is_their_text():
    """Mistral's, of models that reason."""
    thoughts = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thoughts, {"type": "text", "text": "it is "}, {"type": "text", "text": "so"}]
    assert read("chat", chat(parts)).text == "it is so"
    assert read("chat", [chunk({"content": parts}), chunk({}, "stop")]).text == "it is so"
