"""Lists of ids in text, CSV and Parquet, here and in S3."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from balancer.config import SelectionConfig
from balancer.errors import ConfigError, DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import write_table
from balancer.storage.tile_lists import read_numbers, read_tile_ids, read_tile_lists


def test_every_format_in_the_order_of_the_file(root: str, store: Store) -> None:
    wanted = ["b/2.png", "a 1", "é,x"]
    store.write_bytes(f"{root}/list.txt", "b/2.png\r\na 1\n\né,x\n".encode())
    store.write_bytes(f"{root}/list.csv", '\ufeffn,tile_id\n1,b/2.png\n2,a 1\n3,"é,x"\n'.encode())
    write_table(store, f"{root}/list.parquet", pa.table({"tile_id": wanted}))
    for name in ("list.txt", "list.csv", "list.parquet"):
        assert read_tile_ids(store, f"{root}/{name}").tolist() == wanted


@pytest.mark.parametrize("name", ["none.txt", "none.csv"])
def test_an_empty_file_names_no_tile(tmp_path: Path, store: Store, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert read_tile_ids(store, str(tmp_path / name)).tolist() == []


def test_whole_numbers_are_ids(tmp_path: Path, store: Store) -> None:
    write_table(store, str(tmp_path / "n.pq"), pa.table({"tile_id": [7, 12]}))
    assert read_tile_ids(store, str(tmp_path / "n.pq")).tolist() == ["7", "12"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"id\n1\n", "must have the column 'tile_id' in its first line; it has id"),
        ("a.csv", b"tile_id,x\na,1\n,2\n", "row 1 has none"),
        ("a.txt", b"\xff\xfe\x00", "must be UTF-8 text with tile ids"),
    ],
)
def test_what_is_no_list(
    tmp_path: Path, store: Store, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_tile_ids(store, str(tmp_path / name))


def test_missing_files_and_columns(tmp_path: Path, store: Store) -> None:
    with pytest.raises(DataError, match=r"none\.txt must exist"):
        read_tile_ids(store, str(tmp_path / "none.txt"))
    write_table(store, str(tmp_path / "f.parquet"), pa.table({"tile_id": [1.5]}))
    with pytest.raises(DataError, match="must hold ids as text or whole numbers"):
        read_tile_ids(store, str(tmp_path / "f.parquet"))


def test_lists_must_not_contradict_each_other(tmp_path: Path, store: Store) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("a\nb\n")
    other.write_text("c\nb\nc\n")
    config = SelectionConfig(budget=5, include=str(one), exclude=str(other))
    with pytest.raises(ConfigError, match=r"must not share tiles; 'b' is on both \(1 in all\)"):
        read_tile_lists(store, config)
    with pytest.raises(ConfigError, match="must name each tile once; 'c' repeats"):
        read_tile_lists(store, SelectionConfig(budget=5, include=str(other)))
    lists = read_tile_lists(store, SelectionConfig(budget=5, exclude=str(other)))
    assert lists.exclude.tolist() == ["b", "c"]
    assert len(lists.include) == 0
    assert len(lists) == 2


def test_numbers_come_in_the_order_of_the_files(tmp_path: Path, store: Store) -> None:
    for name, values in (("b", [3.0]), ("a", [1.0, None])):
        write_table(store, str(tmp_path / f"{name}.parquet"), pa.table({"q": values}))
    found = read_numbers(store, str(tmp_path), "q").tolist()
    assert found[0] == 1
    assert found[1] != found[1]
    assert found[2] == 3
    with pytest.raises(ConfigError, match="must name a column of Parquet embeddings; got 'q'"):
        read_numbers(store, "x.npy", "q")
