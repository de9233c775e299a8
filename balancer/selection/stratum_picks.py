"""Picking inside many strata at once, in one process or over parts of the rows.

`random` and `nearest` need no rows to move: each part offers its best rows of every stratum
(`candidates`, local) and the best of all parts are the picks (`merge_candidates`). `farthest-point`
and `medoid` need a stratum's rows together (`pick_strata`), or, where one stratum is too large for
that, the exchange of `balancer.selection.exchange` restricted to its rows.

Included tiles are picked already: no rule picks them again, farthest-point and medoid start from
those of their own stratum. Quality multiplies the distances of farthest-point. The batched kernel
knows neither, so strata with included rows, and all strata where there is a quality, are picked
one by one by `balancer.selection.farthest_point`: the same rule, at a fixed cost per stratum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from balancer.config import Within
from balancer.distances import paired_distances
from balancer.seeding import derive_seed, hash_ids
from balancer.selection.batched_picks import BIG_PICKS, BIG_ROWS, pick_batch
from balancer.selection.farthest_point import farthest_point, seeded_first
from balancer.selection.id_orders import first_places, quick_ranks
from balancer.selection.medoids import medoids
from balancer.selection.quality import Quality
from balancer.selection.row_order import counting_order
from balancer.selection.shard_bounds import ON_CPU, EngineChoice
from balancer.types import (
    BoolArray,
    DoubleArray,
    FloatArray,
    IdArray,
    IntArray,
    Strata,
    UInt64Array,
)


@dataclass(frozen=True, slots=True)
class PickPlan:
    """What to pick in every stratum.

    Attributes:
        strata: their sizes are those of all rows, wherever they lie.
        counts: (S,) int64 tiles to pick beside the included, at most the sizes less those.
        rule: inside a stratum.
        seed: of the selection.
        centroids: (K, D) float32 of the clusters.
        included: (m,) ids that are picked already, in any strata: they are not picked again, and
            farthest-point starts from those of its stratum.
        quality: multiplies the distances of farthest-point.
    """

    strata: Strata
    counts: IntArray
    rule: Within
    seed: int
    centroids: FloatArray
    included: IdArray = field(default_factory=lambda: np.empty(0, np.str_))
    quality: Quality | None = None

    def seed_of(self, stratum: int) -> int:
        """Return the seed of one stratum's picks; a cluster's own when strata are clusters."""
        values = self.strata.values[stratum].tolist()
        return derive_seed(self.seed, "cluster", int(self.strata.cluster[stratum]), *values)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that may be picked: (n,) stratum, key (the lower, the better) and id."""

    stratum: IntArray
    key: FloatArray | UInt64Array
    ids: IdArray


@dataclass(frozen=True, slots=True)
class StratumPicks:
    """Picks, stratum by stratum, best first: (n,) stratum, id, and distance (NaN without one).

    The distance is to the stratum's picks before (farthest-point, NaN for a first pick), to the
    centroid (nearest), or to the mean of the pick's Voronoi cell (medoid).
    """

    stratum: IntArray
    ids: IdArray
    distance: FloatArray


@dataclass(frozen=True, slots=True)
class Grouped:
    """Rows by stratum: row numbers, and where each stratum that gives rows begins among them."""

    rows: IntArray
    strata: IntArray
    starts: IntArray


@dataclass(frozen=True, slots=True)
class Alone:
    """What to pick in one stratum by itself: how many, its seed, its rows' quality, and how."""

    count: int
    seed: int
    quality: FloatArray | DoubleArray | None
    engine: EngineChoice


def candidates(points: FloatArray, ids: IdArray, labels: IntArray, plan: PickPlan) -> Candidates:
    """Return one part's best rows of every stratum, for `random` and `nearest` (local).

    Args:
        points: (N, D) float32.
        ids: (N,) tile ids.
        labels: (N,) stratum of each row.
        plan: what to pick.

    Cost: O(N D) for nearest, O(N) for random, and a sort; at most `counts` rows per stratum.
    """
    if len(plan.included):
        labels = np.where(np.isin(ids, plan.included), -1, labels)
    grouped = _group(labels, plan.counts)
    rows, strata = grouped.rows, np.repeat(grouped.strata, np.diff(grouped.starts))
    key: NDArray[Any]
    if plan.rule == "nearest":
        clusters = plan.strata.cluster[strata]
        key = paired_distances(np.ascontiguousarray(points[rows]), plan.centroids, clusters)
    else:
        key = np.empty(len(rows), np.uint64)
        for place, stratum in enumerate(grouped.strata.tolist()):
            span = slice(grouped.starts[place], grouped.starts[place + 1])
            key[span] = hash_ids(ids[rows[span]], plan.seed_of(stratum))
    return _best(Candidates(strata, key, ids[rows]), plan.counts)


def merge_candidates(parts: Sequence[Candidates], plan: PickPlan) -> StratumPicks:
    """Return the picks among the candidates of all parts."""
    best = _best(
        Candidates(
            np.concatenate([part.stratum for part in parts]),
            np.concatenate([part.key for part in parts]),
            np.concatenate([part.ids for part in parts]),
        ),
        plan.counts,
    )
    distance = (
        np.sqrt(best.key).astype(np.float32)
        if plan.rule == "nearest"
        else np.full(len(best.ids), np.nan, np.float32)
    )
    return StratumPicks(best.stratum, best.ids, distance)


def pick_strata(
    points: FloatArray,
    ids: IdArray,
    labels: IntArray,
    plan: PickPlan,
    *,
    quality: FloatArray | DoubleArray | None = None,
    engine: EngineChoice = ON_CPU,
) -> StratumPicks:
    """Pick in all strata whose rows are here, by any rule.

    Args:
        points: (N, D) float32, C-contiguous, in any order.
        ids: (N,) unique ids.
        labels: (N,) stratum of each row; all rows of a stratum that has any are here.
        plan: what to pick.
        quality: (N,) from 1e-6 to 1, where the plan has one.
        engine: what keeps the bounds of strata that are picked one by one; never changes a pick.

    Returns:
        The picks without the included, in ascending order of the strata; the same tiles as the
        rule picks in each stratum by itself.

    Cost: see `balancer.selection.batched_picks`. Strata of `BIG_ROWS` and more that are also large
        in picks or in share of the work, those with included rows, and all when there is a
        quality go through `farthest_point` one by one with all threads, and are copied for it.
        16 bytes per row.
    """
    if plan.rule in ("random", "nearest"):
        return merge_candidates([candidates(points, ids, labels, plan)], plan)
    grouped = _group(labels, plan.counts)
    taken = np.isin(ids, plan.included) if len(plan.included) else np.zeros(len(ids), np.bool_)
    counts, sizes = plan.counts[grouped.strata], np.diff(grouped.starts)
    place_of = np.repeat(np.arange(len(counts)), sizes)
    given = np.bincount(place_of, taken[grouped.rows], minlength=len(counts)) > 0
    alone = given | _large(sizes, counts) | (quality is not None)
    picked = np.empty(int(counts.sum()), np.int64)
    distance = np.empty(len(picked), np.float32)
    stratum = np.repeat(np.arange(len(counts)), counts)
    if not alone.all():
        batched = ~alone[stratum]
        picked[batched], distance[batched] = _pick_together(points, ids, grouped, ~alone, plan)
    ends = np.cumsum(counts)
    for place in np.flatnonzero(alone).tolist():
        mine = slice(ends[place] - counts[place], ends[place])
        rows = _rows(grouped, place)
        run = Alone(
            int(counts[place]),
            plan.seed_of(grouped.strata[place]),
            None if quality is None else quality[rows],
            # Small strata would spend their time on the way to a device.
            engine.on("cpu") if len(rows) >= BIG_ROWS else ON_CPU,
        )
        picked[mine], distance[mine] = _pick_alone(
            points, ids, rows, np.flatnonzero(taken[rows]), run
        )
    if plan.rule == "medoid":
        for place in range(len(counts)):
            span = slice(ends[place] - counts[place], ends[place])
            rows = _rows(grouped, place)
            chosen = np.concatenate([rows[taken[rows]], picked[span]])
            at = np.searchsorted(rows, chosen)  # a stratum's rows ascend
            found, squared = medoids(np.ascontiguousarray(points[rows]), ids[rows], at)
            free = slice(len(chosen) - int(counts[place]), None)
            picked[span], distance[span] = rows[found[free]], np.sqrt(squared[free])
    return StratumPicks(grouped.strata[stratum], ids[picked], distance)


def concatenate_picks(parts: Sequence[StratumPicks]) -> StratumPicks:
    """Join picks of different strata, in ascending order of the strata."""
    if not parts:
        return StratumPicks(np.empty(0, np.int64), np.empty(0, np.str_), np.empty(0, np.float32))
    stratum = np.concatenate([part.stratum for part in parts])
    order = np.argsort(stratum, kind="stable")
    return StratumPicks(
        stratum[order],
        np.concatenate([part.ids for part in parts])[order],
        np.concatenate([part.distance for part in parts])[order],
    )


def _large(sizes: IntArray, counts: IntArray) -> BoolArray:
    """Return which strata are worth all threads at once; it changes the time, not the picks."""
    work = sizes.astype(np.float64) * counts
    share = work.sum() / numba.get_num_threads()
    found: BoolArray = (sizes >= BIG_ROWS) & ((counts >= BIG_PICKS) | (work > share))
    return found


def _pick_together(
    points: FloatArray, ids: IdArray, grouped: Grouped, which: BoolArray, plan: PickPlan
) -> tuple[IntArray, FloatArray]:
    """Pick by farthest-point in the strata of `which` places, all in one kernel."""
    places = np.flatnonzero(which)
    sizes = np.diff(grouped.starts)
    counts = plan.counts[grouped.strata[places]]
    rows = grouped.rows[np.repeat(which, sizes)]
    starts = np.concatenate([[0], np.cumsum(sizes[places])])
    ranks = quick_ranks(ids)
    seeds = [plan.seed_of(stratum) for stratum in grouped.strata[places].tolist()]
    firsts = first_places(ids, rows, starts, seeds, ranks)
    picked, squared = pick_batch(points, ranks, rows, starts, firsts, counts)
    distance = np.sqrt(squared)
    distance[np.cumsum(counts) - counts] = np.nan
    return picked, distance


def _pick_alone(
    points: FloatArray, ids: IdArray, rows: IntArray, taken: IntArray, run: Alone
) -> tuple[IntArray, FloatArray]:
    """Pick by farthest-point in one stratum, from the rows of it that are `taken`."""
    names = ids[rows]
    found = farthest_point(
        points[rows],
        run.count + len(taken),
        first=None if len(taken) else seeded_first(names, run.seed),
        ids=names,
        include=taken,
        quality=run.quality,
        device=run.engine.device,
        filter=run.engine.filter,
    )
    distance = found.distances[len(taken) :]
    if len(taken) == 0:
        distance[0] = np.nan
    return rows[found.indices[len(taken) :]], distance


def _rows(grouped: Grouped, place: int) -> IntArray:
    return grouped.rows[grouped.starts[place] : grouped.starts[place + 1]]


def _group(labels: IntArray, counts: IntArray) -> Grouped:
    """Return the rows of the strata that give any, stratum by stratum, ascending in each."""
    gives = np.append(counts > 0, False)  # the last is for rows of no stratum, -1
    rows = np.flatnonzero(gives[labels])
    own = labels[rows]
    sizes = np.bincount(own, minlength=len(counts))
    strata = np.flatnonzero(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes[strata])]).astype(np.int64)
    return Grouped(rows[counting_order(own, len(counts))], strata, starts)


def _best(found: Candidates, counts: IntArray) -> Candidates:
    """Keep the best `counts` rows of every stratum, best first."""
    order = np.lexsort((quick_ranks(found.ids), found.key, found.stratum))
    stratum = found.stratum[order]
    first = np.searchsorted(stratum, stratum)
    keep = order[np.arange(len(order)) - first < counts[stratum]]
    return Candidates(found.stratum[keep], found.key[keep], found.ids[keep])
