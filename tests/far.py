"""A device that is none: numbers computed by the CPU that only meet others of the device, as a GPU's do.

PyTorch takes it for one (`far:0`); what mixes its tensors with the CPU's raises, but for single numbers. What is copied
from it is counted, as on a GPU that would wait for all that was begun.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("far")
FAR = torch.device("far:0")


class Far(Tensor):
    """A tensor there; `near` holds its numbers."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:
        how = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype, "device": FAR}
        with torch.inference_mode(near.is_inference()):
            made: Far = Tensor._make_wrapper_subclass(cls, near.size(), **how)  # type: ignore[attr-defined]
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Counted(TorchDispatchMode):
    """Within it there is the device, and `waits` counts what had to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, self)


def computed(func: Any, args: Any, kwargs: Any, counted: Counted | None = None) -> Any:
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    from_there = any(isinstance(x, Far) for x in tensors)
    if "device" in kwargs and kwargs["device"] is not None:
        to_there = torch.device(kwargs["device"]).type == FAR.type
    else:
        to_there = isinstance(args[0], Far) if name == "copy_" else from_there
    if name not in ("_to_copy", "copy_") and from_there:
        assert all(isinstance(x, Far) or not x.dim() for x in tensors), f"{name} of tensors on two devices"
    if counted is not None and from_there and (not to_there or name in ("_local_scalar_dense", "nonzero")):
        counted.waits += 1

    def brought(x: Any) -> Any:
        if isinstance(x, Far):
            return x.near
        return torch.device("cpu") if isinstance(x, torch.device) else x

    near_args, near_kwargs = tree_map(brought, (args, kwargs))
    with _disable_current_modes():
        made = func(*near_args, **near_kwargs)
    if name.endswith("_") and not name.startswith("_"):
        return args[0]
    return tree_map_only(Tensor, Far, made) if to_there else made
