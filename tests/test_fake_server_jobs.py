"""Batch jobs on the server as the providers' own SDKs see them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sdks import anthropic, anthropic_client, openai, openai_client, raw

from promptlab.testing import FakeServer, Fault, Jobs

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "completions": "/v1/completions"}
BODIES = {"chat": "messages", "responses": "input", "completions": "prompt"}


def echo(request: Any) -> str:
    return request.messages[-1].content.upper()


def rows(format: str, texts: list[str]) -> bytes:
    """A file of requests."""
    asked = [[{"role": "user", "content": text}] if format == "chat" else text for text in texts]
    lines = [
        {"custom_id": f"c{i}", "method": "POST", "url": PATHS[format], "body": {"model": "m", BODIES[format]: each}}
        for i, each in enumerate(asked)
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def submitted(client: Any, format: str, texts: list[str]) -> Any:
    file = client.files.create(file=("rows.jsonl", rows(format, texts)), purpose="batch")
    assert (file.purpose, file.bytes) == ("batch", len(rows(format, texts)))
    return client.batches.create(
        input_file_id=file.id, endpoint=PATHS[format], completion_window="24h", metadata={"a": "b"}
    )


def read(client: Any, file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    return {line["custom_id"]: line for line in map(json.loads, client.files.content(file).text.splitlines())}


def messages(texts: list[str]) -> list[Any]:
    return [
        {
            "custom_id": f"c{i}",
            "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]},
        }
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("format", PATHS)
def test_openai_s_job_is_uploaded_looked_at_and_fetched(format):
    with FakeServer(echo, jobs=Jobs(polls=2)) as server, openai_client(server) as client:
        job = submitted(client, format, ["é\n", "b", "c"])
        assert (job.status, job.metadata, job.endpoint) == ("in_progress", {"a": "b"}, PATHS[format])
        half = client.batches.retrieve(job.id)
        assert (half.status, half.request_counts.completed, half.output_file_id) == ("in_progress", 1, None)
        done = client.batches.retrieve(job.id)
        assert (done.status, done.request_counts.completed, done.error_file_id) == ("completed", 3, None)
        found = read(client, done.output_file_id)
    assert list(found) == ["c0", "c1", "c2"]
    assert "É" in found["c0"]["response"]["body"].__repr__()
    assert {line["response"]["status_code"] for line in found.values()} == {200}


def test_openai_s_lines_fail_expire_and_come_shuffled():
    going = Jobs(faults={1: Fault.status(429)}, expired=[4], shuffled=True)
    with FakeServer(echo, jobs=going) as server, openai_client(server) as client:
        job = client.batches.retrieve(submitted(client, "chat", list("abcdef")).id)
        good, bad = read(client, job.output_file_id), read(client, job.error_file_id)
    counts = job.request_counts
    assert (job.status, counts.total, counts.completed, counts.failed) == ("expired", 6, 4, 2)
    assert sorted(good) == ["c0", "c2", "c3", "c5"] != list(good)
    assert bad["c1"]["response"]["status_code"] == 429
    assert bad["c1"]["response"]["body"]["error"]["code"] == "rate_limit_exceeded"
    assert (bad["c4"]["response"], bad["c4"]["error"]["code"]) == (None, "batch_expired")


def test_openai_s_jobs_are_listed_newest_first_and_cancelled():
    with FakeServer(echo, jobs=Jobs(polls=2)) as server, openai_client(server) as client:
        ids = [submitted(client, "chat", ["a", "b"]).id for _ in range(5)]
        assert [job.id for job in client.batches.list(limit=2)] == ids[::-1]
        client.batches.retrieve(ids[1])
        assert client.batches.cancel(ids[1]).status == "cancelling"
        over = client.batches.retrieve(ids[1])
        assert over.status == "cancelled"
        assert list(read(client, over.output_file_id)) == ["c0"]
        assert read(client, over.error_file_id)["c1"]["error"]["code"] == "batch_cancelled"
        with pytest.raises(openai.BadRequestError):
            client.batches.cancel(ids[1])
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve("batch_99")


def test_a_job_of_openai_s_can_fail_as_a_whole():
    with FakeServer(echo, jobs=Jobs(failed="token_limit_exceeded")) as server, openai_client(server) as client:
        job = client.batches.retrieve(submitted(client, "chat", ["a"]).id)
    assert (job.status, job.errors.data[0].code) == ("failed", "token_limit_exceeded")


def test_anthropic_s_job_is_submitted_looked_at_and_fetched():
    going = Jobs(polls=2, faults={1: Fault.status(529), 3: Fault.context_length()}, expired=[4], shuffled=True)
    with FakeServer(echo, jobs=going) as server, anthropic_client(server) as client:
        job = client.messages.batches.create(requests=messages(list("abcdef")))
        assert (job.processing_status, job.request_counts.processing) == ("in_progress", 6)
        with pytest.raises(anthropic.AnthropicError):
            list(client.messages.batches.results(job.id))
        client.messages.batches.retrieve(job.id)
        over = client.messages.batches.retrieve(job.id)
        results = {row.custom_id: row.result for row in client.messages.batches.results(job.id)}
    counts = over.request_counts
    assert (over.processing_status, counts.succeeded, counts.errored, counts.expired) == ("ended", 3, 2, 1)
    assert sorted(results) == [f"c{i}" for i in range(6)] != list(results)
    assert results["c2"].message.content[0].text == "C"
    assert results["c1"].error.error.type == "overloaded_error"
    assert "prompt is too long" in results["c3"].error.error.message
    assert results["c4"].type == "expired"


def test_anthropic_s_jobs_are_listed_newest_first_and_cancelled():
    with FakeServer(echo, jobs=Jobs(polls=2)) as server, anthropic_client(server) as client:
        ids = [client.messages.batches.create(requests=messages(["a", "b"])).id for _ in range(5)]
        assert [job.id for job in client.messages.batches.list(limit=2)] == ids[::-1]
        client.messages.batches.retrieve(ids[1])
        assert client.messages.batches.cancel(ids[1]).processing_status == "canceling"
        assert client.messages.batches.retrieve(ids[1]).request_counts.canceled == 1
        kinds = [row.result.type for row in client.messages.batches.results(ids[1])]
    assert kinds == ["succeeded", "canceled"]


WRONG = [
    ("/v1/batches", {"input_file_id": "file-9", "endpoint": "/v1/responses"}),
    ("/v1/batches", []),
    ("/v1/messages/batches", {"requests": []}),
    ("/v1/messages/batches", {"requests": messages(["a"]) * 2}),
    ("/v1/files", {"purpose": "batch"}),
]


@pytest.mark.parametrize(("path", "body"), WRONG)
def test_what_is_no_job_is_a_400(path, body):
    with FakeServer(echo) as server:
        status, _, text = raw(server.url, path, body)
    assert status == 400
    assert "error" in text


def test_lines_of_another_endpoint_are_a_400():
    with FakeServer(echo) as server, openai_client(server) as client:
        file = client.files.create(file=("rows.jsonl", rows("chat", ["a"])), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="/v1/responses"):
            client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
        with pytest.raises(openai.NotFoundError):
            client.files.content("file-9")
