"""How much memory there is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def installed() -> float:
    """Of this machine, in bytes; infinite where it does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not on Windows
        return float("inf")


def of_device(device: torch.device) -> float:
    """Of a GPU, in bytes; infinite of what does not tell."""
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else float("inf")
