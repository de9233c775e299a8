"""Measure the round's selections in the frozen reference: round 0's embeddings and clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.clustering.assignment import assign
from balancer.imbalance.measures import (
    churn,
    class_balance,
    class_name,
    count_labels,
    effective_number,
    gini,
    kl_to_uniform,
    rare_classes,
)
from balancer.selection.pool import rows_of
from balancer.stages.catalog import Catalog
from balancer.stages.pool import RayPool
from balancer.stages.select import SELECTED
from balancer.types import Clustering, IdArray, IntArray, Selection

ARCHIVE, RANDOM = "archive", "random"


def measure(
    pool: RayPool,
    reference: Clustering,
    catalog: Catalog,
    selections: Mapping[str, Selection],
    rows: pa.Table,
    *,
    previous: IdArray | None,
    rare_percentile: float,
) -> dict[str, Any]:
    """Return all balance measures of a round as JSON values.

    Args:
        pool: the reference embeddings.
        reference: the frozen reference clustering.
        catalog: of the archive.
        selections: by name; `random-0`, `random-1`, ... are averaged under `random`.
        rows: catalog rows of all picked tiles.
        previous: ids of the previous round's selection, for churn.
        rare_percentile: see `balancer.imbalance.measures.rare_classes`.

    Returns:
        `sets`: for `archive`, `selected`, `random` and each compared strategy the measures
        `num_tiles, effective_clusters, gini, kl_to_uniform, covering_radius, cluster_counts,
        classes`; `churn`; `class_names` and `rare_classes` where there are labels.
    """
    names = list(catalog.label_counts)
    archive_counts = np.array([catalog.label_counts[name] for name in names], dtype=np.int64)
    labels = _labels(rows, catalog)
    ids = np.array(rows["tile_id"].to_pylist())

    def classes(counts: IntArray) -> dict[str, Any] | None:
        if labels is None:
            return None
        return asdict(class_balance(counts, archive_counts, rare_percentile=rare_percentile))

    sets: dict[str, Any] = {
        ARCHIVE: _balance(reference.sizes) | {"classes": classes(archive_counts)}
    }
    repeats: list[dict[str, Any]] = []
    for name, picked in selections.items():
        vectors = pool.vectors(picked.tile_ids)
        members, _ = assign(vectors, reference.centroids)
        counts = np.bincount(members, minlength=reference.num_clusters).astype(np.int64)
        found = _balance(counts) | {"covering_radius": pool.covering_radii(vectors)}
        found["classes"] = None
        if labels is not None:
            mine = [labels[row] for row in rows_of(ids, picked.tile_ids)]
            found["classes"] = classes(count_labels(mine, names))
        if name.startswith(f"{RANDOM}-"):
            repeats.append(found)
        else:
            sets[name] = found
    if repeats:
        sets[RANDOM] = _combine(repeats, np.mean)
    measures: dict[str, Any] = {"sets": sets, "churn": None}
    if len(repeats) > 1:
        measures["spreads"] = {RANDOM: _combine(repeats, _deviation)}
    if previous is not None:
        measures["churn"] = churn(previous, selections[SELECTED].tile_ids)
    if labels is not None:
        rare = rare_classes(archive_counts, rare_percentile)
        measures["class_names"] = names
        measures["rare_classes"] = [names[number] for number in rare]
    return measures


def _balance(counts: IntArray) -> dict[str, Any]:
    return {
        "num_tiles": int(counts.sum()),
        "effective_clusters": effective_number(counts),
        "gini": gini(counts),
        "kl_to_uniform": kl_to_uniform(counts),
        "cluster_counts": counts.tolist(),
    }


def _labels(rows: pa.Table, catalog: Catalog) -> list[str | None] | None:
    column = catalog.label_column
    if column is None or not catalog.label_counts:
        return None
    if column not in rows.column_names:  # none of the picked tiles has a label
        return [None] * rows.num_rows
    return [class_name(value) for value in rows[column].to_pylist()]


def _combine(trees: Sequence[Any], reduce: Callable[[Sequence[float]], Any]) -> Any:  # noqa: ANN401 - JSON
    """Reduce equal trees of numbers leaf by leaf."""
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {key: _combine([tree[key] for tree in trees], reduce) for key in first}
    if isinstance(first, list | tuple):
        return [_combine(items, reduce) for items in zip(*trees, strict=True)]
    return float(reduce(trees))


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))
