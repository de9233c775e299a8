"""The end of a selection, when all rows left coincide with picks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from balancer.distances import distances_to
from balancer.selection.blas_threads import single_blas
from balancer.selection.bounds import append_rows, load_row
from balancer.types import IntArray

if TYPE_CHECKING:
    from balancer.selection.engine import LazyBounds

LAST_RANK = np.iinfo(np.int64).max


def take_duplicates(engine: LazyBounds, limit: int) -> None:
    """Finish when all rows left (but the outliers) coincide with picks: by rank, at 0.

    A key that underflows float32 (rows closer than 1e-22, or 1e-17 with the least quality) is
    0, too. Such a pick is none of a duplicate, so it may bring outliers nearer.
    """
    left = np.flatnonzero(engine.bounds.keys >= 0)
    far = left[engine.bounds.keys[left] > 0]
    if len(far):
        with single_blas():
            far = engine.catch_up(far, np.float32(-1), LAST_RANK)
        far = far[engine.bounds.keys[far] > 0]
        rows = _pick_at_zero(engine, left, far, limit - engine.num_picks)
    else:
        rows = engine.by_distance(left)[engine.skip :][: limit - engine.num_picks]
    end = engine.num_picks + len(rows)
    append_rows(engine.bounds, rows, engine.num_picks)
    engine.picked[engine.num_picks : end] = rows
    engine.squared[engine.num_picks : end] = engine.bounds.keys[rows]
    engine.bounds.keys[rows] = -1
    engine.num_picks = end


def _pick_at_zero(engine: LazyBounds, left: IntArray, far: IntArray, count: int) -> IntArray:
    """Pick `count` rows whose key is 0, while the keys of the few `far` rows fall."""
    bounds = engine.bounds
    order = [row for row in engine.by_distance(left).tolist() if bounds.keys[row] == 0]
    vectors = np.empty((len(far), bounds.points.shape[1]), np.float32)
    for place, row in enumerate(far.tolist()):
        load_row(bounds.points, row, bounds.cosine, vectors[place])
    pick = np.empty(vectors.shape[1], np.float32)
    weights = bounds.weights[far] if len(bounds.weights) > 1 else np.ones(len(far), np.float32)
    picked: list[int] = []
    while len(picked) < count:
        row = order.pop(engine.skip - len(far))
        picked.append(row)
        load_row(bounds.points, row, bounds.cosine, pick)
        keys = (distances_to(vectors, pick).astype(np.float64) * weights).astype(np.float32)
        bounds.keys[far] = np.minimum(bounds.keys[far], keys)
        near = bounds.keys[far] == 0
        if near.any():
            order = sorted([*order, *far[near].tolist()], key=lambda r: int(bounds.ranks[r]))
            far, vectors, weights = far[~near], vectors[~near], weights[~near]
    return np.array(picked, np.int64)
