"""Uniform random selection that does not depend on the sharding: the rows with the lowest hashes.

Local: `lowest_hashes` of one shard's ids. Merge: the same function on the ids the shards returned,
because the m lowest of a union are among the m lowest of each part.
"""

from __future__ import annotations

import numpy as np

from balancer.seeding import hash_ids
from balancer.types import IdArray, IntArray


def lowest_hashes(ids: IdArray, count: int, *, seed: int) -> IntArray:
    """Return the rows of the `count` ids with the lowest hashes under `seed`, lowest first.

    Args:
        ids: (N,) unique tile ids.
        count: how many; all rows when N is smaller.
        seed: decides the hashes, and so the random order.

    Returns:
        (min(count, N),) int64 row numbers, ascending by (hash, id).

    Cost: O(N + count log count).

    >>> ids = np.array(["a", "b", "c", "d"])
    >>> whole = ids[lowest_hashes(ids, 2, seed=3)]
    >>> parts = [shard[lowest_hashes(shard, 2, seed=3)] for shard in (ids[:2], ids[2:])]
    >>> union = np.concatenate(parts)
    >>> bool((union[lowest_hashes(union, 2, seed=3)] == whole).all())
    True
    """
    hashes = hash_ids(ids, seed)
    rows = np.arange(len(ids))
    if 0 < count < len(ids):
        rows = np.flatnonzero(hashes <= np.partition(hashes, count - 1)[count - 1])
    return rows[np.lexsort((ids[rows], hashes[rows]))][:count]
