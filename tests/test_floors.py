"""Who may import whom: lower floors never know higher ones, and neighbours do not know each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "promptlab"

FLOORS = {
    "types": 0,
    "errors": 0,
    "characters": 0,
    "whole": 0,
    "effort": 0,
    "program": 1,
    "runners": 1,
    "options": 1,
    "jsonable": 1,
    "alternatives": 1,
    "constrained": 1,
    "extraction": 1,
    "equality": 1,
    "prompt": 1,
    "rules": 1,
    "splits": 1,
    "tool": 1,
    "words": 1,
    "task": 1,
    "strategies": 2,
    "optimizers": 2,
    "backends": 2,
    "tiny": 2,
    "tools": 2,
    "learners": 3,
    "interop": 3,
    "compare": 3,
    "demo": 4,
    "__main__": 4,
    "cli": 4,
    "commands": 4,
    "trace": 4,
    "testing": 4,
}
TALK_TO_EACH_OTHER = {0, 1, 4}  # on these floors; elsewhere a room knows only itself and the floors below
# a study takes learners, what an optimiser improves is a strategy's prompts, and a DSPy program is a learner's too
ALLOWED = {
    ("backends.tiny", "tiny"),
    ("compare", "learners"),
    ("optimizers", "strategies"),
    ("interop.dspy", "learners"),
}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of what a module imports when it runs, also inside functions."""

    def walk(node: ast.AST) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from walk(other)
            return
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return walk(ast.parse(source))


def forbidden(module: str, name: str) -> str | None:
    """Why `module` (dotted, without promptlab) may not import `name`, or None."""
    importer, top, *rest = module.split(".")[0], *name.split(".")
    if top != "promptlab":
        return None
    target = next((part for part in rest if part in FLOORS), None)
    if target is None and FLOORS[importer] == 4:
        return None
    if target is None:
        return f"{name} is on no floor: modules import promptlab's modules, not its public face"
    if target == importer or any(module.startswith(who) and target == whom for who, whom in ALLOWED):
        return None
    here, there = FLOORS[importer], FLOORS[target]
    if there < here or (there == here and here in TALK_TO_EACH_OTHER):
        return None
    return f"{importer} is on floor {here}, {target} on floor {there}"


def modules() -> dict[str, Path]:
    paths = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    names = {".".join(p.with_suffix("").parts).removesuffix(".__init__"): path for p, path in paths.items()}
    return {name: path for name, path in names.items() if name != "__init__"}  # the public face is above all floors


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_its_floor_down(module):
    assert module.split(".")[0] in FLOORS, f"promptlab/{module.split('.')[0]} is on no floor yet: give it one"
    source = modules()[module].read_text(encoding="utf-8")
    wrong = [f"line {line}: {why}" for line, name in imported(source) if (why := forbidden(module, name))]
    assert not wrong


@pytest.mark.parametrize("module", [name for name, floor in FLOORS.items() if floor == 0])
def test_the_ground_floor_needs_only_the_standard_library_and_pydantic(module):
    import sys

    names = {name.split(".")[0] for _, name in imported(modules()[module].read_text(encoding="utf-8"))}
    assert names <= sys.stdlib_module_names | {"pydantic", "promptlab"}


def test_what_is_forbidden_is_found():
    hidden = "def f():\n    from promptlab.compare import runner\n"
    assert [name for _, name in imported(hidden)] == ["promptlab.compare.runner"]
    assert not list(imported("if TYPE_CHECKING:\n    import promptlab.cli\n"))
    assert forbidden("program", "promptlab.compare.runner") is not None
    assert forbidden("strategies.react", "promptlab.backends.script.Script") is not None
    assert forbidden("backends.openai", "promptlab.tiny.model") is not None
    assert forbidden("backends.tiny", "promptlab.tiny.model") is None
    assert forbidden("learners.finetuned", "promptlab.compare.runner") is not None
    assert forbidden("strategies.react", "promptlab.ask") is not None
    assert forbidden("cli", "promptlab.ask") is None
    assert forbidden("strategies.react", "promptlab.program.ask") is None
