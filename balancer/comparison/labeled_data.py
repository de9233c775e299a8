"""Images joined with their labels and features: what a comparison works on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.comparison.splits import Split, cut_validation, require_all_classes, split_rows
from balancer.config import LongTailConfig
from balancer.config_comparison import DatasetConfig
from balancer.errors import ConfigError, DataError
from balancer.imbalance.labels import LabelTable, label_table
from balancer.imbalance.long_tail import long_tailed_pool
from balancer.seeding import derive_seed
from balancer.stages.features import ImageFeatures
from balancer.storage.filesystem import Store
from balancer.storage.label_tables import TableLayout, read_labels
from balancer.storage.labeled_sources import (
    MIN_SCENE_IMAGES,
    PART_COLUMN,
    LabelRows,
    frequent_labels,
    image_stem,
    parse_planet,
    parse_scenes,
    read_text,
    rows_of_table,
)
from balancer.storage.published_labels import (
    ade20k_differences,
    planet_differences,
    require_published,
)
from balancer.types import FloatArray, IntArray

PLANET_HELP = (
    "Planet's label file train_v2.csv, from the Kaggle competition "
    "'planet-understanding-the-amazon-from-space' (train_v2.csv.zip; its rules must be accepted)"
)
ADE20K_HELP = (
    "sceneCategories.txt of ADEChallengeData2016.zip, from the MIT Scene Parsing Benchmark "
    "(sceneparsing.csail.mit.edu)"
)
IMAGES_HELP = {
    "planet": "train-jpg (JPEGs) or train-tif-v2 (4-band TIFFs) of the Kaggle competition "
    "'planet-understanding-the-amazon-from-space', unpacked into a folder or as a .tar",
    "ade20k": "the folder images/ of ADEChallengeData2016.zip (sceneparsing.csail.mit.edu)",
    "folder": "one folder of images per class, or a zip of them",
    "table": "the images that the label table names",
}


@dataclass(frozen=True, slots=True)
class LabeledImages:
    """Labels and features of the same images.

    Attributes:
        labels: of N images.
        features: (N, D) float32.
        unlabeled: images without a label, or only with one of a class that is too small, left out.
        without_image: names of labeled images that have no readable image.
    """

    labels: LabelTable
    features: FloatArray
    unlabeled: int
    without_image: int


def read_dataset_labels(store: Store, dataset: DatasetConfig) -> LabelRows | None:
    """Return the labels of a data set's own file; None where the images themselves tell.

    Images of classes that are too small are left out here, so that they are not embedded either.

    Raises:
        DataError: no such file, one that cannot be read, no class that is large enough, or (strict)
            other labels than published.
    """
    if dataset.labels is None:
        return None
    rows = _read_rows(store, dataset, dataset.labels)
    kept = _large_classes(rows, dataset)
    if not kept.names:
        raise DataError(
            f"{dataset.labels} must have a class of at least {_least(dataset)} images; the largest "
            f"has {max(rows.counts().values())}. Add labels, or use another kind of data set."
        )
    if dataset.strict and dataset.kind == "ade20k":
        require_published(ade20k_differences(kept), dataset.labels)
    return kept


def _read_rows(store: Store, dataset: DatasetConfig, uri: str) -> LabelRows:
    if dataset.kind == "planet":
        rows = parse_planet(read_text(store, uri, PLANET_HELP), uri)
        if dataset.strict:
            require_published(planet_differences(rows), uri)
        return rows
    if dataset.kind == "ade20k":
        return parse_scenes(read_text(store, uri, ADE20K_HELP), uri)
    layout = TableLayout(dataset.label_column, dataset.id_column, dataset.separator)
    return rows_of_table(read_labels(store, uri, layout), uri)


def require_images(store: Store, dataset: DatasetConfig) -> None:
    """Say what to download where a data set's images are missing.

    Raises:
        DataError: there is nothing at `dataset.images`.
    """
    if not store.exists(dataset.images):
        raise DataError(
            f"dataset.images must be {IMAGES_HELP[dataset.kind]}; there is nothing at "
            f"{dataset.images}. Download it there, or set dataset.images."
        )


def join_labels(
    dataset: DatasetConfig, found: ImageFeatures, rows: LabelRows | None
) -> LabeledImages:
    """Join features with labels by image name; classes that are too small are left out.

    Args:
        dataset: what it is.
        found: features and metadata of the archive's images.
        rows: labels by name, or None to take the metadata column `label_column`.

    Raises:
        ConfigError: no such metadata column.
        DataError: two images of one name, or (strict) images that are missing.
    """
    if rows is None:
        if dataset.label_column not in found.columns:
            raise ConfigError(
                f"dataset.label_column must be metadata of the images; there is no "
                f"{dataset.label_column!r} among {', '.join(found.columns) or 'none'}."
            )
        rows = LabelRows(
            tuple(found.ids.tolist()),
            tuple((str(v),) if v else () for v in found.columns[dataset.label_column].tolist()),
        )
        names = found.ids.tolist()
    else:
        names = [image_stem(tile) for tile in found.ids.tolist()]
        _require_distinct(names, found.ids.tolist())
    place = {name: row for row, name in enumerate(names)}
    listed = [row for row, name in enumerate(rows.names) if name in place and rows.labels[row]]
    without = sum(name not in place for name in rows.names)
    if not listed or (dataset.strict and without):
        missing = next(name for name in rows.names if name not in place)
        raise DataError(
            f"Labeled images must be among {dataset.images}; {without} of {len(rows.names)} are "
            f"not, the first is {missing!r}. Add them{', or set strict: false' if listed else ''}."
        )
    kept = _large_classes(rows.take(listed), dataset)
    at = np.array([place[name] for name in kept.names])
    columns = {name: values[at] for name, values in found.columns.items()}
    columns |= {name: np.array(values) for name, values in kept.columns.items()}
    labels = label_table(found.ids[at], kept.labels, columns=columns)
    # The order of rows is that of the ids, whatever the order of label file and archive.
    order = np.argsort(labels.ids)
    return LabeledImages(
        labels.take(order),
        found.features[at][order],
        len(names) - len(listed) + found.num_unnamed,
        without,
    )


def require_columns(labels: LabelTable, groups: Sequence[str]) -> None:
    """Refuse groups by a column that the images and their labels lack.

    Raises:
        ConfigError: naming the columns there are.
    """
    for column in groups:
        if column not in labels.columns:
            raise ConfigError(
                f"groups must be metadata columns of the images or of the label table; there is no "
                f"{column!r} among {', '.join(sorted(labels.columns)) or 'none'}. Name one of them."
            )


def split_dataset(labels: LabelTable, dataset: DatasetConfig, pool: int) -> Split:
    """Divide a data set, or its long-tailed pool number `pool`, into parts.

    Of a pool's recipe the holdout is the test part, and the pool is divided 75/25. Without a recipe
    the pool's number is added to the split's seed.

    Raises:
        DataError: a class that would be missing from a part.
    """
    config = dataset.split
    if dataset.long_tail is not None:
        tail = pool_recipe(dataset.long_tail, pool)
        names = np.array(labels.classes)[labels.top_class()]
        try:
            rows, holdout = long_tailed_pool(labels.ids, names, tail)
        except ValueError as error:
            raise DataError(str(error).replace("archive.", "dataset.")) from error
        train, validation = cut_validation(
            labels, rows, group=None, seed=derive_seed(config.seed, "pool", pool)
        )
        split = Split(train, validation, holdout)
        require_all_classes(labels, split)
        return split
    if config.kind == "official":
        is_test = labels.columns[PART_COLUMN] == "val"
        train, validation = cut_validation(
            labels, np.flatnonzero(~is_test), group=config.group, seed=config.seed + pool
        )
        split = Split(train, validation, np.flatnonzero(is_test))
        require_all_classes(labels, split)
        return split
    return split_rows(labels, kind=config.kind, group=config.group, seed=config.seed + pool)


def pool_recipe(config: LongTailConfig, pool: int) -> LongTailConfig:
    """Return the recipe of a pool: as configured, with the pool's number as its seed.

    >>> pool_recipe(LongTailConfig(seed=0), 3).seed
    3
    """
    return config.model_copy(update={"seed": config.seed + pool})


def part_counts(labels: LabelTable, rows: IntArray) -> list[int]:
    """Return images per class among some rows, in the order of the classes."""
    return [int(count) for count in labels.matrix[rows].sum(axis=0)]


def _least(dataset: DatasetConfig) -> int:
    return max(dataset.min_class_size, MIN_SCENE_IMAGES if dataset.kind == "ade20k" else 1)


def _large_classes(rows: LabelRows, dataset: DatasetConfig) -> LabelRows:
    least = _least(dataset)
    if all(count >= least for count in rows.counts().values()):
        return rows
    if any(len(labels) > 1 for labels in rows.labels):
        raise DataError(
            f"dataset.min_class_size must be at most the smallest class of a set with several "
            f"labels per image ({min(rows.counts().values())}); got {least}. Lower it."
        )
    return frequent_labels(rows, least)


def _require_distinct(names: list[str], ids: list[str]) -> None:
    counts = Counter(names)
    name = next((name for name in names if counts[name] > 1), None)
    if name is not None:
        places = [tile for tile, stem in zip(ids, names, strict=True) if stem == name][:2]
        raise DataError(
            f"Image names must be unique where labels name them; {name!r} is both {places[0]} and "
            f"{places[1]}. Give only the folder of the labeled images."
        )
