"""Strata: the cells in which quotas are kept, a cluster crossed with values of metadata columns.

Local: `count_strata` of one shard. Merge and finalize: `merge_strata`. The order of the strata is
that of (cluster, values as text), so their numbers do not depend on the sharding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.clustering.assignment import assign
from balancer.errors import ConfigError
from balancer.types import FloatArray, IdArray, IntArray, ShardRows, Strata

NONE = "(none)"
"""The value of a tile without one."""
MOST_VALUES = 10_000
"""A column with more values than this names tiles and does not group them."""


def cluster_strata(sizes: IntArray) -> Strata:
    """Return the strata of a clustering alone: stratum k is cluster k.

    >>> len(cluster_strata(np.array([4, 0, 2])))
    3
    """
    count = len(sizes)
    return Strata((), np.arange(count), np.empty((count, 0), np.str_), np.asarray(sizes, np.int64))


def count_strata(rows: ShardRows, centroids: FloatArray, columns: tuple[str, ...]) -> Strata:
    """Count one shard's rows by stratum (local).

    Args:
        rows: with the columns.
        centroids: (K, D) float32.
        columns: (A,) names.

    Cost: one assignment; O(N log N) for the values.
    """
    clusters, _ = assign(rows.points, centroids, device=rows.device)
    return _grouped(columns, clusters, _texts(rows, columns), np.ones(len(clusters), np.int64))


def merge_strata(parts: Sequence[Strata]) -> Strata:
    """Add up the strata of several shards (merge, finalize).

    Raises:
        ConfigError: a column with more than `MOST_VALUES` values.

    >>> one = Strata(("biome",), np.array([0]), np.array([["ice"]]), np.array([2]))
    >>> merge_strata([one, one]).sizes
    array([4])
    """
    columns = parts[0].columns
    found = _grouped(
        columns,
        np.concatenate([part.cluster for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.sizes for part in parts]),
    )
    for place, column in enumerate(columns):
        count = len(np.unique(found.values[:, place]))
        if count > MOST_VALUES:
            raise ConfigError(
                f"selection.quotas.axes must name columns of at most {MOST_VALUES} values; "
                f"{column} has {count}. Name a column that groups tiles, such as a biome."
            )
    return found


def label_rows(
    rows: ShardRows, clusters: IntArray, strata: Strata, *, missing: int = -1
) -> IntArray:
    """Return each row's stratum.

    Args:
        rows: one shard, with the columns of the strata.
        clusters: (N,) cluster of each row.
        strata: in their order.
        missing: what a row of no stratum gets.

    Returns:
        (N,) int64 numbers of strata.

    Cost: O((N + S) log S).
    """
    if not strata.columns:
        return clusters
    texts = _texts(rows, strata.columns)
    keys, wanted = strata.cluster.copy(), clusters.copy()
    known = np.ones(len(clusters), np.bool_)
    for place in range(len(strata.columns)):
        names, codes = np.unique(strata.values[:, place], return_inverse=True)
        found = np.minimum(np.searchsorted(names, texts[:, place]), len(names) - 1)
        known &= names[found] == texts[:, place]
        keys = keys * len(names) + codes
        wanted = wanted * len(names) + found
    numbers = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    known &= keys[numbers] == wanted
    return np.where(known, numbers, missing)


def value_texts(values: NDArray[Any]) -> IdArray:
    """Return metadata values as text; a missing one is `(none)`.

    Args:
        values: (N,) float64 with NaN, or objects with None.

    >>> value_texts(np.array([2.0, np.nan, 0.5])).tolist()
    ['2', '(none)', '0.5']
    >>> value_texts(np.array(["ice", None, True], dtype=object)).tolist()
    ['ice', '(none)', 'true']
    """
    if values.dtype == object:
        texts = {value: _text(value) for value in set(values.tolist())}
        return np.array([texts[value] for value in values.tolist()], dtype=np.str_)
    numbers, places = np.unique(values.astype(np.float64), return_inverse=True)
    return np.array([_text(number) for number in numbers.tolist()], dtype=np.str_)[places]


def _text(value: object) -> str:
    if value is None or value != value:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _texts(rows: ShardRows, columns: Sequence[str]) -> IdArray:
    texts = [value_texts(rows.columns[name]) for name in columns]
    return np.stack(texts, axis=1) if len(rows.ids) else np.empty((0, len(columns)), np.str_)


def _grouped(
    columns: tuple[str, ...], clusters: IntArray, values: IdArray, sizes: IntArray
) -> Strata:
    order = np.lexsort((*values.T[::-1], clusters))
    clusters, values = clusters[order], values[order]
    new = np.ones(len(clusters), np.bool_)
    new[1:] = (clusters[1:] != clusters[:-1]) | (values[1:] != values[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    total = np.add.reduceat(sizes[order], starts) if len(starts) else np.empty(0, np.int64)
    return Strata(columns, clusters[starts], values[starts], total.astype(np.int64))
