"""Embedding shards spread over Ray actors, as one `Pool` to cluster, select from and measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import ray

from balancer.clustering.lloyd import PartialSums, Scale, merge_sums
from balancer.config import Within
from balancer.errors import DataError
from balancer.imbalance.radius import (
    SHARES,
    find_rank,
    merge_counts,
    radius_from_bits,
    rank_of,
)
from balancer.selection.coresets import CoresetPicks, default_limit
from balancer.selection.exchange import ExchangeStats, Offer, Picks, room_for
from balancer.selection.pool import FarthestRun, rows_of, run_farthest
from balancer.selection.quality import Quality
from balancer.selection.shard_bounds import EngineChoice
from balancer.selection.strata import cluster_strata
from balancer.selection.stratum_picks import PickPlan, StratumPicks
from balancer.selection.uniform import lowest_hashes
from balancer.stages.metadata_columns import Metadata
from balancer.stages.pool_messages import Behind, Compute
from balancer.stages.pool_worker import PoolWorker
from balancer.stages.resources import available_cpus, available_gpus, plain_errors
from balancer.stages.stratum_picks import WorkerPicks
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record
from balancer.types import (
    Clustering,
    EmbeddingShard,
    FloatArray,
    IdArray,
    IntArray,
    Strata,
)

T = TypeVar("T")

RESTARTS = 8
"""Times one worker may die and be rebuilt from storage before the stage fails."""


class RayPool:
    """Rows on several workers. Implements `Pool` and `balancer.clustering.kmeans.Rows`.

    The results are the same for any number of workers: sums are exact, ties break on tile ids.
    A worker that dies is restarted by Ray, reads its shards again and is sent all picks again.

    Args:
        workers: actor handles of `PoolWorker`.
        clustering: needed by `pick_in_clusters` only.
    """

    def __init__(self, workers: Sequence[Any], clustering: Clustering | None = None) -> None:
        self._workers = workers
        extents = self._ask("extent")
        self._num_rows: int = sum(rows for rows, _, _ in extents)
        self._dim = max(dim for _, dim, _ in extents)
        self._largest = max(largest for _, _, largest in extents)
        self._clustering = clustering
        self.last_exchange = ExchangeStats()

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self._num_rows

    def extent(self) -> tuple[int, float]:
        """See `balancer.clustering.kmeans.Rows`."""
        return self._dim, self._largest

    def with_clustering(self, clustering: Clustering) -> RayPool:
        """Return the same rows with clusters to pick in."""
        return RayPool(self._workers, clustering)

    def sample(self, count: int, seed: int) -> tuple[IdArray, FloatArray]:
        """See `Pool`."""
        parts = [part for part in self._ask("sample", count, seed) if len(part[0])]
        ids = np.concatenate([ids for ids, _ in parts])
        points = np.concatenate([points for _, points in parts])
        keep = lowest_hashes(ids, count, seed=seed)
        return ids[keep], points[keep]

    def sums(self, centroids: FloatArray, scale: Scale) -> PartialSums:
        """See `balancer.clustering.kmeans.Rows`."""
        parts = self._ask("sums", ray.put(centroids), scale)
        return merge_sums([part for part in parts if part is not None])

    def farthest(
        self, num_picks: int, given: Picks, *, quality: Quality | None = None, skip: int = 0
    ) -> FarthestRun:
        """See `Pool`. About 200 picks per round trip to every worker."""
        known: list[Picks] = [given]
        capacity = len(given.ids) + num_picks + 1

        def ask(ids: IdArray, vectors: FloatArray, room: int) -> list[Offer]:
            if len(ids):
                known.append(Picks(ids, vectors, np.empty(0, np.float32)))
            told = sum(len(part.ids) for part in known[:-1])
            return self._offers(known, told, room, capacity, quality)

        stats = ExchangeStats()
        id_bytes = given.ids.dtype.itemsize
        run = run_farthest(
            ask,
            num_picks,
            dim=self._dim,
            room=room_for(self._dim, id_bytes),
            skip=skip,
            stats=stats,
        )
        self.last_exchange = stats
        return run

    def pick_in_clusters(
        self,
        counts: IntArray,
        rule: Within,
        seed: int,
        strata: Strata | None = None,
        *,
        included: IdArray | None = None,
        quality: Quality | None = None,
    ) -> StratumPicks:
        """See `Pool` and `balancer.stages.stratum_picks`. Rows move once at most."""
        assert self._clustering is not None  # a pool for this strategy is made with a clustering
        if strata is None:
            strata = cluster_strata(self._clustering.sizes)
        given = np.empty(0, np.str_) if included is None else included
        plan = PickPlan(strata, counts, rule, seed, self._clustering.centroids, given, quality)
        return WorkerPicks(self._workers, self._ask, self._offers, plan).pick()

    def vectors(self, ids: IdArray) -> FloatArray:
        """See `Pool`."""
        parts = [part for part in self._ask("vectors", ray.put(ids)) if len(part[0])]
        found = np.concatenate([ids for ids, _ in parts])
        return np.concatenate([points for _, points in parts])[rows_of(found, ids)]

    def pick_from_coresets(
        self, num_picks: int, epsilon: float | None, seed: int, limit: int | None, included: Picks
    ) -> CoresetPicks:
        """See `Pool`. A shard is an embedding shard, whatever worker holds it.

        The coresets go from worker to worker through the object store; only picks come here.
        """
        num_shards = sum(self._ask("num_shards"))
        most = limit or default_limit(num_picks, num_shards, self._dim)
        with plain_errors():
            parts = [
                worker.coresets.remote(num_picks, epsilon, seed, most) for worker in self._workers
            ]
            picks: CoresetPicks = ray.get(
                self._workers[0].pick_from_coresets.remote(seed, included, *parts)
            )
        return picks

    def covering_radii(self, picks: FloatArray, *, num_outliers: int = 0) -> dict[str, float]:
        """See `Pool`. Exact."""
        shared = ray.put(picks)
        upper = merge_counts(self._ask("nearest_pick", shared))
        ranks = {f"{s:.0%}".rstrip("%"): rank_of(s, self._num_rows) for s in SHARES}
        if num_outliers:
            ranks["trimmed"] = self._num_rows - num_outliers
        radii = {}
        for name, wanted in ranks.items():
            key, rank = find_rank(upper, wanted)
            detail = merge_counts(self._ask("nearest_pick_detail", shared, key))
            lower, _ = find_rank(detail, rank)
            radii[name] = radius_from_bits(key, lower)
        return radii

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """See `Pool`. Arguments travel once per node; results should be small."""
        parts = self._ask("map_shards", local, ray.put(arguments))
        # open_pool deals the shards to the workers in turn; some may have no rows left.
        found = [
            (place, number, result) for number, part in enumerate(parts) for place, result in part
        ]
        return [result for _, _, result in sorted(found, key=lambda entry: entry[:2])]

    def write_assignments(self, ledger: Ledger, stage: str, inputs: str) -> list[Record]:
        """Write each shard's `tile_id, cluster, distance`; return the completion records."""
        assert self._clustering is not None
        centroids = ray.put(self._clustering.centroids)
        parts = self._ask("write_assignments", ledger, stage, inputs, centroids)
        return [record for part in parts for record in part]

    def _ask(self, method: str, *arguments: object) -> list[Any]:
        with plain_errors():
            answers: list[Any] = ray.get(
                [getattr(worker, method).remote(*arguments) for worker in self._workers]
            )
        return answers

    def _offers(
        self,
        known: Sequence[Picks],
        start: int,
        room: int,
        capacity: int,
        quality: Quality | None,
        among: object = None,
    ) -> list[Offer]:
        """Tell every worker the picks from number `start` on; a restarted one, all of them."""
        news = known[-1]
        answers = self._ask("offer", start, news.ids, news.vectors, room, capacity, quality, among)
        for number, answer in enumerate(answers):
            if isinstance(answer, Behind):
                ids = np.concatenate([part.ids for part in known])
                vectors = np.concatenate([part.vectors for part in known])
                with plain_errors():
                    answers[number] = ray.get(
                        self._workers[number].offer.remote(
                            0, ids, vectors, room, capacity, quality, among
                        )
                    )
        return answers


@contextmanager
def open_pool(  # noqa: PLR0913 - a public call spells its options out
    store: Store,
    shards: Sequence[EmbeddingShard],
    *,
    normalize: bool,
    num_workers: int | None = None,
    metadata: Metadata | None = None,
    exclude: IdArray | None = None,
    num_gpus: int = 0,
    engine: EngineChoice | None = None,
) -> Iterator[RayPool]:
    """Load the shards into actors for the time of the block.

    Args:
        store: opens the shards.
        shards: all of them, in catalog order.
        normalize: L2-normalise the rows.
        num_workers: actors; one per CPU, at most one per shard, when absent.
        metadata: columns that the local steps of `map_shards` see.
        exclude: ids of rows that are dropped as the shards are read, so that clustering,
            selection and certificate see only what may be picked. Ids that are nowhere do nothing.
        num_gpus: per actor, 0 or 1; with 1 there are at most as many actors as GPUs.
        engine: what workers keep farthest-point's bounds with; by default the GPU of a worker that
            has one, else the CPU. No result depends on it.

    Raises:
        DataError: no row is left.
    """
    shards = [shard for shard in shards if shard.num_rows] or shards[:1]
    slots = available_gpus() if num_gpus else available_cpus()
    count = min(num_workers or slots, len(shards))
    actor: Any = ray.remote(PoolWorker).options(
        num_cpus=1, num_gpus=num_gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS
    )
    compute = Compute(
        "cuda" if num_gpus else "cpu", max(1, available_cpus() // count), engine or EngineChoice()
    )
    dropped = ray.put(exclude) if exclude is not None and len(exclude) else None
    workers = [
        actor.remote(
            store,
            list(shards[number::count]),
            normalize=normalize,
            metadata=metadata,
            exclude=dropped,
            compute=compute,
        )
        for number in range(count)
    ]
    try:
        pool = RayPool(workers)
        if dropped is not None and pool.num_rows == 0:
            raise DataError(
                "selection.exclude must leave some tiles to pick from; it names all of them. "
                "Shorten the list."
            )
        yield pool
    finally:
        for worker in workers:
            ray.kill(worker)
