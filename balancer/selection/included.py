"""Tiles that must be picked: they come first, count against the budget, and are given to the rest.

Weights. An included tile is picked with certainty, so it stands for itself and weighs 1; the other
picks of its stratum (the archive, or its cluster) share the stratum's other rows. Where nothing but
included tiles is picked in a stratum, they share it. So weights add up to the rows as they do
without included tiles: to the rows of the strata that give picks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balancer.clustering.assignment import assign
from balancer.selection.exchange import Picks
from balancer.selection.pool import Pool
from balancer.selection.quality import (
    Quality,
    finalize_quality,
    local_quality,
    merge_quality,
)
from balancer.types import Clustering, DoubleArray, IdArray, IntArray, Selection

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


def clusters_of(given: Picks, clustering: Clustering) -> tuple[IntArray, IntArray]:
    """Return the (m,) clusters of included rows, and the (K,) included rows of each cluster."""
    if len(given.ids) == 0:
        return np.empty(0, np.int64), np.zeros(clustering.num_clusters, np.int64)
    cluster, _ = assign(given.vectors, clustering.centroids)
    floors = np.bincount(cluster, minlength=clustering.num_clusters).astype(np.int64)
    return cluster, floors


def stratum_weights(
    sizes: IntArray, included: IntArray, free: IntArray
) -> tuple[DoubleArray, DoubleArray]:
    """Return the weight of an included tile and of another pick in each stratum.

    Args:
        sizes: (K,) rows.
        included: (K,) included tiles among them.
        free: (K,) other picks.

    >>> sizes, included = np.array([10, 10]), np.array([2, 2])
    >>> stratum_weights(sizes, included, np.array([4, 0]))
    (array([1., 5.]), array([2., 8.]))
    """
    alone = (free == 0) & (included > 0)
    return (
        np.where(alone, sizes / np.maximum(1, included), 1.0),
        (sizes - included) / np.maximum(1, free),
    )


def put_first(given: Picks, cluster: IntArray, weight: DoubleArray, picked: Selection) -> Selection:
    """Return a selection with the included tiles before the others.

    Args:
        given: included rows.
        cluster: (m,) their clusters, -1 without.
        weight: (m,) their weights.
        picked: the rest.
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
    )


def find_quality(pool: Pool, column: str | None) -> Quality | None:
    """Return the scale of the quality column over all rows; None without a column.

    Raises:
        ValueError: a tile without a usable value, named.
    """
    if column is None:
        return None
    return finalize_quality(merge_quality(pool.map_shards(local_quality, column)), column)
