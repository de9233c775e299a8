"""Which rows a trimmed selection leaves out: the z farthest from the picks.

Local: a shard's z farthest rows. Merge: the z farthest of all, ties to the lowest id. They are the
`outliers` of `balancer.selection.farthest_point`, for any sharding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.clustering.assignment import assign
from balancer.distances import id_ranks
from balancer.selection.quality import Quality, squared_weights
from balancer.types import FloatArray, IdArray, ShardRows


@dataclass(frozen=True, slots=True)
class FarRows:
    """Rows, farthest first: (n,) ids, (n,) float32 weighted squared distances to the picks."""

    ids: IdArray
    keys: FloatArray


def local_outliers(
    rows: ShardRows, picked: IdArray, vectors: FloatArray, count: int, quality: Quality | None
) -> FarRows:
    """Return one shard's `count` rows farthest from the picks, the picks left out (local).

    Args:
        rows: of the shard.
        picked: (k,) ids of the picks.
        vectors: (k, D) float32.
        count: z.
        quality: multiplies the distances.

    Cost: one assignment of the rows to the picks.

    >>> rows = ShardRows(np.array(["a", "b", "c"]), np.array([[0], [5], [9]], np.float32))
    >>> local_outliers(rows, np.array(["a"]), np.zeros((1, 1), np.float32), 1, None).ids
    array(['c'], dtype='<U1')
    """
    squared = assign(rows.points, vectors, device=rows.device)[1]
    weights = squared_weights(rows.columns, quality)
    if len(weights):
        squared = (squared.astype(np.float64) * weights).astype(np.float32)
    left = np.flatnonzero(~np.isin(rows.ids, picked))
    return _farthest(rows.ids[left], squared[left], count)


def merge_outliers(parts: Sequence[FarRows], count: int) -> FarRows:
    """Return the `count` farthest rows of all shards (merge); associative.

    >>> parts = [FarRows(np.array([i]), np.array([k], np.float32)) for i, k in (("b", 2), ("a", 2))]
    >>> merge_outliers(parts, 1).ids
    array(['a'], dtype='<U1')
    """
    return _farthest(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.keys for part in parts]),
        count,
    )


def _farthest(ids: IdArray, keys: FloatArray, count: int) -> FarRows:
    order = np.lexsort((id_ranks(ids), -keys))[:count]
    return FarRows(ids[order], keys[order])
