"""The values that pass between stages: frozen, small, numpy only.

References (`ShardRef`, `EncoderRef`, `EmbeddingShard`, `Manifest`) cross process borders; arrays
stay inside one process, except the small ones of `Clustering`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
UInt64Array = NDArray[np.uint64]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
IdArray = NDArray[np.str_]
"""Tile ids as a fixed-width unicode array; numpy compares them by code point."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Where the bytes of one tile lie.

    Attributes:
        tile_id: stable across rounds and re-sharding, unique in a catalog.
        uri: the object that holds the bytes (an image file, a tar, a zip, a Parquet file).
        member: the name inside a container; empty for a plain file.
        offset: first byte of the (possibly deflated) payload, or the row number in a Parquet file.
        num_bytes: stored length in bytes.
        codec: `raw`, `deflate`, or `parquet`.
    """

    tile_id: str
    uri: str
    member: str
    offset: int
    num_bytes: int
    codec: str


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A cataloged shard: under 1 kB, what stages pass around.

    Attributes:
        shard_id: digest of the source's uri, etag and range; 16 hex characters.
        source_uri: the container, or the folder, that the tiles lie in.
        catalog_uri: the Parquet file with one row per readable tile of this shard.
        etag: version of the source as its file system reports it.
        sha256: of the catalog file.
        num_tiles: readable tiles.
        num_bytes: bytes of those tiles.
    """

    shard_id: str
    source_uri: str
    catalog_uri: str
    etag: str
    sha256: str
    num_tiles: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class EncoderRef:
    """A stored encoder. `fingerprint` digests its configuration, training tiles, seed and round."""

    uri: str
    kind: str
    dim: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class EmbeddingShard:
    """Embeddings of one shard; row order is the tile order of the source shard.

    Tiles that could not be embedded are left out and stand in the quarantine table.
    """

    shard_id: str
    uri: str
    num_rows: int
    dim: int
    encoder_fingerprint: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of one shard inside one process: what a local step works on.

    Attributes:
        ids: (N,) tile ids.
        points: (N, D) float32.
        columns: (N,) values of each metadata column that was asked for, by name; None (or NaN in
            a column of numbers) where a tile has no value.
        name: id of the shard; empty for plain arrays.
        device: where the process assigns rows to centroids; no result depends on it.
    """

    ids: IdArray
    points: FloatArray
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    name: str = ""
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Clustering:
    """K-means result.

    Attributes:
        centroids: (K, D) float32.
        sizes: (K,) int64, summing to the rows clustered.
        inertia: sum over rows of the squared distance to the nearest centroid.
        fingerprint: digest of inputs and configuration.
        ancestors: (L, K) int64, the cluster of level 2, 3, ... L + 1 that each lies in; no rows
            for a flat clustering.
    """

    centroids: FloatArray
    sizes: IntArray
    inertia: float
    fingerprint: str = ""
    ancestors: IntArray = field(default_factory=lambda: np.empty((0, 0), np.int64))

    @property
    def num_clusters(self) -> int:
        """K."""
        return int(self.centroids.shape[0])


@dataclass(frozen=True, slots=True)
class Quota:
    """How many rows each cluster gives.

    Attributes:
        counts: (K,) int64, `counts <= sizes` (times the repeat limit, if there is one); sums to
            the budget less `shortfall`.
        shortfall: budget that the clusters could not fill; 0 when there are enough rows.
    """

    counts: IntArray
    shortfall: int = 0


@dataclass(frozen=True, slots=True)
class Strata:
    """The cells that quotas are kept in: a cluster, crossed with values of metadata columns.

    Attributes:
        columns: (A,) names of the columns; none when the cells are the clusters.
        cluster: (S,) int64.
        values: (S, A) text of each column's value; strata stand in order of (cluster, values).
        sizes: (S,) int64 rows in each.
    """

    columns: tuple[str, ...]
    cluster: IntArray
    values: IdArray
    sizes: IntArray

    def __len__(self) -> int:
        return len(self.cluster)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What each stratum gives.

    Attributes:
        strata: with their sizes.
        counts: (S,) int64 how often its rows are shown, in all; at most `repeats * sizes`.
        rates: (S,) float64 weight of each of its rows that need not be picked: how often it is
            shown on average.
        repeats: how often a row may be shown.
        report: sentences about what could not be reached, and why; none when all was.
        included: (m,) ids of the rows that must be picked.
        included_rates: (m,) float64 weights of these.
    """

    strata: Strata
    counts: IntArray
    rates: DoubleArray
    repeats: int = 1
    report: tuple[str, ...] = ()
    included: IdArray = field(default_factory=lambda: np.empty(0, np.str_))
    included_rates: DoubleArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class Selection:
    """Picked tiles, best first.

    Attributes:
        tile_ids: (n,) unique ids.
        shard_ids: (n,) shard of each tile; empty strings when selecting from plain arrays.
        cluster: (n,) int64 cluster of each tile, -1 where the strategy has none.
        distance: (n,) float32 distance from the tile to the picks before it (farthest-point: the
            covering radius at that moment), NaN where the strategy defines none.
        weight: (n,) float64, 1 / inclusion probability where there is one, else 1.
        reason: (n,) which rule picked the tile.
        radius: covering radius that a farthest-point run ended with, if it was one.
        farthest_id: the tile at that distance.
        factor: how many times the optimal radius the selection's is at most, where its strategy
            guarantees that.
        num_included: the first so many tiles had to be picked.
        outliers: (z,) ids of the tiles that a trimmed selection left out, farthest first.
        coreset: how the coresets of a two-round selection came out, as JSON values.
        repeats: (n,) int64 how often a trainer should show each tile; None when once.
        allocation: what each stratum gave, where the strategy has quotas.
    """

    tile_ids: IdArray
    shard_ids: IdArray
    cluster: IntArray
    distance: FloatArray
    weight: DoubleArray
    reason: IdArray
    radius: float | None = None
    farthest_id: str | None = None
    factor: float | None = None
    num_included: int = 0
    outliers: IdArray | None = None
    coreset: Mapping[str, Any] | None = None
    repeats: IntArray | None = None
    allocation: Allocation | None = None

    def __len__(self) -> int:
        return len(self.tile_ids)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A published selection."""

    uri: str
    num_rows: int
    schema_version: int
    selection_fingerprint: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RoundState:
    """What one round leaves for the next. Only `advance` makes the next state."""

    index: int
    seed: int
    config_fingerprint: str
    encoder: EncoderRef | None = None
    embeddings: tuple[EmbeddingShard, ...] = ()
    clustering: Clustering | None = None
    manifest: Manifest | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
