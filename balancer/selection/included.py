"""Tiles that must be picked: they come first, count against the budget, and are given to the rest.

Weights. An included tile is picked with certainty, so it stands for itself and weighs 1; the other
picks of its stratum (the archive, its cluster, or its cell of quotas) share the stratum's other
rows. Where nothing but included tiles is picked in a stratum, they share it. So weights add up to
the rows as they do without included tiles: to the rows of the strata that give picks. A tile that
is shown several times weighs so much less, and each of its showings counts.

Rates go the other way, from a selection to all rows of the archive (`weights.parquet`): an included
tile has the rate at which it is shown, 1 unless tiles repeat, and the other rows of its stratum
share what is left of the stratum's count: nothing where all of it is included tiles. So rates add
up to the budget. The rate of a pick is 1 / its weight, but for included tiles that share a stratum.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balancer.clustering.assignment import assign
from balancer.selection.exchange import Picks
from balancer.selection.pool import Pool, rows_of
from balancer.selection.quality import (
    Quality,
    finalize_quality,
    local_quality,
    merge_quality,
)
from balancer.selection.strata import label_rows
from balancer.types import (
    Allocation,
    DoubleArray,
    FloatArray,
    IdArray,
    IntArray,
    Selection,
    ShardRows,
    Strata,
)

INCLUDE = "include"
"""Reason of a tile that had to be picked."""


def no_ids() -> IdArray:
    """Return an empty array of ids."""
    return np.empty(0, np.str_)


def included_picks(pool: Pool, ids: IdArray) -> Picks:
    """Return the included rows in their order, with vectors and without distances.

    Raises:
        ValueError: an id that is not among the rows, or repeats.
    """
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"Included tiles must be named once; {str(names[counts > 1][0])!r} repeats. Remove "
            f"the repetition."
        )
    try:
        vectors = pool.vectors(ids) if len(ids) else np.empty((0, 0), np.float32)
    except KeyError as error:
        raise ValueError(
            f"Included tiles must be among the rows to pick from; {error.args[0]}. Take it off "
            f"the list, or see whether it is excluded or could not be read."
        ) from error
    return Picks(ids, vectors, np.full(len(ids), np.nan, np.float32))


def strata_of(pool: Pool, given: Picks, centroids: FloatArray, strata: Strata) -> IntArray:
    """Return the (m,) strata of included rows.

    Args:
        pool: with the columns of the strata.
        given: included rows.
        centroids: (K, D) float32.
        strata: in their order.

    Cost: none without included rows, else one assignment of them.
    """
    if len(given.ids) == 0:
        return np.empty(0, np.int64)
    if not strata.columns:
        return assign(given.vectors, centroids)[0]
    parts = pool.map_shards(local_strata, given.ids, centroids, strata)
    ids = np.concatenate([part for part, _ in parts])
    found = np.concatenate([labels for _, labels in parts])
    return found[rows_of(ids, given.ids)]


def local_strata(
    rows: ShardRows, wanted: IdArray, centroids: FloatArray, strata: Strata
) -> tuple[IdArray, IntArray]:
    """Return those of the wanted ids that one shard has, and their strata (local).

    >>> rows = ShardRows(np.array(["a", "b"]), np.zeros((2, 1), np.float32))
    >>> both = Strata((), np.array([0]), np.empty((1, 0), np.str_), np.array([2]))
    >>> local_strata(rows, np.array(["b"]), np.zeros((1, 1), np.float32), both)[1]
    array([0])
    """
    mine = np.flatnonzero(np.isin(rows.ids, wanted))
    if len(mine) == 0:
        return rows.ids[mine], mine.astype(np.int64)
    columns = {name: rows.columns[name][mine] for name in strata.columns}
    part = ShardRows(rows.ids[mine], np.ascontiguousarray(rows.points[mine]), columns)
    return part.ids, label_rows(part, assign(part.points, centroids)[0], strata)


def stratum_weights(
    sizes: IntArray | DoubleArray, included: IntArray, free: IntArray
) -> tuple[DoubleArray, DoubleArray]:
    """Return the weight of an included tile and of another pick in each stratum.

    Args:
        sizes: (K,) rows.
        included: (K,) included tiles among them.
        free: (K,) other picks, as often as they are shown.

    >>> sizes, included = np.array([10, 10]), np.array([2, 2])
    >>> stratum_weights(sizes, included, np.array([4, 0]))
    (array([1., 5.]), array([2., 8.]))
    """
    alone = (free == 0) & (included > 0)
    return (
        np.where(alone, sizes / np.maximum(1, included), 1.0),
        (sizes - included) / np.maximum(1, free),
    )


def put_first(
    given: Picks,
    cluster: IntArray,
    weight: DoubleArray,
    picked: Selection,
    *,
    repeats: IntArray | None = None,
) -> Selection:
    """Return a selection with the included tiles before the others.

    Args:
        given: included rows.
        cluster: (m,) their clusters, -1 without.
        weight: (m,) their weights.
        picked: the rest.
        repeats: (m,) how often they are shown, where the rest says so of itself.
    """
    count = len(given.ids)
    if count == 0:
        return picked
    return replace(
        picked,
        tile_ids=np.concatenate([given.ids, picked.tile_ids]),
        shard_ids=np.full(count + len(picked), ""),
        cluster=np.concatenate([cluster, picked.cluster]),
        distance=np.concatenate([given.keys, picked.distance]),
        weight=np.concatenate([weight, picked.weight]),
        reason=np.concatenate([np.full(count, INCLUDE), picked.reason]),
        num_included=count,
        repeats=None
        if picked.repeats is None or repeats is None
        else np.concatenate([repeats, picked.repeats]),
    )


def with_included_rates(allocation: Allocation, selection: Selection) -> Allocation:
    """Return the allocation with the included tiles of its selection and their rates."""
    included = selection.reason == INCLUDE
    shown = np.ones(len(selection)) if selection.repeats is None else selection.repeats
    return replace(
        allocation,
        included=selection.tile_ids[included],
        included_rates=shown[included].astype(np.float64),
    )


def tile_rates(ids: IdArray, labels: IntArray, allocation: Allocation) -> DoubleArray:
    """Return how often each row should be shown, on average.

    Args:
        ids: (N,) tile ids.
        labels: (N,) stratum of each.
        allocation: with the rates of the strata and of the included tiles.

    Returns:
        (N,) float64; over all rows they add up to the budget.

    >>> strata = Strata((), np.array([0]), np.empty((1, 0), np.str_), np.array([3]))
    >>> must, one = np.array(["b"]), np.array([1.0])
    >>> allocation = Allocation(
    ...     strata, np.array([2]), np.array([0.5]), included=must, included_rates=one
    ... )
    >>> tile_rates(np.array(["a", "b", "c"]), np.zeros(3, np.int64), allocation)
    array([0.5, 1. , 0.5])
    """
    rates: DoubleArray = allocation.rates[labels]
    rows = np.flatnonzero(np.isin(ids, allocation.included))
    if len(rows):
        rates[rows] = allocation.included_rates[rows_of(allocation.included, ids[rows])]
    return rates


def find_quality(pool: Pool, column: str | None) -> Quality | None:
    """Return the scale of the quality column over all rows; None without a column.

    Raises:
        ValueError: a tile without a usable value, named.
    """
    if column is None:
        return None
    return finalize_quality(merge_quality(pool.map_shards(local_quality, column)), column)
