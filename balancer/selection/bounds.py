"""What the engine remembers of every row: an upper bound, and which picks the bound has seen.

Distances to a growing set of picks only fall, so the distance to *some* of the picks is an upper
bound of the distance to all of them. A row's bound is always a canonical distance
(`balancer.distances`), and four counters say which picks it has seen:

    seen = [0, old) and [gap, new), and all picks of the row's own cell before `own`.

A row is fresh when `old` equals the number of picks. The gap between `old` and `gap` comes from
looking at the newest picks first and stopping as soon as the bound shows that the row cannot be
next (`balancer.selection.catch_up`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.selection.cells import sample_centroids
from balancer.types import BoolArray, FloatArray, IntArray

ROWS_PER_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Options:
    """What a selection may depend on beside the rows.

    Attributes:
        cosine: L2-normalise rows as they are read.
        weights: (N,) float32 squared quality, or None.
        excluded: (N,) rows that must not be picked, or None.
        skip: outliers left out: each pick is the row after the `skip` farthest.
    """

    cosine: bool = False
    weights: FloatArray | None = None
    excluded: BoolArray | None = None
    skip: int = 0


DEFAULT = Options()


class Bounds(NamedTuple):
    """The engine's state as arrays, for compiled code. N rows, D columns, room for C picks.

    Attributes:
        points: (N, D) float32, never changed or copied.
        cosine: whether rows are L2-normalised when they are read.
        mean: (D,) float32, subtracted before a filter sees a row: it makes the filter's error small
            and changes no decision.
        norms: (N,) float32 squared length of the centred rows.
        weights: (N,) or (1,) float32 squared quality; multiplies the squared distance.
        ranks: (N,) int64 order of the ids.
        keys: (N,) float32 upper bound of weight * squared distance; -1 once taken or excluded.
        old, gap, new, own: (N,) int32, see the module.
        cells: (N,) int16 nearest of the cells' centroids.
        centroids: (M, D) float32 of the cells, centred.
        picks: (C, D) float32 vectors of the picks.
        centred: (C, D) float32 the same less the mean.
        pick_norms: (C,) float32 squared length of the centred picks.
        previous: (C,) int32 the pick before this one in the same cell, or -1.
        newest: (M,) int32 the last pick of each cell, or -1.
    """

    points: FloatArray
    cosine: bool
    mean: FloatArray
    norms: FloatArray
    weights: FloatArray
    ranks: IntArray
    keys: FloatArray
    old: np.ndarray[tuple[int], np.dtype[np.int32]]
    gap: np.ndarray[tuple[int], np.dtype[np.int32]]
    new: np.ndarray[tuple[int], np.dtype[np.int32]]
    own: np.ndarray[tuple[int], np.dtype[np.int32]]
    cells: np.ndarray[tuple[int], np.dtype[np.int16]]
    centroids: FloatArray
    picks: FloatArray
    centred: FloatArray
    pick_norms: FloatArray
    previous: np.ndarray[tuple[int], np.dtype[np.int32]]
    newest: np.ndarray[tuple[int], np.dtype[np.int32]]


@numba.njit(cache=True)
def load_row(points: FloatArray, row: int, cosine: bool, out: FloatArray) -> None:
    """Copy one row, L2-normalised exactly as `balancer.distances.l2_normalize` does if asked."""
    dim = points.shape[1]
    if cosine:
        total = 0.0
        for j in range(dim):
            total += np.float64(points[row, j]) * np.float64(points[row, j])
        norm = np.sqrt(total)
        for j in range(dim):
            out[j] = np.float32(np.float64(points[row, j]) / norm)
    else:
        for j in range(dim):
            out[j] = points[row, j]


@numba.njit(cache=True)
def squared_length(vector: FloatArray) -> np.float32:
    """Return the squared length, summed in float64."""
    total = 0.0
    for j in range(vector.shape[0]):
        total += np.float64(vector[j]) * np.float64(vector[j])
    return np.float32(total)


@numba.njit(cache=True)
def weigh(squared: np.float32, weight: np.float32) -> np.float32:
    """Return the key of a squared distance: the canonical product with the row's weight."""
    return np.float32(np.float64(squared) * np.float64(weight))


@numba.njit(cache=True)
def append_pick(bounds: Bounds, number: int, vector: FloatArray, cell: int) -> None:
    """Record pick `number` and the cell it lies in."""
    for j in range(vector.shape[0]):
        bounds.picks[number, j] = vector[j]
        bounds.centred[number, j] = vector[j] - bounds.mean[j]
    bounds.pick_norms[number] = squared_length(bounds.centred[number])
    bounds.previous[number] = bounds.newest[cell]
    bounds.newest[cell] = number


@numba.njit(cache=True)
def append_rows(bounds: Bounds, rows: IntArray, number: int) -> None:
    """Record rows of this array as the picks number, number + 1, ..."""
    vector = np.empty(bounds.points.shape[1], np.float32)
    for i in range(rows.shape[0]):
        load_row(bounds.points, rows[i], bounds.cosine, vector)
        append_pick(bounds, number + i, vector, bounds.cells[rows[i]])


@numba.njit(cache=True)
def append_vectors(bounds: Bounds, vectors: FloatArray, number: int) -> None:
    """Record (M, D) rows from elsewhere as the picks number, number + 1, ..."""
    for i in range(vectors.shape[0]):
        cell, least = 0, np.inf
        for c in range(bounds.centroids.shape[0]):
            total = 0.0
            for j in range(vectors.shape[1]):
                offset = bounds.centroids[c, j] - (vectors[i, j] - bounds.mean[j])
                total += np.float64(offset) * np.float64(offset)
            if total < least:
                cell, least = c, total
        append_pick(bounds, number + i, vectors[i], cell)


# The bodies of the parallel loops are functions of their own: numba takes a loop that only writes
# to the arrays of a named tuple for dead code, and drops it.


@numba.njit(cache=True)
def _measure_rows(
    bounds: Bounds, begin: int, half_norms: FloatArray, tile: FloatArray, out: FloatArray
) -> None:
    """Fill in the lengths and cells of one tile of rows."""
    rows = min(tile.shape[0], bounds.points.shape[0] - begin)
    count = half_norms.shape[0]
    for r in range(rows):
        if bounds.keys[begin + r] < 0:  # excluded: may hold anything, and is never looked at
            tile[r] = 0
            bounds.norms[begin + r] = 0
            continue
        load_row(bounds.points, begin + r, bounds.cosine, tile[r])
        total = 0.0
        for j in range(tile.shape[1]):
            tile[r, j] = tile[r, j] - bounds.mean[j]
            total += np.float64(tile[r, j]) * np.float64(tile[r, j])
        bounds.norms[begin + r] = np.float32(total)
    if count > 1:
        block = out[: rows * count].reshape((rows, count))
        np.dot(tile[:rows], bounds.centroids.T, block)
        for r in range(rows):
            best = 0
            for c in range(1, count):
                if half_norms[c] - block[r, c] < half_norms[best] - block[r, best]:
                    best = c
            bounds.cells[begin + r] = best


@numba.njit(cache=True, parallel=True)
def _measure(bounds: Bounds, half_norms: FloatArray, tiles: FloatArray, out: FloatArray) -> None:
    num_workers, size = tiles.shape[0], tiles.shape[1]
    for worker in numba.prange(num_workers):
        for begin in range(worker * size, bounds.points.shape[0], num_workers * size):
            _measure_rows(bounds, begin, half_norms, tiles[worker], out[worker])


@numba.njit(cache=True)
def _see_rows(bounds: Bounds, begin: int, end: int, row: FloatArray) -> None:
    many = bounds.weights.shape[0] > 1
    for i in range(begin, end):
        if bounds.keys[i] >= 0:
            if bounds.cosine:
                load_row(bounds.points, i, True, row)
                distance = squared_distance(row, bounds.picks[0])
            else:
                distance = squared_distance(bounds.points[i], bounds.picks[0])
            bounds.keys[i] = weigh(distance, bounds.weights[i if many else 0])
            bounds.old[i] = bounds.gap[i] = bounds.new[i] = 1


@numba.njit(cache=True, parallel=True)
def _see_first(bounds: Bounds, scratch: FloatArray) -> None:
    num_workers = scratch.shape[0]
    num_rows = bounds.points.shape[0]
    for worker in numba.prange(num_workers):
        begin = worker * num_rows // num_workers
        end = (worker + 1) * num_rows // num_workers
        _see_rows(bounds, begin, end, scratch[worker])


def see_first(bounds: Bounds, num_threads: int) -> None:
    """Lower every bound by pick 0: one pass over the rows, so that every bound is finite."""
    _see_first(bounds, np.empty((num_threads, bounds.points.shape[1]), np.float32))


def new_bounds(
    points: FloatArray,
    ranks: IntArray,
    capacity: int,
    options: Options,
    *,
    num_cells: int,
    num_threads: int,
) -> Bounds:
    """Return bounds that have seen nothing. Inputs are validated; see `Bounds`.

    Cost: two passes over `points`; 30 bytes per row beside them, and 8 D + 8 bytes per pick.
    """
    cosine = options.cosine
    num_rows, dim = points.shape
    mean, centroids = sample_centroids(points, num_cells, cosine=cosine, excluded=options.excluded)
    keys = np.full(num_rows, np.inf, np.float32)
    if options.excluded is not None:
        keys[options.excluded] = -1
    bounds = Bounds(
        points=points,
        cosine=cosine,
        mean=mean,
        norms=np.empty(num_rows, np.float32),
        weights=np.ones(1, np.float32) if options.weights is None else options.weights,
        ranks=ranks,
        keys=keys,
        old=np.zeros(num_rows, np.int32),
        gap=np.zeros(num_rows, np.int32),
        new=np.zeros(num_rows, np.int32),
        own=np.zeros(num_rows, np.int32),
        cells=np.zeros(num_rows, np.int16),
        centroids=centroids,
        picks=np.empty((capacity, dim), np.float32),
        centred=np.empty((capacity, dim), np.float32),
        pick_norms=np.empty(capacity, np.float32),
        previous=np.empty(capacity, np.int32),
        newest=np.full(len(centroids), -1, np.int32),
    )
    _measure(
        bounds,
        np.float32(0.5) * np.einsum("ij,ij->i", centroids, centroids),
        np.empty((num_threads, ROWS_PER_BLOCK, dim), np.float32),
        np.empty((num_threads, ROWS_PER_BLOCK * len(centroids)), np.float32),
    )
    return bounds
