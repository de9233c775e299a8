"""Other ways to make the same picks: scans that users write, and packages.

Each is a function (points, n, first) -> (n,) picks. Packages are imported when they run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numba
import numpy as np
import torch

from balancer.distances import squared_distance
from balancer.types import FloatArray, IntArray

CHUNKS_PER_THREAD = 4
LARGEST = np.finfo(np.float32).max
Pick = Callable[[FloatArray, int, int], IntArray]


@dataclass(frozen=True, slots=True)
class Peer:
    """Something to compare the engine with.

    Attributes:
        name: for tables.
        pick: makes the picks.
        package: what must be importable.
        install: how to get it.
        most_picks: a scan's picks all cost the same, so a slow one makes only so many and is
            reported by pick.
    """

    name: str
    pick: Pick
    package: str = ""
    install: str = "pip install -e '.[bench]'"
    most_picks: int | None = None

    def missing(self) -> str:
        """Say how to install the package; empty when it is there."""
        if not self.package or find_spec(self.package):
            return ""
        return f"{self.name}: not installed: {self.install}"


@numba.njit(fastmath=True, cache=True)
def _scan_chunk(
    points: FloatArray, low: int, high: int, pick: FloatArray, nearest: FloatArray
) -> tuple[np.float32, int]:
    best, row = np.float32(-2), -1
    for i in range(low, high):
        total = np.float32(0)
        for j in range(points.shape[1]):
            difference = points[i, j] - pick[j]
            total += difference * difference
        kept = min(nearest[i], total)
        nearest[i] = kept
        if kept > best:
            best, row = kept, i
    return best, row


# A body of its own, because numba drops a parallel loop whose effects it does not see.
@numba.njit(parallel=True, cache=True)
def _scan(
    points: FloatArray, pick: FloatArray, nearest: FloatArray, best: FloatArray, rows: IntArray
) -> None:
    chunks = len(best)
    size = -(-len(points) // chunks)
    for chunk in numba.prange(chunks):
        low = min(chunk * size, len(points))
        high = min(low + size, len(points))
        best[chunk], rows[chunk] = _scan_chunk(points, low, high, pick, nearest)


def fused_scan(points: FloatArray, num_picks: int, first: int) -> IntArray:
    """Scan with all threads, in float32: distance, minimum and maximum in one pass over the rows.

    Reads N D floats per pick, which is what bounds its time.
    """
    chunks = CHUNKS_PER_THREAD * numba.get_num_threads()
    nearest = np.full(len(points), LARGEST, np.float32)
    best, rows = np.empty(chunks, np.float32), np.empty(chunks, np.int64)
    picks = np.empty(num_picks, np.int64)
    row = first
    for k in range(num_picks):
        picks[k] = row
        nearest[row] = -1
        _scan(points, points[row].copy(), nearest, best, rows)
        row = int(rows[best.argmax()])
    return picks


def torch_scan(points: FloatArray, num_picks: int, first: int) -> IntArray:
    """Scan as it is usually written with torch."""
    rows = torch.from_numpy(points)
    return _torch_loop(rows, num_picks, first, lambda row: (rows - rows[row]).pow(2).sum(1))


def torch_mv_scan(points: FloatArray, num_picks: int, first: int) -> IntArray:
    """Scan with |x|^2 - 2 x.s + |s|^2, one matrix-vector product per pick."""
    rows = torch.from_numpy(points)
    norms = rows.pow(2).sum(1)
    return _torch_loop(
        rows, num_picks, first, lambda row: norms - 2 * torch.mv(rows, rows[row]) + norms[row]
    )


def _torch_loop(
    rows: torch.Tensor, num_picks: int, first: int, squared: Callable[[int], torch.Tensor]
) -> IntArray:
    torch.set_num_threads(numba.get_num_threads())
    nearest = torch.full((len(rows),), torch.inf)
    picks, row = [], first
    for _ in range(num_picks):
        picks.append(row)
        nearest = torch.minimum(nearest, squared(row))
        nearest[picks] = -1
        row = int(nearest.argmax())
    return np.array(picks, np.int64)


def fpsample_vanilla(points: FloatArray, num_picks: int, first: int) -> IntArray:
    """Run the plain scan of fpsample; its bucket modes are limited to few dimensions."""
    found: IntArray = import_module("fpsample").fps_sampling(points, num_picks, start_idx=first)
    return found.astype(np.int64)


def quickfps(points: FloatArray, num_picks: int, first: int) -> IntArray:
    """Run torch_quickfps on buckets, with its own choice of their height."""
    torch.set_num_threads(numba.get_num_threads())
    sample = import_module("torch_quickfps").sample_idx
    found: IntArray = sample(torch.from_numpy(points), num_picks, start_idx=first).numpy()
    return found.astype(np.int64)


def voronoi(points: FloatArray, num_picks: int, first: int) -> IntArray:
    """Run VoronoiFPS of scikit-matter; it chooses when to scan, and that time counts."""
    selector = import_module("skmatter.sample_selection").VoronoiFPS(
        n_to_select=num_picks, initialize=first, random_state=0
    )
    found: IntArray = selector.fit(points).selected_idx_
    return found.astype(np.int64)


FUSED = Peer("fused float32 scan", fused_scan)
PEERS = (
    FUSED,
    Peer("fpsample", fpsample_vanilla, "fpsample", most_picks=200),
    Peer("torch_quickfps", quickfps, "torch_quickfps"),
    Peer(
        "skmatter VoronoiFPS",
        voronoi,
        "skmatter",
        # Not in the extra: 0.4.1 asks for scikit-learn < 1.9 and works with 1.9.1.
        "pip install --no-deps skmatter==0.4.1",
    ),
    Peer("torch (X - x).pow(2).sum(1)", torch_scan, most_picks=50),
    Peer("torch mv", torch_mv_scan, most_picks=200),
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a peer's picks are the engine's.

    Attributes:
        prefix: picks until the first difference.
        shared: picks that both have, in any order.
        gap: share of the squared distance by which the peer's first different pick is nearer than
            the engine's; rounding, when it is about 1e-6.
    """

    prefix: int
    shared: int
    gap: float


def agreement(points: FloatArray, picks: IntArray, others: IntArray) -> Agreement:
    """Compare a peer's picks with the engine's first ones, in canonical distances.

    >>> line = np.array([[0.0], [2.0], [3.0]], np.float32)
    >>> agreement(line, np.array([0, 2, 1]), np.array([0, 1, 2]))
    Agreement(prefix=1, shared=3, gap=0.5555555555555556)
    """
    picks = picks[: len(others)]
    different = np.flatnonzero(picks != others)
    prefix = int(different[0]) if len(different) else len(others)
    shared = len(np.intersect1d(picks, others))
    if prefix in (0, len(others)):
        return Agreement(prefix, shared, 0.0 if prefix else 1.0)
    ours, theirs = (
        min(float(squared_distance(points[row], points[p])) for p in picks[:prefix])
        for row in (picks[prefix], others[prefix])
    )
    return Agreement(prefix, shared, 1 - theirs / ours if ours else 0.0)
