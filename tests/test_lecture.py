"""The lecture's figures come out of our functions, and its notebook runs from start to end."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LECTURE = BENCHMARKS / "lecture.ipynb"


def test_the_notebook_runs_every_stated_figure_holds_and_every_chapter_has_its_picture():
    book = nbformat.read(LECTURE, as_version=4)
    NotebookClient(book, timeout=900, startup_timeout=300, resources={"metadata": {"path": str(BENCHMARKS)}}).execute()
    shown = {
        cell.id: "".join(output.data["text/html"] for output in cell.outputs if output.output_type == "execute_result")
        for cell in book.cells
        if cell.cell_type == "code"
    }
    worked = {name: html for name, html in shown.items() if name.endswith("-worked")}
    assert len(worked) == 8
    assert all(" ok " in html for html in worked.values())
    assert not [name for name, html in shown.items() if "MISSED" in html]
    assert all("<img " in shown[name.replace("-worked", "-measured")] for name in worked)


def test_the_notebook_is_what_the_chapters_make_and_holds_no_outputs(tmp_path):
    command = [sys.executable, BENCHMARKS / "lecture.py", "--notebook", tmp_path / "made.ipynb"]
    subprocess.run(command, check=True)
    assert (tmp_path / "made.ipynb").read_bytes() == LECTURE.read_bytes()
    assert not any(cell.get("outputs") for cell in nbformat.read(LECTURE, as_version=4).cells)


@pytest.mark.parametrize(("value", "holds"), [(0.3565, True), (0.35667, True), (0.3576, False), (0.3564, False)])
def test_a_stated_figure_holds_if_ours_rounds_to_it(monkeypatch, value, holds):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from chapters.shown import stated

    assert stated("MLM loss", value, "nats", "0.357")["ok"] is holds
