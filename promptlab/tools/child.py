"""Processes of our own, which start fast and small: they load one module, and of promptlab only what that imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# The packages on the module's way are taken for empty ones.
START = """import sys, types
sys.path += {path!r}
for name, folder in {packages!r}:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from {module} import main
main()
"""
HERE = Path(__file__).parents[2]  # the folder that promptlab is in


def started(
    module: str,
    stdin: int,
    python: str = sys.executable,
    path: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `main()` of one of promptlab's modules, in a session of its own, so that no Ctrl-C reaches it.

    It imports from the standard library and from `path`, prints nowhere, and has `stdin` to talk over: by its end it
    knows that of this process. Environment and folder are this process's own if none are given.
    """
    names = module.split(".")
    packages = [(".".join(names[:n]), str(HERE.joinpath(*names[:n]))) for n in range(1, len(names))]
    return subprocess.Popen(
        [python, "-I", "-S", "-c", START.format(path=list(path), packages=packages, module=module)],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
