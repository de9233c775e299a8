"""One Lloyd iteration as local / merge / finalize, with exact sums.

Every shard assigns its rows and adds them up in integers: a row's coordinates are scaled by a
power of two that is fixed for the whole data set and rounded once. Integer addition is associative,
so the centroids are the same bits for any sharding, order and number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numba
import numpy as np

from balancer.clustering.assignment import assign
from balancer.distances import l2_normalize
from balancer.types import FloatArray, IdArray, IntArray

T = TypeVar("T")

SPARE_ROWS = 64
"""Far rows that a shard offers for re-seeding empty clusters, per iteration."""

COPIES_BYTES = 1 << 26
"""Threads add into copies of the sums of their own while all copies fit into this."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Powers of two by which coordinates and squared distances become integers.

    64-bit sums of `num_rows` scaled values cannot overflow.
    """

    coordinate_exponent: int
    distance_exponent: int


@dataclass(frozen=True, slots=True)
class PartialSums:
    """What one shard adds to an iteration. `merge` is associative and commutative.

    Attributes:
        sums: (K, D) int64 scaled coordinate sums.
        counts: (K,) int64 rows per cluster.
        inertia: scaled sum of squared distances, a Python integer.
        far_distances: (F,) float32 squared distances of the farthest rows, F <= SPARE_ROWS.
        far_ids: (F,) their ids.
        far_rows: (F, D) their vectors.
    """

    sums: IntArray
    counts: IntArray
    inertia: int
    far_distances: FloatArray
    far_ids: IdArray
    far_rows: FloatArray


class Rows(Protocol):
    """Rows to cluster, on one array or on many workers."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""

    def extent(self) -> tuple[int, float]:
        """Return the dimension and the greatest absolute coordinate."""

    def sample(self, count: int, seed: int) -> tuple[IdArray, FloatArray]:
        """Return ids and vectors of the `count` rows with the lowest hashes, lowest first."""

    def sums(self, centroids: FloatArray, scale: Scale) -> PartialSums:
        """Return the merged `local_sums` of all rows."""

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """Return `local(rows, *arguments)` of every shard, in the order of the shards."""


def make_scale(num_rows: int, dim: int, largest: float) -> Scale:
    """Return the scale for `num_rows` rows whose coordinates do not exceed `largest` in size."""
    row_bits = math.ceil(math.log2(max(2, num_rows)))
    magnitude = math.ceil(math.log2(max(largest, 1e-30)))
    distance_bits = 2 * (magnitude + 1) + math.ceil(math.log2(dim + 1)) + 1
    return Scale(61 - row_bits - magnitude, 61 - row_bits - distance_bits)


def greatest(points: FloatArray) -> float:
    """Return the greatest absolute coordinate, without a copy of the (N, D) points.

    >>> greatest(np.array([[1.0, -2.0]], dtype=np.float32))
    2.0
    """
    return max(float(points.max()), -float(points.min())) if points.size else 0.0


def local_sums(
    points: FloatArray, ids: IdArray, centroids: FloatArray, scale: Scale, *, device: str = "cpu"
) -> PartialSums:
    """Assign one shard's rows and add them up.

    Args:
        points: (N, D) float32, finite.
        ids: (N,) tile ids.
        centroids: (K, D) float32.
        scale: of the whole data set.
        device: where rows are assigned; the result does not depend on it.

    Cost: one assignment, N * D integer additions, 16 bytes per row and 8 * K * D bytes, which
    threads multiply while that stays below `COPIES_BYTES`.
    """
    labels, squared = assign(points, centroids, device=device)
    num_clusters, dim = centroids.shape
    copies = max(1, min(numba.get_num_threads(), COPIES_BYTES // (8 * num_clusters * dim)))
    sums = np.zeros((copies, num_clusters, dim), np.int64)
    inertia = np.zeros(copies, np.int64)
    _add_rows(
        points,
        labels,
        squared,
        (2.0**scale.coordinate_exponent, 2.0**scale.distance_exponent),
        sums,
        inertia,
    )
    far = _farthest(squared, ids)
    return PartialSums(
        sums=sums[0] if copies == 1 else sums.sum(axis=0),
        counts=np.bincount(labels, minlength=num_clusters).astype(np.int64),
        inertia=int(inertia.sum()),
        far_distances=squared[far],
        far_ids=ids[far],
        far_rows=points[far],
    )


@numba.njit(cache=True, parallel=True)
def _add_rows(
    points: FloatArray,
    labels: IntArray,
    squared: FloatArray,
    factors: tuple[float, float],
    sums: IntArray,
    inertia: IntArray,
) -> None:
    """Add each row, times a power of two and rounded, to its cluster's sum."""
    copies, num_rows = sums.shape[0], points.shape[0]
    for copy in numba.prange(copies):
        total = np.int64(0)
        for i in range(copy * num_rows // copies, (copy + 1) * num_rows // copies):
            row, target = points[i], sums[copy, labels[i]]
            for j in range(row.shape[0]):
                target[j] += np.int64(np.rint(np.float64(row[j]) * factors[0]))
            total += np.int64(np.rint(np.float64(squared[i]) * factors[1]))
        inertia[copy] = total


def merge_sums(parts: Sequence[PartialSums]) -> PartialSums:
    """Add up the parts of several shards.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("merge_sums needs at least one shard's part; got none.")
    distances = np.concatenate([part.far_distances for part in parts])
    ids = np.concatenate([part.far_ids for part in parts])
    far = _farthest(distances, ids)
    return PartialSums(
        sums=np.sum([part.sums for part in parts], axis=0, dtype=np.int64),
        counts=np.sum([part.counts for part in parts], axis=0, dtype=np.int64),
        inertia=sum(part.inertia for part in parts),
        far_distances=distances[far],
        far_ids=ids[far],
        far_rows=np.concatenate([part.far_rows for part in parts])[far],
    )


def finalize_sums(
    total: PartialSums, previous: FloatArray, scale: Scale, *, spherical: bool = False
) -> FloatArray:
    """Return the next (K, D) float32 centroids.

    Empty clusters restart, in cluster order, from the rows farthest from their centroids
    (distance, then lowest id); rows at distance zero are not used, so with fewer distinct rows
    than clusters some stay empty. With `spherical` the means are scaled to unit length, which
    maximises the cosine to the rows (Dhillon and Modha 2001); a mean of zero keeps its centroid.
    """
    centroids = previous.copy()
    filled = total.counts > 0
    exact = total.sums[filled].astype(np.float64) / total.counts[filled, None]
    means = np.ldexp(exact, -scale.coordinate_exponent).astype(np.float32)
    if spherical:
        nonzero = means.any(axis=1)
        filled[np.flatnonzero(filled)[~nonzero]] = False
        means = l2_normalize(means[nonzero])
    centroids[filled] = means
    far = total.far_rows[total.far_distances > 0]
    if len(far):
        _, distinct = np.unique(far, axis=0, return_index=True)
        far = far[np.sort(distinct)]
    for cluster, row in zip(np.flatnonzero(total.counts == 0), far, strict=False):
        centroids[cluster] = row
    return centroids


def inertia_of(total: PartialSums, scale: Scale) -> float:
    """Return the sum of squared distances to the nearest centroid."""
    return math.ldexp(float(total.inertia), -scale.distance_exponent)


def _farthest(squared: FloatArray, ids: IdArray) -> IntArray:
    """Return at most SPARE_ROWS rows by (distance descending, id)."""
    rows = np.arange(len(squared))
    if len(squared) > SPARE_ROWS:
        limit = np.partition(squared, len(squared) - SPARE_ROWS)[len(squared) - SPARE_ROWS]
        rows = np.flatnonzero(squared >= limit)
    return rows[np.lexsort((ids[rows], -squared[rows]))][:SPARE_ROWS]
