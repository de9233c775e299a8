"""Where what a manifest is checked against lies: its run, its embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from balancer.errors import ConfigError, DataError, StorageError
from balancer.storage.embedding_identity import read_encoder_fingerprint
from balancer.storage.embedding_shards import read_embeddings, read_vectors
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record
from balancer.types import EmbeddingShard, FloatArray, IdArray
from balancer.verification.geometry import normalize_rows

_LEVELS = 4
"""Folders above a manifest that may be its run: <run>/round-000/publish/manifest.*.parquet."""


@dataclass(frozen=True, slots=True)
class Run:
    """The run that a manifest lies in, and the commit of the manifest's round (None: not yet)."""

    ledger: Ledger
    round_name: str
    commit: Record | None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors to check against, read block by block as often as needed.

    Attributes:
        store: opens them.
        origin: how to name them in messages.
        shards: embedding shards of a run, or none.
        uris: otherwise `.npy` or Parquet files.
        id_column: of Parquet files.
        vector_column: of Parquet files.
        normalize: whether the selection saw the rows L2-normalised.
        excluded: ids of rows that it did not see, whatever they hold.
        named_by_footer: whether these files are those that the manifest's footer names.
    """

    store: Store
    origin: str
    shards: tuple[EmbeddingShard, ...] = ()
    uris: tuple[str, ...] = ()
    id_column: str = "tile_id"
    vector_column: str = "embedding"
    normalize: bool = False
    excluded: IdArray = field(default_factory=lambda: np.empty(0, np.str_))
    named_by_footer: bool = False

    def raw_blocks(self) -> Iterator[tuple[IdArray, FloatArray]]:
        """Yield ids and vectors as stored, one shard or file at a time, none of them empty.

        Raises:
            DataError: missing, damaged, of several lengths, or numbers that are not finite.
            StorageError: the store refuses or fails.
        """
        dim: int | None = None
        for uri, (ids, vectors) in self._read():
            if not len(ids):
                continue
            dim = dim or vectors.shape[1]
            if vectors.shape[1] != dim:
                raise DataError(
                    f"Vectors must have one length; got {dim} and, in {uri}, {vectors.shape[1]}. "
                    f"Give the embeddings of one encoder."
                )
            bad = ~np.isfinite(vectors).all(axis=1)
            if self.normalize:
                bad |= ~vectors.any(axis=1)
            bad &= ~np.isin(ids, self.excluded)
            if bad.any():
                raise DataError(
                    f"Embeddings must be finite, and not all zero where they are L2-normalised; "
                    f"tile {ids[bad][0]} in {uri} is not. Give the embeddings that were selected "
                    f"from."
                )
            yield ids, vectors

    def blocks(self) -> Iterator[tuple[IdArray, FloatArray]]:
        """Yield ids and vectors as the selection saw them, without what it did not see.

        Raises what `raw_blocks` raises.
        """
        for ids, vectors in self.raw_blocks():
            seen = ~np.isin(ids, self.excluded)
            if seen.any():
                kept = vectors[seen]
                yield ids[seen], normalize_rows(kept) if self.normalize else kept

    def encoders(self) -> set[str]:
        """Return the fingerprints of the encoders that the shards or files name."""
        named = {shard.encoder_fingerprint for shard in self.shards}
        for uri in self.uris:
            if not uri.lower().endswith(".npy"):
                found = read_encoder_fingerprint(self.store, uri)
                named |= {found} if found is not None else set()
        return named

    def _read(self) -> Iterator[tuple[str, tuple[IdArray, FloatArray]]]:
        for shard in self.shards:
            yield shard.uri, read_embeddings(self.store, shard)
        for uri in self.uris:
            yield uri, read_vectors(self.store, uri, self.id_column, self.vector_column)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns of Parquet embeddings; None: as the footer says, or the usual ones."""

    tile_id: str | None = None
    vector: str | None = None


def find_run(store: Store, manifest_uri: str, facts: Mapping[str, Any]) -> Run | None:
    """Return the run whose folder the manifest lies in; None if it lies in none.

    Raises:
        DataError: a damaged record.
        StorageError: the store refuses or fails.
    """
    folder = store.absolute(manifest_uri)
    for _ in range(_LEVELS):
        folder = folder.rpartition("/")[0]
        if not folder or folder in ("s3:", "s3:/"):
            return None
        if store.exists(store.join(folder, "spec.json")):
            ledger = Ledger(store, folder)
            index = facts.get("round")
            name = f"round-{index:03d}" if isinstance(index, int) else "round-000"
            return Run(ledger, name, ledger.read_commit(name))
    return None


def find_embeddings(
    store: Store,
    given: str | Sequence[EmbeddingShard] | None,
    run: Run | None,
    facts: Mapping[str, Any],
    columns: Columns,
) -> Embeddings | None:
    """Return the embeddings given, else those of the run, else those the footer names.

    None if nothing names any.

    Raises:
        DataError: embeddings were given or are named, and there are none.
        StorageError: the store refuses or fails.
    """
    config = facts.get("config") or {}
    section = config.get("embedding") or config
    normalize = bool(section.get("normalize", False))
    names = (
        columns.tile_id or facts.get("id_column") or "tile_id",
        columns.vector or facts.get("vector_column") or "embedding",
    )
    if given is not None and not isinstance(given, str):
        return Embeddings(store, "the shards given", tuple(given), normalize=normalize)
    uri = given
    if uri is None and run is not None:
        return _of_run(store, run, normalize=normalize)
    if uri is None:
        uri = facts.get("embeddings")
        if uri is None:
            return None
        _require(store, uri, "the footer")
    stated = facts.get("embeddings")
    files = [f.uri for f in store.list_files(uri)]
    wanted = tuple(f for f in files if f.lower().endswith((".npy", ".parquet", ".pq")))
    if not wanted:
        raise DataError(
            f"{uri} must be a .npy file, or a Parquet file or folder; found none of these. Check "
            f"the path."
        )
    named = uri == stated or (stated is not None and _same(store, uri, stated))
    return Embeddings(store, uri, (), wanted, *names, normalize=normalize, named_by_footer=named)


def _same(store: Store, uri: str, stated: str) -> bool:
    try:
        return store.absolute(uri) == store.absolute(stated)
    except ConfigError:  # a footer may name anything
        return False


def _of_run(store: Store, run: Run, *, normalize: bool) -> Embeddings | None:
    if run.commit is None:
        return None
    encoder = run.commit["encoder"]["fingerprint"]
    shards = tuple(
        EmbeddingShard(
            entry["shard_id"],
            run.ledger.absolute(entry["path"]),
            entry["rows"],
            entry["dim"],
            encoder,
            entry["sha256"],
        )
        # Without near-duplicates the picks are from fewer rows than were embedded.
        for entry in (run.commit.get("selected_from") or run.commit["embeddings"])
    )
    for shard in shards:
        _require(store, shard.uri, f"the run's {run.round_name}")
    return Embeddings(store, f"the run's {run.round_name}", shards, normalize=normalize)


def _require(store: Store, uri: str, origin: str) -> None:
    """Refuse to go on without embeddings that the manifest or its run names."""
    why = "there is nothing there"
    try:
        found = store.exists(uri)
    except (ConfigError, StorageError, ValueError) as error:
        found, why = False, str(error)
    if not found:
        raise DataError(
            f"The embeddings that {origin} names must be found; got {uri!r}: {why}. Give them with "
            f"--embeddings."
        )
