"""`promptlab compare A B`, of two logs, and what is written of them for other tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from promptlab.compare.cells import read_json
from promptlab.compare.logs import Keys, Log, every_series, inspect_log, lm_eval, read_log
from promptlab.compare.logs.comparing import Comparison, compare_logs
from promptlab.compare.logs.judging import METRIC, judged, read_people
from promptlab.compare.logs.saying import as_csv, as_markdown
from promptlab.compare.report import tables
from promptlab.compare.runner import file_name, locked
from promptlab.errors import PromptlabError, SetupError
from promptlab.types import Backend
from promptlab.whole import whole

TABLES = ("csv", "markdown")
TOOLS = ("lm-eval", "inspect")
UNDATED = "1970-01-01T00:00:00+00:00"


class Judge(NamedTuple):
    """Who judges two logs' answers by what, what people say of some, and where its answers are kept."""

    backend: Callable[[Path], Backend]  # of the folder
    name: str
    criterion: str
    people: Path | None
    folder: Path


def compare_two(
    a: str,
    b: str,
    metric: str,
    id: str,
    group: str,
    export: tuple[str, Path] | None,
    quiet: bool,
    judge: Judge | None = None,
) -> None:
    """Print what two logs show, by a metric of theirs or by a judge; write it, or the logs, where `export` says."""
    if export:
        known(export[0], TABLES + TOOLS)
    logs = [read_log(name, Keys(id, group)) for name in (a, b)]
    if (id or group) and all(log.tool == "promptlab" for log in logs):
        unused = " and ".join(f"--{name}" for name, given in (("id", id), ("group", group)) if given)
        raise SetupError(
            f"Both logs are promptlab's, whose items and groups are those of their runs: leave out {unused}."
        )
    found = compare_logs(logs[0], logs[1], metric) if judge is None else by_judge(logs[0], logs[1], judge)
    print(found.verdict if quiet else as_markdown(found), end="\n" if quiet else "")
    if export:
        format, path = export
        if format in TABLES:
            whole_table = partial(as_markdown, most_listed=len(found.matched.ids))
            write_text(path, as_csv(found) if format == "csv" else whole_table(found))
        else:
            export_logs(format, [("a", logs[0]), ("b", logs[1])], path)


def by_judge(a: Log, b: Log, judge: Judge) -> Comparison:
    """The comparison by which answers a judge prefers; a hosted judge's replies are kept in the folder."""
    people = read_people(judge.people) if judge.people else None
    with locked(judge.folder):
        scored_a, scored_b, told = judged(a, b, judge.criterion, judge.backend(judge.folder), judge.name, people)
    return replace(compare_logs(scored_a, scored_b, METRIC), judging=told)


def write_tables(folder: Path, markdown: Path | None, csv: Path | None) -> None:
    """A run's tables, where they are wanted."""
    results = read_json(folder / "results.json")
    if markdown:
        write_text(markdown, tables.as_markdown(results))
    if csv:
        write_text(csv, tables.as_csv(results))


def export_run(folder: Path, format: str, to: Path) -> list[Path]:
    """Every series of a log, for another tool."""
    known(format, TOOLS)
    return export_logs(format, [(file_name(log.series), log) for log in every_series(folder)], to)


def export_logs(format: str, logs: Sequence[tuple[str, Log]], folder: Path) -> list[Path]:
    """Into a folder: what lm_eval --log_samples would write, or an .eval of inspect for each."""
    date = logs[0][1].created or UNDATED
    if folder.is_file():
        raise SetupError(f"{folder} is a file, and {format} takes a folder: name another one.")
    try:
        if format == "lm-eval":
            return lm_eval.write(logs, folder, date)
        return [inspect_log.write(log, folder / f"{name}.eval", date) for name, log in logs]
    except OSError as error:
        raise PromptlabError(f"{folder} cannot be written ({error.strerror}): choose another place.") from error


def known(format: str, formats: Sequence[str]) -> None:
    if format not in formats:
        raise SetupError(f"--export takes one of {', '.join(formats)} and where to write, got {format!r}.")


def write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as out:
            out.write(text)
    except OSError as error:
        raise PromptlabError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
