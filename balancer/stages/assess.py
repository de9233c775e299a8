"""Measure the health of a round's encoder on a sample of the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from balancer.config import Config
from balancer.seeding import child_generator, derive_seed
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.resources import gpus_per_worker
from balancer.stages.tasks import run_tasks
from balancer.stages.tile_stream import TileGroup, decode_rows
from balancer.stages.training_tiles import sample_groups
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.types import EncoderRef

HEALTH_TILES = 1024
"""Sample on which the embedding's health is measured."""
HEALTH_SHARDS = 16


def assess(context: RunContext, catalog: Catalog, encoder: EncoderRef) -> dict[str, Any]:
    """Return `dim`, `fingerprint` (of a frozen encoder), `health`, `warnings` and `distrust`."""
    rng = child_generator(context.config.seed, "health-shards")
    count = min(HEALTH_SHARDS, len(catalog.shards))
    chosen = sorted(rng.choice(len(catalog.shards), count, replace=False).tolist())
    groups = sample_groups(
        context.store,
        [catalog.shards[number] for number in chosen],
        HEALTH_TILES,
        derive_seed(context.config.seed, "health"),
    )
    arguments = [(context.store, context.config, encoder, groups)]
    gpus = gpus_per_worker(context.config.ray)
    [(_, assessed)] = run_tasks(assess_encoder, arguments, num_gpus=gpus)
    return dict(assessed)


def assess_encoder(
    store: Store, config: Config, encoder: EncoderRef, groups: Sequence[TileGroup]
) -> dict[str, Any]:
    """Measure an encoder's health on a sample of tiles (runs on a worker)."""
    # Torch loads here and not with the module, because the driver only names this function.
    from balancer.embedding.health import measure_health
    from balancer.embedding.transforms import OverheadViews
    from balancer.stages.encoders import (
        build_initial,
        frozen_fingerprint,
        load_trained,
        set_threads,
        worker_device,
    )

    set_threads(config.embedding.cpus_per_worker)
    device = worker_device()
    if encoder.kind == "frozen":
        backbone = build_initial(store, config.encoder, config.seed).to(device)
    else:
        backbone = load_trained(store, encoder, config.encoder, config.seed).to(device)
    parts = []
    for group in groups:
        table = read_table(store, group.uri, sha256=group.sha256)
        size, resize = config.encoder.image_size, config.encoder.resize
        parts.append(decode_rows(store, table, group.rows, size, resize)[0])
    tiles = np.concatenate(parts)
    encoder_config, training = config.encoder, config.training
    health: dict[str, float | None] = {}
    distrust = ""
    warnings = ["Too few tiles to measure the embedding's health."]
    if len(tiles) > 1:
        views = OverheadViews(
            encoder_config.image_size,
            training.crop_min_scale,
            training.color_strength,
            encoder_config.mean,
            encoder_config.std,
        )
        measured = measure_health(
            backbone,
            tiles,
            views,
            batch_size=config.embedding.batch_size,
            seed=derive_seed(config.seed, "health"),
            device=device,
        )
        if measured is not None:
            health, warnings = asdict(measured), measured.warnings()
            distrust = " ".join(measured.against_diversity())
    return {
        "dim": backbone.dim,
        "fingerprint": frozen_fingerprint(config.encoder, backbone),
        "health": health,
        "warnings": warnings,
        "distrust": distrust,
    }
