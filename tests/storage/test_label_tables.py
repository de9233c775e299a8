"""Label tables of every form that users have, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.label_tables import TableLayout, read_labels


def write(root: str, store: Store, name: str, text: str) -> str:
    uri = store.join(root, name)
    store.write_bytes(uri, text.encode())
    return uri


def test_planets_csv(root: str, store: Store) -> None:
    text = "image_name,tags\ntrain_0,haze primary\ntrain_1,blow_down clear primary blow_down\n"
    table = read_labels(store, write(root, store, "train.csv", text))
    assert table.ids.tolist() == ["train_0", "train_1"]
    assert table.classes == ("blow_down", "clear", "haze", "primary")
    assert table.counts().tolist() == [1, 1, 1, 2]


def test_one_label_per_row_and_metadata(tmp_path: Path, store: Store) -> None:
    text = 'tile_id,label,site\r\na,bare soil,"north, upper"\r\nb,,\r\n\r\nc,sea,south\r\n'
    table = read_labels(store, write(str(tmp_path), store, "t.csv", "\ufeff" + text))
    assert table.classes == ("bare soil", "sea")
    assert table.matrix.tolist() == [[True, False], [False, False], [False, True]]
    assert table.columns["site"].tolist() == ["north, upper", None, "south"]


def test_named_columns_and_separator(tmp_path: Path, store: Store) -> None:
    uri = write(str(tmp_path), store, "t.csv", "name,what\na,sea;bare soil ;\nb,sea\n")
    layout = TableLayout(labels_column="what", id_column="name", separator=";")
    assert read_labels(store, uri, layout).classes == ("bare soil", "sea")
    whole = read_labels(store, uri, TableLayout(labels_column="what", id_column="name"))
    assert whole.classes == ("sea", "sea;bare soil ;")


def test_parquet_with_lists_or_numbers(tmp_path: Path, store: Store) -> None:
    lists = str(tmp_path / "lists.parquet")
    columns = {"id": [7, 8], "labels": [["sea", "land"], []], "lat": [1.5, None]}
    pq.write_table(pa.table(columns), lists)
    table = read_labels(store, lists)
    assert table.ids.tolist() == ["7", "8"]
    assert table.counts().tolist() == [1, 1]
    assert table.columns["lat"].tolist() == [1.5, None]
    numbers = str(tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"tile_id": ["a", "b"], "label": [3, 12]}), numbers)
    assert read_labels(store, numbers).classes == ("12", "3")


def test_folder_per_class(tmp_path: Path, store: Store) -> None:
    for name in ("sea/1.jpg", "sea/2.png", "land/1.jpg"):
        path = tmp_path / "tiles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    table = read_labels(store, str(tmp_path / "tiles"))
    assert table.ids.tolist() == ["land/1.jpg", "sea/1.jpg", "sea/2.png"]
    assert table.top_class().tolist() == [0, 1, 1]
    with zipfile.ZipFile(tmp_path / "tiles.zip", "w") as archive:
        for tile in table.ids.tolist():
            archive.write(tmp_path / "tiles" / tile, tile)
    zipped = read_labels(store, str(tmp_path / "tiles.zip"))
    assert zipped.ids.tolist() == table.ids.tolist()
    assert (zipped.matrix == table.matrix).all()
    with pytest.raises(DataError, match="to have named columns"):
        read_labels(store, str(tmp_path / "tiles"), TableLayout(labels_column="label"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,tags\na,sea\n", "one of the columns image_name, tile_id.*--id-column names; it has"),
        ("id,what\na,sea\n", "one of the columns tags, labels.*--labels-column names"),
        ("id,tags\na,sea\n,land\n", "an id in every row of the column 'id'; row 1 has none"),
        ("id,tags\na,sea\na,land\n", "Ids must be unique; 1 repeat"),
        ("id,tags\na,sea,b\n", "2 values in every line; line 2 has 3"),
        ("id,tags,tags\na,b,c\n", "name each column once"),
        ("id,tags\na,\n", "give some tile a label; none of its 1 rows"),
        ("", "it has none"),
    ],
)
def test_refusals(tmp_path: Path, store: Store, text: str, message: str) -> None:
    uri = write(str(tmp_path), store, "t.csv", text)
    with pytest.raises(DataError, match=message):
        read_labels(store, uri)


def test_files_that_are_not_there_or_not_text(tmp_path: Path, store: Store) -> None:
    with pytest.raises(DataError, match="must exist"):
        read_labels(store, str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes("id,tags\na,\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="must be UTF-8"):
        read_labels(store, str(tmp_path / "latin.csv"))
