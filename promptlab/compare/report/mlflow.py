"""A finished study in MLflow: a run for the study, and below it one for each arm and number of labels."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptlab.backends import needs
from promptlab.compare.cells import Json, read_json
from promptlab.compare.report.cost_tables import pairs
from promptlab.compare.report.tables import PLAIN, SPANS, SPENT, as_csv, as_markdown
from promptlab.errors import PromptlabError, SetupError, reason

ID = "promptlab.study"  # the tag by which what was logged before is found
MOST_AT_ONCE = 1_000  # metrics in a request, by MLflow
NAMED = {"|": "_or_", ",": "_", "%": "percent", "(": "_", ")": "_"}  # what a metric's name may not hold


def log_run(folder: Path, uri: str) -> str:
    """Log the study in a folder to the tracking server or database at `uri`; gives the id of the study's run.

    Its tables and results.json are its artifacts. The texts that were asked and answered are not sent, nor the page
    that shows them. A study that was logged before takes the place of what was. Raises SetupError for a file store,
    which MLflow has given up, and for a server where the run was `--local-only`; PromptlabError where MLflow refuses.
    """
    needs("mlflow")
    results = read_json(folder / "results.json")
    run, scheme = results["run"], uri.partition("://")[0] if "://" in uri else "file"
    if scheme == "file":
        raise SetupError(f"--mlflow {uri}: MLflow keeps no runs in plain folders any more. Use sqlite:///mlflow.db.")
    if (run.get("arguments") or {}).get("local_only") and scheme != "sqlite":
        raise SetupError(f"--mlflow {uri}: the run is --local-only, and a server may be elsewhere. Use sqlite:///….")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nobody asked for that
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        return _logged(MlflowClient(tracking_uri=uri, registry_uri=uri), folder, results)
    except MlflowException as error:
        raise PromptlabError(f"MLflow at {uri} refused: {reason(error)}") from error


def _logged(client: Any, folder: Path, results: Json) -> str:
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    run, name = results["run"], str(results["run"].get("task") or folder.name)
    there = client.get_experiment_by_name(name)
    experiment = there.experiment_id if there else client.create_experiment(name)
    id = f"{run.get('plan_sha256', '')[:16]} {run.get('started', '')}"
    for old in client.search_runs([experiment], f"tags.`{ID}` = '{id}'", max_results=1_000):
        client.delete_run(old.info.run_id)
    study = client.create_run(experiment, run_name=folder.resolve().name, tags={ID: id}).info.run_id
    decision = results["decision"]
    client.set_tag(study, "mlflow.note.content", decision["headline"])
    for key in ("command", "model", "machine", "n_train", "n_test", "plan_sha256"):
        if run.get(key) is not None:
            client.log_param(study, key, str(run[key]))
    if decision["p"] is not None:
        client.log_metric(study, "p", decision["p"])
    with TemporaryDirectory() as scratch:
        for file, text in (("tables.md", as_markdown(results)), ("tables.csv", as_csv(results))):
            (Path(scratch) / file).write_text(text, encoding="utf-8")
            client.log_artifact(study, str(Path(scratch) / file))
    client.log_artifact(study, str(folder / "results.json"))
    for point, spent in pairs(results):
        title, tags = f"{point['arm']}, {point['labels']} labels", {ID: id, "mlflow.parentRunId": study}
        child = client.create_run(experiment, run_name=title, tags=tags).info.run_id
        params = [Param(key, str(point[key])) for key in ("arm", "family", "labels")]
        metrics = [Metric(metric, value, now, 0) for metric, value in _metrics(point, spent)]
        metrics += [Metric("accuracy_by_seed", value, now, int(seed)) for seed, value in point["by_seed"].items()]
        for start in range(0, len(metrics), MOST_AT_ONCE):
            client.log_batch(child, metrics[start : start + MOST_AT_ONCE], () if start else params)
        client.set_terminated(child)
    client.set_terminated(study)
    return str(study)


def _metrics(point: Json, spent: Json) -> Iterator[tuple[str, float]]:
    """What is known of an arm at a number of labels, with the ends of each interval."""
    spans = {name: point[name] for name in SPANS}
    spans |= {f"recall {name}": found for name, found in point["recall"].items()}
    found = [
        (f"{n}{e}", i[k]) for n, i in spans.items() if i for k, e in (("value", ""), ("low", "_low"), ("high", "_high"))
    ]
    found += [(name, point[name]) for name in PLAIN] + [(name, spent[name]) for name in SPENT]
    found += [(f"{unit} {part}", bill[part]) for unit, bill in spent["bills"].items() for part in ("once", "query")]
    for name, value in found:
        if value is not None:
            yield "".join(NAMED.get(sign, sign) for sign in name), float(value)
