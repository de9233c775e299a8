"""Label files of Planet, ADE20K and plain tables: what is read, refused, and was published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.errors import DataError
from balancer.imbalance.labels import label_table
from balancer.storage.filesystem import Store
from balancer.storage.labeled_sources import (
    LabelRows,
    frequent_labels,
    image_stem,
    parse_planet,
    parse_scenes,
    read_text,
    rows_of_table,
)
from balancer.storage.published_labels import (
    PLANET_COUNTS,
    ade20k_differences,
    planet_differences,
    require_published,
)

PLANET = Path(__file__).parents[3] / "shared" / "data" / "planet" / "train_v2.csv"


def test_planet_repeated_tags_count_once() -> None:
    rows = parse_planet("image_name,tags\nt_0,blow_down clear primary blow_down\nt_1,haze\n", "x")
    assert rows.labels == (("blow_down", "clear", "primary"), ("haze",))
    assert rows.repeated == 1
    assert rows.counts() == {"blow_down": 1, "clear": 1, "haze": 1, "primary": 1}


@pytest.mark.skipif(not PLANET.exists(), reason="Planet's train_v2.csv is not here")
def test_the_published_planet_labels() -> None:
    rows = parse_planet(PLANET.read_text(), "train_v2.csv")
    assert planet_differences(rows) == []
    assert sum(rows.counts().values()) == 116_205
    assert rows.counts() == dict(PLANET_COUNTS)
    # Counting occurrences, as kernels do, would count these repetitions too.
    assert rows.repeated == 73


@pytest.mark.skipif(not PLANET.exists(), reason="Planet's train_v2.csv is not here")
def test_strict_names_what_differs() -> None:
    text = PLANET.read_text().replace("train_1,agriculture clear primary water", "train_1,haze")
    found = planet_differences(parse_planet(text, "x"))
    assert "images labeled agriculture: 12315 -> 12314" in found
    assert "images labeled haze: 2697 -> 2698" in found
    with pytest.raises(DataError, match=r"strict: true(.|\n)*agriculture: 12315 -> 12314"):
        require_published(found, "train_v2.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,tags\na,b\n", "must have the columns image_name, tags; got name, tags"),
        ("image_name,tags\n", "must have rows; got none"),
        ("image_name,tags\na,x\na,y\n", "must name each image once; 'a' is named 2 times"),
        ("image_name,tags\na,\n", "must have a label for every image; 'a' has none"),
    ],
)
def test_planet_refusals(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_planet(text, "labels.csv")


def test_scenes_leave_out_misc_and_tell_the_part() -> None:
    text = "ADE_train_00000001 airport_terminal\nADE_train_00000002 misc\nADE_val_00000001 street\n"
    rows = parse_scenes(text, "sceneCategories.txt")
    assert rows.names == ("ADE_train_00000001", "ADE_val_00000001")
    assert rows.columns["part"] == ("train", "val")
    with pytest.raises(
        DataError, match=r"sceneCategories\.txt:1 must be an image name and a scene"
    ):
        parse_scenes("one two three", "sceneCategories.txt")


def test_the_published_ade20k_numbers() -> None:
    # 18 scenes between the published ends, so that images and validation images add up.
    sizes = {"street": (2241, 203), "art_studio": (98, 9)} | {
        f"scene_{n}": (360 if n < 17 else 350, 33 if n < 14 else 32) for n in range(18)
    }
    lines = [
        f"ADE_{'val' if i < in_val else 'train'}_{name}_{i} {name}"
        for name, (size, in_val) in sizes.items()
        for i in range(size)
    ]
    lines += [f"ADE_train_rare_{i} rare" for i in range(97)]
    rows = frequent_labels(parse_scenes("\n".join(lines), "x"), 98)
    assert len(rows.names) == 8809
    assert ade20k_differences(rows) == []
    assert ade20k_differences(rows.take(range(8808))) == ["images: 8809 -> 8808"]


def test_tables_by_image_name() -> None:
    columns = {"place": np.array(["n", None], dtype=object), "lat": np.array([1.5, 2.0])}
    rows = rows_of_table(
        label_table(["a.jpg", "x/b.png"], [["sea", "land"], ["sea"]], columns=columns), "t"
    )
    assert rows.names == ("a", "b")
    assert rows.labels == (("land", "sea"), ("sea",))
    assert rows.columns == {"place": ("n", ""), "lat": ("1.5", "2.0")}
    for ids, labels, message in (
        (["a.jpg", "x/a.png"], [["sea"], ["sea"]], "must name each image once; 'a' is named 2"),
        (["a", "b"], [["sea"], []], "must have a label for every image; 'b' has none"),
    ):
        with pytest.raises(DataError, match=message):
            rows_of_table(label_table(ids, labels), "t.csv")


def test_a_missing_file_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_v2\.csv must be Planet's labels; got none"):
        read_text(Store(), str(tmp_path / "train_v2.csv"), "Planet's labels")


def test_small_pieces() -> None:
    assert image_stem("images/training/ADE_train_1.jpg") == "ADE_train_1"
    rows = LabelRows(("a", "b"), (("x",), ("y",)), {"place": ("n", "s")})
    assert rows.take([1]).columns["place"] == ("s",)
