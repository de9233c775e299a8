"""Manifests: the published selection, one row per picked tile, readable without balancer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import check_columns, read_table, write_table
from balancer.storage.tile_metadata import MANIFEST_COLUMNS, REPEATS
from balancer.types import Manifest, Selection

SCHEMA_VERSION = 1
FOOTER_KEY = b"balancer"
MANIFEST_SCHEMA = pa.schema(
    [
        ("tile_id", pa.string()),
        ("uri", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("num_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("shard", pa.string()),
        ("rank", pa.int64()),
        ("cluster", pa.int64()),
        ("distance", pa.float32()),
        ("weight", pa.float64()),
        ("reason", pa.string()),
        ("round", pa.int64()),
    ]
)
_FROM_CATALOG = ("uri", "member", "offset", "num_bytes", "sha256")


def manifest_table(
    selection: Selection, catalog: pa.Table | None = None, *, round_index: int = 0
) -> pa.Table:
    """Join a selection with the catalog.

    Args:
        selection: picked tiles, best first.
        catalog: rows for at least the picked tiles; where absent, as when selecting from plain
            vectors, the columns that say where a tile lies are null.
        round_index: from 0.

    Returns:
        `MANIFEST_SCHEMA`, then `repeats` where tiles may be shown more than once, then the
        catalog's other columns (codec, width, height, mode and metadata); row order is rank.

    Raises:
        DataError: a picked tile that the catalog lacks.
    """
    ids = pa.array(selection.tile_ids.tolist(), pa.string())
    rows = len(selection)
    columns: dict[str, Any] = {
        "tile_id": ids,
        "shard": pa.array(selection.shard_ids.tolist(), pa.string()),
        "rank": np.arange(rows),
        "cluster": selection.cluster,
        "distance": selection.distance,
        "weight": selection.weight,
        "reason": pa.array(selection.reason.tolist(), pa.string()),
        "round": np.full(rows, round_index),
    }
    extra: dict[str, pa.ChunkedArray] = {}
    if catalog is not None:
        positions = pc.index_in(ids, value_set=catalog["tile_id"].combine_chunks())
        if positions.null_count:
            missing = ids[int(pc.index(positions.is_null(), True).as_py())].as_py()
            raise DataError(
                f"Every picked tile must be in the catalog; {missing!r} is not "
                f"({positions.null_count} missing in all). Select from this catalog's embeddings."
            )
        found = catalog.take(positions)
        columns |= {name: found[name] for name in _FROM_CATALOG}
        extra = {n: found[n] for n in found.column_names if n not in MANIFEST_COLUMNS}
    arrays = [
        pa.nulls(rows, field.type) if field.name not in columns else _as(columns[field.name], field)
        for field in MANIFEST_SCHEMA
    ]
    table = pa.table(arrays, schema=MANIFEST_SCHEMA)
    if selection.repeats is not None:
        table = table.append_column(REPEATS, pa.array(selection.repeats, pa.int64()))
    for name, column in extra.items():
        table = table.append_column(name, column)
    return table


def write_manifest(
    store: Store, uri: str, table: pa.Table, footer: Mapping[str, object]
) -> Manifest:
    """Write a manifest; the same table and footer give the same bytes.

    Args:
        store: where to write.
        uri: the file.
        table: as `manifest_table` makes it.
        footer: JSON-serialisable facts: config, seed, round, fingerprints of input and encoder,
            code version. `schema_version`, `num_rows` and `selection_fingerprint` are added.

    Raises:
        DataError: repeated tile ids.
        ValueError: other leading columns than `MANIFEST_SCHEMA`.
        StorageError: the store refuses or fails.
    """
    leading = table.schema.remove_metadata()
    if pa.schema(list(leading)[: len(MANIFEST_SCHEMA)]) != MANIFEST_SCHEMA:
        raise ValueError(
            f"The table must start with the manifest's columns {MANIFEST_SCHEMA.names}; got "
            f"{table.column_names}. Make it with manifest_table."
        )
    if pc.count_distinct(table["tile_id"]).as_py() != table.num_rows:
        raise DataError("A manifest must name each tile once; the table repeats a tile_id.")
    fingerprint = _fingerprint(table)
    facts = {
        **footer,
        "schema_version": SCHEMA_VERSION,
        "num_rows": table.num_rows,
        "selection_fingerprint": fingerprint,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    record = write_table(store, uri, table, {FOOTER_KEY.decode(): text})
    return Manifest(uri, record.num_rows, SCHEMA_VERSION, fingerprint, record.sha256)


def read_manifest(
    store: Store, uri: str, *, sha256: str | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Read a manifest and its footer.

    Raises:
        DataError: missing, damaged, or not a manifest of a known version.
        StorageError: the store refuses or fails.
    """
    table = read_table(store, uri, sha256=sha256)
    text = (table.schema.metadata or {}).get(FOOTER_KEY)
    facts = json.loads(text) if text else {}
    version = facts.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{uri} must be a manifest of schema version {SCHEMA_VERSION}; got {version}. Give a "
            f"manifest written by this version of balancer."
        )
    check_columns(table.column_names, MANIFEST_COLUMNS, uri)
    return table, facts


def _as(values: Any, field: pa.Field) -> pa.Array:  # noqa: ANN401 - whatever pyarrow can convert
    if isinstance(values, pa.ChunkedArray):
        return values.cast(field.type).combine_chunks()
    return pa.array(values, field.type)


def _fingerprint(table: pa.Table) -> str:
    """Digest what was selected: ids in rank order, clusters and weights."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update("\x1f".join(table["tile_id"].to_pylist()).encode())
    digest.update(table["cluster"].to_numpy().tobytes())
    digest.update(table["weight"].to_numpy().tobytes())
    return digest.hexdigest()
