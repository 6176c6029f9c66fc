"""Weights of fewer bits: half or a quarter of the memory that a step has to read, for a little accuracy.

Only matrices are kept so; what is multiplied with them stays float32, and so does every sum. They are rounded first, to
numbers that are told by their few bits exactly: PyTorch multiplies with those numbers in float32, the compiled program
(`narrow.h`) with their bits, and both say the same but for the rounding of sums.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kept = Literal["float32", "bfloat16", "int8"]
BITS: dict[Kept, int] = {"float32": 32, "bfloat16": 16, "int8": 8}


def rounded(matrix: Tensor, kept: Kept) -> Tensor:
    """The nearest matrix (K, N) whose numbers are kept exactly: rounded again it is the same.

    In int8 a column's numbers are -127 to 127 times a scale, the least that its largest number allows.
    """
    if kept == "float32":
        return matrix
    if kept == "bfloat16":
        return matrix.bfloat16().to(matrix.dtype)
    numbers, scales = whole(matrix)
    return (numbers * scales).to(matrix.dtype)


def whole(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers (K, N) and the scales (N) that they are times, as float32.

    A scale has 12 bits, so that its product with 7 more is exact, and what comes of it has the same scale.
    """
    scales = matrix.float().abs().amax(0) / 127
    scales = torch.where(scales.isnan(), torch.nan, scales)  # the one NaN that is not rounded to a number
    scales = ((scales.view(torch.int32) + 0xFFF) & ~0xFFF).view(torch.float32)  # up, so that none is beyond 127
    return torch.where(scales > 0, (matrix / scales).round(), 0.0), scales


def packed(matrix: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """A rounded float32 matrix (K, N) as numbers (K bits / 32, N) of 32 bits, and the scales (N) of 8 bits.

    Of 16 bits two, and of 8 bits four that stand below each other are one, the first in its lowest bits.
    """
    if bits == 32:
        return matrix, matrix.new_zeros(0)
    if bits == 16:
        numbers, scales = matrix.bfloat16().view(torch.int16), matrix.new_zeros(matrix.shape[1])
    else:
        numbers, scales = whole(matrix)
        numbers = numbers.to(torch.int8)
    below = numbers.view(-1, 32 // bits, matrix.shape[1]).transpose(1, 2)  # (K bits / 32, N, 32 / bits)
    return below.flatten().view(torch.int32).view(below.shape[:2]), scales
