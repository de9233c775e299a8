"""What a strategy needs from the rows it selects among, wherever they lie.

`ArrayPool` holds one array. The Ray stage holds shards on many workers behind the same protocol,
so every strategy is written once and picks the same tiles in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from balancer.clustering.assignment import assign
from balancer.clustering.kmeans import PartialSums, Scale, local_sums, merge_sums
from balancer.config import Within
from balancer.imbalance.radius import covering_radii, trimmed_radius
from balancer.selection.bounds import Options
from balancer.selection.coresets import (
    CoresetPicks,
    default_limit,
    finalize_coreset,
    local_coreset,
)
from balancer.selection.exchange import (
    ExchangeShard,
    ExchangeStats,
    Offer,
    Picks,
    exchange,
)
from balancer.selection.per_cluster import cluster_seed, pick_in_cluster
from balancer.selection.quality import Quality, scaled_quality, squared_weights
from balancer.selection.uniform import lowest_hashes
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray, ShardRows

T = TypeVar("T")

ROOM = 1024
"""Rows an array offers to itself at a time."""


@dataclass(frozen=True, slots=True)
class Picked:
    """Picks of one cluster or of the whole pool, best first.

    Attributes:
        ids: (n,) tile ids.
        cluster: (n,) int64, -1 without clusters.
        distance: (n,) float32, NaN where the rule has none.
    """

    ids: IdArray
    cluster: IntArray
    distance: FloatArray


@dataclass(frozen=True, slots=True)
class FarthestRun:
    """Farthest-point picks, and what is left after them.

    Attributes:
        picks: ids, vectors and squared distances to what was picked before, in order.
        radius: covering radius of the given rows and the picks together, times quality, the
            outliers left out.
        farthest_id: the row at that distance; None when every row is picked.
    """

    picks: Picks
    radius: float
    farthest_id: str | None


def run_farthest(
    ask: Callable[[IdArray, FloatArray, int], Sequence[Offer]],
    num_picks: int,
    *,
    dim: int,
    room: int,
    skip: int = 0,
    stats: ExchangeStats | None = None,
) -> FarthestRun:
    """Pick by `balancer.selection.exchange` and find the radius: the next pick's distance.

    With `skip` outliers left out, the next pick is the farthest row that is not left out.

    Raises:
        ValueError: the rows end before `num_picks` are found.
    """
    picks = exchange(ask, num_picks + 1, dim=dim, room=room, skip=skip, stats=stats)
    if len(picks.ids) < num_picks:
        raise ValueError(f"{num_picks} picks were asked for; the rows end after {len(picks.ids)}.")
    whole = len(picks.ids) == num_picks
    return FarthestRun(
        Picks(picks.ids[:num_picks], picks.vectors[:num_picks], picks.keys[:num_picks]),
        0.0 if whole else float(np.sqrt(picks.keys[num_picks])),
        None if whole else str(picks.ids[num_picks]),
    )


class Pool(Protocol):
    """Rows to select among."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""

    def sample(self, count: int, seed: int) -> tuple[IdArray, FloatArray]:
        """Return ids and vectors of the `count` rows with the lowest hashes, lowest first."""

    def farthest(
        self, num_picks: int, given: Picks, *, quality: Quality | None = None, skip: int = 0
    ) -> FarthestRun:
        """Pick `num_picks` rows, each the farthest from the given rows and the picks so far.

        Distances are multiplied by the quality; each pick is the row after the `skip` farthest.
        """

    def pick_in_clusters(
        self,
        counts: IntArray,
        rule: Within,
        seed: int,
        *,
        included: IdArray | None = None,
        quality: Quality | None = None,
    ) -> Picked:
        """Pick `counts[k]` rows of every cluster k by `rule`, cluster by cluster.

        Rows that are included already are not picked again; farthest-point starts from them.
        """

    def vectors(self, ids: IdArray) -> FloatArray:
        """Return the (n, D) vectors of the given ids."""

    def pick_from_coresets(
        self, num_picks: int, epsilon: float | None, seed: int, limit: int | None, included: Picks
    ) -> CoresetPicks:
        """Pick from the union of all shards' coresets (`balancer.selection.coresets`)."""

    def covering_radii(self, picks: FloatArray, *, num_outliers: int = 0) -> dict[str, float]:
        """Return the covering radii of `picks` (M, D), keyed "100", "99" and "95".

        With outliers also "trimmed": the radius after so many farthest rows are left out.
        """

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """Return `local(rows, *arguments)` of every shard with rows, in the order of the shards.

        The general step for a new strategy: `local` is a module's pure function of `ShardRows`, its
        results are small, and the caller merges them.
        """


class ArrayPool:
    """Rows of one array, as a `Pool` and as `balancer.clustering.kmeans.Rows`.

    Args:
        points: (N, D) float32, C-contiguous, finite.
        ids: (N,) unique ids.
        labels: (N,) int64 cluster of each row; needed by `pick_in_clusters` only.
        centroids: (K, D) float32; likewise.
        columns: (N,) metadata values by name, for `map_shards`.
    """

    def __init__(
        self,
        points: FloatArray,
        ids: IdArray,
        labels: IntArray | None = None,
        centroids: FloatArray | None = None,
        columns: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.columns = columns or {}
        self.points = points
        self.ids = ids
        self.labels = labels
        self.centroids = centroids

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.points)

    def sample(self, count: int, seed: int) -> tuple[IdArray, FloatArray]:
        """See `Pool`."""
        rows = lowest_hashes(self.ids, count, seed=seed)
        return self.ids[rows], self.points[rows]

    def farthest(
        self, num_picks: int, given: Picks, *, quality: Quality | None = None, skip: int = 0
    ) -> FarthestRun:
        """See `Pool`."""
        weights = squared_weights(self.columns, quality)
        shard = ExchangeShard(
            self.points,
            self.ids,
            len(given.ids) + num_picks,
            Options(weights=weights if len(weights) else None),
        )
        shard.apply(given.ids, given.vectors)

        def ask(ids: IdArray, vectors: FloatArray, room: int) -> list[Offer]:
            shard.apply(ids, vectors)
            return [shard.offer(room)]

        return run_farthest(ask, num_picks, dim=self.points.shape[1], room=ROOM, skip=skip)

    def pick_in_clusters(
        self,
        counts: IntArray,
        rule: Within,
        seed: int,
        *,
        included: IdArray | None = None,
        quality: Quality | None = None,
    ) -> Picked:
        """See `Pool`."""
        assert self.labels is not None  # a pool for this strategy is made with labels
        assert self.centroids is not None
        order = np.argsort(self.labels, kind="stable")
        ends = np.cumsum(np.bincount(self.labels, minlength=len(counts)))
        values = None if quality is None else scaled_quality(self.columns, quality)
        parts = []
        for cluster in np.flatnonzero(counts):
            rows = order[(ends[cluster - 1] if cluster else 0) : ends[cluster]]
            parts.append(
                pick_rows(
                    self.points[rows],
                    self.ids[rows],
                    int(counts[cluster]),
                    rule=rule,
                    cluster=int(cluster),
                    centroid=self.centroids[cluster],
                    seed=seed,
                    included=included,
                    quality=None if values is None else values[rows],
                )
            )
        return concatenate_picked(parts)

    def extent(self) -> tuple[int, float]:
        """See `balancer.clustering.kmeans.Rows`."""
        return self.points.shape[1], float(np.abs(self.points).max())

    def sums(self, centroids: FloatArray, scale: Scale) -> PartialSums:
        """See `balancer.clustering.kmeans.Rows`."""
        return merge_sums([local_sums(self.points, self.ids, centroids, scale)])

    def vectors(self, ids: IdArray) -> FloatArray:
        """See `Pool`."""
        return self.points[rows_of(self.ids, ids)]

    def pick_from_coresets(
        self, num_picks: int, epsilon: float | None, seed: int, limit: int | None, included: Picks
    ) -> CoresetPicks:
        """See `Pool`. The array is one shard."""
        most = limit or default_limit(num_picks, 1, self.points.shape[1])
        coreset = local_coreset(
            self.points, self.ids, num_picks, epsilon=epsilon, seed=seed, max_size=most
        )
        return finalize_coreset(coreset, seed=seed, included=included)

    def covering_radii(self, picks: FloatArray, *, num_outliers: int = 0) -> dict[str, float]:
        """See `Pool`."""
        squared = assign(self.points, picks)[1]
        radii = covering_radii(squared)
        if num_outliers:
            radii["trimmed"] = trimmed_radius(squared, num_outliers)
        return radii

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """See `Pool`. The array is one shard."""
        return [local(ShardRows(self.ids, self.points, self.columns), *arguments)]


def pick_rows(  # noqa: PLR0913 - rule, place and weights are one cluster's
    points: FloatArray,
    ids: IdArray,
    count: int,
    *,
    rule: Within,
    cluster: int,
    centroid: FloatArray,
    seed: int,
    included: IdArray | None = None,
    quality: DoubleArray | None = None,
) -> Picked:
    """Pick `count` rows of one cluster, whose rows may come in any order.

    `included` are ids of any clusters; those of this one are not picked again.
    """
    picks = pick_in_cluster(
        points,
        ids,
        count,
        rule=rule,
        centroid=centroid,
        seed=cluster_seed(seed, cluster),
        included=None if included is None else np.flatnonzero(np.isin(ids, included)),
        quality=quality,
    )
    return Picked(ids[picks.rows], np.full(count, cluster, np.int64), picks.distances)


def concatenate_picked(parts: Sequence[Picked]) -> Picked:
    """Join picks in the order of `parts`."""
    if not parts:
        return Picked(np.empty(0, np.str_), np.empty(0, np.int64), np.empty(0, np.float32))
    return Picked(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.cluster for part in parts]),
        np.concatenate([part.distance for part in parts]),
    )


def rows_of(ids: IdArray, wanted: IdArray) -> IntArray:
    """Return the row of each wanted id.

    Raises:
        KeyError: naming an id that is not there.

    >>> rows_of(np.array(["b", "a"]), np.array(["a"]))
    array([1])
    """
    order = np.argsort(ids, kind="stable")
    if len(ids) == 0 and len(wanted):
        raise KeyError(f"{wanted[0]} is not among the rows")
    places = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    rows = order[places]
    wrong = ids[rows] != wanted
    if wrong.any():
        raise KeyError(f"{wanted[wrong][0]} is not among the rows")
    return rows.astype(np.int64)
