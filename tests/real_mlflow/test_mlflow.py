"""A study in the real MLflow, in a database of one file."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")
sys.path.insert(0, str(Path(__file__).parents[1]))

from synthetic import write_run

from promptlab.cli import main
from promptlab.compare.report import write_report
from promptlab.compare.report.mlflow import log_run
from promptlab.errors import SetupError

FEW = {"few-shot": ("prompting", "", (0.6, 0.7)), "head": ("fine-tuning", "", (0.5, 0.8))}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    size = {"n_items": 40, "seeds": (0, 1), "arms": FEW, "budgets": (8, 32)}
    folder = write_run(tmp_path / "run", **size, task="sentences", plan_sha256="ab" * 32)
    write_report(folder, 100)
    return folder


def runs_at(uri):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    [experiment] = [e for e in client.search_experiments() if e.name == "sentences"]
    return client, client.search_runs([experiment.experiment_id])


def test_every_arm_and_number_of_labels_is_a_run_below_the_studys(run, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(SystemExit) as stop:
        main(["report", str(run), "--mlflow", uri])
    assert not stop.value.code
    client, found = runs_at(uri)
    results = json.loads((run / "results.json").read_text())
    [study] = [one for one in found if "mlflow.parentRunId" not in one.data.tags]
    assert study.data.tags["mlflow.note.content"] == results["decision"]["headline"]
    assert {file.path for file in client.list_artifacts(study.info.run_id)} == {
        "results.json",
        "tables.csv",
        "tables.md",
    }
    told = {
        (one.data.params["arm"], int(one.data.params["labels"])): one.data.metrics for one in found if one is not study
    }
    assert len(told) == len(results["points"])
    for point in results["points"]:
        metrics, accuracy = told[point["arm"], point["labels"]], point["accuracy"]
        assert [metrics[f"accuracy{end}"] for end in ("", "_low", "_high")] == [
            accuracy[k] for k in ("value", "low", "high")
        ]
        assert metrics["recall advice"] == point["recall"]["advice"]["value"]
    assert FEW.keys() == {arm for arm, _ in told}


def test_a_study_that_is_logged_again_takes_the_place_of_the_first(run, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    log_run(run, uri)
    _, before = runs_at(uri)
    last = log_run(run, uri)
    _, after = runs_at(uri)
    assert len(after) == len(before)
    assert last in {one.info.run_id for one in after}


def test_what_may_not_leave_the_machine_goes_to_no_server(run):
    told = json.loads((run / "results.json").read_text())
    told["run"]["arguments"]["local_only"] = True
    (run / "results.json").write_text(json.dumps(told))
    with pytest.raises(SetupError, match="local-only"):
        log_run(run, "https://mlflow.example.org")


def test_a_folder_of_files_is_refused_with_what_to_use(run):
    with pytest.raises(SetupError, match="sqlite"):
        log_run(run, "mlruns")
