"""Sampling in inverse proportion to density, without replacement, for any sharding.

The density at a row is estimated by r^-m: r is its distance to the k-th nearest row of a
reference sample (the rows with the lowest hashes), m the intrinsic dimension, so that the weight of
the row is w = r^(alpha m). Priority sampling (Duffield, Lund, Thorup, "Priority sampling for
estimation of arbitrary subset sums", J. ACM 54, 2007, section 2) keeps the n rows of highest w / u.
The uniform number u in (0, 1] comes from the row's id, so a row's priority is the same in every
shard, and the n highest of a union are among the n highest of each part. A row kept stands for
max(1, tau / w) rows, tau being the highest priority left out: unbiased for the number of rows (the
same, section 3).

The dimension is the maximum-likelihood estimate of Levina and Bickel (NIPS 2004), averaged as
MacKay and Ghahramani (2005) correct it, on the reference sample.

Local: `local_priorities`. Merge: `merge_priorities`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.seeding import derive_seed, hash_ids
from balancer.selection.neighbors import nearest_neighbors
from balancer.selection.pool import Pool
from balancer.types import DoubleArray, FloatArray, IdArray, ShardRows

REFERENCE_ROWS = 20_000
"""Rows of the reference sample at most."""
NEIGHBORS = 10
"""k: few enough to be local, many enough for r to vary little by chance (as k^-1/2)."""


@dataclass(frozen=True, slots=True)
class Priorities:
    """Rows of the highest priority, highest first.

    Attributes:
        ids: (P,) tile ids.
        priorities: (P,) float64 logarithms of w / u.
        weights: (P,) float64 logarithms of w.
    """

    ids: IdArray
    priorities: DoubleArray
    weights: DoubleArray


def intrinsic_dimension(squared: FloatArray) -> float:
    """Estimate the dimension from squared distances (N, k) to the k nearest rows, ascending.

    Rows with fewer than k distinct neighbours say nothing and are left out; 1 when none is left.

    >>> round(intrinsic_dimension(np.array([[1.0, 4.0], [1.0, 4.0]], np.float32)), 3)
    1.443
    """
    rows = squared[(squared[:, 0] > 0) & (squared[:, -1] > squared[:, 0])].astype(np.float64)
    if len(rows) == 0:
        return 1.0
    # Half the logarithm, because the distances are squared.
    return float(1 / (0.5 * np.log(rows[:, -1:] / rows[:, :-1])).mean())


def local_priorities(
    rows: ShardRows,
    reference_ids: IdArray,
    reference: FloatArray,
    exponent: float,
    count: int,
    seed: int,
    given: IdArray,
) -> Priorities:
    """Return one shard's `count` rows of the highest priority (local).

    Args:
        rows: of one shard.
        reference_ids: (M,) ids of the reference sample.
        reference: (M, D) its vectors.
        exponent: alpha m: the power of the distance that is the weight.
        count: rows wanted; all when the shard has fewer.
        seed: decides u.
        given: ids of rows that are picked already and not drawn.

    Cost: N * M * D multiply-adds.
    """
    k = min(NEIGHBORS, len(reference) - 1)
    found = nearest_neighbors(rows.points, rows.ids, reference, reference_ids, k)
    # Copies of a row have density without end; half the least normal float32 keeps them in order.
    radii = np.maximum(found.squared[:, -1].astype(np.float64), np.finfo(np.float32).tiny)
    weights = exponent * 0.5 * np.log(radii)
    uniform = (hash_ids(rows.ids, seed).astype(np.float64) + 1) / 2.0**64
    free = ~np.isin(rows.ids, given)
    priorities = weights - np.log(uniform)
    return _highest(rows.ids[free], priorities[free], weights[free], count)


def merge_priorities(parts: Sequence[Priorities], count: int) -> Priorities:
    """Return the `count` rows of the highest priority of several shards (merge); associative."""
    return _highest(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.priorities for part in parts]),
        np.concatenate([part.weights for part in parts]),
        count,
    )


def sample_inverse_density(
    pool: Pool, count: int, *, exponent: float = 1.0, seed: int, given: IdArray | None = None
) -> tuple[IdArray, DoubleArray]:
    """Draw `count` rows in inverse proportion to density ** exponent.

    Args:
        pool: the rows, at least two.
        count: at most all of them, less the given ones.
        exponent: alpha; 0 draws uniformly, 1 flattens the density.
        seed: decides the draw.
        given: ids of rows that are picked already and not drawn; none when absent.

    Returns:
        (count,) ids, highest priority first, and (count,) how many of the rows that are not given
        each stands for.

    Cost: N * M * D multiply-adds for a reference of M = min(N, 20,000) rows; every shard sends
    count + 1 rows at most.

    >>> from balancer.selection.pool import ArrayPool
    >>> points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    >>> pool = ArrayPool(points, np.arange(50).astype(str))
    >>> len(sample_inverse_density(pool, 5, seed=0)[0])
    5
    """
    reference_ids, reference = pool.sample(REFERENCE_ROWS, derive_seed(seed, "reference"))
    k = min(NEIGHBORS, len(reference) - 1)
    near = nearest_neighbors(reference, reference_ids, reference, reference_ids, k)
    power = exponent * intrinsic_dimension(near.squared)
    parts = pool.map_shards(
        local_priorities,
        reference_ids,
        reference,
        power,
        count + 1,
        derive_seed(seed, "priority"),
        np.empty(0, np.str_) if given is None else given,
    )
    best = merge_priorities(parts, count + 1)
    if len(best.ids) <= count:
        return best.ids, np.ones(len(best.ids))
    rows_each = np.exp(np.maximum(0.0, best.priorities[count] - best.weights[:count]))
    return best.ids[:count], rows_each


def _highest(ids: IdArray, priorities: DoubleArray, weights: DoubleArray, count: int) -> Priorities:
    order = np.lexsort((ids, -priorities))[:count]
    return Priorities(ids[order], priorities[order], weights[order])
