"""Logs of evaluations, of promptlab's own runs and of other tools, each read into one shape.

A log is named by its path; one that holds several series by PATH:SERIES, as in runs/notes:few-shot-knn@32 (an arm with
its labels) or samples_gsm8k_….jsonl:strict-match (a filter of lm-eval's).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from promptlab.compare.logs import folder, inspect_log, lm_eval
from promptlab.compare.logs.shape import Keys, Log, Sample, Source
from promptlab.errors import DataError

__all__ = ["FORMATS", "Keys", "Log", "Sample", "every_series", "open_log", "read_log"]

USUAL = Keys()


class Format(NamedTuple):
    """A kind of log: how to know one, and how to read it."""

    is_one: Callable[[Path], bool]
    read: Callable[[Path, Keys], Source]


FORMATS = {
    "promptlab": Format(folder.is_run, folder.read),
    "lm-eval": Format(lm_eval.is_log, lm_eval.read),
    "inspect": Format(inspect_log.is_log, inspect_log.read),
}
KNOWN = (
    "Logs are a promptlab run's folder, a samples_….jsonl, results_….json or folder of lm_eval --log_samples, "
    "or an .eval or .json of inspect"
)


def open_log(path: Path, keys: Keys = USUAL) -> Source:
    """A log of any format. Raises DataError where there is none, or its format is not known."""
    if not path.exists():
        raise DataError(f"There is no log {path}. {KNOWN}.")
    for format in FORMATS.values():
        if format.is_one(path):
            return format.read(path, keys)
    raise DataError(f"{path} is no log that can be read. {KNOWN}.")


def split(name: str) -> tuple[Path, str]:
    """The path and the series of PATH:SERIES; a path that exists is a path, colons and all."""
    path, colon, series = name.rpartition(":")
    return (Path(path), series) if colon and path and not Path(name).exists() else (Path(name), "")


def read_log(name: str, keys: Keys = USUAL) -> Log:
    """One series of the log that PATH or PATH:SERIES names.

    Raises DataError where an item was answered twice in one repeat, where there is no such series, and where there are
    several and none was named.
    """
    path, wanted = split(name)
    source = open_log(path, keys._replace(series=wanted))
    kept: list[Sample] = []
    series: dict[str, None] = {}
    seen: dict[tuple[str, int], str] = {}
    for sample in source.samples:
        series[sample.series] = None
        if sample.series != (wanted or next(iter(series))):
            continue
        first = seen.setdefault((sample.item, sample.repeat), sample.place)
        if first != sample.place:
            raise DataError(f"{path}: item {sample.item!r} stands there twice ({first}, and {sample.place}).")
        kept.append(sample)
    if not series:
        raise DataError(f"{path} holds no samples.")
    if wanted and wanted not in series:
        raise DataError(f"{path} has no {wanted!r}. It has: {', '.join(series) or 'one series without a name'}.")
    if not wanted and len(series) > 1:
        raise DataError(
            f"{path} holds {len(series)} series: name one, as in {path}:{next(iter(series))}. "
            f"It has: {', '.join(series)}."
        )
    chosen = wanted or next(iter(series))
    reported = {metric: value for (of, metric), value in source.reported.items() if of == chosen}
    return Log(path, source.tool, chosen, tuple(kept), source.task, source.model, source.created, reported)


def every_series(path: Path, keys: Keys = USUAL) -> list[Log]:
    """All series of a log, in their order."""
    source = open_log(path, keys)
    found: dict[str, list[Sample]] = {}
    for sample in source.samples:
        found.setdefault(sample.series, []).append(sample)
    return [
        Log(path, source.tool, name, tuple(samples), source.task, source.model, source.created)
        for name, samples in found.items()
    ]
