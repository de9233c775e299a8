"""The plain scan: Algorithm 1 word for word, one pass over all rows per pick.

The oracle of the engine (`balancer.selection.engine`), with the same options and the same picks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.distances import l2_normalize, update_nearest
from balancer.selection.bounds import DEFAULT, Options
from balancer.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows and keys (weighted squared distances) of the picks, and what is farthest after them."""

    picked: IntArray
    squared: FloatArray
    outliers: IntArray
    next_row: int
    next_squared: float


def plain_scan(
    points: FloatArray,
    num_picks: int,
    ranks: IntArray,
    options: Options = DEFAULT,
    *,
    taken_first: Sequence[int] = (),
    selected: FloatArray | None = None,
) -> Scan:
    """Pick by the plain scan; inputs are validated.

    Args:
        points: (N, D) float32.
        num_picks: in all, `taken_first` included.
        ranks: (N,) order of the ids, for ties.
        options: metric, quality, exclusions, outliers.
        taken_first: rows that are picked first, in this order.
        selected: (M, D) rows selected elsewhere.

    Cost: O(N D) per pick and two floats per row beside the input.
    """
    excluded, weights, skip = options.excluded, options.weights, options.skip
    if excluded is not None and excluded.any():  # they may hold anything
        points = np.where(excluded[:, None], points[~excluded][0], points)
    points = l2_normalize(points) if options.cosine else points
    nearest = np.full(len(points), np.inf, np.float32)
    free = np.ones(len(points), np.bool_) if excluded is None else ~excluded
    for vector in selected if selected is not None else ():
        update_nearest(points, np.ascontiguousarray(vector), nearest)

    def keys() -> FloatArray:
        weighted = nearest.astype(np.float64) * (1 if weights is None else weights)
        return np.where(free, weighted.astype(np.float32), np.float32(-1))

    def order() -> IntArray:
        rows = np.flatnonzero(free)
        return rows[np.lexsort((ranks[rows], -keys()[rows]))]

    picked: list[int] = []
    squared: list[np.float32] = []
    while len(picked) < num_picks:
        row = taken_first[len(picked)] if len(picked) < len(taken_first) else int(order()[skip])
        picked.append(row)
        squared.append(keys()[row])
        free[row] = False
        update_nearest(points, points[row].copy(), nearest)
    left = order()
    following = int(left[skip]) if len(left) > skip else -1
    return Scan(
        np.array(picked, np.int64),
        np.array(squared, np.float32),
        left[:skip],
        following,
        float(keys()[following]) if following >= 0 else 0.0,
    )
