"""The main job: rounds of train, embed, cluster, select, publish and measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from balancer.config import Config, digest_json
from balancer.errors import ConfigError
from balancer.rounds.convergence import stop_reason
from balancer.rounds.state import (
    Reference,
    advance,
    manifest_ids,
    reference_from_json,
    state_from_json,
    state_to_json,
)
from balancer.selection.fallback import fallback_for
from balancer.selection.shard_bounds import EngineChoice
from balancer.stages.catalog import Catalog, build_catalog, check_sources, discover_sources
from balancer.stages.cluster import REFERENCE, assign_tiles, cluster, clusters_for
from balancer.stages.constraints import check_catalog
from balancer.stages.context import RunContext
from balancer.stages.deduplicate import deduplicate, with_counts
from balancer.stages.embed import embed_archive
from balancer.stages.measure import measure
from balancer.stages.metadata_columns import Metadata
from balancer.stages.pool import RayPool, open_pool
from balancer.stages.progress import Reporter
from balancer.stages.publish import find_rows, publish
from balancer.stages.quota_axes import check_axes
from balancer.stages.remote_driver import is_client, require_shared_paths, run_on_cluster
from balancer.stages.resources import gpus_per_worker, ray_session
from balancer.stages.select import SELECTED, select
from balancer.stages.train import train_encoder
from balancer.stages.weights import publish_weights, write_weights
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record
from balancer.storage.sources import SourceShard
from balancer.storage.tile_lists import read_tile_lists
from balancer.storage.uris import lies_inside
from balancer.types import EmbeddingShard, RoundState
from balancer.version import __version__

FINAL = "final"
MANIFEST_NAME = "manifest.parquet"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to.

    Attributes:
        run_uri: the run's folder.
        manifest_uri: the last round's manifest, under a name that does not change.
        num_rounds: rounds done.
        stopped_because: why no more rounds were run.
        measures: of the last round, see `balancer.stages.measure.measure`.
        warnings: about the last round's embedding.
    """

    run_uri: str
    manifest_uri: str
    num_rounds: int
    stopped_because: str
    measures: Mapping[str, Any]
    warnings: tuple[str, ...]


def run_rounds(config: Config, *, reporter: Reporter | None = None) -> RunResult:
    """Balance an archive: the whole job, on embedded Ray or a cluster.

    Calling it again with the same configuration continues from the completion records under
    `config.out` and redoes nothing that is finished.

    Args:
        config: from `load_config` or `build_config`.
        reporter: where to show progress; standard error when absent.

    Raises:
        ConfigError: a configuration that cannot work, or a run started with another one.
        DataError: an archive that cannot be used.
        StorageError: a store that refuses or fails.

    Example:
        >>> from balancer import load_config, run_rounds
        >>> result = run_rounds(load_config("configs/demo.yaml"))  # doctest: +SKIP
        >>> result.manifest_uri  # doctest: +SKIP
        'runs/demo/manifest.parquet'
    """
    reporter = reporter or Reporter()
    require_shared_paths(config)
    if is_client(config.ray.address):
        with ray_session(config.ray):
            result: RunResult = run_on_cluster(_open_and_drive, config)
        return result
    context, sources = _open(config, reporter)  # what is wrong is said before Ray starts
    with ray_session(config.ray):
        return _drive(context, *sources)


def _open_and_drive(config: Config, reporter: Reporter) -> RunResult:
    context, sources = _open(config, reporter)
    return _drive(context, *sources)


def _open(config: Config, reporter: Reporter) -> tuple[RunContext, tuple[list[SourceShard], str]]:
    """List the archive, and start or continue the run's records."""
    _require_separate_out(config)
    store = Store(config.storage)
    ledger = Ledger(store, store.absolute(config.out))
    sources, digest = discover_sources(store, config.archive)
    started = check_sources(ledger, sources)
    lists = read_tile_lists(store, config.selection)
    spec = {"config": config.frozen_part(), "input": digest}
    if len(lists):
        spec["lists"] = lists.fingerprint()
    ledger.open_run(spec, __version__, started=started)
    return RunContext(config, store, ledger, reporter, lists), (sources, digest)


def _require_separate_out(config: Config) -> None:
    if lies_inside(config.out, config.archive.uri):
        raise ConfigError(
            f"out (--out) must not lie inside the archive, or the run's files would be taken for "
            f"tiles; got out={config.out!r} and archive.uri={config.archive.uri!r}. "
            f"Use another --out, beside the archive."
        )


def _drive(context: RunContext, sources: list[SourceShard], digest: str) -> RunResult:
    """Run the rounds in a process that is connected to Ray."""
    config, ledger, reporter = context.config, context.ledger, context.reporter
    catalog = build_catalog(context, sources, digest)
    num_excluded = check_catalog(context, catalog)
    axes = check_axes(config, catalog)
    budget = config.selection.resolve(catalog.num_tiles - num_excluded)
    state = RoundState(index=-1, seed=config.seed, config_fingerprint=config.fingerprint())
    reference: Reference | None = None
    reason = "all rounds are done"
    payload: Record = {}
    for index in range(config.rounds):
        before = state.measures if state.manifest else None
        committed = ledger.read_commit(context.round_name(index))
        payload = committed or run_round(context, catalog, state, reference, budget, axes)
        state = state_from_json(payload, ledger)
        reference = reference or reference_from_json(payload, state, ledger)
        for warning in payload["warnings"]:
            reporter.warn(warning)
        frozen = config.encoder.kind == "frozen"
        stop = stop_reason(state.measures, before, config.convergence, frozen=frozen)
        if stop is not None:
            reason = stop
            break
    return _finish(context, state, reason, payload)


def run_round(
    context: RunContext,
    catalog: Catalog,
    state: RoundState,
    reference: Reference | None,
    budget: int,
    axes: tuple[str, ...],
) -> Record:
    """Run the round after `state` and commit it; return the commit record."""
    config, index = context.config, state.index + 1
    trained = train_encoder(
        context, catalog, index, previous=state.encoder, manifest=state.manifest
    )
    fallback = fallback_for(config.selection, trained.distrust)
    shards, quarantine = embed_archive(context, catalog, trained.encoder, index)
    exclude = context.lists.exclude
    near = deduplicate(context, catalog, shards, index, budget=budget)
    parts = [[shard.shard_id, shard.sha256] for shard in near.shards]
    made_of = digest_json([*parts, exclude.tolist()] if len(exclude) else parts)
    normalize = config.embedding.normalize
    quality = config.selection.quality_column
    columns = dict.fromkeys([*axes, *([] if quality is None else [quality])])
    gpus = gpus_per_worker(config.ray)
    with open_pool(
        context.store,
        near.shards,
        normalize=normalize,
        metadata=Metadata(catalog.shards, tuple(columns)),
        exclude=exclude,
        num_gpus=gpus,
        engine=EngineChoice.of(config.selection),
    ) as pool:
        num_clusters = clusters_for(context, budget, pool.num_rows)
        clustering, kmeans = cluster(
            context, pool, index, embeddings=made_of, num_clusters=num_clusters, budget=budget
        )
        assignments = assign_tiles(context, pool, index, clustering)
        chosen = select(context, pool, clustering, budget, index, fallback=fallback)
        selections = chosen.picks
        weights = write_weights(
            context,
            pool,
            clustering,
            selections[SELECTED].allocation,
            index,
            inputs=str(chosen.record["inputs"]),
        )
        if reference is None and near.facts is None:
            reference = _make_reference(context, pool, shards, num_clusters, budget)
    if reference is None:  # measures look at all tiles, near-duplicates too
        with open_pool(
            context.store, shards, normalize=normalize, exclude=exclude, num_gpus=gpus
        ) as pool:
            reference = _make_reference(context, pool, shards, num_clusters, budget)
    rows = find_rows(context, catalog, [picked.tile_ids for picked in selections.values()])
    rows = with_counts(context, near, rows)
    manifest = publish(
        context,
        selections[SELECTED],
        rows,
        index,
        {
            "input_fingerprint": catalog.fingerprint,
            "encoder_fingerprint": trained.encoder.fingerprint,
            "clustering_fingerprint": clustering.fingerprint,
        }
        | ({} if near.facts is None else {"near_duplicates": dict(near.facts)})
        | ({"fallback": fallback.to_json()} if fallback else {}),
        certificate=chosen.certificate,
        packing_ids=chosen.packing_ids,
        notes=chosen.notes,
    )
    previous = manifest_ids(context.ledger, state.manifest) if state.manifest else None
    with open_pool(
        context.store, reference.embeddings, normalize=normalize, exclude=exclude, num_gpus=gpus
    ) as pool:
        measures = measure(
            pool,
            reference.clustering,
            catalog,
            selections,
            rows,
            previous=previous,
            rare_percentile=config.measures.rare_percentile,
        )
    state = advance(
        state,
        encoder=trained.encoder,
        embeddings=shards,
        clustering=clustering,
        manifest=manifest,
        measures=measures,
    )
    payload = state_to_json(state, context.ledger, kmeans) | {
        "reference": dict(reference.record) if index == 0 else None,
        "assignments": [{"path": r["path"], "sha256": r["sha256"]} for r in assignments],
        "weights": [{"path": r["path"], "sha256": r["sha256"]} for r in weights],
        "quarantine": quarantine,
        "selections": {"path": chosen.record["path"], "sha256": chosen.record["sha256"]},
        "history": list(trained.history),
        "health": dict(trained.health),
        "warnings": [*trained.warnings, *([fallback.describe()] if fallback else [])],
        "fallback": fallback.to_json() if fallback else None,
        **near.to_json(context.ledger.relative),
    }
    return context.ledger.commit(context.round_name(index), payload)


def _make_reference(
    context: RunContext,
    pool: RayPool,
    shards: tuple[EmbeddingShard, ...],
    num_clusters: int,
    budget: int,
) -> Reference:
    """Cluster all embeddings of round 0 but the excluded: what every round is measured in."""
    exclude = context.lists.exclude.tolist()
    parts: list[object] = [[shard.shard_id, shard.sha256] for shard in shards]
    frozen, record = cluster(
        context,
        pool,
        0,
        embeddings=digest_json([*parts, exclude] if exclude else parts),
        num_clusters=context.config.measures.reference_clusters or num_clusters,
        budget=budget,
        kind=REFERENCE,
    )
    return Reference(shards, frozen, record)


def _finish(context: RunContext, state: RoundState, reason: str, payload: Record) -> RunResult:
    assert state.manifest is not None
    data = context.store.read_bytes(state.manifest.uri)
    manifest_uri = context.ledger.absolute(MANIFEST_NAME)
    context.store.write_bytes(manifest_uri, data)
    publish_weights(context, payload["weights"])
    context.ledger.commit(
        FINAL, {"rounds": state.index + 1, "stopped_because": reason, "manifest": MANIFEST_NAME}
    )
    return RunResult(
        run_uri=context.ledger.run_uri,
        manifest_uri=manifest_uri,
        num_rounds=state.index + 1,
        stopped_because=reason,
        measures=state.measures,
        warnings=tuple(payload["warnings"]),
    )
