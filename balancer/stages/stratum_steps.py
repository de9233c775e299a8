"""One worker's local steps of picking inside strata: see `balancer.stages.stratum_picks`."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.lloyd import Scale
from balancer.seeding import hash_ids
from balancer.selection.farthest_point import seeded_first
from balancer.selection.medoids import CellMedoids, CellSums, local_cells, local_medoids
from balancer.selection.quality import scaled_quality
from balancer.selection.strata import label_rows
from balancer.selection.stratum_picks import (
    Candidates,
    PickPlan,
    StratumPicks,
    candidates,
    pick_strata,
)
from balancer.stages.metadata_columns import Metadata
from balancer.stages.pool_messages import Compute, StratumRows
from balancer.stages.pool_rows import PoolRows
from balancer.storage.filesystem import Store
from balancer.types import EmbeddingShard, FloatArray, IdArray, IntArray, ShardRows


class StratumSteps(PoolRows):
    """Rows by stratum.

    Args:
        store: opens the shards.
        shards: what to hold.
        normalize: L2-normalise the rows.
        metadata: columns that come with the rows.
        exclude: ids of rows that are dropped as their shard is read.
        compute: what the worker computes with; no result depends on it.

    Memory: as `PoolRows`, and 8 bytes per row.
    """

    def __init__(
        self,
        store: Store,
        shards: Sequence[EmbeddingShard],
        *,
        normalize: bool,
        metadata: Metadata | None = None,
        exclude: IdArray | None = None,
        compute: Compute | None = None,
    ) -> None:
        super().__init__(store, shards, normalize=normalize, metadata=metadata, exclude=exclude)
        compute = compute or Compute()
        if compute.num_threads is not None:
            # Workers of one machine would otherwise each use all of its cores, and wait in turn.
            numba.set_num_threads(min(compute.num_threads, numba.get_num_threads()))
        self._device = compute.device
        self._engine = compute.engine.on(compute.device)
        self._labels: tuple[str, IntArray] | None = None

    def candidates(self, plan: PickPlan, key: str) -> Candidates | None:
        """Return this worker's best rows of every stratum; None when it holds no rows."""
        if not self._rows:
            return None
        return candidates(self._points, self._ids, self._stratum_labels(plan, key), plan)

    def stratum_rows(
        self, plan: PickPlan, key: str, groups: Sequence[IntArray]
    ) -> StratumRows | list[StratumRows]:
        """Return this worker's rows of each group of strata, one result per group."""
        labels = self._stratum_labels(plan, key)
        quality = np.empty(0)
        if plan.quality is not None and self._columns:
            values = [scaled_quality(columns, plan.quality) for columns in self._columns]
            quality = np.concatenate(values)
        results = []
        for group in groups:
            wanted = np.zeros(len(plan.strata) + 1, np.bool_)  # the last is for rows of no stratum
            wanted[group] = True
            rows = np.flatnonzero(wanted[labels])
            results.append(
                StratumRows(
                    labels[rows],
                    self._ids[rows],
                    self._points[rows],
                    quality[rows] if len(quality) else quality,
                )
            )
        return results[0] if len(results) == 1 else results

    def pick_group(self, plan: PickPlan, *parts: StratumRows) -> StratumPicks:
        """Pick in each stratum of one group, from every worker's rows of it."""
        parts = tuple(part for part in parts if len(part.ids))
        return pick_strata(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.labels for part in parts]),
            plan,
            quality=None
            if plan.quality is None
            else np.concatenate([part.quality for part in parts]),
            engine=self._engine,
        )

    def stratum_included(
        self, plan: PickPlan, key: str, stratum: int
    ) -> tuple[IdArray, FloatArray] | None:
        """Return ids and vectors of a stratum's rows here that are picked already."""
        ids, points = self._stratum(plan, key, stratum)
        given = np.isin(ids, plan.included)
        return (ids[given], points[given]) if given.any() else None

    def lowest_hash(
        self, plan: PickPlan, key: str, stratum: int
    ) -> tuple[int, str, FloatArray] | None:
        """Return hash, id and vector of this worker's first row of a stratum in random order."""
        ids, points = self._stratum(plan, key, stratum)
        if len(ids) == 0:
            return None
        seed = plan.seed_of(stratum)
        row = seeded_first(ids, seed)
        return int(hash_ids(ids[row : row + 1], seed)[0]), str(ids[row]), points[row]

    def stratum_extent(self, plan: PickPlan, key: str, stratum: int) -> float:
        """Return the greatest absolute coordinate of a stratum's rows here."""
        _, points = self._stratum(plan, key, stratum)
        return float(np.abs(points).max(initial=0.0))

    def cell_sums(
        self,
        plan: PickPlan,
        key: str,
        stratum: int,
        picks: tuple[IdArray, FloatArray],
        scale: Scale,
    ) -> CellSums:
        """Add up a stratum's rows here by the Voronoi cells of its picks."""
        ids, points = self._stratum(plan, key, stratum)
        return local_cells(ShardRows(ids, points, device=self._device), *picks, scale)

    def cell_nearest(
        self,
        plan: PickPlan,
        key: str,
        stratum: int,
        picks: tuple[IdArray, FloatArray],
        means: FloatArray,
    ) -> CellMedoids:
        """Return a stratum's rows here that are nearest to the means of the Voronoi cells."""
        ids, points = self._stratum(plan, key, stratum)
        return local_medoids(ShardRows(ids, points, device=self._device), *picks, means)

    def _stratum_labels(self, plan: PickPlan, key: str) -> IntArray:
        """Return the stratum of each row, kept until another plan's are asked for."""
        if self._labels is None or self._labels[0] != key:
            parts = [np.empty(0, np.int64)]
            for (ids, points), columns in zip(self._rows, self._columns, strict=True):
                clusters = assign(points, plan.centroids, device=self._device)[0]
                parts.append(label_rows(ShardRows(ids, points, columns), clusters, plan.strata))
            self._labels = (key, np.concatenate(parts))
        return self._labels[1]

    def _stratum(self, plan: PickPlan, key: str, stratum: int) -> tuple[IdArray, FloatArray]:
        rows = self._stratum_rows(plan, key, stratum)
        return self._ids[rows], self._points[rows]

    def _stratum_rows(self, plan: PickPlan, key: str, stratum: int) -> IntArray:
        return np.flatnonzero(self._stratum_labels(plan, key) == stratum)
