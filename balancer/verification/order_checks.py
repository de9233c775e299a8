"""Farthest-point picks, recomputed to the last bit: their distances, their order, the outliers.

A pick's distance is that to the picks before it, inside its own cluster for picks that were made
there, times its quality. Where a selection has quotas over metadata columns too, a cluster's rows
with equal values stand for the cluster. Which row came next inside a cluster is not checked: that
takes the clusters of all rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.storage.filesystem import Store
from balancer.types import FloatArray, IdArray, IntArray
from balancer.verification.canonical import nearest_before, weigh
from balancer.verification.constraint_checks import outliers_of, selection_facts
from balancer.verification.distance_pass import Gathered
from balancer.verification.geometry import agree
from balancer.verification.inputs import Embeddings, Run
from balancer.verification.pick_order import Ahead, Claimed, count_ahead
from balancer.verification.quality import (
    NOT_CHECKED,
    Qualities,
    find_qualities,
)
from balancer.verification.report import QUALITY, Check, failed, passed, skipped

DISTANCES = "distances"
ORDER = "pick order"
FALLBACK = ":fallback"
OVER_ALL = ("farthest-point", "hybrid:farthest-point")
FROM_CORESETS = ("composable", "composable-epsilon")
INSIDE = ("per-cluster:farthest-point", "hierarchical:farthest-point", "hybrid:per-cluster")


@dataclass(frozen=True, slots=True)
class OrderReport:
    """The checks, and how many rows are ahead of each outlier; None where that is not known."""

    checks: list[Check] = field(default_factory=list)
    ahead_of_outliers: IntArray | None = None


@dataclass(frozen=True, slots=True)
class Picked:
    """The picks as the manifest has them.

    Attributes:
        table: of the manifest.
        ids: (k,) in rank order.
        vectors: (k, D) float32.
        weights: (k,) float32 squared qualities; None without quality.
    """

    table: pa.Table
    ids: IdArray
    vectors: FloatArray
    weights: FloatArray | None

    @property
    def reasons(self) -> list[str]:
        """Reason of each pick, without what a fallback adds."""
        return [str(r).removesuffix(FALLBACK) for r in self.table["reason"].to_pylist()]


def check_order(
    store: Store,
    run: Run | None,
    embeddings: Embeddings,
    table: pa.Table,
    found: Gathered,
    facts: Mapping[str, Any],
    *,
    num_outliers: int,
) -> OrderReport:
    """Check distances and order of the picks that farthest-point made; none where it made none.

    Args:
        store: opens the quality column.
        run: that the manifest lies in.
        embeddings: all rows.
        table: of the manifest; its tiles are among the rows.
        found: the rows that are named.
        facts: the footer.
        num_outliers: that the certificate says were left out.

    Raises:
        DataError: a damaged file.
        StorageError: the store refuses or fails.

    Cost: O(N k D) in matrix products and one more reading of the embeddings, for picks over all
        rows; O(k^2 D) for those inside clusters.
    """
    column = selection_facts(facts).get("quality_column")
    ids = np.array(table["tile_id"].to_pylist(), dtype=np.str_)
    quality: Qualities | None = None
    checks: list[Check] = []
    if column is not None:
        left = found.ids[~np.isin(found.ids, embeddings.excluded)]
        read = find_qualities(store, run, embeddings, column, left)
        if isinstance(read, Check):
            why = f"{NOT_CHECKED}: the quality of the tiles is not known"
            return OrderReport([read, skipped(DISTANCES, why), skipped(ORDER, why)])
        quality = read
        said = f"{column!r} of {len(left)} rows, a finite number above 0 everywhere"
        checks.append(passed(QUALITY, said))
    weights = None if quality is None else quality.of(ids)
    picked = Picked(table, ids, found.rows(ids.tolist()), weights)
    keys = recomputed_keys(picked, facts)
    if keys is None:
        return OrderReport(checks)
    checks.append(_check_distances(picked, keys))
    over_all = [rank for rank, reason in enumerate(picked.reasons) if reason in OVER_ALL]
    if not over_all and set(picked.reasons) & set(FROM_CORESETS):
        return OrderReport([*checks, _check_falling(keys)])
    if not over_all:
        why = f"{NOT_CHECKED}: picks inside clusters, for want of the clusters of all rows"
        return OrderReport([*checks, skipped(ORDER, why)])
    if over_all != list(range(over_all[0], len(ids))):
        said = "picks by farthest-point over all rows must come last"
        return OrderReport([*checks, failed(ORDER, said)])
    start = max(1, over_all[0])
    ahead = _count(embeddings, picked, keys, start, quality, found, outliers_of(facts))
    checks.append(_check_ahead(picked, ahead.picks, start, num_outliers))
    return OrderReport(checks, ahead.outliers)


def recomputed_keys(picked: Picked, facts: Mapping[str, Any]) -> FloatArray | None:
    """Return the (k,) keys of the picks: infinity for a first one, NaN for those not checked.

    None where farthest-point made no pick.
    """
    reasons = picked.reasons
    keys = np.full(len(reasons), np.nan, np.float32)
    over_all = np.isin(reasons, (*OVER_ALL, *FROM_CORESETS))
    inside = np.isin(reasons, INSIDE)
    if not (over_all.any() or inside.any()):
        return None
    if over_all.any():
        keys[over_all] = nearest_before(picked.vectors)[over_all]
    for members in _groups(picked, facts) if inside.any() else ():
        squared = nearest_before(picked.vectors[members])
        own = inside[members]
        keys[members[own]] = squared[own]
    return weigh(keys, picked.weights)


def _groups(picked: Picked, facts: Mapping[str, Any]) -> Iterator[IntArray]:
    """Yield the ranks of the picks inside each cluster and cell of quotas, over-all ones apart."""
    axes = list((selection_facts(facts).get("quotas") or {}).get("axes") or {})
    names = [name for name in ("cluster", *axes) if name in picked.table.column_names]
    if len(names) <= len(axes):
        return  # a column is gone, so the cells are not known
    cells = zip(*(picked.table[name].to_pylist() for name in names), strict=True)
    groups: dict[Sequence[object], list[int]] = defaultdict(list)
    for rank, (cell, reason) in enumerate(zip(cells, picked.reasons, strict=True)):
        if reason not in OVER_ALL:
            groups[cell].append(rank)
    for members in groups.values():
        yield np.array(members, np.int64)


def _check_distances(picked: Picked, keys: FloatArray) -> Check:
    stated = picked.table["distance"].to_pylist()
    known = np.flatnonzero(np.isfinite(keys))
    for rank in known.tolist():
        distance = float(np.sqrt(keys[rank]))
        if stated[rank] is None or not agree(stated[rank], distance):
            times = "" if picked.weights is None else ", times its quality,"
            return failed(
                DISTANCES,
                f"rank {rank} must be {distance} from the picks before it{times}; the table says "
                f"{stated[rank]}",
            )
    return passed(DISTANCES, f"{len(known)} recomputed")


def _check_falling(keys: FloatArray) -> Check:
    """Check that picks from coresets were each the farthest of those that came after them."""
    known = np.flatnonzero(np.isfinite(keys))
    rises = np.flatnonzero(keys[known[1:]] > keys[known[:-1]])
    if len(rises):
        rank = int(known[rises[0] + 1])
        said = f"must never come nearer to picks before; rank {rank} is farther than the one before"
        return failed(ORDER, said)
    why = f"{NOT_CHECKED}: which rows the picks were chosen from takes the coresets"
    return skipped(ORDER, f"{why}; distances never increase")


def _count(
    embeddings: Embeddings,
    picked: Picked,
    keys: FloatArray,
    start: int,
    quality: Qualities | None,
    found: Gathered,
    outliers: list[str],
) -> Ahead:
    there = not set(outliers) & (set(found.missing) | set(picked.ids.tolist()))
    named = np.array(outliers if there else [], dtype=np.str_)
    claimed = Claimed(
        picked.ids,
        picked.vectors,
        keys,
        start,
        named,
        found.rows(named.tolist()) if len(named) else picked.vectors[:0],
        None if quality is None else quality.of(named),
    )
    blocks = (
        (ids, points, None if quality is None else quality.of(ids))
        for ids, points in embeddings.blocks()
    )
    return count_ahead(blocks, claimed)


def _check_ahead(picked: Picked, ahead: IntArray, start: int, num_outliers: int) -> Check:
    wrong = np.flatnonzero(ahead[start:] != num_outliers)
    if len(wrong):
        rank = start + int(wrong[0])
        return failed(
            ORDER,
            f"{num_outliers} rows must be farther than {str(picked.ids[rank])!r} at rank {rank}; "
            f"{ahead[rank]} are ({len(wrong)} picks are wrong)",
        )
    times = "" if picked.weights is None else ", times quality,"
    return passed(ORDER, f"{len(ahead) - start} picks, each the farthest{times} at its turn")
