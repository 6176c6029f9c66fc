"""Calls as OpenTelemetry's spans: what the conventions say, below the caller's span, and nothing of what was said."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from promptlab import Message, Reply, Request, Usage, arun, ask, attempt, call, gather, model, run, sample, score, tool
from promptlab.backends.wrappers.retrying import Retrying
from promptlab.backends.wrappers.spanned import Spanned
from promptlab.errors import ModelError, Refused, SetupError, Unauthorized
from promptlab.testing import FakeServer, Fault, Script
from promptlab.types import ToolCall

KEY = "sk-planted-0123456789"
SECRET = "the patient is called Ann"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """One for all tests: a process has one provider for good."""
    collected = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(collected))
    trace.set_tracer_provider(provider)
    return collected


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Any:
    exporter.clear()
    return exporter.get_finished_spans


@tool
def lookup(city: str) -> str:
    """The number of cases in a city."""
    return f"{len(city)} cases"


async def agent(question: str) -> str:
    chat = [Message("system", "Use tools."), Message("user", question)]
    reply = await ask(chat, tools=[lookup])
    chat += [reply.message, *await call(reply.calls, [lookup])]
    return (await ask(chat, tools=[lookup], max_tokens=20)).text


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_call_has_the_attributes_of_the_conventions(spans: Any):
    usage = Usage(40, 30, 9, 4)
    with FakeServer([Reply("hi", usage=usage)]) as server:
        backend = Spanned(model(f"openai:gpt-5-mini@{server.url}", key=KEY))
        options: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "stop": ["\n"], "seed": 7, "max_tokens": 20}
        run(ask(SECRET, **options), backend)
        port = int(server.url.rpartition(":")[2])
    [span] = spans()
    assert (span.name, span.kind, span.status.status_code) == ("chat gpt-5-mini", SpanKind.CLIENT, StatusCode.UNSET)
    found = told(span)
    assert len(found.pop("promptlab.program")) > 3
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("\n",),
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.reasoning.output_tokens": 4,
        "server.address": "127.0.0.1",
        "server.port": port,
        "promptlab.branch": (0,),
    }


def test_the_names_are_those_of_the_conventions_package(spans: Any):
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    usage = Usage(40, 30, 9, 4)
    run(
        agent("q"),
        Spanned(Script([Reply("", (ToolCall("c", "lookup", {"city": "Basel"}),), "calls", usage=usage), "5"])),
    )
    run(ask("q", schema={"type": "object"}, seed=1, stop="x", top_p=0.5), Spanned(Script(["{}"]), content=True))
    names = {name for span in spans() for name in told(span) if name.startswith("gen_ai.")}
    assert names <= known
    assert len(names) >= 14


@pytest.mark.parametrize("content", [False, True])
def test_what_was_said_is_in_a_span_only_where_it_is_asked_for(spans: Any, content: bool):
    replies = [Reply("", (ToolCall("c1", "lookup", {"city": "Basel"}),), "calls"), Reply("five cases")]
    run(agent(SECRET), Spanned(Script(replies), content=content))
    first, second = spans()
    assert told(first)["gen_ai.response.finish_reasons"] == ("tool_call",)
    if not content:
        assert SECRET not in first.to_json() + second.to_json()
        assert "Basel" not in first.to_json() + second.to_json()
        return
    call_part = {"type": "tool_call", "id": "c1", "name": "lookup", "arguments": {"city": "Basel"}}
    assert json.loads(told(first)["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [call_part], "finish_reason": "tool_call"}
    ]
    assert json.loads(told(second)["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Use tools."}]},
        {"role": "user", "parts": [{"type": "text", "content": SECRET}]},
        {"role": "assistant", "parts": [call_part]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "5 cases"}]},
    ]
    [defined] = json.loads(told(second)["gen_ai.tool.definitions"])
    assert (defined["type"], defined["name"]) == ("function", "lookup")
    assert defined["parameters"]["required"] == ["city"]


@pytest.mark.parametrize(
    ("reply", "kind", "finish"),
    [
        (ModelError(f"failed at {SECRET}"), "ModelError", "error"),
        (Refused("I will not", reply=Reply("no", usage=Usage(5, 0, 2))), "Refused", "content_filter"),
    ],
)
def test_a_failed_call_is_an_error_by_its_kind(spans: Any, reply: ModelError, kind: str, finish: str):
    run(attempt(ask("q")), Spanned(Script([reply])))
    [span] = spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert (told(span)["error.type"], told(span)["gen_ai.response.finish_reasons"]) == (kind, (finish,))
    assert told(span).get("gen_ai.usage.input_tokens") == (5 if reply.reply else None)
    assert SECRET not in span.to_json()


def test_what_ends_the_run_ends_its_span_too(spans: Any):
    with FakeServer(["x"], faults=[Fault.status(401)]) as server:
        backend = Spanned(model(f"anthropic:m@{server.url}", key=KEY))
        with pytest.raises(Unauthorized):
            run(ask("q"), backend)
    [span] = spans()
    assert (told(span)["error.type"], told(span)["gen_ai.provider.name"]) == ("Unauthorized", "anthropic")
    assert KEY not in span.to_json()


def test_calls_that_were_cancelled_have_ended(spans: Any):
    class Slow(Threads):
        async def agenerate(self, requests: Any) -> list[Reply]:
            await asyncio.sleep(60 * (requests[0].messages[-1].content == "slow"))
            return [Reply("x")]

    run(gather([ask("fast"), ask("slow")], until=bool), Spanned(Slow()))
    assert sorted(str(told(span).get("error.type")) for span in spans()) == ["CancelledError", "None"]


class Threads:
    """A hosted backend without `agenerate`: its calls are on threads."""

    batched = False
    name = "threaded"

    def generate(self, requests: Any) -> list[Reply]:
        trace.get_tracer("http").start_span("POST").end()
        return [Reply("x") for _ in requests]


class Engine(Threads):
    """A batched one, in waves on a thread."""

    batched = True


@pytest.mark.parametrize("inside", ["no loop", "a running loop", "arun"])
@pytest.mark.parametrize(
    "make", [Threads, Engine, lambda: Script(lambda r: "x"), lambda: Script(lambda r: "x", batched=False)]
)
def test_the_parent_is_the_callers_span(spans: Any, make: Any, inside: str):
    """On threads, in a private loop on a thread of its own, in waves, in the caller's loop."""
    backend = Spanned(make())
    programs = [sample("q", 2), sample("p", 1)]

    async def here(run_it: bool) -> None:
        with trace.get_tracer("app").start_as_current_span("caller"):
            _ = run(programs, backend) if run_it else await arun(programs, backend)

    if inside == "no loop":
        with trace.get_tracer("app").start_as_current_span("caller"):
            run(programs, backend)
    else:
        asyncio.run(here(inside == "a running loop"))
    [caller] = [span for span in spans() if span.name == "caller"]
    chats = [span for span in spans() if span.name.startswith("chat ")]
    assert len(chats) == 3
    assert {span.parent.span_id for span in chats} == {caller.context.span_id}
    posts = [span for span in spans() if span.name == "POST"]
    above = {span.context.span_id for span in (chats if make is Threads else [caller])}
    assert {span.parent.span_id for span in posts} <= above
    assert len(posts) == {Threads: 3, Engine: 1}.get(make, 0)


def test_a_program_under_arun_may_have_a_span_of_its_own(spans: Any):
    async def step(name: str) -> None:
        with trace.get_tracer("app").start_as_current_span(name):
            await ask(name)

    asyncio.run(arun([step("a"), step("b")], Spanned(Script(lambda r: "x", batched=False), content=True)))
    by_id = {span.context.span_id: span for span in spans()}
    chats = [span for span in spans() if span.name.startswith("chat ")]
    for span in chats:
        [turn] = json.loads(told(span)["gen_ai.input.messages"])
        assert by_id[span.parent.span_id].name == turn["parts"][0]["content"]


def test_a_wave_is_below_the_callers_span_whatever_its_programs_have(spans: Any):
    async def step(name: str) -> None:
        with trace.get_tracer("app").start_as_current_span(name):
            await ask(name)

    async def main() -> None:
        with trace.get_tracer("app").start_as_current_span("caller"):
            await arun([step("a"), step("b")], Spanned(Engine()))

    asyncio.run(main())
    [caller] = [span for span in spans() if span.name == "caller"]
    chats = [span for span in spans() if span.name.startswith("chat ")]
    assert [span.parent.span_id for span in chats] == [caller.context.span_id] * 2


def test_every_request_of_a_wave_has_a_span(spans: Any):
    run([gather(ask("a"), ask("b")), ask("c")], Spanned(Script(lambda r: "x")))  # type: ignore[list-item]
    assert [told(span)["promptlab.branch"] for span in spans()] == [(0, 0, 0), (0, 1, 0), (0,)]
    programs = [told(span)["promptlab.program"] for span in spans()]
    assert programs[0] == programs[1] != programs[2]


def test_texts_to_score_are_a_text_completion(spans: Any):
    run(score("q", ["a", "b"]), Spanned(Script(scores=lambda r: [-1.0, -2.0])))
    [span] = spans()
    assert (span.name, told(span)["gen_ai.operation.name"]) == ("text_completion script", "text_completion")
    assert span.kind == SpanKind.INTERNAL


def test_around_retries_all_tries_are_one_span(spans: Any):
    with FakeServer(["x"], faults=[Fault.status(500), None]) as server:
        bare: Any = model(f"openai:m@{server.url}", key=KEY, attempts=1)
        run(ask("q"), Spanned(Retrying(bare, attempts=2)))
        assert len(server.received) == 2
    assert len(spans()) == 1


def test_it_can_be_sent_to_another_process():
    again = pickle.loads(pickle.dumps(Spanned(Threads(), content=True)))
    assert again.content
    assert run(ask("q"), again).text == "x"


def test_without_the_package_it_says_which_extra_brings_it():
    code = """import sys
from importlib.machinery import PathFinder
class Hidden:
    def find_spec(self, name, path=None, target=None):
        return None if name == "opentelemetry" else PathFinder.find_spec(name, path, target)
sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [Hidden()]
from promptlab.backends.wrappers.spanned import Spanned
from promptlab.testing import Script
Spanned(Script())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'promptlab[otel]'" in done.stderr


def test_without_a_provider_next_to_nothing_is_done():
    """Counted, not timed: a few dozen calls of functions, and nothing of the request or the reply is looked at."""
    code = """import sys
from promptlab import Message, Reply, Request
from promptlab.backends.wrappers.spanned import Spanned
class Echo:
    batched = True
    def generate(self, requests): return replies
replies, requests = [Reply("x")], [Request((Message("user", "q"),))]
def steps(backend):
    seen = []
    sys.setprofile(lambda frame, event, _: seen.append(frame.f_code.co_qualname) if event == "call" else None)
    backend.generate(requests)
    sys.setprofile(None)
    return seen
spanned = Spanned(Echo())
steps(spanned)
print(len(steps(spanned)), "asked" in steps(spanned), "used" in steps(spanned))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n, *looked = done.stdout.split()
    assert int(n) < 60
    assert looked == ["False", "False"]


def test_a_span_lasts_as_long_as_the_call(spans: Any):
    def slow(request: Request) -> str:
        time.sleep(0.02)
        return "x"

    run(ask("q"), Spanned(Script(slow)))
    [span] = spans()
    assert span.end_time - span.start_time >= 20_000_000


def test_it_is_the_backend_in_all_that_it_does_not_change():
    assert Spanned(Threads()).name == "threaded"


def test_a_model_has_spans_by_an_option(spans: Any, tmp_path: Path):
    """Tries are one, and what comes from the cache is none; what was said is there only on request."""
    faults = [Fault.status(500), None, None]
    with FakeServer(["x", "x"], faults=faults) as server:
        quiet, telling = (
            model(f"openai:m@{server.url}", key=KEY, cache=tmp_path / f"{how}.db", spans=how)
            for how in (True, "content")
        )
        for llm in (quiet, quiet, telling):
            run(ask("q"), llm)
        assert len(server.received) == 3
    assert ["gen_ai.input.messages" in span.attributes for span in spans()] == [False, True]


def test_an_engine_has_spans_by_the_same_option(spans: Any):
    run(ask("q", max_tokens=1), model("tiny", spans=True))
    assert [span.kind for span in spans()] == [SpanKind.INTERNAL]


def test_what_is_no_way_to_have_spans_is_said():
    with pytest.raises(SetupError, match='"content" to have prompts'):
        model("openai:m", key=KEY, spans="contents")
