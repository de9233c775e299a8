"""Embedding shards spread over Ray actors, as one `Pool` to cluster, select from and measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import ray

from balancer.clustering.lloyd import PartialSums, Scale, merge_sums
from balancer.config import Within
from balancer.imbalance.radius import (
    SHARES,
    find_rank,
    merge_counts,
    radius_from_bits,
    rank_of,
)
from balancer.selection.coresets import Coreset, merge_coresets
from balancer.selection.exchange import ExchangeStats, Offer, Picks, room_for
from balancer.selection.pool import (
    FarthestRun,
    Picked,
    concatenate_picked,
    rows_of,
    run_farthest,
)
from balancer.selection.uniform import lowest_hashes
from balancer.stages.pool_worker import Behind, PoolWorker
from balancer.stages.resources import available_cpus, available_gpus, plain_errors
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record
from balancer.types import Clustering, EmbeddingShard, FloatArray, IdArray, IntArray, ShardRef

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

    def farthest(self, num_picks: int, given: Picks) -> FarthestRun:
        """See `Pool`. About 200 picks per round trip to every worker."""
        known: list[Picks] = [given]
        capacity = len(given.ids) + num_picks + 1

        def ask(ids: IdArray, vectors: FloatArray, room: int) -> list[Offer]:
            if len(ids):
                known.append(Picks(ids, vectors, np.empty(0, np.float32)))
            told = sum(len(part.ids) for part in known[:-1])
            return self._offers(known, told, room, capacity)

        stats = ExchangeStats()
        id_bytes = given.ids.dtype.itemsize
        run = run_farthest(
            ask, num_picks, dim=self._dim, room=room_for(self._dim, id_bytes), stats=stats
        )
        self.last_exchange = stats
        return run

    def pick_in_clusters(self, counts: IntArray, rule: Within, seed: int) -> Picked:
        """See `Pool`. Clusters are dealt to the workers by size; rows move once."""
        assert self._clustering is not None  # a pool for this strategy is made with a clustering
        centroids = ray.put(self._clustering.centroids)
        groups = deal_clusters(self._clustering.sizes, counts, len(self._workers))
        with plain_errors():
            rows = [
                worker.cluster_rows.options(num_returns=len(groups)).remote(centroids, groups)
                for worker in self._workers
            ]
            rows = [[part] if len(groups) == 1 else part for part in rows]
            picked: list[Picked] = ray.get(
                [
                    self._workers[g % len(self._workers)].pick_group.remote(
                        centroids, counts, rule, seed, *(parts[g] for parts in rows)
                    )
                    for g in range(len(groups))
                ]
            )
        together = concatenate_picked(picked)
        order = np.argsort(together.cluster, kind="stable")
        return Picked(together.ids[order], together.cluster[order], together.distance[order])

    def vectors(self, ids: IdArray) -> FloatArray:
        """See `Pool`."""
        parts = [part for part in self._ask("vectors", ray.put(ids)) if len(part[0])]
        found = np.concatenate([ids for ids, _ in parts])
        return np.concatenate([points for _, points in parts])[rows_of(found, ids)]

    def coreset(
        self, num_picks: int, epsilon: float | None, seed: int, limit: int | None
    ) -> Coreset:
        """See `Pool`. A shard is an embedding shard, whatever worker holds it."""
        parts = self._ask("coresets", num_picks, epsilon, seed, limit)
        return merge_coresets([coreset for part in parts for coreset in part])

    def covering_radii(self, picks: FloatArray) -> dict[str, float]:
        """Return the exact covering radii of `picks` (M, D), keyed "100", "99" and "95"."""
        shared = ray.put(picks)
        upper = merge_counts(self._ask("nearest_pick", shared))
        radii = {}
        for share in SHARES:
            key, rank = find_rank(upper, rank_of(share, self._num_rows))
            detail = merge_counts(self._ask("nearest_pick_detail", shared, key))
            lower, _ = find_rank(detail, rank)
            radii[f"{share:.0%}".rstrip("%")] = radius_from_bits(key, lower)
        return radii

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """See `Pool`. Arguments travel once per node; results should be small."""
        parts = self._ask("map_shards", local, ray.put(arguments))
        # open_pool deals the shards to the workers in turn.
        longest = max((len(part) for part in parts), default=0)
        return [part[place] for place in range(longest) for part in parts if place < len(part)]

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

    def _offers(self, known: Sequence[Picks], start: int, room: int, capacity: int) -> list[Offer]:
        """Tell every worker the picks from number `start` on; a restarted one, all of them."""
        answers = self._ask("offer", start, known[-1].ids, known[-1].vectors, room, capacity)
        for number, answer in enumerate(answers):
            if isinstance(answer, Behind):
                ids = np.concatenate([part.ids for part in known])
                vectors = np.concatenate([part.vectors for part in known])
                with plain_errors():
                    answers[number] = ray.get(
                        self._workers[number].offer.remote(0, ids, vectors, room, capacity)
                    )
        return answers


@contextmanager
def open_pool(
    store: Store,
    shards: Sequence[EmbeddingShard],
    *,
    normalize: bool,
    num_workers: int | None = None,
    catalog: Sequence[ShardRef] = (),
    columns: Sequence[str] = (),
    num_gpus: int = 0,
) -> Iterator[RayPool]:
    """Load the shards into actors for the time of the block.

    Args:
        store: opens the shards.
        shards: all of them, in catalog order.
        normalize: L2-normalise the rows.
        num_workers: actors; one per CPU, at most one per shard, when absent.
        catalog: the cataloged shards, when `columns` are wanted.
        columns: names of metadata columns for the local steps of `map_shards`.
        num_gpus: per actor, 0 or 1; with 1 there are at most as many actors as GPUs.
    """
    shards = [shard for shard in shards if shard.num_rows] or shards[:1]
    slots = available_gpus() if num_gpus else available_cpus()
    count = min(num_workers or slots, len(shards))
    actor: Any = ray.remote(PoolWorker).options(
        num_cpus=1, num_gpus=num_gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS
    )
    workers = [
        actor.remote(
            store,
            list(shards[number::count]),
            normalize=normalize,
            catalog={shard.shard_id: shard for shard in catalog},
            columns=columns,
            device="cuda" if num_gpus else "cpu",
        )
        for number in range(count)
    ]
    try:
        yield RayPool(workers)
    finally:
        for worker in workers:
            ray.kill(worker)


def deal_clusters(sizes: IntArray, counts: IntArray, num_groups: int) -> list[IntArray]:
    """Deal the clusters that give rows into groups of about equal work, biggest first.

    >>> [group.tolist() for group in deal_clusters(np.array([9, 5, 4]), np.array([1, 1, 1]), 2)]
    [[0], [1, 2]]
    """
    giving = np.flatnonzero(counts)
    work = sizes[giving].astype(np.float64) * counts[giving]
    groups: list[list[int]] = [[] for _ in range(max(1, min(num_groups, len(giving))))]
    loads = np.zeros(len(groups))
    for place in np.lexsort((giving, -work)):
        lightest = int(loads.argmin())
        groups[lightest].append(int(giving[place]))
        loads[lightest] += work[place]
    return [np.array(sorted(group), dtype=np.int64) for group in groups]
