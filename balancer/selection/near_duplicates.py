"""Near-duplicates of one array: who is kept, who is dropped for whom, and what that took.

    order   rows in a seeded random order of their ids, or best first by a given priority
    cells   k-means of a sample; visits across borders unless they are ignored
    net     the greedy net (or SemDeDup's rule, for comparison) over the cells

While borders are exact the result depends on the rows, ids, threshold and seed only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.config_deduplicate import DeduplicateConfig
from balancer.seeding import hash_ids
from balancer.selection.greedy_net import decide
from balancer.selection.near_blocks import Bucket, Drops, make_bucket, near_among, near_kept
from balancer.selection.near_cells import (
    Routes,
    default_num_cells,
    fit_cells,
    route,
    sample_size,
)
from balancer.selection.near_misses import MISS_SAMPLE, Misses, count_misses
from balancer.selection.near_order import order_rows, order_seed
from balancer.selection.near_pairs import NearPairs, RankedRows
from balancer.selection.uniform import lowest_hashes
from balancer.types import BoolArray, DoubleArray, FloatArray, IdArray, IntArray


@dataclass(frozen=True, slots=True)
class Effort:
    """What finding near-duplicates took.

    Attributes:
        num_cells: cells used.
        replication: rows compared in the cells over rows there are; 1 where borders are ignored.
        misses: pairs that ignoring borders lost, counted on a sample; None with exact borders.
    """

    num_cells: int
    replication: float
    misses: Misses | None


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """The result for N rows.

    Attributes:
        kept: (N,) whether the row is kept.
        kept_by: (N,) int64 row for which it was dropped; -1 where it is kept.
        squared: (N,) float32 squared distance to that row; NaN where it is kept.
        order: (N,) int64 rows, first in the order first.
        pairs: all pairs within the floor, by rank in that order; None without a floor.
        effort: what it took.
    """

    kept: BoolArray
    kept_by: IntArray
    squared: FloatArray
    order: IntArray
    pairs: NearPairs | None
    effort: Effort

    @property
    def num_dropped(self) -> int:
        """How many rows are near-duplicates of kept ones."""
        return int(len(self.kept) - self.kept.sum())


@dataclass(frozen=True, slots=True)
class ArrayUnits:
    """Work units in this process."""

    num_rows: int
    units: Sequence[Sequence[Bucket]]

    def near_kept(self, begin: int, end: int, kept: IntArray | None, limit: float) -> list[Drops]:
        """See `balancer.selection.greedy_net.Units`."""
        return [near_kept(unit, begin, end, kept, limit) for unit in self.units]

    def near_among(
        self, members: IntArray | None, limit: float, most: int | None
    ) -> list[NearPairs]:
        """See `balancer.selection.greedy_net.Units`."""
        return [near_among(unit, members, limit, most) for unit in self.units]


def deduplicate(
    points: FloatArray,
    ids: IdArray,
    config: DeduplicateConfig,
    *,
    seed: int = 0,
    priority: DoubleArray | None = None,
) -> NearDuplicates:
    """Find the near-duplicates of an array.

    Args:
        points: (N, D) float32, C-contiguous, finite; L2-normalised where the threshold is a
            similarity.
        ids: (N,) unique ids.
        config: threshold, rule, borders.
        seed: of the order and the cells.
        priority: (N,) rows with greater values are kept first, NaN last.

    Raises:
        TooManyPairsError: more pairs within the floor than `config.max_pairs`.

    Cost: N K D multiply-adds to assign, about N^2 D / K per replication to compare; 100 bytes per
    row and visit beside the array. Below 5,000 rows one block, without cells.

    >>> turn = np.deg2rad([0, 1, 2, 90, 91]).astype(np.float32)
    >>> circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    >>> names = np.array(list("abcde"))
    >>> deduplicate(circle, names, DeduplicateConfig(threshold=0.99)).num_dropped
    3
    """
    seed = order_seed(seed)
    hashes = hash_ids(ids, seed)
    num_cells = num_cells_of(config, len(points))
    sample = lowest_hashes(ids, sample_size(num_cells), seed=seed)
    cells = fit_cells(ids[sample], points[sample], num_cells, seed=seed)
    routes = route(points, cells, reach_of(config))
    keys = sort_keys(config, routes.squared, priority)
    order = order_rows(keys, hashes, lambda rows: ids[rows])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    bucket = bucket_of_routes(points, ranks, routes)
    net = decide(ArrayUnits(len(points), [[bucket]]), config)
    misses = None
    if config.ignores_borders:
        chosen = lowest_hashes(ids, MISS_SAMPLE, seed=seed)
        misses = count_misses(
            RankedRows(points, chosen, ranks[chosen]),
            routes.home[chosen],
            RankedRows(points, np.arange(len(points)), ranks),
            routes.home,
            config.limit,
        )
    by = net.by[ranks]
    return NearDuplicates(
        net.kept[ranks],
        np.where(by >= 0, order[by], -1),
        net.squared[ranks],
        order,
        net.pairs,
        Effort(len(cells), len(bucket.ranks) / len(points), misses),
    )


def num_cells_of(config: DeduplicateConfig, num_rows: int) -> int:
    """Return how many cells pairs are looked for in: as configured, or by the number of rows."""
    return config.num_cells or default_num_cells(num_rows, alone=config.ignores_borders)


def reach_of(config: DeduplicateConfig) -> float | None:
    """Return the distance up to which pairs across borders count; None where none do.

    A little more than the floor, because canonical squared distances are rounded.
    """
    if config.ignores_borders:
        return None
    return math.sqrt(config.floor_limit) * (1 + 1e-6)


def sort_keys(
    config: DeduplicateConfig, squared: FloatArray, priority: DoubleArray | None
) -> DoubleArray | None:
    """Return what rows are sorted by, ascending, before their hashes; None for hashes alone.

    Args:
        config: names the order.
        squared: (N,) squared distance of each row to its centroid.
        priority: (N,) greater is better, NaN is worst.
    """
    if priority is not None:
        return np.where(np.isnan(priority), np.inf, -priority)
    if config.order == "random":
        return None
    sign = -1.0 if config.order == "hard" else 1.0
    return sign * squared.astype(np.float64)


def bucket_of_routes(points: FloatArray, ranks: IntArray, routes: Routes) -> Bucket:
    """Return one bucket with all rows at home and all visits.

    Args:
        points: (N, D).
        ranks: (N,).
        routes: of those rows.
    """
    rows = np.concatenate([np.arange(len(points)), routes.visitors])
    home = np.zeros(len(rows), np.bool_)
    home[: len(points)] = True
    cells = np.concatenate([routes.home, routes.visited])
    return make_bucket(points, rows, ranks[rows], cells, home)
