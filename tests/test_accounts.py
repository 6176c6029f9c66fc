"""A study of a hosted model: what it would take, what it may take, resumed, replayed, and no call paid for twice."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from studies import write_csv

from promptlab import Message, Reply, Usage, ask, run
from promptlab.cli import main
from promptlab.compare.rehearsal import StandIn
from promptlab.testing import FakeServer, Fault, no_network


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def answering(request: Any) -> Reply:
    """Always the same to the same: by the text's length."""
    text = request.messages[-1].content
    return Reply("red" if len(text) % 2 else "blue", usage=Usage(len(text.split()), 0, 1))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(answering) as running:
        yield running


def study(csv: Path, url: str, *more: str) -> list[str]:
    given = ["compare", str(csv), "--model", f"openai:m@{url}", "--labels", "0,4", "--seeds", "2", "--test-items", "12"]
    return [*given, "--arms", "few-shot,chain-of-thought,tfidf", "--jobs", "1", *more]


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "latency")} for row in found]


def test_a_dry_run_says_what_it_takes_and_sends_nothing(server, tmp_path, capsys):
    csv = write_csv(tmp_path / "notes.csv")
    code, out, _ = command(capsys, *study(csv, server.url, "--dry-run"))
    assert (code, server.received) == (0, [])
    promised = int(re.search(r"take ([\d,]+) calls", out)[1].replace(",", ""))
    assert "price of the model is not known" in out
    code, *_ = command(capsys, *study(csv, server.url, "--out", str(tmp_path / "run")))
    assert code == 0
    assert len(server.received) == promised


def test_a_dry_run_of_a_run_that_was_begun_says_what_is_left_of_it(server, tmp_path, capsys):
    csv, folder = write_csv(tmp_path / "notes.csv"), tmp_path / "run"
    command(capsys, *study(csv, server.url, "--out", str(folder), "--calls", "30"))
    _, out, _ = command(capsys, "compare", "--resume", str(folder), "--dry-run")
    left = int(re.search(r"take ([\d,]+) calls", out)[1].replace(",", ""))
    assert command(capsys, "compare", "--resume", str(folder), "--calls", str(30 + left), "--jobs", "1")[0] == 0
    assert len(server.received) == 30 + left
    assert command(capsys, "compare", "--resume", str(folder), "--dry-run")[1].startswith("It would take 0 calls")


def test_a_dry_run_tells_what_is_odd_about_the_data_as_the_run_does(server, tmp_path, capsys):
    csv = tmp_path / "notes.csv"
    kinds = [("apple", 1, "yes"), ("apple", 1, "yes"), ("bolt", 0, "no"), ("bolt", 0, "no")]
    lines = [f"{word} lot {i // 8},{sure},{label}" for i in range(60) for word, sure, label in [kinds[i % 4]]]
    csv.write_text("\n".join(["text,sure,label", *lines]) + "\n")
    given = study(csv, server.url, "--labels", "0", "--arms", "few-shot")
    _, _, rehearsed = command(capsys, *given, "--dry-run")
    _, _, ran = command(capsys, *given, "--out", str(tmp_path / "run"))
    assert 'The column "sure" may give the label away' in rehearsed
    assert "duplicates: " in rehearsed
    assert ran.startswith(rehearsed)
    assert command(capsys, *given, "--dry-run", "--quiet")[2] == ""


def test_a_dry_run_says_at_most_where_two_arms_ask_the_same(server, tmp_path, capsys):
    given = study(write_csv(tmp_path / "notes.csv"), server.url, "--labels", "0", "--arms", "few-shot,few-shot-nearest")
    _, out, _ = command(capsys, *given, "--dry-run")
    assert out.startswith("It would take at most 24 calls that read")
    assert command(capsys, *given, "--out", str(tmp_path / "run"))[0] == 0
    assert len(server.received) == 12


def told(out: str) -> list[float]:
    """The numbers of an estimate: calls, tokens read, at most, written, at most, and dollars."""
    return [float(number.replace(",", "")) for number in re.findall(r"[\d,]*\d(?:\.\d+)?", out)]


def test_a_dry_run_adds_up_what_calls_cost_one_by_one_and_needs_no_key(tmp_path, capsys, monkeypatch):
    """A call of more than 200,000 tokens costs twice as much a token; all calls together have more."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    csv = tmp_path / "notes.csv"
    rows = [f"{'apple' if i % 2 else 'bolt'} lot {i} {'x ' * 5_000},{'yes' if i % 2 else 'no'}" for i in range(200)]
    csv.write_text("\n".join(["text,label", *rows]) + "\n")
    given = ["compare", str(csv), "--model", "anthropic:claude-sonnet-4-5", "--labels", "0", "--arms", "few-shot"]
    with no_network():
        code, out, _ = command(capsys, *given, "--dry-run")
    assert code == 0
    calls, read, most_read, written, most_written, usd, most_usd = told(out)
    assert calls == 60
    assert most_read > 200_000
    assert usd == pytest.approx((3 * read + 15 * written) / 1e6, abs=0.02)
    assert most_usd == pytest.approx((3.75 * most_read + 15 * most_written) / 1e6, abs=0.02)  # all of it cached


def test_what_costs_something_is_never_said_to_cost_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    given = study(write_csv(tmp_path / "notes.csv"), "", "--arms", "few-shot", "--test-items", "1", "--dry-run")
    given[given.index("openai:m@")] = "openai:gpt-5-mini"
    assert command(capsys, *given)[1].strip().endswith(": under $0.01.")
    given[given.index("openai:gpt-5-mini")] = "studies:Small"
    assert command(capsys, *given)[1].strip().endswith(": $0.")


def test_a_reply_may_be_as_long_as_it_may_be_and_be_asked_again():
    async def chat(first: int | None):
        asked = [Message("user", "hi")]
        asked += [(await ask(asked, max_tokens=first)).message, Message("user", "again")]
        await ask(asked, max_tokens=10)

    for first in (2_000, None):
        stand_in = StandIn(Hosted(), "yes")
        run(chat(first), stand_in)
        seen = stand_in.seen
        assert seen.calls == 2
        assert seen.read < 1_000
        if first is None:
            assert "without a bound" in str(seen)
            assert (seen.most_read, seen.most_written) == (inf, inf)
        else:
            assert seen.most_read >= 2_000
            assert seen.most_written == 2_010


class Hosted:
    batched = False
    can = frozenset()


def test_a_study_stops_at_its_budget_and_goes_on_with_a_larger_one(server, tmp_path, capsys):
    csv, whole, parts = write_csv(tmp_path / "notes.csv"), tmp_path / "whole", tmp_path / "parts"
    command(capsys, *study(csv, server.url, "--out", str(whole)))
    needed = len(server.received)
    code, _, err = command(capsys, *study(csv, server.url, "--out", str(parts), "--calls", "30"))
    assert (code, len(server.received) - needed) == (1, 30)
    assert "The budget is spent: 30 calls of 30 calls" in err
    assert err.endswith(f"go on with: promptlab compare --resume {parts} --calls 62\n")
    code, *_ = command(capsys, "compare", "--resume", str(parts), "--calls", "31", "--jobs", "1")
    assert (code, len(server.received) - needed) == (1, 31)
    code, *_ = command(capsys, "compare", "--resume", str(parts), "--calls", str(needed), "--jobs", "1")
    assert (code, len(server.received) - needed) == (0, needed)
    assert rows(parts) == rows(whole)


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("limit", [("--calls", "1"), ("--budget-usd", "0.0001")])
def test_the_command_that_a_spent_budget_names_goes_on(tmp_path, capsys, limit, jobs):
    folder, csv = tmp_path / "run", str(write_csv(tmp_path / "notes.csv"))
    given = [
        "compare",
        csv,
        "--model",
        f"searches:Priced/{tmp_path / 'calls'}",
        *"--arms few-shot --labels 2,4".split(),
    ]
    more = ["--seeds", "1", "--test-items", "8", "--out", str(folder), "--jobs", jobs, *limit]
    (tmp_path / "calls").touch()
    code, _, err = command(capsys, *given, *more)
    assert code == 1
    assert "1 call of 1 call is spent" in err or limit[0] != "--calls"
    for _ in range(8):
        before = len((tmp_path / "calls").read_text().splitlines())
        again = err.strip().partition("go on with: promptlab ")[2].split()
        assert again[:4] == ["compare", "--resume", str(folder), limit[0]], err
        code, _, err = command(capsys, *again, "--jobs", jobs)
        if code == 0:
            break
        assert len((tmp_path / "calls").read_text().splitlines()) > before
    assert code == 0


def test_a_budget_in_dollars_needs_a_price(server, tmp_path, capsys):
    code, _, err = command(
        capsys,
        *study(write_csv(tmp_path / "notes.csv"), server.url, "--out", str(tmp_path / "run"), "--budget-usd", "1"),
    )
    assert (code, server.received) == (2, [])
    assert "--budget-usd: the price of" in err
    assert "--calls" in err


def test_a_finished_study_replays_without_a_socket(server, tmp_path, capsys):
    folder = tmp_path / "run"
    command(capsys, *study(write_csv(tmp_path / "notes.csv"), server.url, "--out", str(folder)))
    asked = len(server.received)
    before = (folder / "calls.db").read_bytes()
    with no_network():
        code, out, _ = command(capsys, "replay", str(folder), "--jobs", "1")
    n = len(rows(folder))
    assert (code, out.strip()) == (0, f"{n} of {n} rows came out the same.")
    assert len(server.received) == asked
    assert (folder / "calls.db").read_bytes() == before


def test_a_run_without_its_recording_is_not_replayed_by_asking_anew(server, tmp_path, capsys):
    folder = tmp_path / "run"
    command(capsys, *study(write_csv(tmp_path / "notes.csv"), server.url, "--out", str(folder)))
    asked = len(server.received)
    (folder / "calls.db").unlink()
    with no_network():
        code, _, err = command(capsys, "replay", str(folder), "--jobs", "1")
    assert code == 2
    assert "holds no recording" in err
    assert len(server.received) == asked
    assert not (folder / "calls.db").exists()


def test_what_is_not_in_a_recording_is_shown_line_by_line(server, tmp_path, capsys):
    folder = tmp_path / "run"
    command(capsys, *study(write_csv(tmp_path / "notes.csv"), server.url, "--out", str(folder)))
    with sqlite3.connect(folder / "calls.db") as db:
        asked = "SELECT asked FROM requests WHERE CAST(request AS TEXT) LIKE '%apple lot 1%' LIMIT 1"
        db.execute("CREATE TEMP TABLE one AS " + asked)
        db.executescript("DROP TRIGGER calls_stay; DELETE FROM calls WHERE asked IN one")
        assert db.execute("DELETE FROM answers WHERE asked IN one").rowcount == 1
    db.close()
    with no_network():
        code, _, err = command(capsys, "replay", str(folder), "--jobs", "1")
    first, *changes = err.splitlines()
    assert code == 1
    assert "was not recorded" in first
    assert {change[0] for change in changes} == {"-", "+"}


def test_a_run_whose_recording_is_broken_is_not_replayed_and_left_as_it_is(server, tmp_path, capsys):
    folder = tmp_path / "run"
    command(capsys, *study(write_csv(tmp_path / "notes.csv"), server.url, "--out", str(folder)))
    asked = len(server.received)
    (folder / "calls.db").write_bytes(b"no database any more")
    for log in folder.glob("calls.db-*"):  # from which all could be read
        log.unlink()
    there = sorted(folder.iterdir())
    with no_network():
        code, _, err = command(capsys, "replay", str(folder), "--jobs", "1")
    assert (code, err.count("\n"), len(server.received)) == (2, 1, asked)
    assert f"{folder / 'calls.db'} is no record of calls, or a broken one" in err
    assert (folder / "calls.db").read_bytes() == b"no database any more"
    assert sorted(folder.iterdir()) == there


def test_a_run_is_not_replayed_on_other_data(server, tmp_path, capsys):
    csv, folder = write_csv(tmp_path / "notes.csv"), tmp_path / "run"
    command(capsys, *study(csv, server.url, "--out", str(folder)))
    csv.write_text(csv.read_text() + "plum lot 99,yes\n")
    code, _, err = command(capsys, "replay", str(folder), "--jobs", "1")
    assert code == 2
    assert f"notes.csv has changed since {folder} was begun" in err


def test_what_was_unavailable_is_asked_again_on_resume(tmp_path, capsys, monkeypatch):
    csv, folder = write_csv(tmp_path / "notes.csv"), tmp_path / "run"
    with FakeServer(answering, faults=[None, *[Fault.status(500)] * 500]) as server:
        given = study(csv, server.url, "--out", str(folder))
        given[given.index("few-shot,chain-of-thought,tfidf")] = "few-shot"
        given[given.index("12")] = "3"
        given[given.index("0,4")] = "0"
        monkeypatch.setattr("promptlab.backends.wrappers.retrying.FIRST_WAIT_S", 0.001)
        _, _, err = command(capsys, *given)
        assert "unavailable is asked again by" in err
        assert sum(row["error"] is not None for row in rows(folder)) == 2
        server._faults = iter(())
        code, *_ = command(capsys, "compare", "--resume", str(folder), "--jobs", "1")
    assert code == 0
    assert [row["error"] for row in rows(folder)] == [None] * 3


@pytest.mark.parametrize(("jobs", "after"), [("1", 7), ("1", 40), ("2", 25)])
def test_a_killed_study_repeats_no_call_that_was_answered(server, tmp_path, capsys, jobs, after):
    csv, whole, torn = write_csv(tmp_path / "notes.csv"), tmp_path / "whole", tmp_path / "torn"
    command(capsys, *study(csv, server.url, "--out", str(whole)))
    needed = len(server.received)
    started = subprocess.Popen(
        [sys.executable, "-m", "promptlab", *study(csv, server.url, "--out", str(torn), "--jobs", jobs)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while len(server.received) < needed + after and started.poll() is None:
        time.sleep(0.001)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    code, *_ = command(capsys, "compare", "--resume", str(torn), "--jobs", "1")
    assert code == 0
    assert len(server.received) - needed <= needed + 64 * int(jobs)
    assert rows(torn) == rows(whole)
