"""Where a result came from: versions and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("promptlab", "numpy", "scikit-learn", "torch", "tokenizers", "safetensors")


def versions(*more: str) -> dict[str, str]:
    """Versions of what can change a result, of more packages that a study uses, and of this code."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["git"] = git_revision()
    return found


def machine() -> str:
    """The kind of machine; its name is nobody's business."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def git_revision() -> str:
    """The commit of this source tree, or that it is not one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, maybe inside a repository of the user's own
        return "not a git checkout"
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
