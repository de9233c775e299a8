"""How many rows lie nearest to each pick: what a pick weighs in selections by cells.

A row belongs to the pick with the least key (`balancer.verification.canonical`), among equals to
the first by rank; a pick always belongs to itself, also where another pick is its twin.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from balancer.types import DoubleArray, FloatArray, IdArray, IntArray
from balancer.verification.canonical import MARGIN, SMALLEST, expanded, squared_distances
from balancer.verification.report import Check, failed, passed

CELLS = "cells"
_ROWS = 1024
_COLUMNS = 2048
_PAIRS = 4096


def nearest_picks(points: FloatArray, picks: FloatArray) -> IntArray:
    """Return the (N,) number of each row's nearest pick, among equals the first.

    Args:
        points: (N, D) float32.
        picks: (k, D) float32.

    Cost: O(N k D) in matrix products; 50 MB whatever N and k.

    >>> nearest_picks(np.array([[0], [3], [1]], np.float32), np.array([[0], [2]], np.float32))
    array([0, 1, 0])
    """
    nearest = np.zeros(len(points), np.int64)
    for start in range(0, len(points), _ROWS):
        rows = points[start : start + _ROWS]
        least = np.full(len(rows), np.inf, np.float32)
        for begin in range(0, len(picks), _COLUMNS):
            others = picks[begin : begin + _COLUMNS]
            squared, column = _nearest(rows, others)
            better = squared < least
            least[better] = squared[better]
            nearest[start : start + _ROWS][better] = begin + column[better]
    return nearest


def count_cells(
    blocks: Iterable[tuple[IdArray, FloatArray]], pick_ids: IdArray, picks: FloatArray
) -> IntArray:
    """Return the (k,) rows of each pick's cell.

    Args:
        blocks: ids and vectors of all rows.
        pick_ids: (k,) distinct, in rank order.
        picks: (k, D) float32.
    """
    counts = np.zeros(len(picks), np.int64)
    order = np.argsort(pick_ids, kind="stable")
    for ids, points in blocks:
        cells = nearest_picks(points, picks)
        places = np.searchsorted(pick_ids, ids, sorter=order)
        own = order[np.minimum(places, len(order) - 1)]
        cells = np.where(pick_ids[own] == ids, own, cells)
        counts += np.bincount(cells, minlength=len(picks))
    return counts


def check_cells(weights: DoubleArray, counts: IntArray) -> Check:
    """Check that each pick weighs as many rows as its cell has."""
    wrong = np.flatnonzero(weights != counts)
    if len(wrong):
        rank = int(wrong[0])
        return failed(
            CELLS,
            f"{counts[rank]} rows lie nearest to the pick at rank {rank}, which must weigh as "
            f"many; it weighs {weights[rank]} ({len(wrong)} weights are wrong)",
        )
    return passed(CELLS, f"each of {len(counts)} picks weighs the rows that are nearest to it")


def _nearest(rows: FloatArray, picks: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the (n,) least keys, and the first of `picks` (m, D) that each belongs to."""
    bounds: DoubleArray = expanded(rows, picks)[0] * (1 - MARGIN) - SMALLEST
    numbers = np.arange(len(rows))
    column = bounds.argmin(axis=1)
    least = squared_distances(rows, picks[column])
    bounds[numbers, column] = np.inf
    row, other = np.nonzero(bounds <= least[:, None])
    # Columns rise inside a row, so that an equal one counts only if it is before the best so far.
    for start in range(0, len(row), _PAIRS):
        mine, its = row[start : start + _PAIRS], other[start : start + _PAIRS]
        squared = squared_distances(rows[mine], picks[its])
        best = np.lexsort((its, squared, mine))
        first = best[np.unique(mine[best], return_index=True)[1]]
        at, where, found = mine[first], its[first], squared[first]
        better = (found < least[at]) | ((found == least[at]) & (where < column[at]))
        least[at[better]], column[at[better]] = found[better], where[better]
    return least, column
