"""Exact farthest-point selection without measuring every pair: lazy bounds in two levels.

Only rows whose upper bound is large can be next. So: take the rows with the largest bounds (the
outer pool), catch them up with the picks they have not seen (`catch_up`), take the largest again
(the inner pool), and pick from it while its best row is above every bound outside (`pick_loop`).
The picks are those of the plain scan (`plain_scan`), ties included, whatever the pools' sizes, the
filter and the threads.

The state worth keeping is the list of picks: `LazyBounds.add` rebuilds the rest from it.
"""

from __future__ import annotations

import numba
import numpy as np

from balancer.distances import l2_normalize
from balancer.selection.blas_threads import single_blas
from balancer.selection.bounds import (
    DEFAULT,
    Options,
    append_vectors,
    load_row,
    new_bounds,
    see_first,
)
from balancer.selection.catch_up import (
    TILE_ROWS,
    Query,
    new_workspace,
    relative_error,
    show_tiles,
)
from balancer.selection.duplicates import take_duplicates
from balancer.selection.filtered_catch_up import show_rows
from balancer.selection.filters import Filter
from balancer.selection.pick_loop import Rows, Stop, run_pool
from balancer.selection.row_order import cell_tiles, counting_order, rows_above
from balancer.types import FloatArray, IntArray

WAVES = (64, 256, 1 << 31)
PARALLEL_FROM = 1 << 18
LAST_RANK = np.iinfo(np.int64).max
MOST_CELLS = 256


class LazyBounds:
    """Rows with their bounds, and the picks made so far.

    Args:
        points: (N, D) float32, C-contiguous, finite; may be memory-mapped. Never copied.
        ranks: (N,) int64 order of the ids, for ties.
        capacity: how many picks there will be at most, those of `add` included.
        options: metric, quality, exclusions, outliers.
        shares: span of the outer and the inner pool to begin with, as shares of the squared radius;
            they tune themselves, and never change a pick.
        filter: what catches rows up; None is the compiled one. Never changes a pick.

    Memory: 30 bytes per row, 8 D + 20 per pick, and a megabyte per thread.
    """

    def __init__(
        self,
        points: FloatArray,
        ranks: IntArray,
        capacity: int,
        options: Options = DEFAULT,
        *,
        shares: tuple[float, float] = (0.03, 0.01),
        filter: Filter | None = None,
    ) -> None:
        self._filter = filter
        self._threads = numba.get_num_threads() if points.size >= PARALLEL_FROM else 1
        self.num_picks = 0
        with single_blas():
            self.bounds = new_bounds(
                points,
                ranks,
                capacity,
                options,
                num_cells=min(MOST_CELLS, int(0.7 * capacity**0.5)) if capacity >= 256 else 0,
                num_threads=self._threads,
            )
        self.picked: IntArray = np.full(capacity, -1, np.int64)
        self.squared: FloatArray = np.full(capacity, np.inf, np.float32)
        self.num_pairs = 0
        self.skip = options.skip
        self._error = relative_error(points.shape[1])
        self._workspace = new_workspace(self._threads, points.shape[1])
        self._shares = list(shares)
        self._wanted = (max(16384, len(points) // 12), 512)
        self._radius = np.float32(np.inf)

    def take(self, row: int) -> None:
        """Make a row the next pick, whatever its distance."""
        bounds = self.bounds
        if self.num_picks:
            with single_blas():
                self.catch_up(np.array([row], np.int64), np.float32(-1), LAST_RANK)
        vector = np.empty(bounds.points.shape[1], np.float32)
        load_row(bounds.points, row, bounds.cosine, vector)
        self.squared[self.num_picks] = bounds.keys[row]
        self.picked[self.num_picks] = row
        bounds.keys[row] = -1
        self.add(vector[None])

    def add(self, vectors: FloatArray) -> None:
        """Record picks that are no rows here: (M, D) float32, normalised already if rows are.

        Raises:
            ValueError: more picks than `capacity`.
        """
        end = self.num_picks + len(vectors)
        if end > len(self.picked):
            raise ValueError(
                f"There must be at most {len(self.picked)} picks, the capacity; got {end}. "
                f"Make room for all picks, those made elsewhere included."
            )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.num_picks == 0 and len(vectors):
            append_vectors(self.bounds, vectors[:1], 0)
            see_first(self.bounds, self._threads)
            vectors, self.num_picks = vectors[1:], 1
        append_vectors(self.bounds, vectors, self.num_picks)
        self.num_picks = end

    def run(self, limit: int) -> None:
        """Pick until there are `limit` picks; there are enough rows, and one pick at least."""
        with single_blas():
            self._run(None, limit, np.float32(0), LAST_RANK)
        if self.num_picks < limit:
            take_duplicates(self, limit)

    def outliers(self) -> tuple[IntArray, float, int]:
        """Return the `skip` farthest rows, and the squared radius of the rest with its row.

        The row is -1 and the radius 0 when no other row is left.
        """
        fresh, _ = self.refresh(self.skip + 1)
        order = self.by_distance(fresh)
        if len(order) <= self.skip:
            return order, 0.0, -1
        row = int(order[self.skip])
        return order[: self.skip], float(self.bounds.keys[row]), row

    def leave_out(self, rows: IntArray) -> None:
        """Never offer these rows: they are picked, or must not be."""
        self.bounds.keys[rows] = -1

    def offer(self, room: int) -> tuple[Rows, float, int]:
        """Return the best `room` rows, exact; see `balancer.selection.shard_bounds`."""
        state = self.bounds
        fresh, _ = self.refresh(room)
        best = self.by_distance(fresh)[:room]
        kept = state.keys[best].copy()
        state.keys[best] = -1
        held = state.keys.max()
        tied = np.flatnonzero(state.keys == held)
        held_row = int(tied[state.ranks[tied].argmin()])
        state.keys[best] = kept
        weights = np.broadcast_to(state.weights, len(state.keys))[best]
        vectors = l2_normalize(state.points[best]) if state.cosine else state.points[best]
        rows = Rows(vectors, kept, state.ranks[best], weights, best)
        return rows, float(held), held_row

    def refresh(self, count: int) -> tuple[IntArray, np.float32]:
        """Catch up until the `count` farthest rows are fresh.

        Returns:
            Fresh rows, `count` of them at least where there are so many; and the threshold that
            all other rows are below.
        """
        while True:
            rows, threshold, rank = self._largest(None, np.float32(0), LAST_RANK, 0)
            with single_blas():
                fresh = self.catch_up(rows, threshold, rank)
            if len(fresh) >= count or threshold == 0:
                self._tune(0, len(fresh), 2 * count)
                return fresh, threshold
            self._shares[0] = min(1.0, 1.5 * self._shares[0])

    def by_distance(self, rows: IntArray) -> IntArray:
        """Return rows farthest first by their bounds, ties by rank."""
        keys, ranks = self.bounds.keys[rows], self.bounds.ranks[rows]
        return rows[np.lexsort((ranks, -keys))]

    def _run(self, among: IntArray | None, limit: int, floor: np.float32, floor_rank: int) -> None:
        """Pick while enough rows of `among` (all rows: the outer pool) are at the floor."""
        level = 0 if among is None else 1
        while self.num_picks < limit and self._radius > 0:
            rows, threshold, rank = self._largest(among, floor, floor_rank, level)
            fresh = self.catch_up(rows, threshold, rank)
            if len(fresh) <= self.skip:
                if threshold == floor and rank == floor_rank:
                    return
                self._radius = min(self._radius, threshold)
                self._shares[level] *= 1.2
                continue
            if level == 0:
                self._tune(0, len(rows), self._wanted[0])
                self._run(fresh, limit, threshold, rank)
            else:
                self._tune(1, len(fresh), self._wanted[1] + self.skip)
                fresh, threshold, rank = self._cut(fresh, threshold, rank)
                self.num_picks = run_pool(
                    self.bounds,
                    fresh,
                    Stop(threshold, rank, limit, self.skip),
                    self.num_picks,
                    self.picked,
                    self.squared,
                )
                self._radius = min(self._radius, self.squared[self.num_picks - 1])

    def _tune(self, level: int, count: int, wanted: int) -> None:
        """Steer the share of the radius that a pool spans towards the wanted number of rows."""
        factor = (wanted / max(1, count)) ** 0.5
        self._shares[level] *= min(1.5, max(1 / 3, factor))
        self._shares[level] = min(0.25, max(1e-4, self._shares[level]))

    def _largest(
        self, among: IntArray | None, floor: np.float32, floor_rank: int, level: int
    ) -> tuple[IntArray, np.float32, int]:
        """Return the rows with the largest bounds, and the threshold they are at or above."""
        keys = self.bounds.keys if among is None else self.bounds.keys[among]
        threshold, rank = floor, floor_rank
        found = np.float32(min(self._radius, keys.max()) * max(0.0, 1 - self._shares[level]))
        if found > floor:
            threshold, rank = found, LAST_RANK
        places = np.flatnonzero(keys >= threshold)
        rows = places if among is None else among[places]
        if rank != LAST_RANK:
            rows = rows_above(self.bounds, rows, threshold, rank)
        return rows, threshold, rank

    def _cut(
        self, rows: IntArray, threshold: np.float32, rank: int
    ) -> tuple[IntArray, np.float32, int]:
        """Keep the inner pool in the cache when very many rows lie at the same distance."""
        most = 4 * self._wanted[1] + self.skip
        if len(rows) <= most:
            return rows, threshold, rank
        rows = self.by_distance(rows)[:most]
        return rows, self.bounds.keys[rows[-1]], int(self.bounds.ranks[rows[-1]])

    def catch_up(self, rows: IntArray, threshold: np.float32, rank: int) -> IntArray:
        """Show rows the picks they miss; return those still at the threshold, now fresh.

        A bound of 0 is exact: rows that coincide with a pick have nothing to catch up with.
        """
        coincide = self.bounds.keys[rows] == 0
        if not coincide.any():
            return self._show(rows, threshold, rank)
        return np.concatenate(
            [
                self._show(rows[~coincide], threshold, rank),
                rows_above(self.bounds, rows[coincide], threshold, rank),
            ]
        )

    def _show(self, rows: IntArray, threshold: np.float32, rank: int) -> IntArray:
        bounds = self.bounds
        if len(rows) == 0:
            return rows
        own = self._filter is None and (1 < len(bounds.centroids) <= min(self.num_picks, len(rows)))
        if own:
            rows = rows[counting_order(bounds.cells[rows], len(bounds.centroids))]
        largest = float(bounds.pick_norms[: self.num_picks].max())
        for budget in WAVES:
            if own:
                starts = cell_tiles(bounds.cells[rows], TILE_ROWS)
            else:
                if budget != WAVES[0]:
                    rows = rows[counting_order(bounds.old[rows], self.num_picks + 1)]
                size = min(TILE_ROWS, max(16, -(-len(rows) // self._threads)))
                starts = np.append(np.arange(0, len(rows), size), len(rows))
            query = Query(self.num_picks, threshold, rank, budget, own, self._error, largest)
            if self._filter is not None:
                self.num_pairs += show_rows(bounds, rows, query, self._filter)
            else:
                self.num_pairs += show_tiles(bounds, rows, starts, query, self._workspace)
            own = False
            rows = rows_above(bounds, rows, threshold, rank)
            if len(rows) == 0 or bounds.old[rows].min() == self.num_picks:
                break
        return rows
