"""Catching rows up by an interchangeable filter (`balancer.selection.filters`).

The same as `catch_up.show_tiles` with larger blocks: the newest picks first, rows leave as soon as
they fall below the threshold, the counters of `balancer.selection.bounds` say what each row has
seen. The filter proposes pairs; compiled code decides them canonically. Cells are not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.selection.bounds import Bounds, load_row, weigh
from balancer.selection.catch_up import Query
from balancer.selection.row_order import below
from balancer.types import DoubleArray, FloatArray, IntArray

if TYPE_CHECKING:
    from balancer.selection.filters import Filter

ROWS_PER_TILE = 4096
FIRST_BLOCK = 64
LARGEST_BLOCK = 1024


@numba.njit(cache=True)
def _centre(bounds: Bounds, rows: IntArray, out: FloatArray) -> None:
    """Load (R,) rows less the mean, and join what they have seen where its two ranges touch."""
    old, gap, new = bounds.old, bounds.gap, bounds.new
    for r in range(rows.shape[0]):
        row = rows[r]
        load_row(bounds.points, row, bounds.cosine, out[r])
        for j in range(out.shape[1]):
            out[r, j] = out[r, j] - bounds.mean[j]
        if gap[row] == old[row]:
            old[row] = gap[row] = new[row]


@numba.njit(cache=True)
def _decide(
    bounds: Bounds, rows: IntArray, places: IntArray, picks: IntArray, scratch: FloatArray
) -> None:
    """Lower the key of rows[places[i]] by pick picks[i], canonically, for every i."""
    many = bounds.weights.shape[0] > 1
    loaded = -1
    for i in range(places.shape[0]):
        row = rows[places[i]]
        if row != loaded:
            load_row(bounds.points, row, bounds.cosine, scratch)
            loaded = row
        distance = squared_distance(scratch, bounds.picks[picks[i]])
        key = weigh(distance, bounds.weights[row if many else 0])
        if key < bounds.keys[row]:
            bounds.keys[row] = key


@numba.njit(cache=True)
def _settle(bounds: Bounds, active: IntArray, low: int, query: Query, spent: bool) -> IntArray:
    """Record that rows have seen [low, query.num_picks); return the places of those that stay."""
    old, gap, new = bounds.old, bounds.gap, bounds.new
    stay = np.empty(active.shape[0], np.int64)
    count = 0
    for r in range(active.shape[0]):
        row = active[r]
        if low <= old[row]:
            old[row] = gap[row] = new[row] = bounds.own[row] = query.num_picks
        elif (gap[row] == old[row] or low <= new[row]) and (
            spent or below(bounds.keys[row], bounds.ranks[row], query.threshold, query.rank)
        ):
            gap[row] = low if gap[row] == old[row] else min(gap[row], low)
            new[row] = query.num_picks
        else:
            stay[count] = r
            count += 1
    return stay[:count]


def _unweighted(bounds: Bounds, rows: IntArray) -> DoubleArray:
    """Return the (R,) squared distances below which a pick lowers the rows' keys."""
    keys = bounds.keys[rows].astype(np.float64)
    if len(bounds.weights) == 1:
        return keys / np.float64(bounds.weights[0])
    weights = bounds.weights[rows].astype(np.float64)
    # A quality whose square underflows leaves the key at 0: nothing lowers it.
    return np.divide(keys, weights, out=np.zeros_like(keys), where=weights > 0)


def _show_tile(bounds: Bounds, rows: IntArray, query: Query, chosen: Filter) -> int:
    tile = np.empty((len(rows), bounds.points.shape[1]), np.float32)
    scratch = np.empty(tile.shape[1], np.float32)
    _centre(bounds, rows, tile)
    high, budget, width, pairs = query.num_picks, query.budget, FIRST_BLOCK, 0
    while len(rows):
        new = bounds.new[rows]
        high = int(np.where(high > new, high, np.minimum(high, bounds.gap[rows])).max())
        low = max(high - width, min(high, int(bounds.old[rows].min())))
        if high > low:
            places, columns = chosen.candidates(
                tile,
                bounds.norms[rows],
                bounds.centred[low:high],
                bounds.pick_norms[low:high],
                _unweighted(bounds, rows),
            )
            _decide(bounds, rows, places, columns + low, scratch)
            pairs += len(rows) * (high - low)
        budget -= high - low
        stay = _settle(bounds, rows, low, query, budget <= 0)
        if len(stay) < len(rows):
            rows, tile = rows[stay], tile[stay]
        high, width = low, min(LARGEST_BLOCK, 2 * width)
    return pairs


def show_rows(
    bounds: Bounds,
    rows: IntArray,
    query: Query,
    chosen: Filter,
    *,
    rows_per_tile: int = ROWS_PER_TILE,
) -> int:
    """Show rows the picks they have not seen, by a filter.

    Args:
        bounds: changes in place.
        rows: (m,) distinct row numbers, none of them taken.
        query: what the rows are caught up for; the filter has its own error, and no cells.
        chosen: the filter.
        rows_per_tile: rows that the filter sees at once.

    Returns:
        Pairs of rows and picks that were computed.

    Cost: `rows_per_tile` rows of D floats, and what the filter takes for a block of picks.
    """
    pairs = 0
    for begin in range(0, len(rows), rows_per_tile):
        pairs += _show_tile(bounds, rows[begin : begin + rows_per_tile], query, chosen)
    return pairs
