"""Where rows are written: how many together, in what shapes, and in which memory.

A CPU takes any shape. On a GPU starting a step's hundreds of small kernels takes longer than they do, so that its steps
are of few shapes, in memory that stays where it is: each is captured once as a CUDA graph, and replayed from then on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from promptlab.tiny.engine.store import Places
from promptlab.tiny.engine.weights import Weights, room
from promptlab.tiny.memory import of_device

ROWS = 128  # written together at most: more make no step faster by the row
CELLS = 32_768  # tokens of the rows' own cache, padding included: about 200 MB for the bundled model
DEVICE_ROWS = 4096  # on a GPU
ROWS_MB, ROWS_SHARE = 5_000, 0.3  # of the rows' own cache there, and of the GPU's memory: at most
UNIT = 64  # columns by which steps there differ in width
AHEAD = 16  # tokens of every row that are written there before any is looked at
GRAPHS = 64  # kept at most, the last used

CAPTURING = threading.Lock()  # a process can capture one graph at a time

Step = Callable[[], Tensor]


class Stage:
    """Of a CPU: shapes as they come, and fresh memory."""

    ahead = 1  # tokens of every row that are written before any is looked at

    def __init__(self, weights: Weights):
        self.dtype, self.device = weights.dtype, weights.device

    def most(self, width: int) -> int:
        """Rows of so many columns that are written together."""
        return min(ROWS, CELLS // width)

    def rows(self, going: int) -> int:
        """In how many rows so many are computed."""
        return going

    def columns(self, filled: int) -> int:
        """How many are looked at where so many are filled: of few sizes, in all of which sums are the same."""
        return max(32, -(-filled // 16) * 16)  # of fewer PyTorch multiplies otherwise

    def in_common(self, tokens: int) -> int:
        """How many that rows begin with alike are looked at in one place."""
        return tokens

    def lend(self, *shapes: tuple[int, ...]) -> list[Tensor]:
        """Zeros of these shapes."""
        return [room(*shape, dtype=self.dtype) for shape in shapes]

    def put(self, numbers: Places) -> Tensor:
        """What every step reads first, in the place of what was put before."""
        return torch.from_numpy(numbers)

    def kept(self, x: Tensor, dim: int, index: Tensor) -> Tensor:
        """What was lent, with these rows alone."""
        return x.index_select(dim, index)

    def run(self, shape: Hashable, step: Step) -> Tensor:
        """What a step of a shape gives. It may be run several times, and reads and writes what was lent alone."""
        return step()


class Static(Stage):
    """Of any other device. What it lends stays in place, and is lent to one writing at a time."""

    ahead = AHEAD

    def __init__(self, weights: Weights):
        super().__init__(weights)
        self.graphed = self.device.type == "cuda"
        # one for all, as memory is used again on the stream that it was taken on
        self.aside: Any = torch.cuda.Stream(self.device) if self.graphed else None  # type: ignore[no-untyped-call]
        c, most = weights.config, int(min(ROWS_MB * 1e6, ROWS_SHARE * of_device(self.device)))
        self.numbers = most // self.dtype.itemsize
        self.cells = self.numbers // (2 * c.n_layers * c.d_model)
        self.now = room(2 * DEVICE_ROWS, dtype=torch.long, device=self.device)
        self.clear(0)

    def clear(self, numbers: int) -> None:
        """Memory for so many, and no graphs, which are of memory in its place."""
        self.graphs: dict[Hashable, tuple[Any, Tensor]] = {}
        self.memory = room(0, dtype=self.dtype, device=self.device)  # the old one goes before there is a new one
        self.memory = room(numbers, dtype=self.dtype, device=self.device)
        self.pool = torch.cuda.graph_pool_handle() if self.graphed else None

    def most(self, width: int) -> int:
        return min(DEVICE_ROWS, 1 << max(1, self.cells // width).bit_length() - 1)

    def rows(self, going: int) -> int:
        return 1 << (going - 1).bit_length()

    def columns(self, filled: int) -> int:
        return -(-filled // UNIT) * UNIT

    def in_common(self, tokens: int) -> int:
        return tokens // UNIT * UNIT

    def lend(self, *shapes: tuple[int, ...]) -> list[Tensor]:
        sizes = [math.prod(shape) for shape in shapes]
        room_for_each = [-(-size // UNIT) * UNIT for size in sizes]
        if (numbers := sum(room_for_each)) > len(self.memory):  # twice as much, so that it is not often
            self.clear(max(numbers, min(1 << numbers.bit_length(), self.numbers)))
        parts = torch.split(self.memory[:numbers].zero_(), room_for_each)
        return [part[:size].view(shape) for part, size, shape in zip(parts, sizes, shapes, strict=True)]

    def put(self, numbers: Places) -> Tensor:
        return self.now[: numbers.size].view(numbers.shape).copy_(torch.from_numpy(numbers), non_blocking=True)

    def kept(self, x: Tensor, dim: int, index: Tensor) -> Tensor:
        x.narrow(dim, 0, len(index)).copy_(x.index_select(dim, index))
        return x

    def run(self, shape: Hashable, step: Step) -> Tensor:
        if not self.graphed:
            return step()
        if (found := self.graphs.pop(shape, None)) is None:
            found = self.captured(step)
        self.graphs[shape] = found
        if len(self.graphs) > GRAPHS:
            del self.graphs[next(iter(self.graphs))]
        graph, made = found
        graph.replay()
        return made

    def captured(self, step: Step) -> tuple[Any, Tensor]:
        """A step as a graph, and where its replay leaves what it gives. All of them work in the same memory."""
        with CAPTURING, torch.cuda.device(self.device):
            here, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
            self.aside.wait_stream(here)
            try:
                with torch.cuda.stream(self.aside):  # kernels are loaded as they first run, which is not captured
                    for _ in range(3):
                        step()
                # other threads may go on using the device meanwhile
                with torch.cuda.graph(graph, pool=self.pool, stream=self.aside, capture_error_mode="thread_local"):
                    made = step()
            finally:
                here.wait_stream(self.aside)
        return graph, made


def stage_for(weights: Weights) -> Stage:
    """What suits the device that the weights are on."""
    return Stage(weights) if weights.device.type == "cpu" else Static(weights)
