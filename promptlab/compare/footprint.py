"""How large a model is, what its tokens cost, and the memory that a cell took: what its costs are counted from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from promptlab.backends.prices import Price

LAYERS, WIDTH = ("n_layers", "num_hidden_layers", "n_layer"), ("d_model", "hidden_size", "n_embd")


def model_told(backend: Any) -> dict[str, Any]:
    """A backend's parameters, layers and width where its weights are here; of a hosted model the price of its tokens.

    `local` is whether it ran in this process: then its seconds are those of this machine.
    """
    model = getattr(backend, "model", None) or getattr(backend, "classifier", None)
    config = getattr(model, "config", None) or getattr(getattr(model, "body", None), "config", None)
    weights = list(model.parameters()) if model is not None and hasattr(model, "parameters") else []
    price = getattr(backend, "price", None)
    return {
        "parameters": sum(int(p.numel()) for p in weights) or None,
        "layers": _first(config, LAYERS),
        "width": _first(config, WIDTH),
        "local": bool(backend.batched),
        "price": asdict(price) if isinstance(price, Price) else None,
    }


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((int(value) for value in found if value), None)


class Peak:
    """The most memory that this process held from now on, where the system can be asked (Linux), else None."""

    def __init__(self) -> None:
        self.known = False
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is held now: proc(5)
            self.known = True

    def bytes(self) -> int | None:
        if not self.known:
            return None
        with suppress(OSError, ValueError, IndexError):
            status = Path("/proc/self/status").read_text()
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        return None
