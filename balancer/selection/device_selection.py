"""Farthest-point selection of rows that may lie on a device already, as one call."""

from __future__ import annotations

import numpy as np
import torch

from balancer.distances import LARGEST_SQUARE, require_finite
from balancer.selection.device_engine import DeviceBounds
from balancer.selection.device_tensors import chunks, moved
from balancer.selection.farthest_point import FarthestPoints
from balancer.selection.filter_errors import Precision, require_precision
from balancer.selection.torch_device import require_device
from balancer.types import FloatArray


def farthest_point_on_device(
    points: torch.Tensor | FloatArray,
    num_picks: int,
    *,
    first: int = 0,
    device: str,
    precision: Precision = "float32",
) -> FarthestPoints:
    """Pick `num_picks` rows, each the farthest from the picks so far, on a torch device.

    The picks are those of `farthest_point(points, num_picks, first=first)`; ties go to the lowest
    row. `farthest_point(..., device=device)` has all its options too.

    Args:
        points: (N, D), finite, anywhere; taken as float32, and copied only to move or convert it.
        num_picks: how many, the first counted.
        first: row to start from.
        device: `cuda`, `cuda:1`, `cpu`, ...
        precision: of the filter: `float32`, `tf32` or `bfloat16`.

    Raises:
        ValueError: more picks than rows, a row that is not finite, a row number out of range.
        ConfigError: torch has no such device here.

    >>> farthest_point_on_device(torch.tensor([[0.0], [1.0], [9.0]]), 2, device="cpu").indices
    array([0, 2])
    """
    require_device(device)
    require_precision(precision)
    values = points if isinstance(points, torch.Tensor) else moved(points, "cpu")
    values = values.detach().to(dtype=torch.float32).contiguous()
    if values.ndim != 2:
        raise ValueError(f"points must be a matrix (N, D); got shape {tuple(values.shape)}.")
    count = len(values)
    if not 1 <= num_picks <= count:
        raise ValueError(
            f"num_picks must lie between 1 and the {count} rows that can be picked; got "
            f"{num_picks}."
        )
    if not 0 <= first < count:
        raise ValueError(f"first must be a row number below {count}; got {first}.")
    _require_finite(values)
    bounds = DeviceBounds(values, np.arange(count), num_picks, device=device, precision=precision)
    bounds.take(first)
    bounds.run(num_picks)
    _, squared, row = bounds.outliers()
    return FarthestPoints(
        bounds.picked,
        np.sqrt(bounds.squared),
        float(np.sqrt(squared)),
        row,
        np.empty(0, np.int64),
    )


def _require_finite(values: torch.Tensor) -> None:
    """Refuse rows that have no place among distances; those on a device are read there."""
    for begin, end in chunks(len(values), values.shape[1]):
        block = values[begin:end]
        # Also true for NaN, which is not below anything.
        if not bool(((block.double() ** 2).sum(dim=1) <= LARGEST_SQUARE).all()):
            require_finite(values.cpu().numpy(), None, nonzero=False)
