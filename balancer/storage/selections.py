"""Small tables of a round: centroids, cluster assignments, selections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.storage.certificates import included_facts
from balancer.types import Clustering, FloatArray, IdArray, IntArray, Selection


def assignment_table(ids: IdArray, cluster: IntArray, distance: FloatArray) -> pa.Table:
    """Return `tile_id, cluster, distance` (to the centroid) of one shard's tiles."""
    return pa.table(
        {"tile_id": pa.array(ids.tolist(), pa.string()), "cluster": cluster, "distance": distance}
    )


def clustering_table(clustering: Clustering) -> pa.Table:
    """Return `cluster, size, centroid`, one row per cluster, and `ancestor_2, ...` of a tree."""
    flat = pa.array(clustering.centroids.reshape(-1), pa.float32())
    return pa.table(
        {
            "cluster": np.arange(clustering.num_clusters),
            "size": clustering.sizes,
            "centroid": pa.FixedSizeListArray.from_arrays(flat, clustering.centroids.shape[1]),
        }
        | {f"ancestor_{level}": nodes for level, nodes in enumerate(clustering.ancestors, start=2)}
    )


def read_clustering(table: pa.Table, inertia: float, fingerprint: str) -> Clustering:
    """Return the clustering that `clustering_table` wrote."""
    centroids = table["centroid"].combine_chunks()
    flat = centroids.flatten().to_numpy().astype(np.float32)
    names = [name for name in table.column_names if name.startswith("ancestor_")]
    ancestors = np.array([table[name].to_numpy() for name in names], dtype=np.int64)
    return Clustering(
        flat.reshape(table.num_rows, -1),
        table["size"].to_numpy(),
        inertia,
        fingerprint,
        ancestors.reshape(len(names), -1 if names else 0),
    )


def selections_table(selections: Mapping[str, Selection]) -> pa.Table:
    """Return `selection, tile_id, cluster, distance, weight, reason, repeats`, best first.

    `repeats` is null where tiles are shown once.
    """
    parts = [
        pa.table(
            {
                "selection": pa.array([name] * len(picked), pa.string()),
                "tile_id": pa.array(picked.tile_ids.tolist(), pa.string()),
                "cluster": picked.cluster,
                "distance": picked.distance,
                "weight": picked.weight,
                "reason": pa.array(picked.reason.tolist(), pa.string()),
                "repeats": pa.array(picked.repeats)
                if picked.repeats is not None
                else pa.nulls(len(picked), pa.int64()),
            }
        )
        for name, picked in selections.items()
    ]
    return pa.concat_tables(parts)


def selection_notes(selection: Selection, *, listed: bool) -> dict[str, Any]:
    """Return what the footer says of a selection beside its certificate.

    Included tiles where a list is configured (`listed`), outliers, coresets, and what quotas could
    not reach.
    """
    notes: dict[str, Any] = {}
    if listed:
        notes |= included_facts(selection.tile_ids[: selection.num_included])
    if selection.outliers is not None:
        notes["outliers"] = selection.outliers.tolist()
    if selection.coreset is not None:
        notes["coreset"] = dict(selection.coreset)
    if selection.allocation is not None:
        notes["quotas"] = list(selection.allocation.report)
    return notes


def read_selections(table: pa.Table) -> dict[str, Selection]:
    """Return what `selections_table` wrote; shard ids are left empty."""
    names = np.array(table["selection"].to_pylist())
    found = {}
    for name in dict.fromkeys(names.tolist()):
        part = table.filter(pa.array(names == name))
        found[name] = Selection(
            tile_ids=np.array(part["tile_id"].to_pylist()),
            shard_ids=np.full(part.num_rows, ""),
            cluster=part["cluster"].to_numpy(),
            distance=part["distance"].to_numpy(),
            weight=part["weight"].to_numpy(),
            reason=np.array(part["reason"].to_pylist()),
            repeats=None if part["repeats"].null_count else part["repeats"].to_numpy(),
        )
    return found
