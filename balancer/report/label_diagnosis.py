"""Diagnose a table of labels that a user has, and write the report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from balancer.distances import require_finite
from balancer.errors import ConfigError, DataError
from balancer.imbalance.diagnosis import Diagnosis, diagnose
from balancer.imbalance.labels import LabelTable
from balancer.imbalance.low_frequency import LowFrequencyRule
from balancer.report.imbalance_page import render_imbalance_page
from balancer.report.imbalance_text import diagnosis_json
from balancer.selection.pool import rows_of
from balancer.storage.embedding_shards import read_vectors
from balancer.storage.filesystem import Store
from balancer.storage.label_tables import TableLayout, labels_of_column, read_labels
from balancer.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class DiagnosisRequest:
    """What to diagnose.

    Attributes:
        uri: a table, or an archive with one folder per class.
        labels_column: see `balancer.storage.label_tables.TableLayout`, as the next two.
        id_column: likewise.
        separator: likewise.
        features: embeddings of the tiles: a `.npy` matrix in the order of the table, or Parquet.
        predictions_column: column with predicted labels, in the form of the labels.
        groups: metadata columns to count by.
        rule: which classes are low-frequency.
    """

    uri: str
    labels_column: str | None = None
    id_column: str | None = None
    separator: str | None = None
    features: str | None = None
    predictions_column: str | None = None
    groups: tuple[str, ...] = field(default=())
    rule: str = "percentile_25"


def diagnose_table(request: DiagnosisRequest, store: Store) -> Diagnosis:
    """Read what the request names, and diagnose it.

    Raises:
        ConfigError: an unknown rule or column.
        DataError: a table or embeddings that cannot be read, or that do not belong together.
        StorageError: the store refuses or fails.
    """
    rules: dict[str, LowFrequencyRule] = {name: name for name in get_args(LowFrequencyRule)}
    if request.rule not in rules:
        raise ConfigError(f"--rule must be one of {', '.join(rules)}; got {request.rule}.")
    layout = TableLayout(request.labels_column, request.id_column, request.separator)
    labels = read_labels(store, request.uri, layout)
    predicted = None if request.predictions_column is None else _predicted(labels, request)
    features = None if request.features is None else _features(labels, request.features, store)
    for name in request.groups:
        _require_column(labels, name, "--group")
    return diagnose(
        labels,
        features=features,
        predicted=predicted,
        groups=request.groups,
        rule=rules[request.rule],
    )


def write_diagnosis(store: Store, found: Diagnosis, uri: str, *, source: str) -> None:
    """Write the report: JSON where the name ends in `.json`, else an HTML page.

    Raises:
        StorageError: the store refuses or fails.
    """
    if uri.lower().endswith(".json"):
        text = json.dumps(diagnosis_json(found), indent=1, allow_nan=False) + "\n"
    else:
        text = render_imbalance_page(found, source)
    store.write_bytes(uri, text.encode())


def _predicted(labels: LabelTable, request: DiagnosisRequest) -> BoolArray:
    column = request.predictions_column or ""
    _require_column(labels, column, "--predictions-column")
    separator = request.separator
    if separator is None and not labels.is_single_label:
        separator = " "
    place = {name: number for number, name in enumerate(labels.classes)}
    matrix = np.zeros(labels.matrix.shape, np.bool_)
    for row, value in enumerate(labels.columns[column].tolist()):
        for name in labels_of_column(value, separator):
            if name not in place:
                raise DataError(
                    f"Column {column!r} of {request.uri} must hold predictions of the classes "
                    f"there are; {labels.ids[row]!s} has {name!r}. Correct it, or drop the row."
                )
            matrix[row, place[name]] = True
    return matrix


def _features(labels: LabelTable, uri: str, store: Store) -> FloatArray:
    ids, vectors = read_vectors(store, uri)
    if uri.lower().endswith(".npy"):
        if len(vectors) != len(labels):
            raise DataError(
                f"{uri} must have one row for each of the {len(labels)} tiles of the table, in its "
                f"order; it has {len(vectors)}. Write it again, or give Parquet with ids."
            )
    else:
        missing = labels.ids[~np.isin(labels.ids, ids)]
        if len(missing):
            raise DataError(
                f"{uri} must have the embedding of every tile of the table; {len(missing)} of "
                f"{len(labels)} are not there, the first is {str(missing[0])!r} (its own first id "
                f"is {str(ids[0])!r}). Use the same ids in both."
            )
        vectors = vectors[rows_of(ids, labels.ids)]
    try:
        require_finite(vectors, labels.ids, nonzero=False)
    except ValueError as error:
        raise DataError(f"{uri}: {error}") from error
    return vectors


def _require_column(labels: LabelTable, name: str, option: str) -> None:
    if name not in labels.columns:
        raise ConfigError(
            f"{option} must name a metadata column of the table; got {name!r}, and there are: "
            f"{', '.join(labels.columns) or 'none'}. Name one of them."
        )
