"""A trace's page: every call in its place, none of it taken as HTML, no key on it, nothing left out in silence."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab import Message, Reply, Request, Usage, ask, attempt, call, gather, model, run, sample, tool, traced
from promptlab.backends.wrappers.cached import Cached
from promptlab.backends.wrappers.record import Record
from promptlab.backends.wrappers.retrying import Retrying
from promptlab.backends.wrappers.traced import Traced
from promptlab.errors import DataError, ModelError, SetupError
from promptlab.jsonable import dumped, request_json
from promptlab.program import Exchange
from promptlab.strategies import self_consistency
from promptlab.testing import FakeServer, Fault, Script
from promptlab.trace import page
from promptlab.trace.redacting import Redactor
from promptlab.trace.tree import Line, steps, tree
from promptlab.types import ToolCall

NASTY = "<script>alert(1)</script></details></script><!-- \u2028 & 'quoted' \" {{ 7 * 7 }} \x00 \ud800 "


class Element:
    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.inside: list[Element | str] = []

    def every(self, tag: str, name: str = "") -> list[Element]:
        """The elements below, in order, of a tag and a class."""
        found: list[Element] = []
        for each in self.inside:
            if isinstance(each, Element):
                if each.tag == tag and (not name or name in (each.attributes.get("class") or "").split()):
                    found.append(each)
                found += each.every(tag, name)
        return found

    def one(self, tag: str, name: str = "") -> Element:
        return self.every(tag, name)[0]

    @property
    def text(self) -> str:
        return " ".join("".join(e if isinstance(e, str) else f" {e.text} " for e in self.inside).split())


class Read(HTMLParser):
    """A page as a tree of elements, all of which must be closed in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)
        self.feed(html)
        self.close()
        assert self.at is self.root

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        element = Element(tag, dict(attrs), self.at)
        self.at.inside.append(element)
        if tag not in self.VOID:
            self.at = element

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.inside.append(data)


def read(html: str) -> Element:
    return Read(html).root


def outline(element: Element) -> list[Any]:
    """What is folded in what: a label, or a label with what is below it; calls with their outcome."""
    found: list[Any] = []
    for item in [each for each in element.one("ol", "steps").inside if isinstance(each, Element)]:
        fold = item.one("details")
        label = fold.one("span", "label").text
        if "child" in (fold.attributes["class"] or ""):
            found.append((label, outline(fold)))
        else:
            found.append((label, " ".join(chip.text for chip in fold.one("summary").every("span", "chip"))))
    return found


def totals(root: Element) -> dict[str, str]:
    found = next(each for each in root.every("dl") if each.attributes.get("id") == "totals")
    names, values = found.every("dt"), found.every("dd")
    return {name.text: value.text for name, value in zip(names, values, strict=True)}


def programs(root: Element) -> list[Element]:
    return root.every("details", "program")


@tool
def lookup(city: str) -> str:
    """The number of cases in a city."""
    return f"{len(city)} cases"


async def agent(question: str, **options: Any) -> str:
    chat = [Message("system", "Use tools."), Message("user", question)]
    while True:
        reply = await ask(chat, tools=[lookup], **options)
        chat.append(reply.message)
        if not reply.calls:
            return reply.text
        chat += await call(reply.calls, [lookup])


def answered(request: Any) -> Reply:
    if request.tools and request.messages[-1].role != "tool":
        return Reply("", (ToolCall("c1", "lookup", {"city": "Basel"}),), "calls", usage=Usage(80, 20, 12, 5))
    return Reply("So the answer is 7", usage=Usage(10, 0, 5, cost_usd=0.25))


def test_the_tree_of_self_consistency_is_its_paths(tmp_path: Path):
    backend = Traced(Script(answered), tmp_path / "calls.db")
    run(self_consistency("How many?", n=3), backend)
    root = read(page(tmp_path / "calls.db"))
    [program] = programs(root)
    assert outline(program) == [(f"round 0, child {i}", "ok") for i in range(3)]
    assert program.one("h3").text == "Program 1"
    assert "How many?" in program.one("span", "asked").text
    first, second, _ = program.every("details", "call")
    assert "How many?" in first.one("div", "user").text
    assert first.one("div", "assistant").text == "reply So the answer is 7"
    assert not second.every("div", "user")  # the same prompt is there once
    assert second.one("a").attributes["href"] == f"#{first.attributes['id']}"
    expected = {"Calls sent": "3", "From the cache": "0", "Failed": "0", "Tokens read": "30", "of them cached": "0"}
    assert expected.items() <= totals(root).items()
    assert (totals(root)["Tokens written"], totals(root)["Dollars"]) == ("15", "$0.7500")


def test_the_tree_of_an_agent_is_its_rounds_with_what_the_tool_said(tmp_path: Path):
    with FakeServer(answered, faults=[Fault.status(500, message="no room"), None, None]) as server:
        bare: Any = model(f"openai:m@{server.url}", key="sk-planted-0123456789", attempts=1)
        traced_one = Traced(bare.backend, tmp_path / "calls.db")
        run(agent("Cases in Basel?", temperature=0.5, stop="\n"), Retrying(traced_one, attempts=2))
    root = read(page(tmp_path / "calls.db"))
    [program] = programs(root)
    tries = [("round 0, try 1 of 2", "Unavailable"), ("round 0, try 2 of 2", "ok")]
    assert outline(program) == [*tries, ("round 2", "ok")]
    failed, wished, final = program.every("details", "call")
    assert "no room" in failed.one("p", "error").text
    assert json.loads(wished.one("div", "tool-call").one("pre").text) == {"city": "Basel"}
    assert wished.one("div", "tool-call").one("code").text == "lookup"
    assert [turn.one("b").text for turn in final.one("details").every("div", "turn")] == [
        "assistant",
        "tool, in answer to c1",
    ]
    assert "5 cases" in final.one("div", "tool").text
    assert "Turns 1 to 2 are those of call 1" in final.one("details").text
    assert "1 tool" in [fold.one("summary").text for fold in final.every("details")]
    assert "temperature 0.5;" in final.one("p").text
    found = totals(root)
    assert (found["Calls sent"], found["Failed"], found["Dollars"]) == ("3", "1", "not known")
    assert (found["of them cached"], found["of them reasoning"]) == ("20", "5")
    [row] = root.one("tbody").every("tr")
    assert row.one("th").text.startswith("openai:m@http://127.0.0.1")
    assert [cell.text for cell in row.every("td")][:3] == ["3", "0", "1"]


@pytest.mark.parametrize("batched", [True, False])
def test_programs_of_one_file_are_kept_apart(tmp_path: Path, batched: bool):
    """They ask at the same time and at the same branches, and in the same words."""
    record = Record(tmp_path / "calls.db")
    backend = Traced(Script(answered, batched=batched), record)

    async def nested(question: str) -> None:
        await gather(self_consistency(question, n=2), agent(question))
        await sample("Sum it up", 2)

    for _ in range(2):
        run([nested("a"), nested("b")], backend)
    run(ask("alone"), backend)
    backend.generate([Request((Message("user", "by hand"),))])
    root = read(page(record))
    shown = programs(root)
    inner = [
        ("round 0, child 0", [("round 0, child 0", "ok"), ("round 0, child 1", "ok")]),
        ("round 0, child 1", [("round 0", "ok"), ("round 2", "ok")]),
        ("round 1, sample 0", "ok"),
        ("round 1, sample 1", "ok"),
    ]
    assert [outline(program) for program in shown] == [inner] * 4 + [[("round 0", "ok")], [("call", "ok")]]
    assert [program.one("h3").text for program in shown[3:]] == ["Program 4", "Program 5", "Calls outside of programs"]
    asked = [program.one("span", "asked").text for program in shown]
    assert [text[0] for text in asked[:4]] == ["a", "b", "a", "b"]


def test_what_the_cache_answered_is_in_the_tree_and_costs_nothing(tmp_path: Path):
    record = Record(tmp_path / "calls.db")
    for _ in range(2):
        run(ask("q"), Cached(Traced(Script(answered), record), record, identity={"name": "s"}))
    root = read(page(record))
    assert [outline(program) for program in programs(root)] == [[("round 0", "ok")], [("round 0", "from the cache")]]
    assert [program.one("h3").text for program in programs(root)] == ["Program 1", "Program 2"]
    found = totals(root)
    assert (found["Calls sent"], found["From the cache"], found["Tokens read"], found["Dollars"]) == (
        "1",
        "1",
        "10",
        "$0.2500",
    )


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0.0, "$0"), (0.000023, "$0.000023"), (0.00107, "$0.0011"), (0.25, "$0.2500"), (12_000, "$12,000.0000")],
)
def test_a_cost_is_shown_however_small_it_is(usd: float, shown: str):
    exchange = Exchange(Request((Message("user", "q"),)), Reply("x", usage=Usage(10, 0, 5, cost_usd=usd)))
    assert totals(read(page([exchange])))["Dollars"] == shown


def test_a_call_that_was_cut_off_says_so(tmp_path: Path):
    record = Record(tmp_path / "calls.db")
    who = record.model({"name": "m"})
    told = [dumped(request_json(Request((Message("user", text),)))) for text in "ab"]
    cut, _ = record.begin(who, told, "sent", ["p", "p"])
    record.end([cut], ["cancelled"], 0.5)
    root = read(page(record))
    assert [outcome for _, outcome in outline(programs(root)[0])] == ["cancelled", "unknown"]
    found = totals(root)
    assert (found["Cancelled"], found["End not known"], found["Failed"]) == ("1", "1", "0")


def test_exchanges_of_a_traced_program_are_a_page_too():
    program = traced(attempt(agent("Cases in Basel?")))
    found = run(program, Script([answered, ModelError("gone")][1:]))
    root = read(page(found))
    assert outline(programs(root)[0]) == [("round 0", "ModelError")]
    assert page(found.exchanges) == page(found)
    assert (totals(root)["Time"], totals(root)["Failed"]) == ("not known", "1")


def test_nothing_of_what_was_said_is_html(tmp_path: Path):
    @tool
    def harmless(x: str) -> str:
        """Does nothing."""
        return x

    def hostile(request: Any) -> Any:
        if len(request.messages) > 3:
            return ModelError(NASTY)
        return Reply(NASTY, (ToolCall(NASTY, NASTY, {NASTY: NASTY}),), "calls")

    class Hostile(Script):
        identity = {"kind": NASTY, "name": NASTY, "url": NASTY}  # noqa: RUF012

    async def program() -> None:
        chat = [Message("system", NASTY), Message("user", NASTY)]
        reply = await ask(chat, tools=[harmless], schema={NASTY: NASTY}, stop=NASTY)
        chat += [reply.message, *await call(reply.calls, [harmless])]
        await attempt(ask(chat))

    run(program(), Traced(Hostile(hostile), tmp_path / f"{NASTY[:8]}calls.db"))
    html = page(tmp_path / f"{NASTY[:8]}calls.db")
    root = read(html)
    assert len(root.every("script")) == 1
    assert "alert(1)" not in root.one("script").text
    assert len(root.every("details", "call")) == 2
    assert not re.search(r"<!-- |<b>alert", html)
    assert "49" not in root.one("details", "call").text
    assert html.encode()


def test_the_page_asks_for_nothing_and_its_links_lead_somewhere(tmp_path: Path):
    run(agent("q"), Traced(Script(answered), tmp_path / "calls.db"))
    html = page(tmp_path / "calls.db")
    root = read(html)
    everything = [each for tag in ("a", "details", "dl", "span", "meta", "section") for each in root.every(tag)]
    ids = [each.attributes["id"] for each in everything if each.attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [str(link.attributes["href"]) for link in root.every("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert not re.search(r"\bsrc=|url\(|@import|fetch\(|XMLHttpRequest|<link", html)
    assert all(fold.inside and fold.every("summary") for fold in root.every("details"))
    assert all(bar.attributes["aria-hidden"] == "true" for bar in root.every("span", "bar"))


KEYS = st.one_of(
    st.from_regex(r"sk-(proj-|ant-)?[A-Za-z0-9_-]{16,48}", fullmatch=True),
    st.from_regex(r"hf_[A-Za-z0-9]{34}", fullmatch=True),
    st.from_regex(r"AKIA[A-Z0-9]{16}", fullmatch=True),
    st.from_regex(r"eyJ[A-Za-z0-9_-]{12,40}\.[A-Za-z0-9_-]{12,40}\.[A-Za-z0-9_-]{20,43}", fullmatch=True),
    st.from_regex(r"ghp_[A-Za-z0-9]{36}", fullmatch=True),
    st.from_regex(r"Bearer [a-z]{4}[0-9]{2}[A-Za-z0-9._~+/-]{8,40}", fullmatch=True),
)


@given(
    KEYS,
    st.sampled_from(["", "my key: ", "\n", '{"key": "', "key=", "\\n", "'", "é", "_"]),
    st.sampled_from(["", " x", '"']),
)
def test_what_looks_like_a_key_is_cut_off_wherever_it_stands(key: str, before: str, after: str):
    redactor = Redactor()
    said = redactor.text(before + key + after)
    secret = key.split(" ")[-1][4:]
    assert secret not in said
    assert said.startswith(before)
    assert said.endswith(after)
    assert redactor.count == 1
    assert secret not in json.dumps(redactor.value({key: [before + key, {"a": (key,)}]}))
    assert Redactor(on=False).text(before + key) == before + key


@given(st.text("abcdefghij klmnop-_.,\n", max_size=200))
def test_plain_words_are_left_as_they_are(text: str):
    assert Redactor().text(text) == text
    for words in ("task-oriented dialogue systems", "sk-learn", "hf_hub_download", "the bearer of bad news", "eyJ"):
        assert Redactor().text(words) == words


def test_a_key_is_not_on_the_page_whatever_it_stood_in(tmp_path: Path):
    key = "sk-proj-0123456789abcdefXYZ"

    def leaky(request: Any) -> Any:
        if len(request.messages) > 2:
            return ModelError(f"bad {key}")
        return Reply(f"a\n{key}", (ToolCall("c", f"n {key}", {f"x {key}": ["y\n" + key]}),), "calls")

    async def program() -> None:
        chat = [Message("system", f"<{key}>"), Message("user", f"x{'y' * 19_990} {key}")]
        reply = await ask(chat, schema={"d": key}, stop=key)
        chat += [reply.message, *await call(reply.calls, [])]
        await attempt(ask(chat))

    run(program(), Traced(Script(leaky), tmp_path / "calls.db"))
    html = page(tmp_path / "calls.db")
    assert "0123456789" not in html
    [note] = [p.text for p in read(html).every("p", "note")]
    count = int(re.search(r"In (\d+) places what looks like a key is cut off", note).group(1))  # type: ignore[union-attr]
    assert count == html.count("sk-…") - 1  # the note's own
    open_page = page(tmp_path / "calls.db", redact=False)
    assert key in open_page
    assert "Nothing was taken out" in open_page


def test_more_calls_than_fit_are_left_out_aloud_but_not_from_the_sums(tmp_path: Path):
    def served(request: Any) -> Any:
        text = request.messages[-1].content
        return ModelError("gone") if text == "q77" else Reply("x", usage=Usage(900 if text == "q55" else 1, 0, 1))

    run([attempt(gather(ask(f"q{i}"), ask("more"))) for i in range(100)], Traced(Script(served), tmp_path / "calls.db"))
    root = read(page(tmp_path / "calls.db", most_calls=30))
    calls = root.every("details", "call")
    assert len(calls) == 30
    assert root.one("p", "limit").text.startswith("This page shows 30 of 200 calls, of 1")
    assert (totals(root)["Calls sent"], totals(root)["Tokens read"]) == ("200", "1,098")
    shown = [program.one("span", "asked").text for program in programs(root)]
    assert {"q55", "q77"} <= set(shown)
    assert shown == sorted(shown, key=lambda text: int(text[1:]))
    assert [link.text for link in root.one("div", "notable").one("ol").every("a")] == ["call 155"]
    whole = read(page(tmp_path / "calls.db"))
    assert (len(whole.every("details", "call")), whole.every("p", "limit")) == (200, [])


def test_a_part_of_one_large_program_says_how_much_is_missing(tmp_path: Path):
    run(sample("q", 50), Traced(Script(answered), tmp_path / "calls.db"))
    root = read(page(tmp_path / "calls.db", most_calls=20))
    [program] = programs(root)
    assert len(program.every("details", "call")) == 20
    assert program.one("p", "limit").text.startswith("20 of its 50 calls are shown")
    assert program.one("span", "figures").text.startswith("50 calls")


def test_a_record_without_calls_says_so(tmp_path: Path):
    Record(tmp_path / "calls.db").close()
    root = read(page(tmp_path))
    assert root.one("main").one("p").text == "No call is noted in it."
    assert read(page([])).one("main").one("p").text == "No call is noted in it."


def test_files_that_are_none_are_told_and_left_as_they_are(tmp_path: Path):
    with pytest.raises(SetupError, match="no file"):
        page(tmp_path / "none.db")
    with pytest.raises(SetupError, match=r"holds no calls\.db"):
        page(tmp_path)
    other = tmp_path / "notes.txt"
    run(agent("q"), Traced(Script(answered), tmp_path / "good.db"))
    with sqlite3.connect(tmp_path / "good.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    torn = (tmp_path / "good.db").read_bytes()
    with sqlite3.connect(tmp_path / "another_s.db") as db:
        db.execute("CREATE TABLE calls (id, at)")
    for content in (
        (tmp_path / "another_s.db").read_bytes(),
        b"",
        b"not a database, but text of some length " * 9,
        torn[: len(torn) // 2],
        torn[:4096] + b"\0" * 8192,
    ):
        other.write_bytes(content)
        with pytest.raises(DataError, match=r"notes\.txt is no record of calls, or a broken one"):
            page(other)
        assert other.read_bytes() == content
    assert not list(tmp_path.glob("*broken*"))


def test_a_gather_in_a_gather_in_a_gather_has_an_end():
    """A thousand deep: no recursion gives up, and no browser has to nest that far."""
    usage = Usage(1, 0, 1)

    def line(i: int, branch: tuple[int, ...]) -> Line:
        return Line(i, 1.0, "p", branch, "m", "sent", "ok", 1.0, usage, 1)

    lines = [line(i, (0, 0) * i + (1,)) for i in range(1_000)]
    found = list(steps(tree(lines)))
    assert sorted(step.line.id for step in found if step.line) == list(range(1_000))
    assert sum(step.kind == "open" for step in found) == sum(step.kind == "close" for step in found) < 50


def promptlab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "promptlab", *arguments], capture_output=True, text=True)


def test_the_command_writes_the_page_beside_the_file_or_where_it_is_told(tmp_path: Path):
    record = Record(tmp_path / "calls.db")
    run(ask("key sk-0123456789abcdefgh"), Traced(Script(answered), record))
    assert promptlab("trace", str(tmp_path)).stdout == f"{tmp_path / 'trace.html'}\n"
    assert promptlab("trace", str(record.path)).stdout == f"{tmp_path / 'calls.trace.html'}\n"
    assert "0123456789" not in (tmp_path / "trace.html").read_text()
    done = promptlab("trace", str(tmp_path), "--out", str(tmp_path / "x.html"), "--no-redact", "--calls", "5")
    assert (done.returncode, "0123456789" in (tmp_path / "x.html").read_text()) == (0, True)
    wrong = promptlab("trace", str(tmp_path / "nowhere"))
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


def test_where_the_page_cannot_be_written_another_place_is_asked_for(tmp_path: Path):
    record = Record(tmp_path / "calls.db")
    run(ask("q"), Traced(Script(answered), record))
    (tmp_path / "trace.html").mkdir()
    done = promptlab("trace", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"{tmp_path / 'trace.html'} cannot be written" in done.stderr
    assert "--out" in done.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_shows_the_page_without_a_complaint(tmp_path: Path):
    with FakeServer(answered) as server:
        bare: Any = model(f"openai:m@{server.url}", key="sk-planted-0123456789", attempts=1)
        run([self_consistency("How many?", n=2), agent("Basel?")], Traced(bare.backend, tmp_path / "calls.db"))
    (tmp_path / "trace.html").write_text(page(tmp_path / "calls.db"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    url = f"{(tmp_path / 'trace.html').as_uri()}#call-2"
    command = ["chromium", *options, "--enable-logging=stderr", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    dom = read(done.stdout.removeprefix("<!DOCTYPE html>"))
    assert "CONSOLE" not in done.stderr
    second = next(each for each in dom.every("details", "call") if each.attributes["id"] == "call-2")
    assert "open" in second.attributes  # its script ran: what the address names is unfolded
    assert "hidden" not in dom.one("p", "controls").attributes
