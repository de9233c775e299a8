"""Picking inside strata whose rows lie on many workers.

`random` and `nearest` move no rows: every worker offers its best ones. For `farthest-point` and
`medoid` the strata are dealt to the workers by work, and their rows move to them once, a part of
the archive at a time. A stratum with a large share of all rows or work would keep one worker busy
and fill its memory, so it stays where it lies: its picks are found by the exchange, restricted to
its rows, one such head after the other with all workers at it. The picks are the same either way,
also with included tiles, which a head's exchange is told first, and with quality.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray

from balancer.clustering.lloyd import make_scale
from balancer.selection.exchange import Offer, Picks, exchange, room_for
from balancer.selection.medoids import cell_means, merge_cells, merge_medoids
from balancer.selection.stratum_picks import (
    PickPlan,
    StratumPicks,
    concatenate_picks,
    merge_candidates,
)
from balancer.stages.pool_messages import Among
from balancer.stages.resources import plain_errors
from balancer.types import IntArray

WAVES = 4
"""Rows that move do so in this many parts, so that a worker receives that much less at a time."""
HEAD_SHARE = 0.5
"""A head has more than this share of one worker's part of all rows, or of all work."""


class WorkerPicks:
    """The picks of a plan over workers.

    Args:
        workers: actor handles of `PoolWorker`.
        ask: calls a method of all workers.
        offers: tells picks to all workers and returns their offers (`RayPool`).
        plan: what to pick.

    Cost: farthest-point and medoid move each row of the small strata once, N / WAVES rows at a
    time; a head moves only offers, and costs one round trip per about 200 picks.
    """

    def __init__(
        self,
        workers: Sequence[Any],
        ask: Callable[..., list[Any]],
        offers: Callable[..., list[Offer]],
        plan: PickPlan,
    ) -> None:
        self._workers, self._ask, self._offers, self._plan = workers, ask, offers, plan
        self._shared = ray.put(plan)
        self._key = plan_key(plan)

    def pick(self) -> StratumPicks:
        """Return the picks of all strata, in their order."""
        plan = self._plan
        if plan.rule in ("random", "nearest"):
            parts = self._ask("candidates", self._shared, self._key)
            return merge_candidates([part for part in parts if part is not None], plan)
        heads = head_strata(plan.strata.sizes, plan.counts, len(self._workers))
        rest = plan.counts.copy()
        rest[heads] = 0
        picked = [self._pick_head(head) for head in heads.tolist()]
        groups = deal_clusters(plan.strata.sizes, rest, WAVES * len(self._workers))
        for start in range(0, len(groups) if rest.any() else 0, len(self._workers)):
            picked += self._pick_groups(groups[start : start + len(self._workers)])
        return concatenate_picks(picked)

    def _pick_groups(self, groups: Sequence[IntArray]) -> list[StratumPicks]:
        with plain_errors():
            rows = [
                worker.stratum_rows.options(num_returns=len(groups)).remote(
                    self._shared, self._key, groups
                )
                for worker in self._workers
            ]
            rows = [[part] if len(groups) == 1 else part for part in rows]
            found: list[StratumPicks] = ray.get(
                [
                    self._workers[g].pick_group.remote(self._shared, *(parts[g] for parts in rows))
                    for g in range(len(groups))
                ]
            )
        return found

    def _pick_head(self, stratum: int) -> StratumPicks:
        count, dim = int(self._plan.counts[stratum]), self._plan.centroids.shape[1]
        given = self._included(stratum)
        num_given = len(given.ids)
        first = given if num_given else self._first(stratum)
        known = [first]
        among = ray.put(Among(self._plan, self._key, stratum))

        def ask(ids: Any, vectors: Any, room: int) -> list[Offer]:  # noqa: ANN401 - arrays
            if len(ids):
                known.append(Picks(ids, vectors, np.empty(0, np.float32)))
            told = sum(len(part.ids) for part in known[:-1])
            return self._offers(known, told, room, num_given + count, self._plan.quality, among)

        room = room_for(dim, first.ids.dtype.itemsize)
        others = exchange(ask, num_given + count - len(first.ids), dim=dim, room=room)
        picks = Picks(
            np.concatenate([first.ids, others.ids]),
            np.concatenate([first.vectors, others.vectors]),
            np.concatenate([first.keys, others.keys]),
        )
        ids, distance = picks.ids, np.sqrt(picks.keys)
        if self._plan.rule == "medoid":
            ids, distance = self._medoids(stratum, picks)
        elif num_given == 0:
            distance[0] = np.nan
        return StratumPicks(
            np.full(count, stratum, np.int64), ids[num_given:], distance[num_given:]
        )

    def _included(self, stratum: int) -> Picks:
        """Return a stratum's rows that are picked already."""
        offered: list[Any] = []
        if len(self._plan.included):
            offered = self._ask("stratum_included", self._shared, self._key, stratum)
        parts = [part for part in offered if part is not None]
        if not parts:
            dim = self._plan.centroids.shape[1]
            nothing = np.empty(0, np.float32)
            return Picks(np.empty(0, np.str_), np.empty((0, dim), np.float32), nothing)
        ids = np.concatenate([ids for ids, _ in parts])
        vectors = np.concatenate([vectors for _, vectors in parts])
        order = np.argsort(ids)
        return Picks(ids[order], vectors[order], np.full(len(ids), np.nan, np.float32))

    def _first(self, stratum: int) -> Picks:
        """Return a stratum's first row in random order."""
        offered = self._ask("lowest_hash", self._shared, self._key, stratum)
        _, first_id, vector = min((part for part in offered if part is not None), key=_by_hash)
        return Picks(np.array([first_id]), vector[None], np.full(1, np.inf, np.float32))

    def _medoids(self, stratum: int, picks: Picks) -> tuple[Any, Any]:
        here = (self._shared, self._key, stratum)
        largest = max(self._ask("stratum_extent", *here))
        dim = picks.vectors.shape[1]
        scale = make_scale(int(self._plan.strata.sizes[stratum]), dim, largest)
        chosen = ray.put((picks.ids, picks.vectors))
        sums = self._ask("cell_sums", *here, chosen, scale)
        means = cell_means(merge_cells(sums, len(picks.ids)), scale)
        found = merge_medoids(self._ask("cell_nearest", *here, chosen, ray.put(means)))
        return found.ids, np.sqrt(found.squared)


def plan_key(plan: PickPlan) -> str:
    """Return what tells the strata of a plan from others, for the labels that a worker keeps."""
    strata = plan.strata
    digest = hashlib.blake2b("\x1f".join(strata.columns).encode(), digest_size=8)
    for array in (plan.centroids, strata.cluster, strata.values):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def head_strata(sizes: IntArray, counts: IntArray, num_workers: int) -> IntArray:
    """Return the strata that are too large to go to one of several workers.

    >>> head_strata(np.array([90, 6, 4]), np.array([2, 2, 2]), 2)
    array([0])
    """
    if num_workers == 1:
        return np.empty(0, np.int64)
    work = sizes.astype(np.float64) * counts
    share = HEAD_SHARE / num_workers
    large = (sizes > share * sizes.sum()) | (work > share * work.sum())
    return np.flatnonzero(large & (counts > 0))


def _by_hash(part: tuple[int, str, Any]) -> tuple[int, str]:
    return part[0], part[1]


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
