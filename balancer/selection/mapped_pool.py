"""Rows of a memory-mapped array as a `Pool`: read block by block, never copied as a whole.

For the strategies in `OUT_OF_CORE`, which look at all rows through `map_shards`, `farthest` and
`covering_radii` only. The picks are those of `ArrayPool` over the same rows in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from balancer.clustering.assignment import assign
from balancer.config import Strategy, Within
from balancer.distances import l2_normalize
from balancer.imbalance.radius import covering_radii, trimmed_radius
from balancer.selection.bounds import Options
from balancer.selection.coresets import CoresetPicks
from balancer.selection.exchange import ExchangeShard, Offer, Picks
from balancer.selection.pool import ROOM, FarthestRun, rows_of, run_farthest
from balancer.selection.quality import Quality, squared_weights
from balancer.selection.shard_bounds import ON_CPU, EngineChoice
from balancer.selection.stratum_picks import StratumPicks
from balancer.selection.uniform import lowest_hashes
from balancer.types import BoolArray, FloatArray, IdArray, IntArray, ShardRows, Strata

T = TypeVar("T")

OUT_OF_CORE: frozenset[Strategy] = frozenset({"farthest-point", "random"})
"""Strategies that select from a memory-mapped array without copying it."""
BLOCK_BYTES = 1 << 22


class MappedPool:
    """Rows of a memory-mapped array. Implements `Pool`.

    Args:
        points: (N, D) float32, C-contiguous; rows that are kept are finite.
        ids: (N,) unique ids.
        kept: (N,) rows that there are; the others may hold anything and are never looked at.
        normalize: L2-normalise rows as they are read.
        columns: (N,) metadata values by name, for `map_shards`.
        engine: what keeps the bounds of farthest-point; its `auto` is the CPU.

    Memory: 50 bytes per row while farthest-point runs, and `BLOCK_BYTES`. A device holds all rows,
        and normalising them for it copies them.
    """

    def __init__(
        self,
        points: FloatArray,
        ids: IdArray,
        kept: BoolArray,
        *,
        normalize: bool,
        columns: Mapping[str, NDArray[Any]] | None = None,
        engine: EngineChoice = ON_CPU,
    ) -> None:
        self._engine = engine.on("cpu")
        self._points = points
        self._ids = ids
        self._kept = kept
        self._normalize = normalize
        self._columns = columns or {}
        self.num_rows = int(np.count_nonzero(kept))

    def sample(self, count: int, seed: int) -> tuple[IdArray, FloatArray]:
        """See `Pool`."""
        best = np.empty(0, np.int64)
        for rows in self._blocks():
            both = np.concatenate([best, rows])
            best = both[lowest_hashes(self._ids[both], count, seed=seed)]
        return self._ids[best], self._read(best)

    def vectors(self, ids: IdArray) -> FloatArray:
        """See `Pool`."""
        parts = [rows[np.isin(self._ids[rows], ids)] for rows in self._blocks()]
        found = np.concatenate(parts)
        return self._read(found[rows_of(self._ids[found], ids)])

    def farthest(
        self, num_picks: int, given: Picks, *, quality: Quality | None = None, skip: int = 0
    ) -> FarthestRun:
        """See `Pool`."""
        weights = squared_weights(self._columns, quality)
        options = Options(
            cosine=self._normalize,
            weights=weights if len(weights) else None,
            excluded=None if self._kept.all() else ~self._kept,
        )
        capacity = len(given.ids) + num_picks
        shard = ExchangeShard(self._points, self._ids, capacity, options, self._engine)
        shard.apply(given.ids, given.vectors)

        def ask(ids: IdArray, vectors: FloatArray, room: int) -> list[Offer]:
            shard.apply(ids, vectors)
            return [shard.offer(room)]

        return run_farthest(ask, num_picks, dim=self._points.shape[1], room=ROOM, skip=skip)

    def covering_radii(self, picks: FloatArray, *, num_outliers: int = 0) -> dict[str, float]:
        """See `Pool`."""
        squared = np.concatenate([assign(self._read(rows), picks)[1] for rows in self._blocks()])
        radii = covering_radii(squared)
        if num_outliers:
            radii["trimmed"] = trimmed_radius(squared, num_outliers)
        return radii

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """See `Pool`. A block of rows is a shard."""
        return [
            local(
                ShardRows(
                    self._ids[rows],
                    self._read(rows),
                    {name: values[rows] for name, values in self._columns.items()},
                ),
                *arguments,
            )
            for rows in self._blocks()
        ]

    def pick_in_clusters(
        self,
        counts: IntArray,  # noqa: ARG002 - see `Pool`
        rule: Within,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        strata: Strata | None = None,  # noqa: ARG002
        *,
        included: IdArray | None = None,  # noqa: ARG002
        quality: Quality | None = None,  # noqa: ARG002
    ) -> StratumPicks:
        """Refuse: clusters are found and picked in by `ArrayPool`, in memory."""
        raise ValueError(_in_memory("picking inside clusters"))

    def pick_from_coresets(
        self,
        num_picks: int,  # noqa: ARG002 - see `Pool`
        epsilon: float | None,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        limit: int | None,  # noqa: ARG002
        included: Picks,  # noqa: ARG002
    ) -> CoresetPicks:
        """Refuse: `ArrayPool` makes coresets, in memory."""
        raise ValueError(_in_memory("a coreset"))

    def _blocks(self) -> Iterator[IntArray]:
        """Yield the numbers of kept rows, block by block, none of them empty."""
        size = max(1, BLOCK_BYTES // (4 * self._points.shape[1]))
        for begin in range(0, len(self._kept), size):
            rows = begin + np.flatnonzero(self._kept[begin : begin + size])
            if len(rows):
                yield rows

    def _read(self, rows: IntArray) -> FloatArray:
        points = np.ascontiguousarray(self._points[rows])
        return l2_normalize(points) if self._normalize else points


def _in_memory(what: str) -> str:
    return (
        f"A memory-mapped array can be selected from by {' and '.join(sorted(OUT_OF_CORE))}; got a "
        f"strategy that needs {what}. Load the array first."
    )
