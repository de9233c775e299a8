"""Metadata columns of a cataloged shard, in the order of its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.selection.pool import rows_of
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.types import IdArray, ShardRef


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata that a pool's rows come with: the cataloged shards, and names of their columns."""

    catalog: tuple[ShardRef, ...] = ()
    columns: tuple[str, ...] = ()


def read_columns(
    store: Store, shard: ShardRef, ids: IdArray, names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return metadata columns of one shard in the order of `ids`.

    A column that this shard does not have is all None. Numbers come as float64 with NaN for a
    missing value, everything else as objects.
    """
    table = read_table(store, shard.catalog_uri, sha256=shard.sha256)
    rows = rows_of(np.array(table["tile_id"].to_pylist()), ids)
    found: dict[str, NDArray[Any]] = {}
    for name in names:
        if name not in table.column_names:
            found[name] = np.full(len(ids), None, dtype=object)
            continue
        values = table[name].to_pylist()
        numeric = all(v is None or type(v) in (int, float) for v in values)
        if numeric:
            values = [np.nan if v is None else v for v in values]
        found[name] = np.array(values, dtype=np.float64 if numeric else object)[rows]
    return found
