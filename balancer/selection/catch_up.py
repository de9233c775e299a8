"""Catching rows up with the picks they have not seen: a blocked filter, and canonical decisions.

For a row x and a block of picks s the filter computes |x|^2 + |s|^2 - 2 x.s by one matrix product
in float32. It differs from the canonical squared distance by at most

    e = (D + 16) 2^-24 (|x|^2 + |s|^2)       (rows and picks less a common mean)

in any order of summation: D 2^-24 |x||s| for the product [Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., eq. 3.5], twice that with the factor 2 and |x||s| <= (|x|^2+|s|^2)/2,
and 16 roundings for the centring, the lengths, the two additions and the canonical value itself.
So the nearest pick of the block is among the columns within 2 e of the smallest, and only those
are measured canonically: every bound stays a canonical distance.

The newest picks come first and a row leaves as soon as its bound falls below the threshold: late
picks lie where rows are still far, so they rule rows out sooner than early ones do. Picks of a
row's own cell come before all others.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.selection.bounds import Bounds, load_row, weigh
from balancer.selection.row_order import below
from balancer.types import FloatArray, IntArray

TILE_ROWS = 256
FIRST_WIDTH = 64
WIDTH = 256
SMALLEST = np.float64(1e-36)
"""Covers what underflow loses."""


class Query(NamedTuple):
    """What rows are caught up for.

    Attributes:
        num_picks: made so far.
        threshold, rank: rows whose (bound, rank) falls below leave at once; ties go to low ranks.
        budget: most picks to show a row now, about.
        own: whether the tiles hold rows of one cell each, to be shown its picks first.
        error: relative error of the filter (`relative_error`).
        largest: largest squared length of a centred pick.
    """

    num_picks: int
    threshold: np.float32
    rank: int
    budget: int
    own: bool
    error: float
    largest: float


class Workspace(NamedTuple):
    """Scratch memory by thread: a tile of rows, a block of picks, their products."""

    tiles: FloatArray
    products: FloatArray
    gathered: FloatArray
    norms: FloatArray
    numbers: IntArray
    active: IntArray
    row: FloatArray
    bits: np.ndarray[tuple[int, ...], np.dtype[np.int32]]


def new_workspace(num_threads: int, dim: int) -> Workspace:
    """Return scratch memory: about a megabyte per thread."""
    return Workspace(
        tiles=np.empty((num_threads, TILE_ROWS, dim), np.float32),
        products=np.empty((num_threads, TILE_ROWS * WIDTH), np.float32),
        gathered=np.empty((num_threads, WIDTH, dim), np.float32),
        norms=np.empty((num_threads, WIDTH), np.float32),
        numbers=np.empty((num_threads, WIDTH), np.int64),
        active=np.empty((num_threads, TILE_ROWS), np.int64),
        row=np.empty((num_threads, dim), np.float32),
        bits=np.empty((num_threads, 64), np.int32),  # a cache line of its own for each thread
    )


def relative_error(dim: int) -> float:
    """Return the filter's error over |x|^2 + |s|^2 for rows of `dim` columns.

    >>> relative_error(128) < 1e-5
    True
    """
    unit = 2.0**-24
    return (dim + 16) * unit / (1 - (dim + 16) * unit)


@numba.njit(cache=True)
def _lower(
    bounds: Bounds,
    rows: IntArray,
    products: FloatArray,
    query: Query,
    space: Workspace,
    worker: int,
) -> None:
    """Lower the keys of (R,) rows by the (W,) picks listed in the workspace.

    `products` (R, W) holds their float32 products and is overwritten by the approximate distances.
    """
    points, picks, cosine = bounds.points, bounds.picks, bounds.cosine
    weights, row_norms, keys = bounds.weights, bounds.norms, bounds.keys
    bits = products.view(np.int32)
    norms, numbers, one = space.norms[worker], space.numbers[worker], space.row[worker]
    held = space.bits[worker]
    many = weights.shape[0] > 1
    two = np.float32(2)
    width = products.shape[1]
    for r in range(rows.shape[0]):
        row = rows[r]
        norm = row_norms[row]
        for c in range(width):
            products[r, c] = (norms[c] + norm) - two * products[r, c]
        # Floats that are not negative order as their bits, and integers have a fast minimum. What
        # the rounding made negative counts as 0.
        smallest = np.int32(0x7F800000)
        for c in range(width):
            smallest = min(smallest, bits[r, c])
        least = 0.0
        if smallest > 0:
            held[0] = smallest
            least = np.float64(held.view(np.float32)[0])
        slack = query.error * (np.float64(norm) + query.largest) + SMALLEST
        weight = weights[row if many else 0]
        key = keys[row]
        if (least - slack) * np.float64(weight) >= key * (1 + 1e-6):
            continue
        limit = np.float32(least + 2 * slack) * np.float32(1 + 1e-6)
        if cosine:
            load_row(points, row, True, one)
        for c in range(width):
            if products[r, c] <= limit:
                if cosine:
                    distance = squared_distance(one, picks[numbers[c]])
                else:
                    distance = squared_distance(points[row], picks[numbers[c]])
                key = min(key, weigh(distance, weight))
        keys[row] = key


@numba.njit(cache=True)
def _see_own(bounds: Bounds, rows: IntArray, query: Query, space: Workspace, worker: int) -> None:
    """Show a loaded tile's rows, all of one cell, the picks of that cell they have not seen."""
    count = rows.shape[0]
    gathered, norms, numbers = space.gathered[worker], space.norms[worker], space.numbers[worker]
    oldest = query.num_picks
    for r in range(count):
        oldest = min(oldest, bounds.own[rows[r]])
        bounds.own[rows[r]] = query.num_picks
    number = bounds.newest[bounds.cells[rows[0]]]
    while number >= oldest:
        width = 0
        while width < gathered.shape[0] and number >= oldest:
            for j in range(gathered.shape[1]):
                gathered[width, j] = bounds.centred[number, j]
            norms[width] = bounds.pick_norms[number]
            numbers[width] = number
            width += 1
            number = bounds.previous[number]
        block = space.products[worker, : count * width].reshape((count, width))
        np.dot(space.tiles[worker, :count], gathered[:width].T, block)
        _lower(bounds, rows, block, query, space, worker)


@numba.njit(cache=True)
def _load_tile(bounds: Bounds, rows: IntArray, query: Query, space: Workspace, worker: int) -> int:
    """Load a tile's rows, show them their own cell's picks, and keep those still wanted."""
    tile, active = space.tiles[worker], space.active[worker]
    old, gap, new = bounds.old, bounds.gap, bounds.new
    dim = tile.shape[1]
    for r in range(rows.shape[0]):
        load_row(bounds.points, rows[r], bounds.cosine, tile[r])
        for j in range(dim):
            tile[r, j] = tile[r, j] - bounds.mean[j]
    if query.own:
        _see_own(bounds, rows, query, space, worker)
    count = 0
    for r in range(rows.shape[0]):
        row = rows[r]
        if not query.own or not below(
            bounds.keys[row], bounds.ranks[row], query.threshold, query.rank
        ):
            if gap[row] == old[row]:
                old[row] = gap[row] = new[row]
            active[count] = row
            if count != r:
                for j in range(dim):
                    tile[count, j] = tile[r, j]
            count += 1
    return count


@numba.njit(cache=True)
def _unseen(bounds: Bounds, active: IntArray, count: int, high: int, width: int) -> tuple[int, int]:
    """Return the next block [low, high) of picks below `high` that some active row needs."""
    top, bottom = 0, high
    for r in range(count):
        row = active[r]
        top = max(top, high if high > bounds.new[row] else min(high, bounds.gap[row]))
        bottom = min(bottom, bounds.old[row])
    return max(top - width, bottom), top


@numba.njit(cache=True)
def _show_tile(bounds: Bounds, rows: IntArray, query: Query, space: Workspace, worker: int) -> int:
    """Show a tile's rows the picks they have not seen, newest first; return the pairs."""
    old, gap, new = bounds.old, bounds.gap, bounds.new
    tile, active = space.tiles[worker], space.active[worker]
    count = _load_tile(bounds, rows, query, space, worker)
    high, budget, width, pairs = query.num_picks, query.budget, FIRST_WIDTH, 0
    while count > 0:
        low, high = _unseen(bounds, active, count, high, width)
        size = high - low
        if size > 0:
            for c in range(size):
                space.norms[worker, c] = bounds.pick_norms[low + c]
                space.numbers[worker, c] = low + c
            block = space.products[worker, : count * size].reshape((count, size))
            np.dot(tile[:count], bounds.centred[low:high].T, block)
            _lower(bounds, active[:count], block, query, space, worker)
            pairs += count * size
        budget -= size
        kept = 0
        for r in range(count):
            row = active[r]
            contiguous = gap[row] == old[row] or low <= new[row]
            if low <= old[row]:
                old[row] = gap[row] = new[row] = bounds.own[row] = query.num_picks
            elif contiguous and (
                budget <= 0
                or below(bounds.keys[row], bounds.ranks[row], query.threshold, query.rank)
            ):
                gap[row] = low if gap[row] == old[row] else min(gap[row], low)
                new[row] = query.num_picks
            else:
                active[kept] = row
                if kept != r:
                    for j in range(tile.shape[1]):
                        tile[kept, j] = tile[r, j]
                kept += 1
        count, high, width = kept, low, min(WIDTH, 2 * width)
    return pairs


@numba.njit(cache=True, parallel=True)
def show_tiles(
    bounds: Bounds, rows: IntArray, starts: IntArray, query: Query, space: Workspace
) -> int:
    """Show rows the picks they have not seen, each thread its share of the tiles.

    Args:
        bounds: changes in place.
        rows: (m,) row numbers.
        starts: (tiles + 1,) bounds of the tiles within `rows`, each of `TILE_ROWS` at most.
        query: what the rows are caught up for.
        space: scratch memory; its first axis is the number of threads.

    Returns:
        Pairs of rows and picks that were computed, those within cells not counted.
    """
    num_workers = space.tiles.shape[0]
    pairs = np.zeros(num_workers, np.int64)
    for worker in numba.prange(num_workers):
        for t in range(worker, starts.shape[0] - 1, num_workers):
            pairs[worker] += _show_tile(
                bounds, rows[starts[t] : starts[t + 1]], query, space, worker
            )
    return int(pairs.sum())
