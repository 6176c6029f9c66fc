"""Every Python block of the README runs as it stands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_has_python() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_a_block_of_the_readme_runs(block: int, tmp_path: Path) -> None:
    demo = tmp_path / "promptlab" / "demo"
    demo.mkdir(parents=True)
    shutil.copy(ROOT / "promptlab" / "demo" / "outbreak_reports.csv", demo)
    done = subprocess.run([sys.executable, "-c", BLOCKS[block]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_table_of_models_is_what_the_code_declares() -> None:
    from promptlab.backends.capabilities import as_markdown

    assert as_markdown() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_optimisers_names_them_all() -> None:
    from promptlab.optimizers import OPTIMIZERS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in OPTIMIZERS if f"`{name}`" not in text] == []
