"""Whether weights are what a strategy gives, and as many tiles are picked as were asked for.

A weight is how many tiles of the archive a picked one stands for. So the weights of a sample, of
cells and of quotas add up to the tiles that were selected from: all of them, or those of the
clusters that give any. Farthest-point has no sampling rate, and its weights are 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.storage.certificates import EXCLUDED_KEY
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.types import DoubleArray, IntArray
from balancer.verification.claims import Claims
from balancer.verification.constraint_checks import INCLUDE, selection_facts
from balancer.verification.inputs import Run
from balancer.verification.manifest_checks import FALLBACK
from balancer.verification.quality import CATALOG
from balancer.verification.report import Check, failed, passed, skipped

SUMS = "weight sums"
BUDGET = "budget"
REPEATS = "repeats"
ONE_EACH = ("farthest-point", "composable", "composable-epsilon")
BY_CELLS = ("medoid", "hybrid-medoid", "facility-location", "facility-medoid")
QUOTAS = ("per-cluster", "hierarchical", "hybrid")
GLOBAL = "hybrid:farthest-point"
_RELATIVE = 1e-9
_SHORTFALL = re.compile(r"budget: (\d+) of (\d+) reached, because ")


def check_weight_sums(
    store: Store,
    run: Run | None,
    table: pa.Table,
    claims: Claims,
    strategy: str | None,
    facts: Mapping[str, Any],
) -> Check:
    """Check the weights against the strategy's rule.

    Raises:
        DataError: a damaged file of the run.
        StorageError: the store refuses or fails.
    """
    weights = np.asarray(table["weight"].to_pylist(), np.float64)
    if strategy in ONE_EACH:
        return _check_each(weights, np.ones(len(weights)), f"1 each, as {strategy} has no rates")
    if strategy == "random":
        return _check_each(weights, _random_weights(table, claims.num_rows), "of a random sample")
    if strategy in BY_CELLS:
        return _check_cells(weights, claims.num_rows)
    if strategy in QUOTAS:
        return _check_quotas(store, run, table, claims, facts)
    if strategy == "inverse-density":
        least = float(weights.min())
        if least < 1 - _RELATIVE:
            return failed(SUMS, f"a tile must stand for itself at least; one weighs {least}")
        return skipped(
            SUMS, "at least 1 each; not checked beyond that: it takes the draw and the density"
        )
    return skipped(SUMS, "the strategy is not known")


def check_budget(
    table: pa.Table, claims: Claims, run: Run | None, facts: Mapping[str, Any]
) -> list[Check]:
    """Check that the budget was met, or that the footer says by how much it was not.

    A share is one of the rows; in a run one of the cataloged tiles that are not excluded, of which
    some may not have been embedded. Skipped where the footer names no budget.
    """
    asked = selection_facts(facts).get("budget")
    if asked is None:
        return [skipped(BUDGET, "not checked: the footer's configuration names no budget")]
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not asked > 0:
        return [failed(BUDGET, f"config.selection.budget must be a number above 0; got {asked!r}")]
    shown = _shown(table)
    count = int(shown.sum())
    least, most = _expected(asked, claims, run, facts)
    if least <= count <= most:
        return [passed(BUDGET, f"{count} picks, repetitions counted")]
    if count < least:
        missing = _stated_shortfall(facts)
        if least <= count + missing <= most:
            return [passed(BUDGET, f"{count} picks; the footer says why {missing} are missing")]
        if table.num_rows == claims.num_rows:
            return [passed(BUDGET, f"all {count} rows; there are no more")]
    wanted = f"{least}" if least == most else f"{least} to {most}"
    return [
        failed(
            BUDGET,
            f"must be {wanted} picks, or the footer's quotas must say what is missing; there are "
            f"{count}",
        )
    ]


def _check_each(weights: DoubleArray, expected: DoubleArray, said: str) -> Check:
    wrong = np.flatnonzero(~np.isclose(weights, expected, rtol=_RELATIVE, atol=0))
    if len(wrong):
        rank = int(wrong[0])
        return failed(
            SUMS, f"must be {said}: rank {rank} must weigh {expected[rank]}; got {weights[rank]}"
        )
    return passed(SUMS, f"{said}, {weights.sum():.6g} in all")


def _random_weights(table: pa.Table, num_rows: int) -> DoubleArray:
    included = np.array([reason == INCLUDE for reason in table["reason"].to_pylist()])
    given, free = int(included.sum()), int((~included).sum())
    if free == 0:
        return np.full(given, num_rows / given)
    return np.where(included, 1.0, (num_rows - given) / free)


def _check_cells(weights: DoubleArray, num_rows: int) -> Check:
    if (weights != np.rint(weights)).any() or weights.sum() != num_rows:
        return failed(
            SUMS,
            f"must be whole numbers of tiles that add up to the {num_rows} rows; they add up to "
            f"{weights.sum()}",
        )
    return passed(SUMS, f"the {num_rows} rows, each with its nearest pick")


def _check_quotas(
    store: Store, run: Run | None, table: pa.Table, claims: Claims, facts: Mapping[str, Any]
) -> Check:
    """Check the sums of clusters; the sizes are those that the run assigned, if there is one."""
    num_rows, quotas = claims.num_rows, selection_facts(facts).get("quotas") or {}
    tiles = np.asarray(table["weight"].to_pylist(), np.float64) * _shown(table)
    total = float(tiles.sum())
    if total > num_rows * (1 + _RELATIVE):
        return failed(SUMS, f"must not exceed the {num_rows} rows; they add up to {total}")
    uneven = _find_uneven(table, list(quotas.get("axes") or {}))
    if uneven is not None:
        return failed(SUMS, uneven)
    if quotas.get("axes"):
        return passed(SUMS, f"{total:.6g} of {num_rows} rows, by cells of clusters and columns")
    clusters, places = np.unique(
        np.asarray(table["cluster"].to_pylist(), np.int64), return_inverse=True
    )
    sums = np.bincount(places, tiles)
    own = np.array([reason != GLOBAL for reason in _reasons(table)])
    gives = np.bincount(places, own) > 0
    sizes = _cluster_sizes(store, run)
    # Where a cluster's rows are not known they are a whole number at least.
    expected = np.rint(sums) if sizes is None else np.array([sizes.get(c, 0) for c in clusters])
    wrong = np.flatnonzero(gives & ~np.isclose(sums, expected, rtol=_RELATIVE, atol=0))
    if len(wrong):
        place = int(wrong[0])
        must = "a whole number" if sizes is None else f"its {expected[place]} rows"
        return failed(
            SUMS, f"those of cluster {clusters[place]} must add up to {must}; got {sums[place]}"
        )
    if _every_cluster_gives(places[own], claims, quotas) and not np.isclose(
        total, num_rows, rtol=_RELATIVE
    ):
        return failed(SUMS, f"must add up to the {num_rows} rows; they add up to {total}")
    return passed(SUMS, f"{total:.6g} of {num_rows} rows, those of the clusters that give picks")


def _reasons(table: pa.Table) -> list[str]:
    """Return the reason of each pick, without what a fallback adds."""
    return [str(reason).removesuffix(FALLBACK) for reason in table["reason"].to_pylist()]


def _find_uneven(table: pa.Table, axes: list[str]) -> str | None:
    """Say which picks of one cluster and cell of quotas differ in weight; None if none do.

    Included tiles and picks over all rows have weights of their own, and so have the repetitions of
    an included tile, which share its weight.
    """
    names = [name for name in ("cluster", *axes) if name in table.column_names]
    weights = np.asarray(table["weight"].to_pylist(), np.float64)
    shown, first = _shown(table), dict[tuple[object, ...], int]()
    cells = zip(*(table[name].to_pylist() for name in names), strict=True)
    for rank, (cell, reason) in enumerate(zip(cells, _reasons(table), strict=True)):
        kind = reason if reason in (INCLUDE, GLOBAL) else "own"
        before = first.setdefault((kind, *cell), rank)
        times = shown if kind == INCLUDE else np.ones(len(shown))
        own, other = weights[rank] * times[rank], weights[before] * times[before]
        if kind != GLOBAL and not np.isclose(own, other, rtol=_RELATIVE, atol=0):
            return (
                f"picks of one cluster must weigh the same; in cluster {cell[0]} rank {before} "
                f"stands for {other} tiles and rank {rank} for {own}"
            )
        if kind == GLOBAL and weights[rank] != 1:
            return f"picks over all rows must weigh 1; rank {rank} weighs {weights[rank]}"
    return None


def _every_cluster_gives(places: IntArray, claims: Claims, quotas: Mapping[str, Any]) -> bool:
    """Whether equal quotas left no cluster out: none gives two before all have given one."""
    equal = not (quotas.get("alpha") or quotas.get("cap"))
    return equal and claims.num_included == 0 and len(places) > len(np.unique(places))


def _cluster_sizes(store: Store, run: Run | None) -> dict[int, int] | None:
    """Return the rows of each cluster as the run assigned them; None where that is not known."""
    records = [] if run is None or run.commit is None else run.commit.get("assignments") or []
    if run is None or not records:
        return None
    labels = [
        read_table(
            store, run.ledger.absolute(record["path"]), sha256=record["sha256"], columns=["cluster"]
        )["cluster"].to_numpy()
        for record in records
    ]
    clusters, sizes = np.unique(np.concatenate(labels), return_counts=True)
    return dict(zip(clusters.tolist(), sizes.tolist(), strict=True))


def _shown(table: pa.Table) -> DoubleArray:
    """Return how often each pick is shown."""
    if REPEATS not in table.column_names:
        return np.ones(table.num_rows)
    return np.asarray(table[REPEATS].to_pylist(), np.float64)


def _expected(
    asked: float, claims: Claims, run: Run | None, facts: Mapping[str, Any]
) -> tuple[int, int]:
    """Return the least and the greatest number of picks that the budget means."""
    if asked >= 1:
        return int(asked), int(asked)
    catalog = None if run is None else run.ledger.read_commit(CATALOG)
    most = claims.num_rows if catalog is None else int(catalog["num_tiles"])
    excluded = facts.get(EXCLUDED_KEY) or {}
    least = most if catalog is None else most - int(excluded.get("rows", 0))
    return max(1, round(asked * least)), max(1, round(asked * most))


def _stated_shortfall(facts: Mapping[str, Any]) -> int:
    """Return how many picks the footer says are missing."""
    sentences = facts.get("quotas")
    for sentence in sentences if isinstance(sentences, list) else ():
        found = _SHORTFALL.match(str(sentence))
        if found:
            return int(found[2]) - int(found[1])
    return 0
