"""The page of a trace: what it all came to, the calls to look at first, and every program's calls as a tree."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.backends.wrappers.record import Record
from promptlab.backends.wrappers.recorded import FILE
from promptlab.backends.wrappers.recordings import Call, calls_in
from promptlab.errors import ModelError, SetupError
from promptlab.jsonable import reply_json
from promptlab.program import Exchange, Traced
from promptlab.trace.choosing import LONGEST_TEXT, MOST_CALLS, chosen, line_of, notable
from promptlab.trace.redacting import Redactor
from promptlab.trace.tree import Line, Step, Sum, by_program, steps, tree
from promptlab.types import Message, Reply, Usage

Source = str | Path | Record | Traced[Any] | Sequence[Exchange]


class Shown(NamedTuple):
    """A call as it stands on the page. `same` is the call whose turns come before `turns`, if there is one."""

    call: Call
    turns: tuple[Message, ...]
    same: int | None
    before: int


class Program(NamedTuple):
    """A program on the page. `name` is empty for calls that no runner made."""

    number: int
    name: str
    sum: Sum
    steps: list[Step]
    shown: int
    asked: str


def page(source: Source, *, redact: bool = True, most_calls: int = MOST_CALLS) -> str:
    """The HTML of a trace: of a record, of its file or the folder of a run, or of what `traced` gives.

    It needs no network and no other file. Where there are more calls than `most_calls`, or than 8 MB of text, it shows
    the failed, slowest and dearest with their programs, then the others from the first on, and says so; what is added
    up is all of them. What looks like a key is cut off, unless `redact` is False.

    Programs are told apart by the names that their runners gave them. Of requests that were equal and asked at the same
    time through a cache only one was noted, in the program that came first. Raises SetupError where there is no file,
    DataError for one that is no record of calls.
    """
    title, read = _read(source)
    lines = [line_of(call) for call in read(None)]
    found = notable(lines)
    ids = chosen(lines, found, most_calls)
    shown = _shown(call for call in read(ids) if call.id in ids)
    redactor = Redactor(redact)
    programs = [_program(i, name, of, shown) for i, (name, of) in enumerate(by_program(lines).items(), 1)]
    models = [(name, Sum.of([line for line in lines if line.model == name])) for name in {x.model: 0 for x in lines}]
    template = environment(redactor).get_template("trace.html.jinja")
    body: str = template.render(
        title=title,
        total=Sum.of(lines),
        models=models,
        notable=found,
        programs=[program for program in programs if program.shown],
        n_programs=len(programs),
        shown=shown,
        labels={step.line.id: program.number for program in programs for step in program.steps if step.line},
        timed=any(line.at for line in lines),
    )
    note = redactor.count
    return body.replace("<!--redacted-->", _redacted(note, redact), 1).encode("utf-8", "backslashreplace").decode()


def _redacted(count: int, redact: bool) -> str:
    if not redact:
        return "Nothing was taken out: what looks like a key is shown as it is."
    if not count:
        return "Nothing shown looks like a key."
    where = "In one place" if count == 1 else f"In {count:,} places"
    return f"{where} what looks like a key is cut off, as in “sk-…”; <code>--no-redact</code> shows it."


def _read(source: Source) -> tuple[str, Callable[[set[int] | None], Iterable[Call]]]:
    """What it is called, and what reads its calls, or at least those of some ids, as often as one wants to."""
    if isinstance(source, Record):
        calls = list(source.calls())
        return str(source.path), lambda ids: calls
    if isinstance(source, str | Path):
        path = file_of(Path(source))
        return str(path), lambda ids: calls_in(path, ids)
    exchanges = source.exchanges if isinstance(source, Traced) else source
    noted = [_noted(i, exchange) for i, exchange in enumerate(exchanges)]
    return "a traced program", lambda ids: noted


def file_of(path: Path) -> Path:
    """The file of calls that a path names: itself, or the one in a run's folder. Raises SetupError for neither."""
    found = path / FILE if path.is_dir() else path
    if found.is_file():
        return found
    if path.is_dir():
        raise SetupError(f"{path} holds no {FILE}: calls are noted of models behind HTTP, and with model(…, cache=…).")
    raise SetupError(f"There is no file {path}. Give a file of calls, or the folder of a run.")


def _noted(i: int, exchange: Exchange) -> Call:
    """An exchange as a call, of which neither the model is known nor the time."""
    request, reply = exchange
    answered = reply if isinstance(reply, Reply) else reply.reply
    outcome = type(reply).__name__ if isinstance(reply, ModelError) else "ok"
    usage = answered.usage if answered is not None else Usage()
    return Call(i + 1, 0.0, {}, request, "sent", outcome, 0.0, usage, reply_json(reply))


def _program(number: int, name: str, lines: list[Line], shown: dict[int, Shown]) -> Program:
    own = [line for line in lines if line.id in shown]
    asked = next((_asked(shown[line.id].call) for line in own), "")
    return Program(number, name, Sum.of(lines), list(steps(tree(own))), len(own), asked)


def _asked(call: Call) -> str:
    """What a program is about, as far as its first call shows: the last that the user says in it."""
    said = [message.content for message in call.request.messages if message.role == "user"]
    return " ".join((said or [""])[-1][:2_000].split())


def _shown(calls: Iterable[Call]) -> dict[int, Shown]:
    """Calls by their ids, each without the turns that stand at an earlier one of the same program already."""
    shown: dict[int, Shown] = {}
    chats: dict[tuple[str, tuple[Message, ...]], int] = {}
    for call in calls:
        turns, program = call.request.messages, call.request.program
        before = next((n for n in range(len(turns), 0, -1) if (program, turns[:n]) in chats), 0)
        same = chats[program, turns[:before]] if before else None
        shown[call.id] = Shown(call, turns[before:], same, before)
        chats.setdefault((program, turns), call.id)
    return shown


def environment(redactor: Redactor) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("promptlab.trace", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def said(text: Any) -> str:
        clean = redactor.text(str(text))
        more = len(clean) - LONGEST_TEXT
        return clean if more <= 0 else f"{clean[:LONGEST_TEXT]} [… {more:,} more characters]"

    def as_json(value: Any) -> str:
        return said(json.dumps(redactor.value(value), indent=2, ensure_ascii=False, default=str))

    found.filters |= {"said": said, "json": as_json, "brief": lambda text: _brief(said(text))}
    found.filters |= {"seconds": _seconds, "usd": _usd, "when": _when, "tokens": _tokens, "counted": _counted}
    found.globals |= {"bar": _bar, "options": _options}
    return found


def _brief(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:89]}…"


def _seconds(x: float) -> str:
    if x < 0.9995:
        return f"{1000 * x:.0f} ms" if x >= 0.0095 or x == 0 else f"{1000 * x:.1f} ms"
    return f"{x:.1f} s" if x < 100 else f"{x:,.0f} s"


def _usd(usage: Usage) -> str:
    if not usage.cost_usd:
        return "$0" if usage.cost_usd is not None else "not known"
    places = max(4, 1 - math.floor(math.log10(usage.cost_usd)))  # two figures of the smallest cost too
    return f"${usage.cost_usd:,.{places}f}"


def _tokens(usage: Usage) -> str:
    return f"{usage.input_tokens:,} → {usage.output_tokens:,} tokens"


def _counted(n: int, one: str) -> str:
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "not known"


def _bar(line: Line, sum: Sum) -> str:
    """Where in its program's time a call stands, as a style."""
    whole = sum.end - sum.begin or 1.0
    left = min(100 * (line.at - sum.begin) / whole, 99.0)
    return f"--from:{left:.1f}%;--wide:{min(max(100 * line.seconds / whole, 1.0), 100 - left):.1f}%"


def _options(call: Call) -> Iterator[tuple[str, Any]]:
    """What a request asked beside its messages, tools and schema, where that is not the default."""
    request = call.request
    for name in ("temperature", "max_tokens", "seed"):
        if (value := getattr(request, name)) is not None:
            yield name, value
    if request.top_p != 1:
        yield "top_p", request.top_p
    if request.stop:
        yield "stop", list(request.stop)
    if request.logprobs:
        yield "logprobs", True
