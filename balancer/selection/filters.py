"""Filters: which picks of a block may be a row's nearest, by fast arithmetic with a proven error.

Every filter measures |x|^2 + |s|^2 - 2 x.s in its own arithmetic, within

    |approximate - d| <= e = kappa (|x|^2 + |s|^2) + tiny        (d the canonical squared distance)

for rows x and picks s less a common mean. The nearest pick s* of a block satisfies, for any pick s,

    approximate(s*) <= d(s*) + e <= d(s) + e <= approximate(s) + 2 e,

so it is among the columns within 2 e of the smallest; and if it is nearer than the row's bound,
approximate(s*) < bound + e. Only such pairs are measured canonically, so a filter changes the time
that a selection takes and never a pick.

kappa for D columns, with the roundings of [Higham, Accuracy and Stability of Numerical Algorithms,
2nd ed., eq. 2.4 and 3.5]; c is the error of x.s over |x||s|, and 2 c |x||s| <= c (|x|^2 + |s|^2):

    inputs rounded to a unit u            2 u + u^2      u = 0 (float32), 2^-11 (TF32), 2^-8
    sum of D products in float32          gamma_D        with unit 2^-24 in any order; tensor cores
                                                         cut off instead of rounding and align the
                                                         terms to the largest: unit 2^-22
    product returned in bfloat16          2^-8
    all else                              16 * 2^-24     centring, lengths, two additions, and the
                                                         rounding of the canonical value

TF32 here means that the inputs are rounded to 10 explicit bits before the product, on any device:
what the hardware does with the bits below is then without effect.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

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
from balancer.selection.filtered_catch_up import show_rows
from balancer.types import DoubleArray, FloatArray, IntArray

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bfloat16"]

INPUT_UNIT = {"float32": 0.0, "tf32": 2.0**-11, "bfloat16": 2.0**-8}
SUM_UNIT = {"float32": 2.0**-24, "tf32": 2.0**-22, "bfloat16": 2.0**-22}
OUTPUT_UNIT = {"float32": 0.0, "tf32": 0.0, "bfloat16": 2.0**-8}
OTHERS = 16 * 2.0**-24
SAFETY = 1e-6
"""Relative; covers the float64 and float32 arithmetic on the limits themselves."""
NEIGHBOURS = 4
BLAS = "blas"
"""Name of the compiled float32 filter of `balancer.selection.catch_up`, the default."""


class Filter(Protocol):
    """Finds the pairs that may matter; see the module for what it must promise."""

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


def kappa(precision: Precision, dim: int) -> float:
    """Return the error of |x|^2 + |s|^2 - 2 x.s over |x|^2 + |s|^2; derived in the module.

    >>> kappa("float32", 128) < kappa("tf32", 128) < kappa("bfloat16", 128) < 0.02
    True
    """
    unit, out = INPUT_UNIT[precision], OUTPUT_UNIT[precision]
    total = dim * SUM_UNIT[precision]
    if total >= 0.5:
        raise ValueError(
            f"A {precision} filter's error bound must stay below 1; rows of {dim} columns have too "
            f"many. Reduce their dimension."
        )
    inputs = (1 + unit) ** 2
    product = inputs * (1 + total / (1 - total)) * (1 + out) - 1
    return (1 + SAFETY) * (product + OTHERS * (1 + product))


def tiny(dim: int) -> float:
    """Return what underflow can lose beside: D products below the least normal float32, twice."""
    return (8 + dim) * 2.0**-122


def round_to_tf32(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to 10 explicit bits, half to even: what TF32 tensor cores can read exactly."""
    import torch

    bits = values.contiguous().view(torch.int32)
    rounded: torch.Tensor = ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
    return rounded


@contextmanager
def matmul_precision(device: str, precision: Precision) -> Iterator[None]:
    """Pin what a float32 product on the device may do inside, whatever the process has chosen.

    The switches belong to the process, so threads that multiply at the same time share them.
    """
    import torch

    cuda = torch.backends.cuda.matmul
    reduced = cuda.allow_bf16_reduced_precision_reduction
    mode = "tf32" if precision == "tf32" and device != "cpu" else "ieee"
    mkldnn: Any = torch.backends.mkldnn
    backend: Any = cuda if device != "cpu" else getattr(mkldnn, "matmul", None)
    new_switch = hasattr(backend, "fp32_precision")
    before = backend.fp32_precision if new_switch else torch.get_float32_matmul_precision()
    try:
        if new_switch:
            backend.fp32_precision = mode
        else:  # pragma: no cover - torch before 2.9
            torch.set_float32_matmul_precision("high" if mode == "tf32" else "highest")
        cuda.allow_bf16_reduced_precision_reduction = False
        yield
    finally:
        if new_switch:
            backend.fp32_precision = before
        else:  # pragma: no cover - torch before 2.9
            torch.set_float32_matmul_precision(before)
        cuda.allow_bf16_reduced_precision_reduction = reduced


def near_pairs(
    rows: torch.Tensor,
    row_norms: torch.Tensor,
    picks: torch.Tensor,
    pick_norms: torch.Tensor,
    bounds: torch.Tensor,
    precision: Precision,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return candidates as `Filter.candidates` does, for tensors on one device.

    The product and the lengths of the picks are one `addmm`, and rows whose smallest value shows
    that no pick of the block is nearer than their bound are dropped before the pairs are listed.

    Cost: R W D multiplications and 4 R W bytes.
    """
    import torch

    dim = rows.shape[1]
    with matmul_precision(rows.device.type, precision):
        if precision == "bfloat16" and rows.device.type != "cpu":
            product = (rows.bfloat16() @ picks.bfloat16().T).float()
            shifted = torch.add(pick_norms, product, alpha=-2)
        elif precision == "bfloat16":
            # CPUs without bfloat16 instructions sum in their own ways; this one is bounded.
            product = rows.bfloat16().float() @ picks.bfloat16().float().T
            shifted = torch.add(pick_norms, product.bfloat16().float(), alpha=-2)
        else:
            if precision == "tf32":
                rows, picks = round_to_tf32(rows), round_to_tf32(picks)
            shifted = torch.addmm(pick_norms, rows, picks.T, alpha=-2)
    # All below is relative to `shifted`, which lacks the row's |x|^2.
    least = shifted.amin(dim=1).double()
    norms = row_norms.double()
    slack = kappa(precision, dim) * (norms + pick_norms.max().double()) + tiny(dim)
    limit = torch.minimum(least + 2 * slack, bounds * (1 + SAFETY) - norms + slack)
    wanted = torch.nonzero(least <= limit).squeeze(1)
    up = torch.nextafter(limit[wanted].float(), torch.tensor(np.inf, device=rows.device))
    pairs = torch.nonzero(shifted[wanted] <= up[:, None])
    return wanted[pairs[:, 0]], pairs[:, 1]


class TorchFilter:
    """A filter by torch, on any device and in any precision.

    Args:
        device: `cpu`, `cuda` or `cuda:1`.
        precision: of the product. On a CPU `tf32` and `bfloat16` round as tensor cores do and
            multiply in float32: the same picks and the same bound, without the speed.

    Raises:
        ConfigError: torch has no such device here.
        ValueError: an unknown precision.
    """

    def __init__(self, device: str = "cpu", precision: Precision = "float32") -> None:
        require_device(device)
        require_precision(precision)
        self.name = f"torch-{device}-{precision}"
        self._device = device
        self._precision = precision

    def candidates(
        self,
        rows: FloatArray,
        row_norms: FloatArray,
        picks: FloatArray,
        pick_norms: FloatArray,
        bounds: DoubleArray,
    ) -> tuple[IntArray, IntArray]:
        """Return the pairs that may matter; see `Filter`."""
        import torch

        def moved(values: FloatArray | DoubleArray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

        with torch.no_grad():
            places, columns = near_pairs(
                moved(rows),
                moved(row_norms),
                moved(picks),
                moved(pick_norms),
                moved(bounds),
                self._precision,
            )
        return places.cpu().numpy(), columns.cpu().numpy()


class FaissFilter:
    """A filter by FAISS's brute-force nearest neighbours: `knn`, or `knn_gpu`.

    FAISS returns the four nearest picks of each row. Where the last of them is still within 2 e
    of the first, others may be too, and all picks of the block become candidates. On a CPU kappa
    has the float32 product and FAISS's own float32 lengths; on a GPU it also covers TF32 products
    cut off at 10 bits, which CUDA can be told to use.

    Args:
        gpu: use `knn_gpu`.

    Raises:
        ConfigError: FAISS is not installed, or not for GPUs.
    """

    def __init__(self, gpu: bool = False) -> None:
        try:
            import faiss
        except ImportError as error:  # pragma: no cover - the development install has FAISS
            raise ConfigError(
                "The faiss filter needs FAISS, which is not installed. Install one of its builds: "
                'pip install "balancer[cpu]" or "balancer[gpu]".'
            ) from error
        if gpu and not (hasattr(faiss, "knn_gpu") and faiss.get_num_gpus() > 0):
            raise ConfigError(
                "The faiss-gpu filter needs a GPU and a build of FAISS for it; got a build "
                f"{'with' if hasattr(faiss, 'knn_gpu') else 'without'} knn_gpu and no GPU it can "
                'use. Install "balancer[gpu]" on a machine with one, or use the faiss filter.'
            )
        self.name = "faiss-gpu" if gpu else "faiss"
        self._faiss = faiss
        self._resources = faiss.StandardGpuResources() if gpu else None

    def kappa(self, dim: int) -> float:
        """Return the relative error: see the module; the lengths are one more float32 sum."""
        product = (1 + SAFETY) * relative_error(2 * dim)
        return product if self._resources is None else product + kappa("tf32", dim) + 2.0**-10

    def candidates(
        self,
        rows: FloatArray,
        row_norms: FloatArray,
        picks: FloatArray,
        pick_norms: FloatArray,
        bounds: DoubleArray,
    ) -> tuple[IntArray, IntArray]:
        """Return the pairs that may matter; see `Filter`."""
        count, dim = picks.shape
        k = min(NEIGHBOURS, count)
        rows, picks = np.ascontiguousarray(rows), np.ascontiguousarray(picks)
        if self._resources is None:
            found, columns = self._faiss.knn(rows, picks, k)
        else:
            found, columns = self._faiss.knn_gpu(self._resources, rows, picks, k)
        approximate = found.astype(np.float64)
        slack = self.kappa(dim) * (row_norms.astype(np.float64) + pick_norms.max()) + tiny(dim)
        limit = np.minimum(approximate[:, 0] + 2 * slack, bounds * (1 + SAFETY) + slack)
        near = approximate <= limit[:, None]
        # A label of -1 (fewer results than asked for) is no pick; then every pick is a candidate.
        crowded = near[:, -1] & (k < count) | (columns < 0).any(axis=1)
        near[crowded] = False
        places, ranks = np.nonzero(near)
        all_of = np.flatnonzero(crowded)
        return (
            np.concatenate([places, np.repeat(all_of, count)]),
            np.concatenate(
                [columns[places, ranks].astype(np.int64), np.tile(np.arange(count), len(all_of))]
            ),
        )


FILTERS: dict[str, Callable[[], Filter]] = {
    "torch": lambda: TorchFilter("cpu"),
    "torch-tf32": lambda: TorchFilter("cpu", "tf32"),
    "torch-bfloat16": lambda: TorchFilter("cpu", "bfloat16"),
    "torch-cuda": lambda: TorchFilter("cuda"),
    "torch-cuda-tf32": lambda: TorchFilter("cuda", "tf32"),
    "torch-cuda-bfloat16": lambda: TorchFilter("cuda", "bfloat16"),
    "faiss": lambda: FaissFilter(gpu=False),
    "faiss-gpu": lambda: FaissFilter(gpu=True),
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


def require_device(device: str) -> None:
    """Refuse a device that torch does not have here.

    Raises:
        ConfigError: naming the device.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device must be one that torch can use here; got {device!r}. Use 'cpu', or run on a "
            f"machine with that device and a build of torch for it."
        ) from error


def require_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        ValueError: naming it.
    """
    if precision not in INPUT_UNIT:
        raise ValueError(f"precision must be one of {', '.join(INPUT_UNIT)}; got {precision!r}.")
