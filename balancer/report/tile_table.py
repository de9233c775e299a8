"""What the report knows of every tile: place, cluster, class, picked or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from balancer.errors import DataError
from balancer.imbalance.measures import class_name
from balancer.report.content import GroupSizes
from balancer.report.run_files import RunFiles
from balancer.seeding import derive_seed, hash_ids
from balancer.storage.ledger import Record
from balancer.types import BoolArray, IdArray, IntArray, UInt64Array


@dataclass(frozen=True, slots=True)
class TileTable:
    """What is known of every tile of the archive, row by row.

    Attributes:
        places: the catalog's columns that `read_tiles` needs.
        ids: (N,) tile ids.
        cluster: (N,) int64 cluster, -1 where the tile has none.
        picked: (N,) whether it is in the selection.
        labels: (N,) class names, where there are any.
        order: (N,) uint64 seeded hash; the lowest are the sample.
    """

    places: pa.Table
    ids: IdArray
    cluster: IntArray
    picked: BoolArray
    labels: IdArray | None
    order: UInt64Array


def read_tile_table(
    run: RunFiles, places: pa.Table, label: str | None, last: Record | None, *, seed: int
) -> TileTable:
    """Join the catalog with the assignments and the manifest of a round.

    Args:
        run: where to read.
        places: the catalog, as `RunFiles.read_catalog` gives it.
        label: its column with the classes, where there are any.
        last: commit of the round; without one nothing is clustered or picked.
        seed: of the samples.

    Raises:
        DataError: a round whose tiles are not in the catalog.
    """
    ids = np.array(places["tile_id"].to_pylist(), dtype=np.str_)
    cluster = np.full(len(ids), -1, dtype=np.int64)
    picked = np.zeros(len(ids), dtype=np.bool_)
    if last is not None:
        names, numbers = run.read_assignments(last)
        cluster[positions(ids, names)] = numbers
        manifest = run.read_manifest(last)
        picked[positions(ids, np.array(manifest["tile_id"].to_pylist(), dtype=np.str_))] = True
    labels = None
    if label is not None and label in places.column_names:
        values = [class_name(value) or UNLABELED for value in places[label].to_pylist()]
        labels = np.array(values, dtype=np.str_)
    return TileTable(
        places, ids, cluster, picked, labels, hash_ids(ids, derive_seed(seed, "report"))
    )


def cluster_sizes(tiles: TileTable) -> GroupSizes | None:
    """Count the tiles of each cluster; `None` where nothing is clustered."""
    known = tiles.cluster >= 0
    if not known.any():
        return None
    archive = np.bincount(tiles.cluster[known])
    selected = np.bincount(tiles.cluster[known & tiles.picked], minlength=len(archive))
    names = tuple(map(str, range(len(archive))))
    return GroupSizes(names, archive.astype(np.int64), selected.astype(np.int64))


UNLABELED = "(no label)"
"""Stands for tiles without a label in the page's figures."""


def class_sizes(tiles: TileTable, random: Mapping[str, float] | None) -> GroupSizes | None:
    """Count the tiles of each class; `None` without labels.

    Args:
        tiles: of the archive.
        random: tiles of each class in a random selection, where it was tried.
    """
    if tiles.labels is None:
        return None
    names, group = np.unique(tiles.labels, return_inverse=True)
    archive = np.bincount(group, minlength=len(names))
    selected = np.bincount(group[tiles.picked], minlength=len(names))
    expected = None if random is None else np.array([random.get(str(n), 0.0) for n in names])
    return GroupSizes(tuple(map(str, names)), archive, selected, expected)


def positions(ids: IdArray, wanted: IdArray) -> IntArray:
    """Return the row of each wanted id.

    Raises:
        DataError: an id that is not there.

    >>> positions(np.array(["b", "a", "c"]), np.array(["c", "b"]))
    array([2, 0])
    """
    order = np.argsort(ids, kind="stable")
    found = np.minimum(np.searchsorted(ids[order], wanted), max(0, len(ids) - 1))
    rows: IntArray = order[found].astype(np.int64)
    absent = np.flatnonzero(ids[rows] != wanted)
    if len(absent):
        raise DataError(
            f"Every tile of a round must be in the run's catalog; {str(wanted[absent[0]])!r} is "
            f"not ({len(absent)} in all). Delete the round's folder and "
            f"run the same command again."
        )
    return rows
