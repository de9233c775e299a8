"""The labeled comparison: features once, every cell as a task on Ray, results as one table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.comparison.cells import Cell, places_by_size, score_cell
from balancer.comparison.labeled_data import (
    LabeledImages,
    join_labels,
    part_counts,
    pool_recipe,
    read_dataset_labels,
    require_columns,
    require_images,
    split_dataset,
)
from balancer.comparison.plans import StrategySettings
from balancer.comparison.splits import Split
from balancer.config import ArchiveConfig, EncoderConfig, digest_json
from balancer.config_comparison import Arm, ComparisonConfig, NamedEncoder
from balancer.errors import ConfigError, DataError
from balancer.imbalance.labels import LabelTable
from balancer.stages.features import FeatureRequest, config_of_run, extract_features
from balancer.stages.progress import Reporter
from balancer.stages.remote_driver import is_client, run_on_cluster
from balancer.stages.resources import ray_session
from balancer.stages.study_tasks import StudyPart, run_study
from balancer.storage.filesystem import Store
from balancer.storage.labeled_sources import LabelRows, image_stem
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table, write_table
from balancer.storage.uris import lies_inside
from balancer.types import IdArray
from balancer.version import __version__

CELLS = "cells"
RESULTS = "results.parquet"
SYNTHETIC = " (synthetic)"
POOL = "{pool}"


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison came to.

    Attributes:
        uri: of its folder.
        results: every score of every cell, `cells.RESULT_SCHEMA`.
        facts: what was compared, JSON: classes, images per class and part, unreadable images.
    """

    uri: str
    results: pa.Table
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Case:
    """An encoder's features for one pool, with the names of what Ray shares."""

    encoder: str
    pool: int
    images: LabeledImages
    split: Split
    fingerprint: str


def run_comparison(config: ComparisonConfig, *, reporter: Reporter | None = None) -> Compared:
    """Compute every cell that has no record yet, and write `results.parquet`.

    Killed and started again with the same folder, or with more seeds, strategies, pools or
    encoders, it computes what is missing.

    Args:
        config: from `load_model`.
        reporter: where to show progress; standard error when absent.

    Raises:
        ConfigError: a configuration that cannot work.
        DataError: images or labels that are missing or not what they must be.
        StorageError: a store that refuses or fails.
    """
    reporter = reporter or Reporter()
    if is_client(config.ray.address):
        with ray_session(config.ray):
            compared: Compared = run_on_cluster(_open_and_drive, config)
        return compared
    rows = _open(config)  # what is wrong is said before Ray starts
    with ray_session(config.ray):
        return _drive(config, reporter, rows)


def dataset_title(config: ComparisonConfig) -> str:
    """Return the data set's name as tables show it: rendered images are always called synthetic."""
    return config.dataset.name + (SYNTHETIC if config.dataset.synthetic else "")


def _open(config: ComparisonConfig) -> LabelRows | None:
    store = Store(config.storage)
    for folder in (config.out, config.features or config.out):
        if lies_inside(folder, config.dataset.images):
            raise ConfigError(
                f"out and features must not lie inside dataset.images, or their files would be "
                f"taken for images; got {folder!r} inside {config.dataset.images!r}."
            )
    rows = read_dataset_labels(store, config.dataset)
    require_images(store, config.dataset)
    return rows


def _open_and_drive(config: ComparisonConfig, reporter: Reporter) -> Compared:
    return _drive(config, reporter, _open(config))


def _drive(config: ComparisonConfig, reporter: Reporter, rows: LabelRows | None) -> Compared:
    store = Store(config.storage)
    ledger = Ledger(store, store.absolute(config.out))
    cases = _cases(config, reporter, rows)
    arms = [(arm, _settings(store, arm, cases[0].images.labels.ids)) for arm in config.arms()]
    shared: dict[str, Any] = {}
    parts = []
    for case in cases:
        names = tuple(f"{what}-{case.fingerprint}" for what in ("features", "labels", "split"))
        shared |= dict(
            zip(names, (case.images.features, case.images.labels, case.split), strict=True)
        )
        parts += [
            _part(config, case, names, arm, settings, seed)
            for seed in range(config.seeds)
            for arm, settings in arms
        ]
    results = run_study(ledger, CELLS, score_cell, parts, shared=shared, reporter=reporter)
    footer = {"balancer": __version__, "columns": "see the fields' descriptions"}
    write_table(store, ledger.absolute(RESULTS), results, footer)
    return Compared(ledger.run_uri, results, _facts(config, cases))


def _cases(config: ComparisonConfig, reporter: Reporter, rows: LabelRows | None) -> list[_Case]:
    """Extract features, join labels, and divide every pool, for every encoder."""
    cases = []
    for named in config.encoders:
        own_run_per_pool = named.run is not None and POOL in named.run
        known: LabeledImages | None = None
        for pool in range(config.pools):
            if known is None or own_run_per_pool:
                _require_same_recipe(config, named, pool)
                found = extract_features(_request(config, named, pool, rows), reporter)
                images = join_labels(config.dataset, found, rows)
                require_columns(images.labels, config.groups)
                known, digest = images, [found.fingerprint, _label_digest(images.labels)]
            split = split_dataset(known.labels, config.dataset, pool)
            fingerprint = digest_json(
                [*digest, config.dataset.model_dump(mode="json"), named.name, pool]
            )
            cases.append(_Case(named.name, pool, known, split, fingerprint))
    return cases


def _request(
    config: ComparisonConfig, named: NamedEncoder, pool: int, rows: LabelRows | None
) -> FeatureRequest:
    dataset = config.dataset
    archive = ArchiveConfig(
        uri=dataset.images,
        format=dataset.format,
        label_column=dataset.label_column if dataset.kind == "folder" else None,
        tiles_per_shard=dataset.tiles_per_shard,
        max_bad_fraction=dataset.max_bad_fraction,
        bands="bgrn-16" if dataset.kind == "planet" else "rgb",
    )
    return FeatureRequest(
        archive=archive,
        encoder=named.encoder or EncoderConfig(),
        folder=config.features or Store(config.storage).join(config.out, "features"),
        run=named.run.replace(POOL, str(pool)) if named.run else None,
        round_index=named.round_index,
        names=None if rows is None else frozenset(rows.names),
        embedding=config.embedding,
        ray=config.ray,
        storage=config.storage,
    )


def _require_same_recipe(config: ComparisonConfig, named: NamedEncoder, pool: int) -> None:
    """Refuse a run that saw another pool: its encoder would know the test images."""
    if named.run is None or config.dataset.long_tail is None:
        return
    run = named.run.replace(POOL, str(pool))
    found = config_of_run(Store(config.storage), run).archive.long_tail
    wanted = pool_recipe(config.dataset.long_tail, pool)
    if found != wanted:
        raise ConfigError(
            f"The run {run} of encoder {named.name!r} must have been made from pool {pool}, "
            f"archive.long_tail {wanted.model_dump()}; it has "
            f"{found.model_dump() if found else None}. Run it with --set archive.long_tail.seed="
            f"{wanted.seed}, and name the folders with {POOL} for the number."
        )


def _settings(store: Store, arm: Arm, ids: IdArray) -> StrategySettings:
    if arm.manifest is None:
        return StrategySettings(**arm.settings)
    found = read_table(store, arm.manifest, columns=["tile_id"])["tile_id"].to_pylist()
    known = set(ids.tolist())
    if not known.intersection(found):  # of an archive in another container: by image name
        place = {image_stem(name): name for name in ids.tolist()}
        found = [place[image_stem(name)] for name in found if image_stem(name) in place]
    if not found:
        raise DataError(
            f"The manifest {arm.manifest} must hold images of the data set; none of its ids is "
            f"one. Select from the same images."
        )
    return StrategySettings(**arm.settings, manifest_ids=tuple(found))


def _part(
    config: ComparisonConfig,
    case: _Case,
    names: tuple[str, ...],
    arm: Arm,
    settings: StrategySettings,
    seed: int,
) -> StudyPart:
    cell = Cell(
        dataset=dataset_title(config),
        encoder=case.encoder,
        pool=case.pool,
        seed=seed,
        arm=arm.label,
        level=arm.level,
        settings=settings,
        head=config.head,
        updates=config.updates,
        losses=config.losses,
        groups=config.groups,
        root=config.seed,
    )
    key = digest_json(
        [
            case.fingerprint,
            cell.dataset,
            seed,
            arm.label,
            settings.model_dump(mode="json"),
            config.head.model_dump(mode="json", exclude={"device"}),
            cell.updates,
            cell.losses,
            cell.groups,
            cell.root,
            __version__,
        ]
    )
    return StudyPart(key, names, (cell,))


def _label_digest(labels: LabelTable) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for text in (
        labels.classes,
        labels.ids.tolist(),
        *(c.tolist() for c in labels.columns.values()),
    ):
        digest.update("\x1f".join(map(str, text)).encode())
    digest.update(np.packbits(labels.matrix).tobytes())
    return digest.hexdigest()


def place_names(places: Sequence[int]) -> list[str]:
    """Return names for classes by their place in the tail, which sort as the places do.

    >>> place_names([2, 1])
    ['place 02', 'place 01']
    """
    return [f"place {place:02d}" for place in places]


def _facts(config: ComparisonConfig, cases: Sequence[_Case]) -> dict[str, Any]:
    first = cases[0]
    labels = first.images.labels
    names = np.array(labels.classes)
    by_place = config.pools > 1 and config.dataset.long_tail is not None
    if by_place:
        # The same class is frequent in one pool and rare in another: what pools share is the tail.
        names = np.array(place_names(places_by_size(labels.take(first.split.train)).tolist()))
    parts = {
        name: dict(zip(names.tolist(), part_counts(labels, first.split.part(name)), strict=True))
        for name in ("train", "validation", "test")
    }
    everything = part_counts(labels, np.arange(len(labels)))
    return {
        "dataset": dataset_title(config),
        "synthetic": config.dataset.synthetic,
        "kind": config.dataset.kind,
        "split": config.dataset.split.model_dump(mode="json"),
        "long_tail": config.dataset.long_tail.model_dump() if config.dataset.long_tail else None,
        "classes": names.tolist(),
        "by_place": by_place,
        "class_counts": parts["train"]
        if by_place
        else dict(zip(names.tolist(), everything, strict=True)),
        "single_label": first.images.labels.is_single_label,
        "num_images": len(first.images.labels),
        "unlabeled": first.images.unlabeled,
        "without_image": first.images.without_image,
        "parts": parts,
        "encoders": {case.encoder: int(case.images.features.shape[1]) for case in cases},
        "pools": config.pools,
        "seeds": config.seeds,
        "arms": [{"label": arm.label, "level": arm.level, **arm.settings} for arm in config.arms()],
        "head": config.head.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
    }
