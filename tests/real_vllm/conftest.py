from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contracts"))
pytest.register_assert_rewrite("same_words")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is known to differ: the server reads a special token in a text as one. Strict, so that a change is seen."""
    for item in items:
        if item.path.parent != Path(__file__).parent:
            continue
        if "test_odd_texts_are_read_alike" in item.name and "-special]" in item.name and "[vllm-" not in item.name:
            item.add_marker(
                pytest.mark.xfail(reason="vLLM's server reads <eos> in a text as a special token", strict=True)
            )
