"""Certificates beside manifests: the footer's JSON, and the rows of a packing as a small table.

The footer of a certified manifest has the key `certificate`, the JSON of
`balancer.selection.certificate.Certificate`. Where the packing that proves its lower bound is not
made of the picks, the ids of its rows lie in a Parquet file in the manifest's folder, which the
footer names with its sha256:

    "packing": {"radius": .., "num_points": .., "witness": "table", "farthest_tile_id": null,
                "file": {"name": "packing-<digest of the ids>.parquet", "sha256": .., "rows": ..}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table, write_table
from balancer.types import IdArray

CERTIFICATE_KEY = "certificate"
INCLUDED_KEY = "included"
EXCLUDED_KEY = "excluded"


@dataclass(frozen=True, slots=True)
class PackingFile:
    """The table of a packing: its name in the manifest's folder, digest and number of rows."""

    name: str
    sha256: str
    rows: int


def write_packing(
    store: Store, folder_uri: str, tile_ids: IdArray, *, kind: str = "packing"
) -> PackingFile:
    """Write the rows of a packing: one column, `tile_id`, in the order they were picked.

    The ids that a selection excludes are kept in the same way, with the kind `excluded`.

    The name comes from the ids, so the same packing has the same name and bytes, and so has the
    manifest that names it.

    Raises:
        StorageError: the store refuses or fails.
    """
    names = np.asarray(tile_ids, dtype=np.str_).tolist()
    digest = hashlib.blake2b("\x1f".join(names).encode(), digest_size=8).hexdigest()
    name = f"{kind}-{digest}.parquet"
    table = pa.table({"tile_id": pa.array(names, pa.string())})
    record = write_table(store, store.join(folder_uri, name), table)
    return PackingFile(name, record.sha256, record.num_rows)


def read_packing(store: Store, uri: str, *, sha256: str, rows: int) -> IdArray:
    """Read the rows of a packing.

    Args:
        store: where to read.
        uri: the table.
        sha256: as the footer says.
        rows: as the footer says.

    Raises:
        DataError: missing, damaged, or not what the footer says.
        StorageError: the store refuses or fails.
    """
    table = read_table(store, uri, sha256=sha256, columns=["tile_id"])
    if table.num_rows != rows:
        raise DataError(
            f"{uri} must have {rows} rows; it has {table.num_rows}. Select again to have it made."
        )
    return np.array(table["tile_id"].to_pylist(), dtype=np.str_)


def certificate_footer(
    certificate: Mapping[str, Any], packing: PackingFile | None = None
) -> dict[str, Any]:
    """Return what a manifest's footer says of its certificate.

    Args:
        certificate: from `Certificate.to_json`.
        packing: from `write_packing`; needed if, and only if, the packing's witness is a table.

    Raises:
        ValueError: a table without a file, or the reverse, or with another number of rows.
    """
    facts = dict(certificate["packing"])
    wanted = facts["num_points"] if facts["witness"] == "table" else None
    if wanted != (packing.rows if packing else None):
        raise ValueError(
            f"A packing file must be given if, and only if, the certificate's witness is a table, "
            f"with all its rows; got {packing} for {facts}."
        )
    if packing is not None:
        facts["file"] = asdict(packing)
    return {CERTIFICATE_KEY: {**certificate, "packing": facts}}


def included_facts(tile_ids: IdArray) -> dict[str, Any]:
    """Return the footer's facts about the tiles that had to be picked, in their order.

    >>> included_facts(np.array(["a", "b"]))["included"]["rows"]
    2
    """
    digest = hashlib.sha256("\0".join(tile_ids.tolist()).encode()).hexdigest()
    return {INCLUDED_KEY: {"rows": len(tile_ids), "sha256": digest}}


def write_excluded(store: Store, manifest_uri: str, exclude: IdArray) -> dict[str, Any]:
    """Write the excluded ids beside the manifest-to-be; return the footer's facts.

    So that a manifest can be checked against the rows it was picked from, without the list that the
    configuration named. The footer's key `excluded` names the table as `certificate` its packing.

    Raises:
        StorageError: the store refuses or fails.
    """
    if len(exclude) == 0:
        return {}
    folder = store.absolute(manifest_uri).rpartition("/")[0]
    return {EXCLUDED_KEY: asdict(write_packing(store, folder, exclude, kind="excluded"))}


def write_certificate(
    store: Store,
    manifest_uri: str,
    certificate: Mapping[str, Any] | None,
    packing_ids: IdArray | None = None,
) -> dict[str, Any]:
    """Write the packing of a certificate beside the manifest-to-be; return the footer's facts.

    Args:
        store: where to write.
        manifest_uri: where the manifest will lie.
        certificate: from `Certificate.to_json`; without one there is nothing to write or say.
        packing_ids: rows of the packing, where its witness is a table.

    Raises:
        ValueError: as `certificate_footer`.
        StorageError: the store refuses or fails.
    """
    if certificate is None:
        return {}
    if certificate["packing"]["witness"] != "table":
        return certificate_footer(certificate)
    if packing_ids is None:
        return certificate_footer(certificate, None)
    folder = store.absolute(manifest_uri).rpartition("/")[0]
    return certificate_footer(certificate, write_packing(store, folder, packing_ids))
