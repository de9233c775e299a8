"""Labels that users keep in CSV or Parquet tables, or as the folders that their tiles lie in."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.config import ArchiveConfig
from balancer.errors import DataError
from balancer.imbalance.labels import LabelTable, label_table
from balancer.imbalance.measures import class_name
from balancer.storage.filesystem import Store
from balancer.storage.sources import discover
from balancer.storage.tables import check_columns, read_artefact, read_table

LABEL_COLUMNS = ("tags", "labels", "label", "class", "cls")
ID_COLUMNS = ("image_name", "tile_id", "id", "image", "filename")
"""Names that are looked for, in this order, where no column is named."""
MANY_LABELS = frozenset({"tags", "labels"})
"""Columns whose text holds several labels with spaces between them, as Planet's file has."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Where a table has its labels.

    Attributes:
        labels_column: name of the column; one of `LABEL_COLUMNS` when None.
        id_column: likewise; one of `ID_COLUMNS` when None.
        separator: between the labels of one tile, when one column holds several; None takes spaces
            for columns named in `MANY_LABELS` and the whole text as one label elsewhere.
    """

    labels_column: str | None = None
    id_column: str | None = None
    separator: str | None = None


def read_labels(store: Store, uri: str, layout: TableLayout | None = None) -> LabelTable:
    """Read labels from a table, or from the folders of an archive.

    A `.csv` has a header; Planet's `image_name,tags` is one. `.parquet` or `.pq` may also hold a
    list of labels per tile. Anything else is a folder or zip of images whose label is the folder
    that each lies in. A tile without a label (empty, null) has none of the classes.

    Args:
        store: where to read.
        uri: the table, or the archive.
        layout: the names of its columns, where they are not among the known ones.

    Returns:
        The table with its other columns as metadata: text from CSV (None where empty), values from
        Parquet.

    Raises:
        DataError: no such file or column, an id missing or repeated, no label at all.
        StorageError: the store refuses or fails.
    """
    found = layout or TableLayout()
    name = uri.lower()
    if name.endswith((".parquet", ".pq")):
        return _from_records(_arrow_columns(read_table(store, uri)), uri, found)
    if name.endswith(".csv"):
        return _from_records(_csv_columns(store, uri), uri, found)
    return _from_folders(store, uri, found)


def _csv_columns(store: Store, uri: str) -> dict[str, list[Any]]:
    try:
        text = read_artefact(store, uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{uri} must be UTF-8 text; got {error}. Save it as UTF-8.") from error
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    if len(set(header)) != len(header):
        raise DataError(f"{uri} must name each column once; got {', '.join(header)}.")
    columns: dict[str, list[Any]] = {name: [] for name in header}
    for values in lines:
        if not values:
            continue
        if len(values) != len(header):
            raise DataError(
                f"{uri} must have {len(header)} values in every line; line {lines.line_num} has "
                f"{len(values)}. Put quotes around values with commas."
            )
        for name, value in zip(header, values, strict=True):
            columns[name].append(value or None)
    return columns


def _arrow_columns(table: pa.Table) -> dict[str, list[Any]]:
    return {name: table[name].to_pylist() for name in table.column_names}


def _from_records(columns: dict[str, list[Any]], uri: str, layout: TableLayout) -> LabelTable:
    names = list(columns)
    id_name = _column(names, layout.id_column, ID_COLUMNS, uri, "--id-column")
    label_name = _column(names, layout.labels_column, LABEL_COLUMNS, uri, "--labels-column")
    ids = [class_name(value) for value in columns[id_name]]
    if not all(ids):
        row = next(number for number, value in enumerate(ids) if not value)
        raise DataError(
            f"{uri} must have an id in every row of the column {id_name!r}; row {row} has none. "
            f"Remove it."
        )
    separator = layout.separator
    if separator is None and label_name in MANY_LABELS:
        separator = " "
    labels = [labels_of_column(value, separator) for value in columns[label_name]]
    rest = {
        name: np.array(values, dtype=object)
        for name, values in columns.items()
        if name not in (id_name, label_name) and not any(isinstance(v, list) for v in values)
    }
    return _checked([str(tile) for tile in ids], labels, rest, uri)


def _from_folders(store: Store, uri: str, layout: TableLayout) -> LabelTable:
    if layout != TableLayout():
        raise DataError(
            f"{uri} must be a .csv or .parquet table to have named columns; it is read as an "
            f"archive of images in folders. Leave the options out, or give a table."
        )
    shards = discover(store, ArchiveConfig(uri=uri))
    names = [tile.name for shard in shards for tile, _ in shard.members()]
    if not names:
        raise DataError(
            f"{uri} must be a table of labels, or a folder or zip of images in one folder per "
            f"class; it holds {shards[0].format} shards. Write their labels as a table."
        )
    folders = [PurePosixPath(name).parent.name for name in names]
    return _checked(names, [[folder] if folder else [] for folder in folders], {}, uri)


def _column(
    present: Sequence[str], wanted: str | None, known: Sequence[str], uri: str, option: str
) -> str:
    if wanted is not None:
        check_columns(present, [wanted], uri)
        return wanted
    for name in known:
        if name in present:
            return name
    raise DataError(
        f"{uri} must have one of the columns {', '.join(known)}, or the one that {option} names; "
        f"it has {', '.join(present) or 'none'}. Name the column."
    )


def labels_of_column(value: object, separator: str | None) -> list[str]:
    """Return the labels that a cell holds: a list, or text with a separator between labels.

    >>> labels_of_column("clear  primary", " "), labels_of_column("bare soil", None)
    (['clear', 'primary'], ['bare soil'])
    >>> labels_of_column(["sea", None], None), labels_of_column(None, " ")
    (['sea'], [])
    """
    if isinstance(value, list):
        return [name for item in value if (name := class_name(item))]
    name = class_name(value)
    if not name:
        return []
    if separator is None:
        return [name]
    parts = name.split() if separator == " " else [part.strip() for part in name.split(separator)]
    return [part for part in parts if part]


def _checked(
    ids: list[str], labels: list[list[str]], columns: dict[str, Any], uri: str
) -> LabelTable:
    if not any(labels):
        raise DataError(
            f"{uri} must give some tile a label; none of its {len(ids)} rows has one. Check the "
            f"columns."
        )
    try:
        return label_table(ids, labels, columns=columns)
    except ValueError as error:
        raise DataError(f"{uri}: {error}") from error
