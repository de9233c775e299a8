"""Metadata of tiles as Arrow columns: label, sidecar JSON, columns of a Parquet archive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from balancer.errors import DataError

CATALOG_COLUMNS = (
    "tile_id", "uri", "member", "offset", "num_bytes", "codec", "sha256", "width", "height", "mode",
)  # fmt: skip
MANIFEST_COLUMNS = (
    "tile_id", "uri", "member", "offset", "num_bytes", "sha256", "shard", "rank", "cluster",
    "distance", "weight", "reason", "round",
)  # fmt: skip
NEAR_COLUMN = "num_near_duplicates"
"""Of a manifest made without near-duplicates: how many of them each row stands for."""
REPEATS = "repeats"
"""Column of a manifest whose tiles may be shown more than once."""
RESERVED_COLUMNS = frozenset((*CATALOG_COLUMNS, *MANIFEST_COLUMNS, NEAR_COLUMN, REPEATS))


def parse_sidecar(data: bytes, where: str) -> dict[str, Any]:
    """Read a sidecar: a JSON object. Lists and objects inside it are kept as JSON text.

    Args:
        data: the file.
        where: how to name it in messages.

    Raises:
        DataError: not a JSON object.

    >>> parse_sidecar(b'{"lon": 1.5, "bands": [1, 2]}', "a.json")
    {'lon': 1.5, 'bands': '[1, 2]'}
    """
    try:
        values = json.loads(data)
    except ValueError as error:
        raise DataError(
            f"A sidecar must be a JSON object; {where} is not JSON ({error}). Correct or remove it."
        ) from error
    if not isinstance(values, dict):
        raise DataError(
            f"A sidecar must be a JSON object of values; {where} holds a {type(values).__name__}. "
            f"Write it as {{...}}, or remove it."
        )
    return {
        key: json.dumps(value) if isinstance(value, (list, dict)) else value
        for key, value in values.items()
    }


def metadata_columns(
    records: Sequence[Mapping[str, Any]], tile_ids: Sequence[str]
) -> dict[str, pa.Array]:
    """Turn one record per tile into columns; a tile without a value gets null.

    Args:
        records: (N,) values by name.
        tile_ids: (N,) for messages.

    Returns:
        One array of N values per name, in order of first appearance.

    Raises:
        DataError: a reserved name, or values of different types in one column.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    check_names(names, tile_ids[0] if tile_ids else "")
    return {name: _column(name, records, tile_ids) for name in names}


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse metadata under a name that the catalog or the manifest uses.

    Raises:
        DataError: naming the column.
    """
    taken = [name for name in names if name in RESERVED_COLUMNS]
    if taken:
        raise DataError(
            f"Metadata columns must not be named {taken[0]!r}, which balancer uses itself; got "
            f"{', '.join(map(repr, taken))} with {where}. Rename in the archive."
        )


def unify_schemas(schemas: Sequence[pa.Schema], names: Sequence[str]) -> pa.Schema:
    """Merge the schemas of shards: a column missing in some is null there; int widens to float.

    Args:
        schemas: one per shard.
        names: one per shard, for messages.

    Raises:
        DataError: a column with types that do not go together, naming it and two shards.
    """
    try:
        return pa.unify_schemas(
            [s.remove_metadata() for s in schemas], promote_options="permissive"
        )
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        seen: dict[str, tuple[pa.DataType, str]] = {}
        for schema, shard in zip(schemas, names, strict=True):
            for column in schema:
                kind, first = seen.setdefault(column.name, (column.type, shard))
                if not _go_together(kind, column.type):
                    raise DataError(
                        f"Column {column.name!r} must have one type in all shards; got {kind} in "
                        f"{first} and {column.type} in {shard}. Write it with one type."
                    ) from None
                if pa.types.is_null(kind):
                    seen[column.name] = (column.type, shard)
        raise


def _go_together(left: pa.DataType, right: pa.DataType) -> bool:
    fields = [pa.schema([pa.field("x", kind)]) for kind in (left, right)]
    try:
        pa.unify_schemas(fields, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True


def _column(name: str, records: Sequence[Mapping[str, Any]], tile_ids: Sequence[str]) -> pa.Array:
    values = [record.get(name) for record in records]
    kinds: dict[type, int] = {}
    for index, value in enumerate(values):
        if value is not None:
            kinds.setdefault(type(value), index)
    if set(kinds) == {int, float}:
        values = [None if value is None else float(value) for value in values]
    elif len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise DataError(
            f"Metadata column {name!r} must hold one type; got {one.__name__} at tile "
            f"{tile_ids[first]!r} and {other.__name__} at {tile_ids[second]!r}. Write one type."
        )
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise DataError(
            f"Metadata column {name!r} must hold 64-bit numbers, text or booleans; got {error}. "
            f"Write larger numbers as text."
        ) from error
