"""Features of every image of an archive, extracted once per (archive, encoder) and kept.

The work is that of a run's catalog and embedding stages, in a folder named after what the features
depend on: asking again reads the files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.config import (
    ArchiveConfig,
    Config,
    EmbeddingConfig,
    EncoderConfig,
    RayConfig,
    SelectionConfig,
    StorageConfig,
    digest_json,
)
from balancer.config_file import build_config
from balancer.errors import ConfigError, DataError
from balancer.stages.catalog import Catalog, build_catalog, discover_sources
from balancer.stages.context import RunContext
from balancer.stages.embed import embed_archive
from balancer.stages.named_tiles import keep_named
from balancer.stages.progress import Reporter
from balancer.stages.tasks import run_tasks
from balancer.storage.embedding_shards import read_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table
from balancer.types import EncoderRef, FloatArray, IdArray
from balancer.version import __version__


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """What to extract.

    Attributes:
        archive: the images.
        encoder: the network; for one of a run its own configuration.
        folder: where features are kept, for all archives and encoders.
        run: folder of a finished run whose encoder is taken, or None for a frozen encoder.
        round_index: whose encoder of that run.
        names: image names, without folder and suffix, of the images to embed; all when None.
        embedding: batch size and workers.
        ray: whether workers take GPUs.
        storage: how to reach stores.
    """

    archive: ArchiveConfig
    encoder: EncoderConfig
    folder: str
    run: str | None = None
    round_index: int = 0
    names: frozenset[str] | None = None
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Features of an archive's readable images, or of those that are named.

    Attributes:
        ids: (N,) tile ids.
        features: (N, D) float32, as the encoder gives them.
        columns: (N,) values of each metadata column, by name.
        fingerprint: of archive, names and encoder.
        num_unreadable: images that could not be read or embedded.
        num_unnamed: readable images that are not named.
    """

    ids: IdArray
    features: FloatArray
    columns: dict[str, NDArray[Any]]
    fingerprint: str
    num_unreadable: int
    num_unnamed: int = 0


def extract_features(request: FeatureRequest, reporter: Reporter) -> ImageFeatures:
    """Return the features, extracting what is not there yet; Ray must be connected.

    Raises:
        ConfigError: an encoder that cannot be built, a run without such a round.
        DataError: an archive that cannot be read, no image that is named, or too many images that
            cannot be embedded.
        StorageError: the store refuses or fails.
    """
    store = Store(request.storage)
    encoder_config, encoder = _encoder(store, request)
    sources, digest = discover_sources(store, request.archive)
    key = digest_json(
        [
            digest,
            request.archive.model_dump(mode="json", exclude={"max_bad_fraction"}),
            encoder.fingerprint,
            encoder_config.model_dump(mode="json"),
            None if request.names is None else sorted(request.names),
            request.embedding.batch_size,
            __version__,
        ]
    )
    config = Config(
        archive=request.archive,
        selection=SelectionConfig(budget=1),
        out=store.join(request.folder, key),
        encoder=encoder_config,
        embedding=request.embedding,
        ray=request.ray,
        storage=request.storage,
    )
    context = RunContext(config, store, Ledger(store, store.absolute(config.out)), reporter)
    whole = build_catalog(context, sources, digest)
    catalog = whole if request.names is None else keep_named(context, whole, request.names)
    shards, bad = embed_archive(context, catalog, encoder, 0)
    parts = [read_embeddings(store, shard) for shard in shards]
    ids = np.concatenate([names for names, _ in parts])
    return ImageFeatures(
        ids=ids,
        features=np.concatenate([points for _, points in parts]),
        columns=_columns(store, catalog, ids),
        fingerprint=key,
        num_unreadable=int(catalog.facts["num_quarantined"]) + sum(t["rows"] for t in bad),
        num_unnamed=whole.num_tiles - catalog.num_tiles,
    )


def _encoder(store: Store, request: FeatureRequest) -> tuple[EncoderConfig, EncoderRef]:
    if request.run is not None:
        return encoder_of_run(store, request.run, request.round_index)
    if request.encoder.kind != "frozen":
        raise ConfigError(
            f"An encoder must be frozen (kind: frozen) or that of a finished run (run: FOLDER); "
            f"got kind {request.encoder.kind!r} without a run. Train it with `balancer run` first."
        )
    arguments = [(store, request.encoder)]
    [(_, (dim, fingerprint))] = run_tasks(describe_frozen, arguments)
    return request.encoder, EncoderRef("", "frozen", dim, fingerprint)


def encoder_of_run(store: Store, run: str, round_index: int) -> tuple[EncoderConfig, EncoderRef]:
    """Return the configuration and the reference of a finished run's encoder.

    Raises:
        ConfigError: not a run, or a round that is not finished.
    """
    config = config_of_run(store, run)
    ledger = Ledger(store, store.absolute(run))
    committed = ledger.read_commit(f"round-{round_index:03d}")
    if committed is None:
        raise ConfigError(
            f"The run {run} must have finished round {round_index}; it has not. Continue it with "
            f"`balancer run`, or name another round."
        )
    found = committed["encoder"]
    if found["kind"] == "frozen":
        return config.encoder, EncoderRef("", "frozen", found["dim"], found["fingerprint"])
    reference = EncoderRef(
        ledger.absolute(found["path"]), found["kind"], found["dim"], found["fingerprint"]
    )
    return config.encoder, reference


def config_of_run(store: Store, run: str) -> Config:
    """Return the configuration that a run was started with.

    Raises:
        ConfigError: not the folder of a run.
    """
    uri = store.join(store.absolute(run), "spec.json")
    try:
        spec: dict[str, Any] = json.loads(store.read_bytes(uri))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{run} must be the folder of a run; it has no {uri}. Check the path, or make it with "
            f"`balancer run`."
        ) from error
    return build_config(spec["spec"]["config"] | {"out": run})


def describe_frozen(store: Store, encoder: EncoderConfig) -> tuple[int, str]:
    """Return dimension and fingerprint of a frozen encoder (runs on a worker)."""
    from balancer.stages.encoders import build_initial, frozen_fingerprint

    backbone = build_initial(store, encoder, seed=0)
    return backbone.dim, frozen_fingerprint(encoder, backbone)


def _columns(store: Store, catalog: Catalog, ids: IdArray) -> dict[str, NDArray[Any]]:
    """Return the catalog's metadata columns in the order of `ids`; missing values are ''."""
    names = list(catalog.facts["metadata_columns"])
    known: dict[str, dict[str, str]] = {name: {} for name in names}
    for shard in catalog.shards:
        table = read_table(store, shard.catalog_uri, sha256=shard.sha256)
        tiles = table["tile_id"].to_pylist()
        for name in names:
            if name in table.column_names:
                values = table[name].to_pylist()
                known[name].update(
                    (tile, str(value))
                    for tile, value in zip(tiles, values, strict=True)
                    if value is not None
                )
    listed = ids.tolist()
    if not listed:
        raise DataError("The archive must have readable images; it has none. Check its path.")
    return {name: np.array([known[name].get(tile, "") for tile in listed]) for name in names}
