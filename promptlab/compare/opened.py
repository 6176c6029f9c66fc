"""Which items of a test were opened before, by runs beside one: what was changed since may be chosen on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from promptlab.compare.plan import data_sha256
from promptlab.splits import text_key
from promptlab.types import Example
from promptlab.whole import whole

TEST_TEXTS = "test_texts.txt"  # a key for each text of a test that was opened
NOTED = ("test_opened", "test_openings")  # in run.json, when a study's test was, or an optimiser's


def text_keys(examples: Iterable[Example]) -> list[str]:
    """By which the texts of a test are known again in another run: 16 digits each."""
    return [text_key(example.input).hex()[:16] for example in examples]


def keep_keys(folder: Path, test: Sequence[Example]) -> None:
    """Have other runs know which items are opened here."""
    with whole(folder / TEST_TEXTS) as out:
        out.writelines(f"{key}\n" for key in text_keys(test))


def opened_elsewhere(folder: Path, test: Sequence[Example]) -> dict[str, Any]:
    """For run.json, when its test is first opened: the runs in folders beside this one that have opened some of these
    test items, and how many they did.

    An item is known by its text; a run of before, which kept no keys of texts, by the hash of its whole test.
    """
    keys, test_sha256 = text_keys(test), data_sha256(test)
    found, known = list[str](), set[str]()
    for other in sorted(folder.resolve().parent.glob("*/run.json")):
        with suppress(OSError, ValueError, AttributeError):  # some other tool's run.json
            run = json.loads(other.read_text(encoding="utf-8"))
            if other.parent == folder.resolve() or not any(run.get(name) for name in NOTED):
                continue
            same = run.get("data", {}).get("test_sha256") == test_sha256
            there = keys if same else (other.parent / TEST_TEXTS).read_text(encoding="utf-8").split()
            if seen := set(keys).intersection(there):
                found.append(other.parent.name)
                known |= seen
    return {"test_opened_elsewhere": found, "test_items_opened_elsewhere": sum(key in known for key in keys)}


def told_of_elsewhere(run: Mapping[str, Any], of: int) -> str | None:
    """What a report says where some of its `of` test items were opened by other runs before."""
    if not (others := run.get("test_opened_elsewhere")):
        return None
    n = run.get("test_items_opened_elsewhere")  # runs of before knew of identical tests alone
    some = f"All {of:,} test items were" if n == of else f"{n:,} of the {of:,} test items {'was' if n == 1 else 'were'}"
    by = "another run" if len(others) == 1 else f"{len(others)} other runs"
    return (
        f"{'The same test was' if n is None else some} opened before by {by} beside this one ({', '.join(others)}): "
        "what was changed in view of that was chosen on this test."
    )
