"""Which kernel rules pairs out soonest on a device, by measurement."""

from __future__ import annotations

import statistics
import time
import warnings
from functools import lru_cache
from subprocess import SubprocessError

import torch

from balancer.selection.device_catch_up import ROWS_PER_TILE, WIDTH
from balancer.selection.filter_errors import Precision
from balancer.selection.torch_device import Kernel, has_triton
from balancer.selection.torch_filter import near_pairs

MEASURED_FROM = 1 << 31
"""Pairs of rows and picks from which measuring (and compiling) pays: a second of a GPU's time."""
STAY = 0.1
"""Share of the rows whose bound the measured block may lower; most blocks lower fewer."""


def choose_kernel(device: str, dim: int, precision: Precision, num_pairs: int) -> Kernel:
    """Return the kernel for a selection: the fastest where measuring pays, else torch.

    >>> choose_kernel("cpu", 128, "float32", 1 << 40)
    'torch'
    """
    on_gpu = torch.device(device).type == "cuda"
    if not on_gpu or num_pairs < MEASURED_FROM or not has_triton():
        return "torch"
    return fastest_kernel(device, dim, precision)


@lru_cache
def fastest_kernel(
    device: str,
    dim: int,
    precision: Precision,
    num_rows: int = ROWS_PER_TILE,
    num_picks: int = WIDTH,
) -> Kernel:
    """Return the kernel that finds the near pairs of one block soonest: medians of three runs.

    Kept for the process: a device does not change. Where Triton cannot compile (it needs a C
    compiler on the machine), a warning says so and torch is the answer.

    Args:
        device: of torch; on a CPU Triton must interpret.
        dim: D.
        precision: of the product.
        num_rows: rows of the block.
        num_picks: picks of the block.

    Cost: eight runs of a few milliseconds, and Triton's compilation, some seconds once per machine.
    """
    seconds = {"torch": _time_kernel("torch", device, dim, precision, (num_rows, num_picks))}
    try:
        seconds["triton"] = _time_kernel("triton", device, dim, precision, (num_rows, num_picks))
    except (RuntimeError, OSError, SubprocessError) as error:
        warnings.warn(
            f"Triton must compile its kernel for {device}; it could not: {error}. The kernel torch "
            f"is used, which picks the same. Install a C compiler to have both.",
            RuntimeWarning,
            stacklevel=2,
        )
    return "triton" if seconds.get("triton", float("inf")) < seconds["torch"] else "torch"


def _time_kernel(
    kernel: Kernel, device: str, dim: int, precision: Precision, shape: tuple[int, int]
) -> float:
    """Return the median of three runs after one that does not count, in seconds."""
    draw = torch.Generator(device).manual_seed(0)
    rows = torch.randn(shape[0], dim, device=device, generator=draw)
    picks = torch.randn(shape[1], dim, device=device, generator=draw)
    row_norms, pick_norms = rows.square().sum(1), picks.square().sum(1)
    nearest = torch.cdist(rows[:256], picks).square().amin(1)
    bounds = nearest.quantile(STAY).double().expand(shape[0])
    found = []
    for _ in range(4):
        _wait(device)
        started = time.perf_counter()
        near_pairs(rows, row_norms, picks, pick_norms, bounds, precision, kernel)
        _wait(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
