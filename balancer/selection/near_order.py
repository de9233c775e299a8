"""The order in which near-duplicates are decided: a key, then a seeded hash of the id, then the id.

Only ties of key and hash need ids, which practically never happens, so that a caller with many rows
may hold 16 bytes of each and fetch the ids of a few.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from balancer.seeding import derive_seed
from balancer.types import DoubleArray, IdArray, IntArray, UInt64Array

INCLUDED, ORDINARY, EXCLUDED = 0, 1, 2
"""Tiers of the order: what must be picked comes first, what must not be picked last, so that it
never stands for a tile that may be."""


def tiers_of(ids: IdArray, include: IdArray, exclude: IdArray) -> IntArray:
    """Return the (N,) tier of each id.

    >>> tiers_of(np.array(["a", "b", "c"]), np.array(["c"]), np.array(["a"]))
    array([2, 1, 0])
    """
    tiers = np.full(len(ids), ORDINARY, np.int64)
    tiers[np.isin(ids, include)] = INCLUDED
    tiers[np.isin(ids, exclude)] = EXCLUDED
    return tiers


def order_seed(seed: int) -> int:
    """Return the seed of the order, from the seed of the run."""
    return derive_seed(seed, "near-duplicates")


def order_rows(
    keys: DoubleArray | None,
    hashes: UInt64Array,
    ids_of: Callable[[IntArray], IdArray],
    tiers: IntArray | None = None,
) -> IntArray:
    """Return the rows, first in the order first.

    Args:
        keys: (N,) ascending first criterion; None for none.
        hashes: (N,) from `balancer.seeding.hash_ids`.
        ids_of: returns the ids of some rows, to break ties.
        tiers: (N,) from `tiers_of`, before everything else; None when all are ordinary.

    Cost: a sort of N; ids only of tied rows.

    >>> ids = np.array(["b", "a", "c"])
    >>> order_rows(None, np.array([7, 7, 1], np.uint64), lambda rows: ids[rows])
    array([2, 1, 0])
    """
    criteria = [hashes, *(part for part in (keys, tiers) if part is not None)]
    order = np.lexsort(criteria)
    same = np.ones(max(0, len(order) - 1), np.bool_)
    for values in criteria:
        ordered = values[order]
        same &= ordered[1:] == ordered[:-1]
    if not same.any():
        return order
    tied = np.zeros(len(order), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    group = np.cumsum(~np.append([False], same))[places]
    rows = order[places]
    order[places] = rows[np.lexsort((ids_of(rows), group))]
    return order
