"""Lloyd's k-means as local / merge / finalize, with exact sums.

Every shard assigns its rows and adds them up in integers: a row's coordinates are scaled by a
power of two that is fixed for the whole data set and rounded once. Integer addition is associative,
so the centroids are the same bits for any sharding, order and number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from balancer.clustering.assignment import assign
from balancer.clustering.initialization import kmeans_plus_plus
from balancer.config import ClusteringConfig
from balancer.seeding import child_generator, derive_seed
from balancer.types import Clustering, FloatArray, IdArray, IntArray

SPARE_ROWS = 64
"""Far rows that a shard offers for re-seeding empty clusters, per iteration."""


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


def default_num_clusters(budget: int, num_rows: int) -> int:
    """Return K for a budget: 2 * sqrt(budget), so that clusters give about sqrt(budget) / 2 rows.

    Enough clusters for rare groups to own one, and enough rows in each for the diverse pick inside
    to matter. Never more than half the budget or the rows there are.

    >>> default_num_clusters(600, 4500)
    49
    """
    return max(1, min(round(2 * math.sqrt(budget)), max(1, budget // 2), num_rows))


def make_scale(num_rows: int, dim: int, largest: float) -> Scale:
    """Return the scale for `num_rows` rows whose coordinates do not exceed `largest` in size."""
    row_bits = math.ceil(math.log2(max(2, num_rows)))
    magnitude = math.ceil(math.log2(max(largest, 1e-30)))
    distance_bits = 2 * (magnitude + 1) + math.ceil(math.log2(dim + 1)) + 1
    return Scale(61 - row_bits - magnitude, 61 - row_bits - distance_bits)


def local_sums(
    points: FloatArray, ids: IdArray, centroids: FloatArray, scale: Scale
) -> PartialSums:
    """Assign one shard's rows and add them up.

    Args:
        points: (N, D) float32, finite.
        ids: (N,) tile ids.
        centroids: (K, D) float32.
        scale: of the whole data set.

    Cost: one assignment, N * D integer additions, 8 * N * D bytes.
    """
    labels, squared = assign(points, centroids)
    num_clusters = len(centroids)
    integers = np.rint(np.ldexp(points.astype(np.float64), scale.coordinate_exponent))
    members = sparse.csr_array(
        (np.ones(len(points), np.int64), (labels, np.arange(len(points)))),
        shape=(num_clusters, len(points)),
    )
    scaled = np.rint(np.ldexp(squared.astype(np.float64), scale.distance_exponent))
    far = _farthest(squared, ids)
    return PartialSums(
        sums=np.asarray(members @ integers.astype(np.int64)),
        counts=np.bincount(labels, minlength=num_clusters).astype(np.int64),
        inertia=int(scaled.astype(np.int64).sum()),
        far_distances=squared[far],
        far_ids=ids[far],
        far_rows=points[far],
    )


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


def finalize_sums(total: PartialSums, previous: FloatArray, scale: Scale) -> FloatArray:
    """Return the next (K, D) float32 centroids.

    Empty clusters restart, in cluster order, from the rows farthest from their centroids
    (distance, then lowest id); rows at distance zero are not used, so with fewer distinct rows
    than clusters some stay empty.
    """
    centroids = previous.copy()
    filled = total.counts > 0
    means = total.sums[filled].astype(np.float64) / total.counts[filled, None]
    centroids[filled] = np.ldexp(means, -scale.coordinate_exponent).astype(np.float32)
    far = total.far_rows[total.far_distances > 0]
    if len(far):
        _, distinct = np.unique(far, axis=0, return_index=True)
        far = far[np.sort(distinct)]
    for cluster, row in zip(np.flatnonzero(~filled), far, strict=False):
        centroids[cluster] = row
    return centroids


def inertia_of(total: PartialSums, scale: Scale) -> float:
    """Return the sum of squared distances to the nearest centroid."""
    return math.ldexp(float(total.inertia), -scale.distance_exponent)


def has_converged(previous: float, current: float, tolerance: float) -> bool:
    """Tell whether the inertia fell by less than `tolerance` of its value."""
    return previous - current <= tolerance * previous


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


def fit(
    rows: Rows, num_clusters: int, *, config: ClusteringConfig, seed: int, fingerprint: str = ""
) -> Clustering:
    """Cluster `rows` into at most `num_clusters` clusters.

    The first centroids come from k-means++ on `config.sample_per_cluster` rows per cluster, then
    Lloyd iterations run until the inertia settles.

    Args:
        rows: where the rows are.
        num_clusters: K; lowered to the number of rows.
        config: iterations, tolerance and sample size.
        seed: of this clustering.
        fingerprint: recorded in the result.

    Returns:
        The clustering; its sizes and inertia belong to its centroids.
    """
    num_clusters = min(num_clusters, rows.num_rows)
    _, sample = rows.sample(
        num_clusters * config.sample_per_cluster, derive_seed(seed, "kmeans-sample")
    )
    dim, largest = rows.extent()
    scale = make_scale(rows.num_rows, dim, largest)
    centroids = kmeans_plus_plus(sample, num_clusters, child_generator(seed, "kmeans"))
    total = rows.sums(centroids, scale)
    for _ in range(config.iterations):
        before = inertia_of(total, scale)
        centroids = finalize_sums(total, centroids, scale)
        total = rows.sums(centroids, scale)
        settled = has_converged(before, inertia_of(total, scale), config.tolerance)
        if settled and total.counts.all():
            break
    return Clustering(centroids, total.counts, inertia_of(total, scale), fingerprint)


def _farthest(squared: FloatArray, ids: IdArray) -> IntArray:
    """Return at most SPARE_ROWS rows by (distance descending, id)."""
    rows = np.arange(len(squared))
    if len(squared) > SPARE_ROWS:
        limit = np.partition(squared, len(squared) - SPARE_ROWS)[len(squared) - SPARE_ROWS]
        rows = np.flatnonzero(squared >= limit)
    return rows[np.lexsort((ids[rows], -squared[rows]))][:SPARE_ROWS]
