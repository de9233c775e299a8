"""Interleaving the clusters' picks into one ranking."""

from __future__ import annotations

import numpy as np

from balancer.seeding import derive_seed, hash_numbers
from balancer.types import IntArray


def interleave(cluster: IntArray, position: IntArray, *, seed: int) -> IntArray:
    """Order picks so that every prefix is spread over the clusters.

    Args:
        cluster: (n,) cluster of each pick.
        position: (n,) place of the pick within its cluster, from 0.
        seed: orders the clusters within one turn.

    Returns:
        (n,) int64 permutation: first every cluster's first pick, then every second pick, ...

    >>> interleave(np.array([0, 0, 1]), np.array([0, 1, 0]), seed=0)[2]
    np.int64(1)
    """
    turn = hash_numbers(cluster, derive_seed(seed, "turn"))
    return np.lexsort((turn, position)).astype(np.int64)
