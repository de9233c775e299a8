"""Rows as tensors on a device: moving them there, and their canonical distances."""

from __future__ import annotations

import numpy as np
import torch

from balancer.types import FloatArray

ENTRIES_PER_CHUNK = 1 << 24
"""Float64 numbers that one canonical step may take: 128 MiB each for two operands."""


def chunks(count: int, dim: int) -> list[tuple[int, int]]:
    """Return spans of `count` rows of `dim` columns, each of `ENTRIES_PER_CHUNK` numbers at most.

    >>> chunks(3, 1 << 23)
    [(0, 2), (2, 3)]
    """
    size = max(1, ENTRIES_PER_CHUNK // max(1, dim))
    return [(begin, min(begin + size, count)) for begin in range(0, count, size)]


def canonical_distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the canonical squared distances of pairs of rows: the bits of `squared_distance`.

    Args:
        left: (P, D) float32.
        right: (P, D) or (1, D) float32 on the same device.

    Returns:
        (P,) float32.

    Every product and every sum is an operation of its own, so nothing is fused into an
    instruction that rounds once, and the lanes are added in the order that the definition fixes.

    Cost: 24 P D bytes.

    >>> canonical_distances(torch.zeros(1, 3), torch.ones(1, 3))
    tensor([3.])
    """
    squares = left.double() - right.double()
    squares = squares * squares
    whole = squares.shape[1] - squares.shape[1] % 8
    lanes = torch.zeros((len(squares), 8), dtype=torch.float64, device=left.device)
    for j in range(0, whole, 8):
        lanes = lanes + squares[:, j : j + 8]
    tail = torch.zeros(len(squares), dtype=torch.float64, device=left.device)
    for j in range(whole, squares.shape[1]):
        tail = tail + squares[:, j]
    pairs = lanes[:, 0::2] + lanes[:, 1::2]
    low, high = pairs[:, 0] + pairs[:, 1], pairs[:, 2] + pairs[:, 3]
    return ((low + high) + tail).float()


def moved(points: torch.Tensor | FloatArray, device: str) -> torch.Tensor:
    """Return the rows on a device, shared with the caller's where they lie there already."""
    if isinstance(points, torch.Tensor):
        return points.to(device).contiguous()
    rows = np.asarray(points)
    if rows.flags.writeable:
        return torch.from_numpy(rows).to(device).contiguous()
    # Torch does not share memory that it may not write, such as a map of a file: copy by chunks.
    copy = torch.from_numpy(np.empty((0, *rows.shape[1:]), rows.dtype)).to(device)
    copy = copy.new_empty(rows.shape)
    for begin, end in chunks(len(rows), rows[:1].size):
        copy[begin:end] = torch.from_numpy(rows[begin:end].copy())
    return copy
