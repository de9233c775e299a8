"""Manifests of real selections, and changes of their columns that their digest does not give away.

Made by `select_embeddings`, as a user would.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.verification import Status, VerificationReport, verify_manifest
from balancer.verification.manifest_checks import selection_digest
from tests.data.certified import made_embeddings, rewrite


def made(folder: Path, **selection: object) -> Path:
    """Select 30 of 300 rows, or as the fields say; return the manifest."""
    np.save(folder / "rows.npy", made_embeddings()[1])
    out = folder / "manifest.parquet"
    chosen = {"budget": 30} | selection
    select_embeddings(EmbeddingsRequest(str(folder / "rows.npy"), str(out), chosen))
    return out


def verify(path: Path) -> VerificationReport:
    """Verify with the embeddings that the footer names."""
    return verify_manifest(Store(), str(path))


def outcomes(report: VerificationReport) -> dict[str, tuple[Status, str]]:
    """Return status and message by check."""
    return {check.name: (check.status, check.message) for check in report.checks}


def set_columns(path: Path, **changes: Callable[[list[Any]], list[Any]]) -> None:
    """Change columns, given as lists, and let the digest agree."""
    table = read_table(Store(), str(path))
    for name, change in changes.items():
        place = table.column_names.index(name)
        values = pa.array(change(table[name].to_pylist()), table.schema.field(name).type)
        table = table.set_column(place, table.schema.field(name), values)
    digest = selection_digest(table)
    rewrite(path, lambda facts: facts.update(selection_fingerprint=digest), lambda _: table)
