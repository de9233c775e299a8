"""Tables, embeddings, manifests and encoders: what a run leaves behind."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from balancer.errors import DataError
from balancer.storage.checkpoints import load_encoder, load_weights, save_encoder
from balancer.storage.embedding_shards import read_embeddings, read_vectors, write_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.manifests import (
    MANIFEST_SCHEMA,
    manifest_table,
    read_manifest,
    write_manifest,
)
from balancer.storage.tables import read_table, write_table
from balancer.types import EmbeddingShard, Selection

IDS = np.array(["a", "bb", "ccc"])
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


def write_shard(store: Store, uri: str) -> EmbeddingShard:
    return write_embeddings(
        store, uri, shard_id="s", tile_ids=IDS, embeddings=VECTORS, encoder_fingerprint="e"
    )


def test_tables_have_the_same_bytes_however_chunked(store: Store, root: str) -> None:
    table = pa.table({"x": [1, 2, 3], "y": ["a", None, "c"]})
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    first = write_table(store, store.join(root, "1.parquet"), table, {"b": "2", "a": "1"})
    second = write_table(store, store.join(root, "2.parquet"), chunked, {"a": "1", "b": "2"})
    assert first.sha256 == second.sha256
    assert first.num_rows == 3
    read = read_table(store, first.uri, sha256=first.sha256, columns=["y"])
    assert read.column_names == ["y"]
    assert read.schema.metadata[b"a"] == b"1"


def test_damaged_tables_are_refused(store: Store, root: str) -> None:
    uri = store.join(root, "t.parquet")
    record = write_table(store, uri, pa.table({"x": list(range(1000))}))
    data = bytearray(store.read_bytes(uri))
    data[100] ^= 1
    store.write_bytes(uri, bytes(data))
    with pytest.raises(DataError, match="must have the sha256"):
        read_table(store, uri, sha256=record.sha256)
    with pytest.raises(DataError, match="must be a complete Parquet file"):
        read_table(store, uri)
    with pytest.raises(DataError, match="there is no such file"):
        read_table(store, store.join(root, "absent.parquet"))


def test_embeddings_come_back(store: Store, root: str) -> None:
    uri = store.join(root, "e.parquet")
    shard = write_shard(store, uri)
    assert (shard.num_rows, shard.dim, shard.encoder_fingerprint) == (3, 4, "e")
    ids, vectors = read_embeddings(store, shard)
    assert ids.tolist() == IDS.tolist()
    assert np.array_equal(vectors, VECTORS)
    assert vectors.flags.c_contiguous
    assert write_shard(store, store.join(root, "f.parquet")).sha256 == shard.sha256
    with pytest.raises(DataError, match="must hold 3 embeddings of 5 dimensions; got 3 of 4"):
        read_embeddings(store, replace(shard, dim=5))


def test_an_empty_embedding_shard(store: Store, root: str) -> None:
    shard = write_embeddings(
        store,
        store.join(root, "e.parquet"),
        shard_id="s",
        tile_ids=[],
        embeddings=np.empty((0, 4), np.float32),
        encoder_fingerprint="e",
    )
    ids, vectors = read_embeddings(store, shard)
    assert len(ids) == 0
    assert vectors.shape == (0, 4)


def test_embeddings_of_the_wrong_kind_are_refused(store: Store, root: str) -> None:
    arguments: dict[str, Any] = {"shard_id": "s", "tile_ids": IDS, "encoder_fingerprint": "e"}
    with pytest.raises(ValueError, match=r"must be \(N, D\) float32"):
        write_embeddings(store, root, embeddings=VECTORS.astype(np.float64), **arguments)
    with pytest.raises(ValueError, match=r"one id per row \(2\); got 3"):
        write_embeddings(store, root, embeddings=VECTORS[:2], **arguments)


def test_plain_readers_understand_embeddings(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    write_shard(store, str(path))
    assert np.array_equal(np.stack(pd.read_parquet(path)["embedding"].to_list()), VECTORS)
    assert np.array_equal(pl.read_parquet(path)["embedding"].to_numpy(), VECTORS)
    rows = duckdb.read_parquet(str(path)).select("embedding").fetchall()
    assert np.array_equal(np.array([row[0] for row in rows], np.float32), VECTORS)


def save_parquet(store: Store, uri: str, columns: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    store.write_bytes(uri, buffer.getvalue())


def test_users_vectors(store: Store, root: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, VECTORS.astype(np.float64))
    store.write_bytes(uri := store.join(root, "x.npy"), buffer.getvalue())
    ids, vectors = read_vectors(store, uri)
    assert ids.tolist() == ["0", "1", "2"]
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, VECTORS)
    save_parquet(store, store.join(root, "p", "1.parquet"), {"key": [7], "v": [[1.0, 2.0]]})
    fixed = pa.array([[3.0, 4.0]], pa.list_(pa.float32(), 2))
    save_parquet(store, store.join(root, "p", "2.parquet"), {"key": [8], "v": fixed})
    ids, vectors = read_vectors(store, store.join(root, "p"), "key", "v")
    assert ids.tolist() == ["7", "8"]
    assert vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "embedding": [[1.0]]}, "must have the column 'tile_id'; it has id, embed"),
        ({"tile_id": ["a", "b"], "embedding": [[1.0], [1.0, 2.0]]}, r"row 1 \(tile 'b'\) has 2"),
        ({"tile_id": ["a", "b"], "embedding": [[1.0], None]}, r"tile 'b' \(row 1\) has null"),
        ({"tile_id": ["a"], "embedding": [[1.0, None]]}, r"tile 'a' \(row 0\) has a null in it"),
        ({"tile_id": ["a"], "embedding": [1.0]}, "must hold lists of numbers; got double"),
        ({"tile_id": ["a"], "embedding": [["x"]]}, "must hold lists of floating-point numbers"),
        ({"tile_id": ["a", "a"], "embedding": [[1.0], [2.0]]}, "'a' is in rows 0 and 1"),
        ({"tile_id": ["a", None], "embedding": [[1.0], [2.0]]}, "row 1 is null"),
        ({"tile_id": [1.5], "embedding": [[1.0]]}, "ids as text or whole numbers; got double"),
    ],
)
def test_bad_vectors_are_named(
    store: Store, tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    uri = str(tmp_path / "v.parquet")
    save_parquet(store, uri, columns)
    with pytest.raises(DataError, match=message):
        read_vectors(store, uri)


def test_bad_matrices_are_named(store: Store, tmp_path: Path) -> None:
    uri = str(tmp_path / "x.npy")
    cases: list[tuple[NDArray[Any], str]] = [
        (np.zeros(3, np.float32), r"got shape \(3,\) of float32"),
        (np.zeros((3, 2), np.int64), "of int64"),
        (np.array([{}], object), "must be a .npy file of numbers"),
    ]
    for array, message in cases:
        np.save(uri, array)
        with pytest.raises(DataError, match=message):
            read_vectors(store, uri)
    with pytest.raises(DataError, match="found none of these"):
        read_vectors(store, str(tmp_path / "absent"))


def made_selection() -> Selection:
    return Selection(
        tile_ids=np.array(["ccc", "a"]),
        shard_ids=np.array(["s1", "s0"]),
        cluster=np.array([1, -1]),
        distance=np.array([np.nan, 0.5], np.float32),
        weight=np.array([1.0, 2.0]),
        reason=np.array(["first", "farthest"]),
    )


def made_catalog() -> pa.Table:
    return pa.table(
        {
            "tile_id": ["a", "bb", "ccc"],
            "uri": ["t.tar"] * 3,
            "member": ["a.jpg", "bb.jpg", "ccc.jpg"],
            "offset": [0, 10, 20],
            "num_bytes": [5, 6, 7],
            "codec": ["raw"] * 3,
            "sha256": ["0", "1", "2"],
            "width": [8] * 3,
            "height": [8] * 3,
            "mode": ["RGB"] * 3,
            "label": ["x", "y", "z"],
        }
    )


def test_manifests_have_their_columns_and_the_same_bytes(store: Store, root: str) -> None:
    table = manifest_table(made_selection(), made_catalog(), round_index=2)
    assert table.column_names == [
        *MANIFEST_SCHEMA.names, "codec", "width", "height", "mode", "label",
    ]  # fmt: skip
    footer = {"seed": 1, "round": 2, "config": {"b": 1, "a": "ü"}}
    first = write_manifest(store, store.join(root, "1.parquet"), table, footer)
    second = write_manifest(
        store, store.join(root, "2.parquet"), table, dict(reversed(footer.items()))
    )
    assert (first.sha256, first.selection_fingerprint) == (
        second.sha256,
        second.selection_fingerprint,
    )
    read, facts = read_manifest(store, first.uri, sha256=first.sha256)
    assert facts == {
        **footer,
        "schema_version": 1,
        "num_rows": 2,
        "selection_fingerprint": first.selection_fingerprint,
    }
    assert read.select(["tile_id", "uri", "offset", "shard", "rank", "cluster"]).to_pylist() == [
        {"tile_id": "ccc", "uri": "t.tar", "offset": 20, "shard": "s1", "rank": 0, "cluster": 1},
        {"tile_id": "a", "uri": "t.tar", "offset": 0, "shard": "s0", "rank": 1, "cluster": -1},
    ]
    assert read["label"].to_pylist() == ["z", "x"]


def test_plain_readers_understand_manifests(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(store, str(path), manifest_table(made_selection(), made_catalog()), {})
    names = pq.read_schema(path).names
    by_pandas = pd.read_parquet(path)
    assert list(by_pandas.columns) == names
    assert by_pandas["tile_id"].tolist() == ["ccc", "a"]
    by_polars = pl.read_parquet(path)
    assert by_polars.columns == names
    assert by_polars["tile_id"].to_list() == ["ccc", "a"]
    by_duckdb = duckdb.read_parquet(str(path))
    assert by_duckdb.columns == names
    assert [row[0] for row in by_duckdb.fetchall()] == ["ccc", "a"]


def test_a_manifest_of_plain_vectors_has_the_same_columns(store: Store, root: str) -> None:
    table = manifest_table(made_selection())
    assert table.schema == MANIFEST_SCHEMA
    assert table["uri"].null_count == 2
    write_manifest(store, uri := store.join(root, "m.parquet"), table, {})
    assert read_manifest(store, uri)[0].num_rows == 2


def test_bad_manifests_are_refused(store: Store, root: str) -> None:
    uri = store.join(root, "m.parquet")
    with pytest.raises(DataError, match=r"'ccc' is not \(1 missing"):
        manifest_table(made_selection(), made_catalog().slice(0, 2))
    table = manifest_table(made_selection())
    with pytest.raises(ValueError, match="must start with the manifest's columns"):
        write_manifest(store, uri, table.drop_columns(["rank"]), {})
    with pytest.raises(DataError, match="repeats a tile_id"):
        write_manifest(store, uri, pa.concat_tables([table, table]), {})
    write_table(store, uri, table)
    with pytest.raises(DataError, match="schema version 1; got None"):
        read_manifest(store, uri)


def test_encoders_come_back(store: Store, root: str) -> None:
    state = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "count": np.array(7),
        "half": np.ones(2, np.float16),
    }
    prefix = store.join(root, "encoder")
    record = save_encoder(store, prefix, state, {"backbone": "small-conv", "dim": 3})
    loaded, description = load_encoder(store, prefix, sha256=record.sha256)
    assert description == {"backbone": "small-conv", "dim": 3}
    assert loaded.keys() == state.keys()
    for name, array in state.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert np.array_equal(loaded[name], array)
    turned = dict(reversed(state.items()))
    assert save_encoder(store, store.join(root, "other"), turned, {}).sha256 == record.sha256
    assert load_weights(store, record.uri).keys() == state.keys()


def test_damaged_encoders_are_refused(store: Store, root: str) -> None:
    prefix = store.join(root, "encoder")
    record = save_encoder(store, prefix, {"w": np.ones(3)}, {})
    store.write_bytes(record.uri, safetensors.save({"w": np.zeros(3)}))
    with pytest.raises(DataError, match="must have the sha256"):
        load_encoder(store, prefix)
    store.write_bytes(record.uri, b"cut")
    with pytest.raises(DataError, match="must be a complete safetensors file"):
        load_weights(store, record.uri)
    store.write_bytes(f"{prefix}.json", b"{}")
    with pytest.raises(DataError, match="must describe an encoder"):
        load_encoder(store, prefix)
