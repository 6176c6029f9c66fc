"""How much memory this machine has."""

from __future__ import annotations

import os


def installed() -> float:
    """In bytes; infinite where it does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not on Windows
        return float("inf")
