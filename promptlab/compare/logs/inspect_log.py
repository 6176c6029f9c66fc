"""Logs of inspect_ai: a .json, or an .eval, which is a zip file of JSON (read of release 0.3.285, log version 2)."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptlab.compare.cells import Json, read_json
from promptlab.compare.logs.shape import Keys, Log, Sample, Source
from promptlab.compare.logs.zstd import entry
from promptlab.errors import DataError
from promptlab.whole import whole

LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
ATTACHED = "attachment://"
MOST_NAMED = 5
CLUSTER = "promptlab_cluster"  # in the metadata of a log that we wrote


def is_log(path: Path) -> bool:
    return path.suffix == ".eval" or (path.suffix == ".json" and {"eval", "plan"} <= set(read_json(path)))


def read(path: Path, keys: Keys) -> Source:
    """One series. A metric is a scorer, or "scorer.key" where that gives a mapping; repeats are epochs, from 0.

    Letters count as inspect counts them: C 1, P 0.5, I and N 0. Items are grouped by what the log's own clustered
    errors go by, or by a `group` in their metadata. Raises DataError where samples have no id, or the log was written
    without samples (`inspect eval --no-log-samples`).
    """
    with _intact(path):
        head, samples = _opened(path)
        about = head.get("eval") or {}
        reported, cluster = {}, "group"
        for score in (head.get("results") or {}).get("scores") or ():
            name, scorer = score["name"], score.get("scorer", score["name"])
            for mean in ("accuracy", "mean"):
                if mean in score["metrics"] and (value := as_number(score["metrics"][mean]["value"])) is not None:
                    metric = name if name == scorer else f"{scorer}.{name}"
                    reported["", metric] = value
            for made in score["metrics"].values():
                cluster = (made.get("params") or {}).get("cluster") or cluster
        task, model, created = (str(about.get(name) or "") for name in ("task", "model", "created"))
    return Source(path, "inspect", _samples(path, samples, keys, cluster), task, model, created, reported)


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Whatever in a log is not as inspect writes it is a DataError."""
    try:
        yield
    except DataError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is damaged, or not as inspect writes a log ({type(error).__name__}: {error})."
        ) from None


def _opened(path: Path) -> tuple[Json, Iterable[Json]]:
    """The log without its samples, and the samples."""
    if path.suffix != ".eval":
        log = read_json(path)
        return log, log.get("samples") or ()
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "header.json" not in names:
                raise DataError(f"{path} has no header.json: its evaluation did not end. Take a log of one that did.")
            head = json.loads(entry(archive, "header.json"))
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no zip file, as an .eval is ({error}).") from None
    return head, _entries(path, [name for name in names if name.startswith("samples/")])


def _entries(path: Path, names: Iterable[str]) -> Iterator[Json]:
    """One sample in memory at a time: they carry whole transcripts."""
    with zipfile.ZipFile(path) as archive:
        for name in names:
            yield json.loads(entry(archive, name))


def _samples(path: Path, samples: Iterable[Json], keys: Keys, cluster: str) -> Iterator[Sample]:
    number, nameless = 0, []
    with _intact(path):
        for number, sample in enumerate(samples, 1):
            about = sample.get("metadata") or {}
            name = _field(about, keys.id, path, number) if keys.id else sample.get("id")
            if name is None or name == "":
                nameless.append(number)
                continue
            group = _field(about, keys.group, path, number) if keys.group else about.get(cluster)
            scores = sample.get("scores") or {}
            usage = (sample.get("model_usage") or {}).values()
            error = (sample.get("error") or {}).get("message")
            yield Sample(
                item=str(name),
                series="",
                scores=dict(_scores(scores)),
                repeat=int(sample.get("epoch") or 1) - 1,
                target=_target(sample.get("target")),
                answer=next(
                    (str(score["answer"]) for score in scores.values() if score.get("answer") is not None), None
                ),
                group=None if group is None else str(group),
                cluster=about.get(CLUSTER),
                text=_text(sample),
                why=error if error is not None or scores else "it was not scored",
                input_tokens=sum(one.get("input_tokens", 0) for one in usage) if usage else None,
                output_tokens=sum(one.get("output_tokens", 0) for one in usage) if usage else None,
                seconds=sample.get("working_time", sample.get("total_time")),
                place=f"sample {number}",
            )
    if not number:
        raise DataError(f"{path} holds no samples: it was written with --no-log-samples, or nothing was answered.")
    if nameless:
        more = f" and {len(nameless) - MOST_NAMED:,} more" if len(nameless) > MOST_NAMED else ""
        where = ", ".join(map(str, nameless[:MOST_NAMED])) + more
        raise DataError(
            f"{path}: {len(nameless):,} samples have no id (sample {where}), so they cannot be matched. "
            "Name a field of their metadata that tells them apart with --id."
        )


def _field(about: Mapping[str, Any], name: str, path: Path, number: int) -> Any:
    if name not in about:
        there = ", ".join(about) or "none"
        raise DataError(f"{path}, sample {number}: its metadata has no field {name!r}; it has {there}.")
    return about[name]


def _scores(scores: Mapping[str, Json]) -> Iterator[tuple[str, float | None]]:
    for scorer, score in scores.items():
        value = score.get("value")
        if isinstance(value, dict):
            yield from ((f"{scorer}.{key}", as_number(inner)) for key, inner in value.items())
        else:
            yield scorer, as_number(value)


def as_number(value: Any) -> float | None:
    """inspect's value_to_float: numbers, letters, yes and no; None for what it would warn of, NaN and infinities."""
    if isinstance(value, str) and (value in LETTERS or value.lower() in LETTERS):
        return LETTERS.get(value, LETTERS.get(value.lower()))
    if not isinstance(value, bool | int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _target(target: Any) -> str | None:
    """One target; of several that are all right, each, as inspect joins them."""
    if target is None or target == "" or target == []:
        return None
    return ", ".join(map(str, target)) if isinstance(target, list) else str(target)


def _text(sample: Json) -> str | None:
    """The input; of a chat its last turn. Long texts stand once, among the attachments."""
    given = sample.get("input")
    if isinstance(given, list):
        given = given[-1].get("content") if given else None
    if isinstance(given, list):
        given = " ".join(part.get("text", "") for part in given if part.get("type") == "text")
    if isinstance(given, str) and given.startswith(ATTACHED):
        return str((sample.get("attachments") or {}).get(given.removeprefix(ATTACHED), given))
    return None if given is None else str(given)


def write(log: Log, path: Path, date: str) -> Path:
    """A log that inspect's viewer, its data frames and `read_eval_log` open: .eval, or .json by any other name."""
    head, samples = _as_inspect(log, date), [_sample(sample, log) for sample in log.samples]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".eval":
        with whole(path) as out:
            out.write(json.dumps({**head, "samples": samples}, indent=2, ensure_ascii=False) + "\n")
        return path
    part = path.with_name(f"{path.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        start = {"version": 2, "eval": head["eval"], "plan": head["plan"]}
        named: list[tuple[str, Any]] = [("_journal/start.json", start)]
        named += [(f"samples/{s['id']}_epoch_{s['epoch']}.json", s) for s in samples]
        short = ("id", "epoch", "input", "target", "scores", "metadata", "error", "model_usage")
        named += [("summaries.json", [{k: s[k] for k in short if k in s} for s in samples]), ("header.json", head)]
        for name, value in named:
            archive.writestr(zipfile.ZipInfo(name), json.dumps(value, ensure_ascii=False), zipfile.ZIP_DEFLATED)
    part.replace(path)
    return path


def _as_inspect(log: Log, date: str) -> Json:
    items = list(dict.fromkeys(sample.item for sample in log.samples))
    epochs = len({sample.repeat for sample in log.samples})
    model = log.series or log.model or "unknown"
    own = hashlib.sha256(f"{log.path}\0{log.series}".encode()).hexdigest()[:22]  # by which data frames tell logs apart
    about = {
        "created": date,
        "run_id": own,
        "eval_id": own,
        "task": log.task or "task",
        "task_id": own,
        "dataset": {"name": log.task, "samples": len(items), "sample_ids": items, "shuffled": False},
        "model": model,
        "config": {"epochs": epochs},
        "scorers": [{"name": name} for name in log.metrics],
    }
    scores = []
    for name in log.metrics:
        found = [score for sample in log.samples if (score := sample.scores.get(name)) is not None]
        mean = {"name": "accuracy", "value": math.fsum(found) / len(found), "params": {}}
        scores.append({"name": name, "scorer": name, "params": {}, "metrics": {"accuracy": mean}})
    done = {"total_samples": len(log.samples), "completed_samples": len(log.samples), "scores": scores}
    stats = {"started_at": date, "completed_at": date, "model_usage": {}}
    plan = {"name": "plan", "steps": [], "config": {}}
    return {"version": 2, "status": "success", "eval": about, "plan": plan, "results": done, "stats": stats}


def _sample(sample: Sample, log: Log) -> Json:
    said, model = sample.answer or "", log.series or log.model or "unknown"
    usage = {"input_tokens": sample.input_tokens or 0, "output_tokens": sample.output_tokens or 0}
    usage["total_tokens"] = sum(usage.values())
    turn = {"role": "assistant", "content": said, "source": "generate", "model": model}
    kept = (("group", sample.group), (CLUSTER, sample.cluster))
    scores = {
        name: {"value": score, "answer": sample.answer} for name, score in sample.scores.items() if score is not None
    }
    return {
        "id": sample.item,
        "epoch": sample.repeat + 1,
        "input": sample.text or "",
        "target": sample.target or "",
        "messages": [{"role": "user", "content": sample.text or "", "source": "input"}, turn],
        "output": {"model": model, "choices": [{"message": turn, "stop_reason": "stop"}], "completion": said},
        "scores": scores,
        "metadata": {name: known for name, known in kept if known is not None},
        "store": {},
        "events": [],
        "model_usage": {} if sample.input_tokens is None else {model: usage},
        "attachments": {},
        **({} if sample.seconds is None else {"total_time": sample.seconds, "working_time": sample.seconds}),
    }
