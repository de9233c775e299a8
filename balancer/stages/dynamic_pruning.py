"""Dynamic pruning under Ray Train: every few epochs the workers agree on the tiles to go on with.

Every worker embeds its share of the training tiles with the current encoder. Vectors, ids and
places go to worker 0, which prunes (`balancer.selection.pruning`, a pure function) and sends the
kept places to all. So worker 0 holds `4 * dim` bytes for every training tile, and all workers read
the same subset, which depends on the encoder, the seed, the round and the epoch only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from balancer.config import Config
from balancer.distances import l2_normalize
from balancer.embedding.backbones import Backbone
from balancer.embedding.inference import embed_tiles
from balancer.errors import DataError
from balancer.seeding import derive_seed
from balancer.selection.pruning import prune
from balancer.stages.collectives import Workers
from balancer.stages.tile_stream import GroupTiles, TileStream
from balancer.types import FloatArray, IntArray

Kept = list[IntArray]
"""For every group of the training the row numbers to read."""


def pruned_before(config: Config, epoch: int) -> bool:
    """Tell whether an epoch follows a pruning, in a training of this configuration."""
    pruning = config.training.pruning
    return pruning is not None and epoch >= pruning.warmup_epochs


def prunes_at(config: Config, epoch: int) -> bool:
    """Tell whether the training tiles are pruned just before an epoch."""
    pruning = config.training.pruning
    if pruning is None or epoch < pruning.warmup_epochs:
        return False
    return (epoch - pruning.warmup_epochs) % pruning.every_epochs == 0


def num_kept(config: Config, num_tiles: int) -> int:
    """Return how many of `num_tiles` training tiles a pruning keeps."""
    assert config.training.pruning is not None
    return max(1, round(config.training.pruning.keep * num_tiles))


def steps_of_epochs(config: Config, stream: TileStream, epochs: int) -> tuple[int, ...]:
    """Return the batches of each epoch, the same on every worker: fewer after the warm-up."""
    if config.training.pruning is None:
        return (stream.steps_per_epoch,) * epochs
    pruned = stream.steps_for(num_kept(config, stream.num_tiles))
    return tuple(
        pruned if pruned_before(config, epoch) else stream.steps_per_epoch
        for epoch in range(epochs)
    )


def choose_tiles(
    stream: TileStream, backbone: Backbone, workers: Workers, config: Config, *, seed: int
) -> Kept:
    """Return the tiles that the current encoder keeps; every worker must call it.

    Args:
        stream: of this worker.
        backbone: the encoder being trained; not changed, but for buffers that differ from worker
            0's.
        workers: all workers of the training.
        config: of the run.
        seed: of this pruning.

    Raises:
        DataError: the encoder gives no finite vector for any tile.

    Cost: one forward pass of all training tiles, one k-means on worker 0.
    """
    workers.share_buffers(backbone)
    places, vectors, ids = [], [], []
    for part in stream.share():
        points = _embed(backbone, part, config)
        sound = np.isfinite(points).all(axis=1) & points.any(axis=1)
        part_places = np.column_stack([np.full(len(part.rows), part.group), part.rows])
        places.append(part_places[sound].astype(np.int64))
        vectors.append(points[sound])
        ids.append(stream.tile_ids(part)[sound])
    all_vectors = workers.gather_vectors(np.concatenate(vectors))
    all_ids = workers.gather_ids(np.concatenate(ids))
    all_places = workers.gather_numbers(np.concatenate(places))
    chosen = None
    if all_vectors is not None and all_ids is not None and all_places is not None:
        chosen = np.empty(0, np.int64)
        if len(all_ids):
            pruning = config.training.pruning
            assert pruning is not None  # the caller has asked `prunes_at`
            rows = prune(
                l2_normalize(all_vectors) if config.embedding.normalize else all_vectors,
                all_ids,
                num_kept(config, len(all_ids)),
                rule=pruning.rule,
                clustering=config.clustering.model_copy(
                    update={"num_clusters": pruning.num_clusters}
                ),
                seed=seed,
            )
            chosen = all_places[rows].reshape(-1)
    kept = workers.from_first(chosen).reshape(-1, 2)
    if len(kept) == 0:
        raise DataError(
            "Pruning needs a training tile with a finite embedding; there is none. Lower "
            "training.learning_rate, or leave training.pruning out."
        )
    return [np.sort(kept[kept[:, 0] == g, 1]) for g in range(stream.num_groups)]


def pruning_seed(seed: int, epoch: int) -> int:
    """Return the seed of the pruning before an epoch; `seed` is the round's."""
    return derive_seed(seed, "pruning", epoch)


def kept_to_arrays(kept: Sequence[IntArray]) -> dict[str, IntArray]:
    """Return the kept rows as named arrays of a checkpoint."""
    return {"rows": np.concatenate(list(kept)), "counts": np.array([len(rows) for rows in kept])}


def kept_from_arrays(arrays: dict[str, IntArray]) -> Kept:
    """Return what `kept_to_arrays` was given.

    >>> kept = [np.array([1, 4]), np.array([], dtype=np.int64), np.array([0])]
    >>> [rows.tolist() for rows in kept_from_arrays(kept_to_arrays(kept))]
    [[1, 4], [], [0]]
    """
    return np.split(arrays["rows"], np.cumsum(arrays["counts"])[:-1])


def _embed(backbone: Backbone, part: GroupTiles, config: Config) -> FloatArray:
    return embed_tiles(
        backbone,
        part.tiles,
        batch_size=config.embedding.batch_size,
        mean=config.encoder.mean,
        std=config.encoder.std,
        device=next(backbone.parameters(), torch.empty(0)).device,
    )
