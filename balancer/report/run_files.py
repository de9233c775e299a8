"""Read a run directory's records and tables: what `collect` makes the report from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record
from balancer.storage.manifests import read_manifest
from balancer.storage.tables import read_artefact, read_table
from balancer.types import FloatArray, IdArray, IntArray

PLACE = ("tile_id", "uri", "member", "offset", "num_bytes", "codec", "sha256", "width", "height")
LON_NAMES = ("lon", "longitude")
LAT_NAMES = ("lat", "latitude")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The records of a run, and readers for the tables that they name.

    Attributes:
        ledger: of the run.
        spec: contents of `spec.json`.
        catalog: the catalog's commit.
        rounds: commits of the finished rounds, in order.
        final: the commit of the whole run, once it has ended.
    """

    ledger: Ledger
    spec: Record
    catalog: Record
    rounds: tuple[Record, ...]
    final: Record | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The frozen part of the configuration."""
        inner = self.spec.get("spec", self.spec)
        return dict(inner.get("config", inner))

    def read_catalog(self, extra: Sequence[str]) -> pa.Table:
        """Return the places of all tiles, with those of the `extra` columns that there are.

        Cost: one read per shard; about 200 bytes of memory per tile.
        """
        parts = []
        for shard in self.catalog["shards"]:
            table = self._read(shard, "path")
            names = [name for name in (*PLACE, *extra) if name in table.column_names]
            parts.append(table.select(names))
        return pa.concat_tables(parts, promote_options="permissive").combine_chunks()

    def read_quarantine(self, limit: int) -> list[dict[str, Any]]:
        """Return the first rows of the quarantine tables, and no more than `limit`."""
        rows: list[dict[str, Any]] = []
        for record in self.catalog.get("quarantine", ()):
            if len(rows) >= limit:
                break
            if record["rows"] == 0:
                continue
            rows += self._read(record, "path").slice(0, limit - len(rows)).to_pylist()
        return rows

    def read_manifest(self, commit: Record) -> pa.Table:
        """Return the manifest of a round."""
        uri, digest = self._artefact(commit["manifest"], "path")
        return read_manifest(self.ledger.store, uri, sha256=digest)[0]

    def read_certificate(self, commit: Record) -> Mapping[str, Any] | None:
        """Return the certificate in the footer of a round's manifest, if it has one."""
        uri, digest = self._artefact(commit["manifest"], "path")
        found: Mapping[str, Any] | None = read_manifest(self.ledger.store, uri, sha256=digest)[
            1
        ].get("certificate")
        return found

    def read_assignments(self, commit: Record) -> tuple[IdArray, IntArray]:
        """Return the tile ids of all shards, and the cluster of each."""
        tables = [self._read(record, "path") for record in commit["assignments"]]
        if not tables:
            return np.zeros(0, dtype=np.str_), np.zeros(0, dtype=np.int64)
        joined = pa.concat_tables([table.select(["tile_id", "cluster"]) for table in tables])
        clusters = joined["cluster"].to_numpy().astype(np.int64)
        return np.array(joined["tile_id"].to_pylist(), dtype=np.str_), clusters

    def read_embeddings(self, commit: Record, wanted: IdArray) -> tuple[IdArray, FloatArray]:
        """Return the embeddings of the wanted tiles, in shard order.

        Cost: every embedding shard is read once, one at a time.
        """
        ids: list[IdArray] = []
        vectors: list[FloatArray] = []
        for record in commit["embeddings"]:
            table = self._read(record, "path", columns=["tile_id", "embedding"])
            names = np.array(table["tile_id"].to_pylist(), dtype=np.str_)
            rows = np.flatnonzero(np.isin(names, wanted))
            if len(rows):
                column = table["embedding"].take(pa.array(rows)).combine_chunks()
                ids.append(names[rows])
                vectors.append(column.flatten().to_numpy().reshape(len(rows), -1))
        if not ids:
            return np.zeros(0, dtype=np.str_), np.zeros((0, 0), dtype=np.float32)
        return np.concatenate(ids), np.concatenate(vectors)

    def _read(
        self, record: Mapping[str, Any] | str, key: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        uri, digest = self._artefact(record, key)
        return read_table(self.ledger.store, uri, sha256=digest, columns=columns)

    def _artefact(self, record: Mapping[str, Any] | str, key: str) -> tuple[str, str | None]:
        if isinstance(record, str):
            return self.ledger.absolute(record), None
        return self.ledger.absolute(record[key]), record.get("sha256")


def open_run_files(store: Store, run_uri: str) -> RunFiles:
    """Read the records of a run.

    Raises:
        DataError: no run there, or one that has not cataloged its archive yet.
        StorageError: the store refuses or fails.
    """
    ledger = Ledger(store, run_uri)
    if not store.exists(ledger.absolute("spec.json")):
        raise DataError(
            f"A run directory must hold spec.json; {run_uri} does not. Give the --out of a run."
        )
    spec = json.loads(read_artefact(store, ledger.absolute("spec.json")))
    catalog = ledger.read_commit("catalog")
    if catalog is None:
        raise DataError(
            f"The run {run_uri} must have cataloged its archive before it can be reported; it has "
            f"not yet. Start `balancer run` again to go on with it."
        )
    rounds: list[Record] = []
    while (commit := ledger.read_commit(f"round-{len(rounds):03d}")) is not None:
        rounds.append(commit)
    return RunFiles(ledger, spec, catalog, tuple(rounds), ledger.read_commit("final"))


def first_present(names: Iterable[str], present: Sequence[str]) -> str | None:
    """Return the first of several column names that a table has."""
    return next((name for name in names if name in present), None)
