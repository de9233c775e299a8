"""Rows cut into embedding shards of unequal sizes, and their catalog with metadata columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from balancer.storage.embedding_shards import write_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.tables import write_table
from balancer.types import EmbeddingShard, FloatArray, IdArray, ShardRef


def cut_into_shards(
    folder: Path, ids: IdArray, points: FloatArray, count: int
) -> list[EmbeddingShard]:
    """Write the rows, in their order, as `count` shards cut at random places."""
    cuts = np.sort(np.random.default_rng(count).choice(len(ids), count - 1, replace=False))
    return [
        write_embeddings(
            Store(),
            str(folder / f"{number}.parquet"),
            shard_id=f"shard{number}",
            tile_ids=ids[rows],
            embeddings=points[rows],
            encoder_fingerprint="encoder",
        )
        for number, rows in enumerate(np.split(np.arange(len(ids)), cuts))
    ]


def catalog_of(
    folder: Path,
    ids: IdArray,
    shards: Sequence[EmbeddingShard],
    columns: Mapping[str, NDArray[Any]],
) -> dict[str, ShardRef]:
    """Write one catalog with the columns of all rows; return it as that of every shard."""
    uri = str(folder / "catalog.parquet")
    values = {name: column.tolist() for name, column in columns.items()}
    file = write_table(Store(), uri, pa.table({"tile_id": ids.tolist()} | values))
    return {s.shard_id: ShardRef(s.shard_id, "", uri, "", file.sha256, len(ids), 0) for s in shards}
