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
from balancer.clustering.lloyd import PartialSums, Scale, greatest, local_sums, merge_sums
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
from balancer.selection.quality import Quality, scaled_quality, squared_weights
from balancer.selection.shard_bounds import ON_CPU, EngineChoice
from balancer.selection.strata import cluster_strata, label_rows
from balancer.selection.stratum_picks import PickPlan, StratumPicks, pick_strata
from balancer.selection.uniform import lowest_hashes
from balancer.types import FloatArray, IdArray, IntArray, ShardRows, Strata

T = TypeVar("T")

ROOM = 1024
"""Rows an array offers to itself at a time."""


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
        strata: Strata | None = None,
        *,
        included: IdArray | None = None,
        quality: Quality | None = None,
    ) -> StratumPicks:
        """Pick `counts[s]` rows of every stratum s by `rule`; strata are clusters when absent.

        Rows that are included already are not picked again; farthest-point and medoid start from
        those of their stratum. Quality multiplies the distances of farthest-point.
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
        engine: what keeps the bounds of farthest-point; its `auto` is the CPU.
    """

    def __init__(
        self,
        points: FloatArray,
        ids: IdArray,
        labels: IntArray | None = None,
        centroids: FloatArray | None = None,
        columns: Mapping[str, NDArray[Any]] | None = None,
        engine: EngineChoice = ON_CPU,
    ) -> None:
        self._engine = engine.on("cpu")
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
            self._engine,
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
        strata: Strata | None = None,
        *,
        included: IdArray | None = None,
        quality: Quality | None = None,
    ) -> StratumPicks:
        """See `Pool`."""
        assert self.labels is not None  # a pool for this strategy is made with labels
        assert self.centroids is not None
        if strata is None:
            strata = cluster_strata(np.bincount(self.labels, minlength=len(counts)))
        rows = ShardRows(self.ids, self.points, self.columns)
        labels = label_rows(rows, self.labels, strata)
        given = np.empty(0, np.str_) if included is None else included
        plan = PickPlan(strata, counts, rule, seed, self.centroids, given, quality)
        values = None if quality is None else scaled_quality(self.columns, quality)
        return pick_strata(self.points, self.ids, labels, plan, quality=values, engine=self._engine)

    def extent(self) -> tuple[int, float]:
        """See `balancer.clustering.kmeans.Rows`."""
        return self.points.shape[1], greatest(self.points)

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
            self.points,
            self.ids,
            num_picks,
            epsilon=epsilon,
            seed=seed,
            max_size=most,
            engine=self._engine,
        )
        return finalize_coreset(coreset, seed=seed, included=included, engine=self._engine)

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
