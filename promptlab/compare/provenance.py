"""Where a result came from: versions and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("promptlab", "numpy", "scikit-learn", "torch", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Versions of what can change a result, of this code and of the machine."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    found["cores"] = str(os.cpu_count())
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["git"] = git_revision()
    return found


def git_revision() -> str:
    """The commit of this source tree, or that it is not one."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "not a git checkout"
