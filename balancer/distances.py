"""The canonical squared distance, and what is decided with it.

The canonical squared distance of two float32 rows is

    float32( sum over dimensions of the float64 squared difference ),

summed in eight lanes (dimension j goes to lane j mod 8, lanes are then added pairwise). The order
of the additions is part of the definition, so every caller, block size, thread count and sharding
gets the same bits. Faster forms (a GEMM, FAISS) may filter, but only this one decides. Ties are
broken on the lower rank, where rank is the order of the tile ids.
"""

from __future__ import annotations

import numba
import numpy as np

from balancer.types import BoolArray, FloatArray, IdArray, IntArray


@numba.njit(cache=True, inline="always")
def squared_distance(a: FloatArray, b: FloatArray) -> np.float32:
    """Return the canonical squared distance of two (D,) float32 rows."""
    lane0 = lane1 = lane2 = lane3 = lane4 = lane5 = lane6 = lane7 = 0.0
    dim = a.shape[0]
    whole = dim - dim % 8
    for j in range(0, whole, 8):
        z0 = np.float64(a[j]) - np.float64(b[j])
        z1 = np.float64(a[j + 1]) - np.float64(b[j + 1])
        z2 = np.float64(a[j + 2]) - np.float64(b[j + 2])
        z3 = np.float64(a[j + 3]) - np.float64(b[j + 3])
        z4 = np.float64(a[j + 4]) - np.float64(b[j + 4])
        z5 = np.float64(a[j + 5]) - np.float64(b[j + 5])
        z6 = np.float64(a[j + 6]) - np.float64(b[j + 6])
        z7 = np.float64(a[j + 7]) - np.float64(b[j + 7])
        lane0 += z0 * z0
        lane1 += z1 * z1
        lane2 += z2 * z2
        lane3 += z3 * z3
        lane4 += z4 * z4
        lane5 += z5 * z5
        lane6 += z6 * z6
        lane7 += z7 * z7
    tail = 0.0
    for j in range(whole, dim):
        z = np.float64(a[j]) - np.float64(b[j])
        tail += z * z
    return np.float32(
        ((lane0 + lane1) + (lane2 + lane3)) + ((lane4 + lane5) + (lane6 + lane7)) + tail
    )


ROWS_PER_CHECK = 1 << 14
LARGEST_SQUARE = 1e36
LEAST_SQUARE = 1e-38
"""About the least normal float32, below which squared distances lose their digits."""
SERIAL_BELOW = 1 << 16
"""Matrices with fewer entries are not worth waking other threads for."""


@numba.njit(cache=True)
def _update_rows(
    points: FloatArray, pick: FloatArray, nearest: FloatArray, begin: int, end: int
) -> None:
    for i in range(begin, end):
        if nearest[i] >= 0:
            distance = squared_distance(points[i], pick)
            if distance < nearest[i]:
                nearest[i] = distance


@numba.njit(cache=True, parallel=True)
def _update_chunks(points: FloatArray, pick: FloatArray, nearest: FloatArray, chunk: int) -> None:
    for c in numba.prange((points.shape[0] + chunk - 1) // chunk):
        _update_rows(points, pick, nearest, c * chunk, min((c + 1) * chunk, points.shape[0]))


def update_nearest(points: FloatArray, pick: FloatArray, nearest: FloatArray) -> None:
    """Lower `nearest` to the canonical squared distance to `pick`, in place.

    Rows whose value is negative are marked as taken and stay as they are.

    Args:
        points: (N, D) float32, C-contiguous.
        pick: (D,) float32.
        nearest: (N,) float32, changed in place.

    Cost: one pass over `points`, no memory.
    """
    if points.size < SERIAL_BELOW:
        _update_rows(points, pick, nearest, 0, len(points))
    else:
        _update_chunks(points, pick, nearest, 4096)


@numba.njit(cache=True)
def _distances_to(points: FloatArray, target: FloatArray, out: FloatArray) -> None:
    for i in range(points.shape[0]):
        out[i] = squared_distance(points[i], target)


def distances_to(points: FloatArray, target: FloatArray) -> FloatArray:
    """Return the (N,) float32 canonical squared distances from `points` (N, D) to one (D,) row."""
    out = np.empty(len(points), dtype=np.float32)
    _distances_to(points, target, out)
    return out


@numba.njit(cache=True)
def _paired(points: FloatArray, others: FloatArray, index: IntArray, out: FloatArray) -> None:
    for i in range(points.shape[0]):
        out[i] = squared_distance(points[i], others[index[i]])


def paired_distances(points: FloatArray, others: FloatArray, index: IntArray) -> FloatArray:
    """Return the (N,) canonical squared distances between `points[i]` and `others[index[i]]`."""
    out = np.empty(len(points), dtype=np.float32)
    _paired(points, others, index, out)
    return out


@numba.njit(cache=True)
def _nearest_range(
    points: FloatArray, others: FloatArray, index: IntArray, out: FloatArray, bounds: IntArray
) -> None:
    for i in range(bounds[0], bounds[1]):
        best = np.float32(np.inf)
        where = 0
        for k in range(others.shape[0]):
            distance = squared_distance(points[i], others[k])
            if distance < best:
                best = distance
                where = k
        index[i] = where
        out[i] = best


@numba.njit(cache=True, parallel=True)
def _nearest_chunks(
    points: FloatArray, others: FloatArray, index: IntArray, out: FloatArray, bounds: IntArray
) -> None:
    for c in numba.prange(bounds.shape[0] - 1):
        _nearest_range(points, others, index, out, bounds[c : c + 2])


def nearest_rows(points: FloatArray, others: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return for each point its nearest row of `others`, by (canonical distance, row number).

    Args:
        points: (N, D) float32.
        others: (K, D) float32, K >= 1.

    Returns:
        (N,) int64 row numbers and (N,) float32 squared distances.

    Cost: N * K * D operations, no memory beyond the result.

    >>> nearest_rows(np.eye(2, dtype=np.float32), np.zeros((3, 2), dtype=np.float32))[0]
    array([0, 0])
    """
    index = np.empty(len(points), dtype=np.int64)
    out = np.empty(len(points), dtype=np.float32)
    whole = np.array([0, len(points)], dtype=np.int64)
    if points.size * len(others) < SERIAL_BELOW:
        _nearest_range(points, others, index, out, whole)
    else:
        bounds = np.append(np.arange(0, len(points), 256, dtype=np.int64), len(points))
        _nearest_chunks(points, others, index, out, bounds)
    return index, out


@numba.njit(cache=True)
def _normalize(points: FloatArray, out: FloatArray) -> None:
    for i in range(points.shape[0]):
        total = 0.0
        for j in range(points.shape[1]):
            total += np.float64(points[i, j]) * np.float64(points[i, j])
        norm = np.sqrt(total)
        for j in range(points.shape[1]):
            out[i, j] = np.float32(np.float64(points[i, j]) / norm)


def l2_normalize(points: FloatArray) -> FloatArray:
    """Return `points` (N, D) with every row scaled to unit length, in float32.

    Each row is computed by itself in float64, so the bits do not depend on the rows around it.
    Rows of zero length must have been refused before (see `require_finite`).
    """
    out = np.empty_like(points)
    _normalize(points, out)
    return out


def require_finite(
    points: FloatArray,
    ids: IdArray | None,
    *,
    nonzero: bool,
    ignored: BoolArray | None = None,
) -> None:
    """Refuse rows that have no place among distances.

    Args:
        points: (N, D) float32.
        ids: (N,) ids, to name the row; row numbers when None.
        nonzero: also refuse rows of zero length (they cannot be L2-normalised).
        ignored: (N,) rows that may hold anything.

    Raises:
        ValueError: naming the first offending rows.
    """
    bad: list[int] = []
    zero: list[int] = []
    huge: list[int] = []
    for begin in range(0, len(points), ROWS_PER_CHECK):
        block = points[begin : begin + ROWS_PER_CHECK]
        if ignored is not None:
            block = np.where(ignored[begin : begin + ROWS_PER_CHECK, None], np.float32(1), block)
        squares = np.einsum("ij,ij->i", block, block)
        bad += (
            (begin + np.flatnonzero(~np.isfinite(block).all(axis=1))).tolist()
            if not (np.isfinite(squares).all())
            else []
        )
        huge += (begin + np.flatnonzero(squares > LARGEST_SQUARE)).tolist()
        if nonzero and not squares.all():
            zero += (begin + np.flatnonzero(~block.any(axis=1))).tolist()
    for rows, must, are, remedy in (
        (bad, "be finite", "hold NaN or infinity", "Drop or recompute them."),
        (
            huge,
            f"be shorter than {LARGEST_SQUARE**0.5:.0e} for their distances to fit float32",
            "are longer",
            "Scale them down.",
        ),
        (
            zero,
            "not be all zero when they are L2-normalised",
            "are",
            "Drop them, or select with normalize=False.",
        ),
    ):
        if rows:
            names = ", ".join(str(row if ids is None else ids[row]) for row in rows[:3])
            raise ValueError(
                f"Embeddings must {must}; {len(rows)} of {len(points)} rows {are} "
                f"(tile ids {names}{', ...' if len(rows) > 3 else ''}). {remedy}"
            )


def underflow(points: FloatArray, ignored: BoolArray | None = None) -> str | None:
    """Say that rows are so short that their squared distances underflow float32; None if not.

    Rows of one common tiny scale would lie at distance 0 of each other, whatever they hold. Among
    longer rows a short one does no harm, and rows that are all zero are equal.

    Args:
        points: (N, D) float32, finite.
        ignored: (N,) rows that may hold anything.

    Cost: one pass, which ends at the first row that is long enough.

    >>> underflow(np.array([[1e-25], [2e-25]], np.float32))[:43]
    'Embeddings must have a row of 1e-19 or more'
    >>> underflow(np.array([[1e-25], [1.0]], np.float32)) is None
    True
    """
    longest = 0.0
    for begin in range(0, len(points), ROWS_PER_CHECK):
        block = points[begin : begin + ROWS_PER_CHECK].astype(np.float64)
        if ignored is not None:
            block = block[~ignored[begin : begin + ROWS_PER_CHECK]]
        longest = max(longest, float(np.einsum("ij,ij->i", block, block).max(initial=0.0)))
        if longest >= LEAST_SQUARE:
            return None
    if longest == 0:
        return None
    return (
        f"Embeddings must have a row of {LEAST_SQUARE**0.5:.0e} or more in length, or squared "
        f"distances underflow float32 and different rows lie at distance 0; the longest is "
        f"{longest**0.5:.3g}. Scale them up, or L2-normalise them."
    )


def id_ranks(ids: IdArray) -> IntArray:
    """Return the rank of each id in ascending order: the tie-breaker of every decision.

    >>> id_ranks(np.array(["b", "a", "c"]))
    array([1, 0, 2])
    """
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[np.argsort(ids, kind="stable")] = np.arange(len(ids))
    return ranks
