"""Filters by name: which picks of a block may be a row's nearest, by fast arithmetic.

What a filter may get wrong, and why it never changes a pick, is in `filter_errors`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from balancer.errors import ConfigError
from balancer.selection.bounds import DEFAULT, append_pick, new_bounds
from balancer.selection.catch_up import (
    TILE_ROWS,
    Query,
    new_workspace,
    relative_error,
    show_tiles,
)
from balancer.selection.filter_errors import Precision
from balancer.selection.filtered_catch_up import show_rows
from balancer.selection.torch_device import Kernel, require_device
from balancer.types import DoubleArray, FloatArray, IntArray

__all__ = ["BLAS", "FASTEST", "FILTERS", "Filter", "fastest_filter", "new_filter", "require_device"]

BLAS = "blas"
"""Name of the compiled float32 filter of `balancer.selection.catch_up`, the default."""
FASTEST = "fastest"
"""Asks for the filter that `fastest_filter` finds."""


class Filter(Protocol):
    """Finds the pairs that may matter; see `filter_errors` for what it must promise."""

    name: str

    def candidates(
        self,
        rows: FloatArray,
        row_norms: FloatArray,
        picks: FloatArray,
        pick_norms: FloatArray,
        bounds: DoubleArray,
    ) -> tuple[IntArray, IntArray]:
        """Return the pairs of which one may be a row's nearest pick and nearer than its bound.

        Args:
            rows: (R, D) float32 less the mean.
            row_norms: (R,) their squared lengths.
            picks: (W, D) float32 less the mean.
            pick_norms: (W,) their squared lengths.
            bounds: (R,) squared distances, quality divided out.

        Returns:
            (P,) places of rows and (P,) columns of picks. No pair that can lower a bound is missing
            unless its row has a nearer pick among those returned.
        """
        ...


def _torch(device: str, precision: Precision, kernel: Kernel = "torch") -> Filter:
    # Here, so that a selection that needs no torch does not load it.
    from balancer.selection.torch_filter import TorchFilter

    return TorchFilter(device, precision, kernel)


def _faiss(gpu: bool) -> Filter:
    from balancer.selection.faiss_filter import FaissFilter

    return FaissFilter(gpu)


FILTERS: dict[str, Callable[[], Filter]] = {
    "torch": partial(_torch, "cpu", "float32"),
    "torch-tf32": partial(_torch, "cpu", "tf32"),
    "torch-bfloat16": partial(_torch, "cpu", "bfloat16"),
    "torch-cuda": partial(_torch, "cuda", "float32"),
    "torch-cuda-tf32": partial(_torch, "cuda", "tf32"),
    "torch-cuda-bfloat16": partial(_torch, "cuda", "bfloat16"),
    "triton": partial(_torch, "cuda", "float32", "triton"),
    "triton-tf32": partial(_torch, "cuda", "tf32", "triton"),
    "triton-bfloat16": partial(_torch, "cuda", "bfloat16", "triton"),
    "faiss": partial(_faiss, gpu=False),
    "faiss-gpu": partial(_faiss, gpu=True),
}
"""Filters by name, made when asked for; `blas` is the compiled one and needs none of these."""


def new_filter(name: str) -> Filter | None:
    """Return the filter of a name; None for `blas`, which the engine has built in.

    Raises:
        ValueError: no filter has the name.
        ConfigError: the filter cannot run here.
    """
    if name == BLAS:
        return None
    if name not in FILTERS:
        raise ValueError(f"filter must be one of {', '.join([BLAS, *FILTERS])}; got {name!r}.")
    return FILTERS[name]()


def fastest_filter(
    dim: int, *, num_rows: int = 2048, num_picks: int = 256, names: Sequence[str] | None = None
) -> str:
    """Return the filter that catches random rows up soonest here: the median of three runs.

    Args:
        dim: D.
        num_rows: rows to catch up.
        num_picks: picks to show them.
        names: filters to compare; by default all that can run here.

    Raises:
        ValueError: an unknown name, or none that can run here.

    Cost: a warm-up and three runs of each, a few milliseconds apiece at the default sizes.
    """
    seconds: dict[str, float] = {}
    refused: list[str] = []
    for name in names if names is not None else (BLAS, *FILTERS):
        try:
            chosen = new_filter(name)
        except ConfigError as error:
            refused.append(str(error))
            continue
        runs = [_time_filter(chosen, dim, num_rows, num_picks) for _ in range(4)]
        seconds[name] = statistics.median(runs[1:])
    if not seconds:
        raise ValueError(f"names must hold a filter that can run here. {' '.join(refused)}".strip())
    return min(seconds, key=lambda name: seconds[name])


def _time_filter(chosen: Filter | None, dim: int, num_rows: int, num_picks: int) -> float:
    import numba

    rng = np.random.default_rng(0)
    points = rng.standard_normal((num_rows, dim), dtype=np.float32)
    threads = numba.get_num_threads()
    bounds = new_bounds(
        points,
        np.arange(num_rows),
        num_picks,
        DEFAULT,
        num_cells=0,
        num_threads=threads,
    )
    for number in range(num_picks):
        append_pick(bounds, number, rng.standard_normal(dim, dtype=np.float32), 0)
    largest = float(bounds.pick_norms.max())
    query = Query(num_picks, np.float32(-1), num_rows, 1 << 31, False, relative_error(dim), largest)
    rows = np.arange(num_rows)
    starts = np.append(np.arange(0, num_rows, TILE_ROWS), num_rows)
    space = new_workspace(threads, dim)
    started = time.perf_counter()
    if chosen is None:
        show_tiles(bounds, rows, starts, query, space)
    else:
        show_rows(bounds, rows, query, chosen)
    return time.perf_counter() - started
