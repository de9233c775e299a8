"""Farthest-point selection (greedy k-center): each pick is the row farthest from the picks so far.

Algorithm 1 of Patel et al., "Scalable Data Balancing for Unlabeled Satellite Imagery", read so
that it terminates: the first pick is seeded or given and counts, distances start at infinity, rows
are masked instead of deleted, and ties go to the lowest tile id. It is Gonzalez's 2-approximation
of the k-center problem (Theoretical Computer Science 38, 1985).

One shard's part is `FarthestPointShard` (local), several shards meet in `farthest_candidate`
(merge), and `farthest_point` runs both on one array. Distances are canonical
(`balancer.distances`), so the picks are the same for any sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from balancer.distances import id_ranks, require_finite, update_nearest
from balancer.seeding import hash_ids
from balancer.types import BoolArray, FloatArray, IdArray, IntArray, UInt64Array


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row offered as the next pick: its squared distance to the picks, its id, its vector."""

    squared_distance: float
    tile_id: str
    vector: FloatArray


@dataclass(frozen=True, slots=True)
class FarthestPoints:
    """The picks, in order.

    Attributes:
        indices: (n,) int64 row numbers.
        distances: (n,) float32 distance of each pick to the picks before it; infinity for a first
            pick that had none before it. Never increases.
    """

    indices: IntArray
    distances: FloatArray


class FarthestPointShard:
    """One shard's rows with their squared distance to the picks applied so far.

    Args:
        points: (N, D) float32, C-contiguous, finite.
        ids: (N,) unique tile ids.
        excluded: (N,) rows that must not be picked.

    Memory: 12 bytes per row beside the points and ids.
    """

    def __init__(self, points: FloatArray, ids: IdArray, excluded: BoolArray | None = None) -> None:
        self.points = points
        self.ids = ids
        self._ranks = id_ranks(ids)
        self._nearest = np.full(len(points), np.inf, dtype=np.float32)
        if excluded is not None:
            self._nearest[excluded] = -1
        self.num_applied = 0

    def apply(self, vectors: FloatArray, tile_ids: Iterable[str]) -> None:
        """Lower the distances by picks (M, D) made anywhere; rows among `tile_ids` are taken.

        Cost: one pass over the rows per pick.
        """
        for vector, tile_id in zip(vectors, tile_ids, strict=True):
            update_nearest(self.points, vector, self._nearest)
            self._take(tile_id)
            self.num_applied += 1

    def candidate(self) -> Candidate | None:
        """Return the farthest row, ties to the lowest id; None when every row is taken."""
        if len(self._nearest) == 0:
            return None
        best = self._nearest.max()
        if best < 0:
            return None
        rows = np.flatnonzero(self._nearest == best)
        row = int(rows[np.argmin(self._ranks[rows])])
        return Candidate(float(best), str(self.ids[row]), self.points[row])

    def _take(self, tile_id: str) -> None:
        # A pick's own row is at distance 0 now: only those rows need their ids compared.
        rows = np.flatnonzero(self._nearest == 0)
        self._nearest[rows[self.ids[rows] == tile_id]] = -1


def farthest_candidate(candidates: Iterable[Candidate | None]) -> Candidate | None:
    """Return the best of the shards' candidates: greatest distance, then lowest id."""
    offered = [candidate for candidate in candidates if candidate is not None]
    if not offered:
        return None
    return min(offered, key=lambda c: (-c.squared_distance, c.tile_id))


def seeded_first(ids: IdArray, seed: int) -> int:
    """Return the row whose hash under `seed` is lowest: a random row, whatever the sharding."""
    hashes: UInt64Array = hash_ids(ids, seed)
    rows = np.flatnonzero(hashes == hashes.min())
    return int(rows[np.argmin(ids[rows])]) if len(rows) > 1 else int(rows[0])


def farthest_point(
    points: FloatArray,
    num_picks: int,
    *,
    first: int | None = None,
    ids: IdArray | None = None,
    selected: FloatArray | None = None,
    excluded: BoolArray | None = None,
) -> FarthestPoints:
    """Pick `num_picks` rows by the plain scan.

    Args:
        points: (N, D) float32, finite. Euclidean distance; L2-normalise first for cosine.
        num_picks: how many, the first included.
        first: row to start from; by default row 0, or the row farthest from `selected` if given.
        ids: (N,) unique ids for breaking ties; row numbers when absent.
        selected: (M, D) rows already selected elsewhere: distances start from them.
        excluded: (N,) rows that must not be picked.

    Returns:
        The picks in order and their distances.

    Raises:
        ValueError: more picks than rows, a row that is not finite, `first` out of range.

    Cost: O(N * num_picks * D) time, O(N) memory beside the input.

    >>> line = np.array([[0.0], [1.0], [2.0], [10.0]], dtype=np.float32)
    >>> farthest_point(line, 3, first=0).indices
    array([0, 3, 2])
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    if points.ndim != 2:
        raise ValueError(f"points must be a matrix (N, D); got shape {points.shape}.")
    names = row_ids(len(points)) if ids is None else ids
    free = len(points) if excluded is None else int(len(points) - np.count_nonzero(excluded))
    if not 1 <= num_picks <= free:
        raise ValueError(
            f"num_picks must lie between 1 and the {free} rows that can be picked; got {num_picks}."
        )
    require_finite(points, names, nonzero=False)
    shard = FarthestPointShard(points, names, excluded)
    if selected is not None:
        # An empty name: rows selected elsewhere take no row here.
        shard.apply(np.ascontiguousarray(selected, dtype=np.float32), [""] * len(selected))
    if first is None and selected is None:
        first = 0
    if first is not None and not 0 <= first < len(points):
        raise ValueError(f"first must be a row number below {len(points)}; got {first}.")
    if first is None:
        start = shard.candidate()
        assert start is not None  # num_picks <= free rows
    else:
        start = Candidate(np.inf, str(names[first]), points[first])

    def advance(pick: Candidate) -> Candidate | None:
        shard.apply(pick.vector[None], [pick.tile_id])
        return shard.candidate()

    picks = greedy_picks(start, num_picks, advance)
    row_numbers = {name: row for row, name in enumerate(names.tolist())}
    return FarthestPoints(
        np.array([row_numbers[pick.tile_id] for pick in picks], dtype=np.int64),
        np.sqrt(np.array([pick.squared_distance for pick in picks], dtype=np.float32)),
    )


def greedy_picks(
    start: Candidate, num_picks: int, advance: Callable[[Candidate], Candidate | None]
) -> list[Candidate]:
    """Run the greedy loop: `advance` applies a pick to every shard and returns the next one.

    Raises:
        ValueError: the rows end before `num_picks` are found.
    """
    picks = [start]
    while len(picks) < num_picks:
        following = advance(picks[-1])
        if following is None:
            raise ValueError(f"{num_picks} picks were asked for; the rows end after {len(picks)}.")
        picks.append(following)
    return picks


def row_ids(count: int) -> IdArray:
    """Return zero-padded row numbers as ids, so that their order is the row order.

    >>> row_ids(11)[[0, 10]].tolist()
    ['00', '10']
    """
    width = max(1, len(str(count - 1)))
    return np.char.zfill(np.arange(count).astype(np.str_), width)
