"""Farthest-point selection in two rounds: a coreset of every shard, then picks from their union.

Local: a shard's coreset is the first t picks of farthest-point selection on its rows.
Merge: the union of the coresets. Finalize: farthest-point selection of k rows of the union.

* Malkomes et al., "Fast distributed k-center clustering with outliers on massive data" (NIPS 2015):
  t = k. At most 4 times the optimum.
* Ceccarello, Pietracaprina, Pucci, "Solving k-center clustering (with outliers) in MapReduce and
  streaming, almost as accurately as sequentially" (PVLDB 12, 2019; arXiv 1802.09205), section 3.1:
  t is the least number >= k for which the radius after t picks is at most epsilon / 2 times the
  radius after k. At most 2 + epsilon times the optimum.

Why. Let r_k and r_t be a shard's radii after k and t picks, OPT the optimum over all rows. The k
picks and the row farthest from them are k + 1 rows pairwise >= r_k apart, so OPT >= r_k / 2
(`balancer.selection.k_center`; rows of one shard bound the optimum of all). Likewise OPT >= q / 2
with q the radius of the final picks over the union. A row lies within r_t of a row of its shard's
coreset, and that within q of a final pick. With r = max r_t over the shards and
b = max(q, max r_k) / 2 <= OPT, the final radius is at most

    q + r <= 2 OPT + (r / b) OPT.

The guarantee reported is 2 + r / b: at most 4 with t = k, at most 2 + epsilon where every shard met
its criterion, and still true where `max_size` ended a coreset early.

How many rows. In high dimension the criterion may hold only once a shard's coreset is most of the
shard. So without a `max_size` a coreset ends at `default_limit`: all shards' coresets together take
`UNION_BYTES`, but never less than k rows each, which both forms need. What was reached, epsilon and
the number of shards that ended early, is in the picks and goes into the manifest.

Where rows travel. A coreset of more than about 100 KB goes through Ray's object store to the one
worker that picks from the union, S rows of it; the driver gets k picks and holds no coreset.

The picks depend on which rows share a shard, unlike those of exact farthest-point selection. So a
shard here is an embedding shard, never a worker: the number of workers changes nothing. Neither
does the order of rows in a shard, nor that of the shards: first picks are seeded by tile id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balancer.selection.exchange import Picks
from balancer.selection.farthest_point import FarthestPoints, farthest_point, seeded_first
from balancer.selection.k_center import Packing
from balancer.selection.shard_bounds import ON_CPU, EngineChoice
from balancer.types import FloatArray, IdArray

UNION_BYTES = 1 << 30
"""Most memory for the union of all coresets, where the user sets no limit."""


@dataclass(frozen=True, slots=True)
class Coreset:
    """Rows that stand for all rows of one shard, or of several.

    Attributes:
        ids: (S,) tile ids.
        vectors: (S, D) float32.
        num_picks: k.
        radius: r, the greatest distance of a row to its shard's coreset.
        packing_radius: the greatest radius of a shard after k picks; 0 if none has more rows.
        packing_ids: (k + 1,) rows of that shard that are pairwise at least so far apart, or (0,).
        sizes: rows of each shard's coreset.
        num_capped: how many shards `max_size` ended before their criterion held.
    """

    ids: IdArray
    vectors: FloatArray
    num_picks: int
    radius: float
    packing_radius: float
    packing_ids: IdArray
    sizes: tuple[int, ...]
    num_capped: int = 0


@dataclass(frozen=True, slots=True)
class CoresetPicks:
    """The final picks, best first. With m included rows, these are the f = k - m other ones.

    Attributes:
        ids: (f,) tile ids.
        vectors: (f, D) float32.
        distances: (f,) float32 distance of each pick to the picks before it, infinity for the
            first of all. The picks are pairwise at least `distances[-1]` apart.
        factor: how many times the optimum the covering radius is at most; 2 + epsilon.
        epsilon: r / b of the module's text: what the coresets add to farthest-point's 2.
        packing: proof of a lower bound: the picks and the union's farthest row, or the rows
            `packing_ids`, whichever is better.
        packing_ids: (k + 1,) for a packing by table, else (0,).
        sizes: rows of each shard's coreset.
        num_capped: how many shards `max_size` ended before their criterion held.
    """

    ids: IdArray
    vectors: FloatArray
    distances: FloatArray
    factor: float
    epsilon: float
    packing: Packing
    packing_ids: IdArray
    sizes: tuple[int, ...]
    num_capped: int

    def describe(self, wanted: float | None) -> dict[str, Any]:
        """Return JSON values: what was wanted (None: k rows per shard) and what was reached."""
        return {
            "epsilon_wanted": wanted,
            "epsilon_reached": self.epsilon,
            "rows": sum(self.sizes),
            "largest": max(self.sizes),
            "shards": len(self.sizes),
            "shards_ended_early": self.num_capped,
        }


def default_limit(num_picks: int, num_shards: int, dim: int) -> int:
    """Return the most rows of one shard's coreset, where the user sets no limit.

    It depends on nothing that a cluster's size changes: not on workers, nor on free memory.

    >>> default_limit(1000, 64, 512)
    8192
    >>> default_limit(1000, 4096, 512)
    1000
    """
    return max(num_picks, UNION_BYTES // (4 * dim * num_shards))


def local_coreset(
    points: FloatArray,
    ids: IdArray,
    num_picks: int,
    *,
    epsilon: float | None,
    seed: int,
    max_size: int | None = None,
    engine: EngineChoice = ON_CPU,
) -> Coreset:
    """Return the coreset of one shard (local).

    Args:
        points: (N, D) float32, finite, in any order. With at most k rows, all are the coreset.
        ids: (N,) unique tile ids.
        num_picks: k.
        epsilon: > 0 for the criterion of Ceccarello et al.; None stops after k picks (Malkomes).
        seed: decides the first pick.
        max_size: rows of the coreset at most, at least k; no limit when absent.
        engine: what keeps the bounds; never changes a pick.

    Raises:
        ValueError: an argument out of range.

    Cost: O(N t D) time for a coreset of t rows, less than twice that where t > 2 k is found by
    doubling; O(N) memory beside the input.

    >>> line = np.arange(10, dtype=np.float32)[:, None]
    >>> local_coreset(line, np.arange(10).astype(np.str_), 2, epsilon=None, seed=0).sizes
    (2,)
    """
    if num_picks < 1:
        raise ValueError(f"num_picks must be at least 1; got {num_picks}.")
    if epsilon is not None and not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, or None for k picks per shard; got {epsilon}.")
    if max_size is not None and max_size < num_picks:
        raise ValueError(
            f"max_size must be at least the {num_picks} picks, which every coreset has; "
            f"got {max_size}."
        )
    num_rows = len(points)
    if num_rows <= num_picks:
        return Coreset(ids, points, num_picks, 0.0, 0.0, ids[:0], (num_rows,))
    limit = num_picks if epsilon is None else min(max_size or num_rows, num_rows)
    picks, size = _pick_until(points, ids, num_picks, epsilon, limit, seed, engine)
    chosen = picks.indices[:size]
    radius = float(picks.distances[size]) if size < num_rows else 0.0
    first_radius = float(picks.distances[num_picks])
    return Coreset(
        ids[chosen],
        points[chosen],
        num_picks,
        radius,
        first_radius,
        ids[picks.indices[: num_picks + 1]],
        (size,),
        int(epsilon is not None and radius > epsilon / 2 * first_radius),
    )


def merge_coresets(parts: Sequence[Coreset]) -> Coreset:
    """Return the union of the coresets of different shards (merge); associative.

    Raises:
        ValueError: no parts, or parts for different numbers of picks.
    """
    if len({part.num_picks for part in parts}) != 1:
        raise ValueError(
            f"Coresets must be at least one, all for the same number of picks; got "
            f"{[part.num_picks for part in parts]}."
        )
    filled = [part for part in parts if len(part.ids)] or parts[:1]
    witness = max(parts, key=lambda part: part.packing_radius)  # the first of equals
    return Coreset(
        np.concatenate([part.ids for part in filled]),
        np.concatenate([part.vectors for part in filled]),
        parts[0].num_picks,
        max(part.radius for part in parts),
        witness.packing_radius,
        witness.packing_ids,
        tuple(size for part in parts for size in part.sizes),
        sum(part.num_capped for part in parts),
    )


def finalize_coreset(
    merged: Coreset,
    *,
    seed: int,
    included: Picks | None = None,
    engine: EngineChoice = ON_CPU,
) -> CoresetPicks:
    """Pick k rows of the union, or what the included rows leave of k (finalize).

    The guarantee holds with included rows, over all choices that contain them: the radii r_k bound
    the optimum of any k rows, the greater radius q that of k rows with the included among them.

    Args:
        merged: of all shards.
        seed: decides the first pick.
        included: at most k rows that are picked already.
        engine: what keeps the bounds; never changes a pick.

    Raises:
        ValueError: the shards have fewer than k rows together.

    Cost: O(S k D) time for S rows of the union, O(S) memory.
    """
    given = included if included is not None and len(included.ids) else None
    num_given = len(given.ids) if given else 0
    taken = np.isin(merged.ids, given.ids) if given else np.zeros(len(merged.ids), np.bool_)
    count, num_rows = merged.num_picks - num_given, int(len(taken) - np.count_nonzero(taken))
    if num_rows < count:
        raise ValueError(f"{count} picks must come from at least as many rows; got {num_rows}.")
    if count < 0:
        raise ValueError(
            f"Included rows must not exceed the {merged.num_picks} picks; got {num_given}."
        )
    # One pick more than asked for: the farthest row and the radius over the union.
    wanted = min(count + 1, num_rows)
    if wanted == 0:
        return CoresetPicks(
            merged.ids[:0],
            merged.vectors[:0],
            np.empty(0, np.float32),
            2.0,
            0.0,
            Packing(0.0, 0, "none"),
            merged.ids[:0],
            merged.sizes,
            merged.num_capped,
        )
    engine = engine.on("cpu")
    run = farthest_point(
        merged.vectors,
        wanted,
        first=None if given else seeded_first(merged.ids, seed),
        ids=merged.ids,
        selected=given.vectors if given else None,
        excluded=taken if given else None,
        device=engine.device,
        filter=engine.filter,
    )
    chosen = run.indices[:count]
    union_radius = float(run.distances[count]) if num_rows > count else 0.0
    packing, packing_ids = Packing(0.0, 0, "none"), merged.ids[:0]
    if merged.packing_radius > union_radius:
        packing_ids = merged.packing_ids
        packing = Packing(merged.packing_radius, merged.num_picks + 1, "table")
    elif num_rows > count:
        packing = Packing(union_radius, count + 1, "picks", str(merged.ids[run.indices[count]]))
    epsilon = 2 * merged.radius / packing.radius if merged.radius > 0 else 0.0
    return CoresetPicks(
        merged.ids[chosen],
        merged.vectors[chosen],
        run.distances[:count],
        2.0 + epsilon,
        epsilon,
        packing,
        packing_ids,
        merged.sizes,
        merged.num_capped,
    )


def _pick_until(
    points: FloatArray,
    ids: IdArray,
    num_picks: int,
    epsilon: float | None,
    limit: int,
    seed: int,
    engine: EngineChoice,
) -> tuple[FarthestPoints, int]:
    """Return a run and the size of the coreset: the least that meets the criterion, or `limit`.

    The run has a pick beyond the coreset, unless that is all rows: its distance is the radius.
    """
    first, num_rows = seeded_first(ids, seed), len(points)
    engine = engine.on("cpu")
    most = min(limit + 1, num_rows)
    count = min(2 * num_picks + 1, most)
    while True:
        run = farthest_point(
            points, count, first=first, ids=ids, device=engine.device, filter=engine.filter
        )
        if epsilon is None:
            return run, limit
        radii = run.distances[num_picks:].astype(np.float64)
        enough = radii <= epsilon / 2 * radii[0]
        if enough.any():
            return run, num_picks + int(enough.argmax())
        if count == most:
            return run, limit
        count = min(2 * count, most)
