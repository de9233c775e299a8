"""Values of a manifest's columns that follow from the reasons of its picks alone.

A pick that was measured from nothing has no distance: an included tile, a drawn one, a medoid, the
first pick of all and the first inside a cluster. Without a clustering there are no cluster numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.verification.constraint_checks import INCLUDE, selection_facts
from balancer.verification.inputs import Run
from balancer.verification.manifest_checks import FALLBACK
from balancer.verification.report import Check, failed, passed, skipped

ABSENT = "absent distances"
CLUSTERS = "cluster numbers"
UNMEASURED = (
    INCLUDE,
    "random",
    "medoid",
    "hybrid-medoid",
    "facility-location",
    "facility-medoid",
    "inverse-density",
    "per-cluster:random",
    "hierarchical:random",
)
FIRST_UNMEASURED = ("farthest-point", "composable", "composable-epsilon")
INSIDE = ("per-cluster:farthest-point", "hierarchical:farthest-point", "hybrid:per-cluster")
CLUSTERED = ("per-cluster", "hierarchical", "hybrid", "hybrid-medoid")


def check_absent_distances(table: pa.Table, facts: Mapping[str, Any]) -> Check:
    """Check that picks that were measured from nothing have no distance."""
    reasons = [str(r).removesuffix(FALLBACK) for r in table["reason"].to_pylist()]
    stated = table["distance"].to_pylist()
    clusters = table["cluster"].to_pylist()
    axes = (selection_facts(facts).get("quotas") or {}).get("axes")
    seen: set[int] = set()
    count = 0
    for rank, (reason, cluster) in enumerate(zip(reasons, clusters, strict=True)):
        absent = reason in UNMEASURED or (rank == 0 and reason in FIRST_UNMEASURED)
        # With columns beside the clusters, which cells the rows form is not known from here.
        absent |= reason in INSIDE and not axes and cluster not in seen
        seen.add(cluster)
        if not absent:
            continue
        count += 1
        if stated[rank] is not None and np.isfinite(stated[rank]):
            return failed(
                ABSENT,
                f"rank {rank} ({reason}) was measured from no pick and must have none; the table "
                f"says {stated[rank]}",
            )
    return passed(ABSENT, f"{count} picks have none, as their reasons say")


def check_cluster_numbers(
    table: pa.Table, facts: Mapping[str, Any], strategy: str | None, run: Run | None
) -> Check:
    """Check that a selection without a clustering names no clusters.

    In a run every pick has one, and the digest that the run recorded covers it.
    """
    numbers = np.asarray(table["cluster"].to_pylist(), np.int64)
    if run is not None and run.commit is not None:
        return passed(CLUSTERS, "covered by the digest that the run recorded")
    if facts.get("clustering_fingerprint") is not None or strategy in (None, *CLUSTERED):
        return skipped(CLUSTERS, "not checked: that takes the clusters of all rows")
    wrong = np.flatnonzero(numbers != -1)
    if len(wrong):
        rank = int(wrong[0])
        return failed(
            CLUSTERS,
            f"must be -1, as {strategy} has no clusters; rank {rank} has {numbers[rank]}",
        )
    return passed(CLUSTERS, "-1 everywhere: no clusters")
