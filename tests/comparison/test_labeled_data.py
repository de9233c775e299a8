"""Images joined with labels: by name, in any order, with plain refusals; pools and parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balancer.comparison.labeled_data import (
    join_labels,
    read_dataset_labels,
    require_columns,
    split_dataset,
)
from balancer.config_comparison import DatasetConfig
from balancer.errors import ConfigError, DataError
from balancer.imbalance.labels import LabelTable, label_table
from balancer.stages.features import ImageFeatures
from balancer.storage.filesystem import Store
from balancer.storage.labeled_sources import LabelRows


def images(*ids: str, **columns: list[str]) -> ImageFeatures:
    features = np.arange(len(ids), dtype=np.float32)[:, None].repeat(2, axis=1)
    values = {name: np.array(column) for name, column in columns.items()}
    return ImageFeatures(np.array(ids), features, values, "x", 0)


def dataset(kind: str, **settings: object) -> DatasetConfig:
    labels = {} if kind == "folder" else {"labels": "labels"}
    tree = {"name": "d", "kind": kind, "images": "i", **labels, **settings}
    return DatasetConfig.model_validate(tree)


def test_planet_names_find_their_tiles() -> None:
    rows = LabelRows(("train_1", "train_0", "gone"), (("clear",), ("haze", "water"), ("clear",)))
    found = images("x/train_0.jpg", "x/train_1.jpg", "x/test_7.jpg")
    joined = join_labels(dataset("planet"), found, rows)
    assert joined.labels.ids.tolist() == ["x/train_0.jpg", "x/train_1.jpg"]
    assert joined.labels.classes == ("clear", "haze", "water")
    assert joined.labels.matrix.tolist() == [[False, True, True], [True, False, False]]
    assert joined.features[:, 0].tolist() == [0.0, 1.0]
    assert (joined.unlabeled, joined.without_image) == (1, 1)
    with pytest.raises(DataError, match=r"1 of 3 are not, the first is 'gone'.*strict: false"):
        join_labels(dataset("planet", strict=True), found, rows)


def test_tables_of_csv_and_parquet(tmp_path: Path) -> None:
    text = tmp_path / "labels.csv"
    text.write_text("image,label,place\na.jpg,sea;land,north\nx/b.png,sea,\n")
    lists = tmp_path / "labels.parquet"
    pq.write_table(
        pa.table({"image": ["a", "b"], "label": [["land", "sea"], ["sea"]], "place": ["n", None]}),
        lists,
    )
    for path, separator in ((text, ";"), (lists, None)):
        rows = read_dataset_labels(Store(), dataset("table", labels=str(path), separator=separator))
        assert rows is not None
        assert rows.names == ("a", "b")
        assert rows.labels == (("land", "sea"), ("sea",))
        assert rows.columns["place"][1] == ""
    for changes, message in (
        ({"label_column": "tags"}, "must have the column 'tags'; it has image, label, place"),
        ({"labels": str(tmp_path / "labels.txt")}, "must be a .csv or .parquet table"),
        ({"labels": str(tmp_path / "none.csv")}, "none.csv must exist"),
    ):
        with pytest.raises(DataError, match=message):
            read_dataset_labels(Store(), dataset("table", **({"labels": str(text)} | changes)))


def test_rows_are_in_the_order_of_the_ids() -> None:
    rows = LabelRows(("b", "a"), (("x",), ("y",)))
    for order in (("a", "b"), ("b", "a")):
        joined = join_labels(dataset("table"), images(*order), rows)
        assert joined.labels.ids.tolist() == ["a", "b"]
        assert joined.labels.top_class().tolist() == [1, 0]


def test_masks_beside_images_are_refused() -> None:
    """The root of ADE20K holds annotations/x.png beside images/x.jpg."""
    found = images("annotations/ADE_train_1.png", "images/ADE_train_1.jpg")
    rows = LabelRows(("ADE_train_1",), (("street",),), {"part": ("train",)})
    with pytest.raises(DataError, match=r"'ADE_train_1' is both annotations/.*\.png and images/"):
        join_labels(dataset("ade20k"), found, rows)


def test_ade20k_keeps_the_frequent_scenes() -> None:
    names = [f"ADE_train_{n}" for n in range(98)] + [f"ADE_train_rare_{n}" for n in range(97)]
    labels = (("street",),) * 98 + (("attic",),) * 97
    rows = LabelRows(tuple(names), labels, {"part": ("train",) * 195})
    joined = join_labels(dataset("ade20k"), images(*names), rows)
    assert joined.labels.classes == ("street",)
    assert len(joined.labels) == 98


def test_images_of_small_classes_are_not_asked_for(tmp_path: Path) -> None:
    scenes = tmp_path / "sceneCategories.txt"
    lines = [f"ADE_train_{n} street" for n in range(98)] + [f"ADE_val_{n} attic" for n in range(97)]
    scenes.write_text("\n".join([*lines, "ADE_train_x misc"]))
    rows = read_dataset_labels(Store(), dataset("ade20k", labels=str(scenes)))
    assert rows is not None
    assert rows.counts() == {"street": 98}
    scenes.write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match="a class of at least 98 images; the largest has 97"):
        read_dataset_labels(Store(), dataset("ade20k", labels=str(scenes)))
    found = ImageFeatures(np.array(["1", "2"]), np.ones((2, 2), np.float32), {}, "x", 0, 5)
    joined = join_labels(dataset("table"), found, LabelRows(("1",), (("a",),)))
    assert joined.unlabeled == 6


def test_groups_are_columns() -> None:
    labels = label_table(["a"], [["x"]], columns={"site": np.array(["n"])})
    require_columns(labels, ("site",))
    with pytest.raises(ConfigError, match="there is no 'place' among site"):
        require_columns(labels, ("site", "place"))


def test_folders_give_labels_and_columns() -> None:
    found = images("a/1.jpg", "b/2.jpg", "3.jpg", label=["a", "b", ""], site=["n", "s", "n"])
    joined = join_labels(dataset("folder"), found, None)
    assert joined.labels.classes == ("a", "b")
    assert joined.labels.columns["site"].tolist() == ["n", "s"]
    with pytest.raises(ConfigError, match="there is no 'cls' among label, site"):
        join_labels(dataset("folder", label_column="cls"), found, None)
    many = LabelRows(("1", "2"), (("x", "y"), ("x",)))
    with pytest.raises(DataError, match="at most the smallest class"):
        join_labels(dataset("table", min_class_size=2), images("1", "2"), many)


def _balanced(per_class: int = 40) -> LabelTable:
    ids = [f"{name}/{n:02d}" for name in "abc" for n in range(per_class)]
    return label_table(ids, [[tile[0]] for tile in ids])


def test_pools_are_long_tailed_and_the_test_part_balanced() -> None:
    labels = _balanced()
    config = dataset(
        "folder", long_tail={"imbalance": 4, "largest": 24, "holdout": 10, "seed": 0}
    )  # fmt: skip
    splits = [split_dataset(labels, config, pool) for pool in range(3)]
    for split in splits:
        assert labels.matrix[split.test].sum(axis=0).tolist() == [10, 10, 10]
        both = np.concatenate([split.train, split.validation])
        assert sorted(labels.matrix[both].sum(axis=0).tolist()) == [6, 12, 24]
        assert not set(both.tolist()) & set(split.test.tolist())
        assert len(split.train) == pytest.approx(0.75 * 42, abs=1)
    assert len({tuple(split.train.tolist()) for split in splits}) == 3
    greedy = dataset("folder", long_tail={"imbalance": 4, "largest": 24, "holdout": 40, "seed": 0})
    with pytest.raises(DataError, match=r"Lower dataset\.long_tail\.holdout"):
        split_dataset(labels, greedy, 0)


def test_without_a_recipe_pools_are_other_splits() -> None:
    labels = _balanced()
    first, second = (split_dataset(labels, dataset("folder"), pool) for pool in range(2))
    assert first.test.tolist() != second.test.tolist()


def test_official_parts_of_ade20k() -> None:
    labels = _balanced()
    part = np.array(["val" if n % 5 == 0 else "train" for n in range(len(labels))])
    official = LabelTable(labels.ids, labels.classes, labels.matrix, {"part": part})
    split = split_dataset(official, dataset("ade20k", split={"kind": "official"}), 0)
    assert split.test.tolist() == list(range(0, 120, 5))
    assert len(split.train) == 72
