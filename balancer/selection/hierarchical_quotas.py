"""How many rows each cluster of a hierarchy gives: water-filling, level by level from the top.

The budget is shared over the top clusters by the rows below them, then each cluster's share over
its children, and so on (Vo et al. 2024, arXiv 2405.15613, section 3.3).
"""

from __future__ import annotations

import numpy as np

from balancer.seeding import derive_seed
from balancer.selection.quotas import water_filling
from balancer.types import IntArray, Quota


def hierarchical_quota(
    sizes: IntArray,
    ancestors: IntArray,
    budget: int,
    *,
    seed: int = 0,
    floors: IntArray | None = None,
) -> Quota:
    """Share `budget` over a tree as equally as its sizes allow, from the top down.

    A row of leaf k is taken at the rate counts[k] / sizes[k], which is the product of the shares
    along its path; the inverse is its weight.

    Args:
        sizes: (K,) rows in each finest cluster, >= 0.
        ancestors: (T - 1, K) the cluster above each, of level 2, 3, ... T.
        budget: rows wanted in total.
        seed: orders clusters for remainders.
        floors: (K,) least that each finest cluster gives, such as its must-include rows; a cluster
            above gives at least what those below it must.

    Returns:
        Counts with `counts <= sizes`, summing to the budget, or to all rows with the shortfall.

    Raises:
        ValueError: a negative size or budget, floors beyond the sizes or the budget, or ancestors
            of another number of clusters.

    Cost: O(K log K) per level.

    >>> hierarchical_quota(np.array([50, 50, 50]), np.array([[0, 0, 1]]), 20).counts
    array([ 5,  5, 10])
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    if len(ancestors) and ancestors.shape[1:] != sizes.shape:
        raise ValueError(
            f"ancestors must have one column per cluster ({len(sizes)}); got the shape "
            f"{ancestors.shape}."
        )
    # Level by level from the top, every leaf's node; a last level of the leaves themselves.
    floors = np.zeros_like(sizes) if floors is None else np.asarray(floors, dtype=np.int64)
    paths = [*ancestors[::-1], np.arange(len(sizes))]
    above = np.zeros(len(sizes), dtype=np.int64)  # one root over the top clusters
    shares = np.array([min(budget, int(sizes.sum()))])
    if budget < 0:
        water_filling(sizes, budget)  # refuses it in its own words
    for level, nodes in enumerate(paths):
        weights, least = (
            np.bincount(nodes, weights=values).astype(np.int64) for values in (sizes, floors)
        )
        parent = np.zeros(len(weights), dtype=np.int64)
        parent[nodes] = above
        counts = np.zeros(len(weights), dtype=np.int64)
        order = np.argsort(parent, kind="stable")
        borders = np.searchsorted(parent[order], np.arange(len(shares) + 1))
        for node in np.flatnonzero(shares):
            children = order[borders[node] : borders[node + 1]]
            own = derive_seed(seed, "level", level, int(node)) if len(ancestors) else seed
            counts[children] = water_filling(
                weights[children], int(shares[node]), seed=own, floors=least[children]
            ).counts
        above, shares = nodes, counts
    return Quota(shares, budget - int(shares.sum()))
