"""Logs of lm-evaluation-harness, as `lm_eval --log_samples --output_path DIR` writes them (read of release 0.4.13).

A samples_TASK_DATE.jsonl holds a line for each document and filter; results_DATE.json, beside it, the means.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from promptlab.compare.cells import Json, read_json, read_lines
from promptlab.compare.logs.shape import Keys, Log, Sample, Source
from promptlab.errors import DataError
from promptlab.whole import whole

NAMED = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
INVALID = "[invalid]"  # what its filters write where nothing was found
MOST_NAMED = 5
DAMAGED = "Is it all of the file, and of lm_eval?"


def is_log(path: Path) -> bool:
    """A folder with samples, a results_….json, or a file of samples."""
    if path.is_dir():
        return any(path.rglob("samples_*.jsonl"))
    if path.suffix == ".json":
        return path.name.startswith("results_")
    return path.suffix == ".jsonl" and "doc_id" in next(read_lines(path, DAMAGED), {})


def read(path: Path, keys: Keys) -> Source:
    """Series are its filters. An item is its doc_id, with the task before it where there are several tasks.

    Raises DataError where a folder holds a task twice: then one results_….json has to be named.
    """
    files = _files(path)
    tasks = [task for task, _ in files.items()]
    results = _results(path, next(iter(files.values())))
    samples = (s for task, file in files.items() for s in _samples(file, f"{task}/" if len(files) > 1 else "", keys))
    reported = _reported(results.get("results") or {}, tasks[0]) if len(tasks) == 1 else {}
    model, date = str(results.get("model_name") or ""), results.get("date")
    created = datetime.fromtimestamp(date, UTC).isoformat() if isinstance(date, int | float) else str(date or "")
    return Source(path, "lm-eval", samples, ", ".join(tasks), model, created, reported)


def _files(path: Path) -> dict[str, Path]:
    """The file of each task."""
    if path.is_dir():
        found = sorted(path.rglob("samples_*.jsonl"))
    elif path.suffix == ".json":
        found = sorted(path.parent.glob(f"samples_*_{path.stem.removeprefix('results_')}.jsonl"))
    else:
        found = [path]
    if not found:
        raise DataError(f"Beside {path} is no samples_….jsonl of its date: lm_eval writes them on --log_samples.")
    tasks: dict[str, list[Path]] = defaultdict(list)
    for file in found:
        named = NAMED.fullmatch(file.name)
        tasks[named["task"] if named else file.stem].append(file)
    if twice := [task for task, files in tasks.items() if len(files) > 1]:
        many = ", ".join(file.name for file in tasks[twice[0]])
        raise DataError(f"{path} holds the task {twice[0]} more than once ({many}). Name one of its results_….json.")
    return {task: files[0] for task, files in tasks.items()}


def _results(path: Path, sample: Path) -> Json:
    if path.is_file() and path.suffix == ".json":
        return read_json(path)
    named = NAMED.fullmatch(sample.name)
    beside = sample.with_name(f"results_{named['date']}.json") if named else sample
    return read_json(beside) if named and beside.exists() else {}


def _reported(results: Mapping[str, Any], task: str) -> dict[tuple[str, str], float]:
    """The means of a task: results.json keeps them as "metric,filter"."""
    found = {}
    for key, value in (results.get(task) or {}).items():
        metric, _, series = key.rpartition(",")
        if metric and isinstance(value, int | float) and not metric.endswith("_stderr"):
            found[series, metric] = float(value)
    return found


def _samples(path: Path, prefix: str, keys: Keys) -> Iterator[Sample]:
    nameless = []
    for number, line in enumerate(read_lines(path, DAMAGED), 1):
        doc: Json = line["doc"] if isinstance(line.get("doc"), dict) else {}
        name = _field(doc, keys.id, path, number) if keys.id else line.get("item", line.get("doc_id"))
        if name is None or name == "":
            nameless.append(number)
            continue
        if not isinstance(line.get("metrics"), list):
            raise DataError(f"{path}, line {number} has no list of metrics: is it of --log_samples, by 0.4.9 or later?")
        group = _field(doc, keys.group, path, number) if keys.group else doc.get("group")
        answer, target = _answered(line)
        yield Sample(
            item=f"{prefix}{name}",
            series="none" if "repeat" in line else str(line.get("filter", "none")),
            scores={metric: _number(line.get(metric)) for metric in line["metrics"]},
            repeat=line.get("repeat", 0),
            target=target,
            answer=None if answer == INVALID else answer,
            group=None if group is None else str(group),
            cluster=line.get("cluster"),
            text=_asked(line),
            why="the filter found no answer" if answer == INVALID else None,
            content=str(line.get("doc_hash") or ""),
            place=f"{path.name}, line {number}",
        )
    if nameless:
        more = f" and {len(nameless) - MOST_NAMED:,} more" if len(nameless) > MOST_NAMED else ""
        lines = ", ".join(map(str, nameless[:MOST_NAMED])) + more
        raise DataError(
            f"{path}: {len(nameless):,} samples have no doc_id (line {lines}), so they cannot be matched. "
            "Name a field of doc that tells items apart with --id."
        )


def _field(doc: Json, name: str, path: Path, number: int) -> Any:
    if name not in doc:
        raise DataError(f"{path}, line {number}: doc has no field {name!r}; it has {', '.join(map(str, doc))}.")
    return doc[name]


def _number(value: Any) -> float | None:
    """A score; a pair such as perplexity's (log-probability, words) is none, nor are NaN and infinities."""
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        return None
    return float(value)


def _asked(line: Json) -> str | None:
    first = (line.get("arguments") or {}).get("gen_args_0") if isinstance(line.get("arguments"), dict) else None
    return str(first["arg_0"]) if first and "arg_0" in first else None


def _answered(line: Json) -> tuple[str | None, str | None]:
    """The answer and the target; of a choice scored by log-probabilities, the likeliest, both as they were asked.

    The likeliest is that of `acc`: `acc_norm` divides by the length and may choose another one.
    """
    made, target = line.get("filtered_resps") or [], line.get("target")
    given = list((line.get("arguments") or {}).values()) if isinstance(line.get("arguments"), dict) else []
    choices = [str(one.get("arg_1")).strip() for one in given]
    if len(made) > 1 and len(made) == len(choices) and all(isinstance(one, list) and len(one) == 2 for one in made):
        likely = [float(one[0]) for one in made]
        place = str(target)
        aim = choices[int(place)] if place.isdecimal() and int(place) < len(choices) else place
        return choices[likely.index(max(likely))], aim
    said = made[0] if len(made) == 1 else made
    answer = said if isinstance(said, str) else None if said == [] else json.dumps(said, ensure_ascii=False)
    return answer, None if target is None else str(target)


def write(logs: Sequence[tuple[str, Log]], folder: Path, date: str) -> list[Path]:
    """Each log as a task of lm-eval's: samples_NAME_DATE.jsonl, and one results_DATE.json for all of them.

    A document is what promptlab knows of an item: its id, text and group. doc_id counts them, as there; the id itself
    stands under `item`. Repeats are lines of their own, and since lm-eval has none, filters to it: "none", "repeat 1".
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = re.sub(r"[^\dT-]", "-", date[:19])
    paths, results = [], {}
    for name, log in logs:
        places: dict[str, int] = {}
        path = folder / f"samples_{name}_{stamp}.jsonl"
        with whole(path) as out:
            for sample in log.samples:
                place = places.setdefault(sample.item, len(places))
                out.write(json.dumps(_line(sample, place, log), ensure_ascii=False) + "\n")
        paths.append(path)
        results[name] = {"alias": name, **_means(log)}
    about = {"results": results, "configs": {name: {"task": name} for name in results}}
    about |= {"versions": dict.fromkeys(results, 0), "n-shot": dict.fromkeys(results, 0)}
    about |= {"higher_is_better": {name: dict.fromkeys(log.metrics, True) for name, log in logs}}
    about |= {"n-samples": {name: dict.fromkeys(("original", "effective"), _n(log)) for name, log in logs}}
    about |= {"config": {"model": logs[0][1].model}, "model_name": logs[0][1].model, "date": date}
    with whole(folder / f"results_{stamp}.json") as out:
        out.write(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return [*paths, folder / f"results_{stamp}.json"]


def _filter(sample: Sample, log: Log) -> str:
    return "none" if sample.repeat == log.samples[0].repeat else f"repeat {sample.repeat}"


def _line(sample: Sample, place: int, log: Log) -> Json:
    doc = {"id": sample.item, "text": sample.text, "group": sample.group}
    target, answer = sample.target or "", INVALID if sample.answer is None else sample.answer
    scores = {name: score for name, score in sample.scores.items() if score is not None}
    hashed = {
        "doc_hash": json.dumps(doc, indent=2, ensure_ascii=False),
        "prompt_hash": sample.text or "",
        "target_hash": target,
    }
    return {
        "doc_id": place,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": sample.text or "", "arg_1": {}}},
        "resps": [[answer]],
        "filtered_resps": [answer],
        "filter": _filter(sample, log),
        "metrics": list(scores),
        **{name: hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for name, text in hashed.items()},
        **scores,
        "item": sample.item,
        "repeat": sample.repeat,
        **({} if sample.cluster is None else {"cluster": sample.cluster}),
    }


def _means(log: Log) -> dict[str, float | str]:
    """As lm-eval's results: "metric,filter" and "metric_stderr,filter", the filters being the repeats."""
    found: dict[str, list[float]] = defaultdict(list)
    for sample in log.samples:
        for name, score in sample.scores.items():
            if score is not None:
                found[f"{name},{_filter(sample, log)}"].append(score)
    means: dict[str, float | str] = {}
    for key, scores in found.items():
        metric, _, series = key.rpartition(",")
        means[key] = math.fsum(scores) / len(scores)
        means[f"{metric}_stderr,{series}"] = mean_stderr(scores)
    return means


def mean_stderr(scores: Sequence[float]) -> float | str:
    """lm-eval's: the standard deviation over n - 1 by the root of n, clusters or not; "N/A" for one score."""
    n = len(scores)
    if n < 2:
        return "N/A"
    mean = math.fsum(scores) / n
    return math.sqrt(math.fsum((x - mean) ** 2 for x in scores) / (n - 1) / n)


def _n(log: Log) -> int:
    return len({sample.item for sample in log.samples})
