from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balancer.config import ArchiveConfig
from balancer.errors import DataError, UnreadableTileError
from balancer.storage.filesystem import Store
from balancer.storage.sources import SourceShard, discover
from balancer.storage.tile_metadata import unify_schemas
from balancer.storage.tile_reader import read_tiles
from balancer.storage.tile_shards import find_duplicates, index_shard
from tests.data.make_tiles import (
    CLASSES,
    MadeTile,
    bad_tiles,
    make_tiles,
    parquet_bytes,
    tar_bytes,
    write_folder,
    zip_bytes,
)

TILES = make_tiles()
FORMATS = ["folder", "zip", "webdataset", "parquet", "parquet-struct"]


def write_archive(store: Store, root: str, kind: str, tiles: Sequence[MadeTile] = TILES) -> str:
    """Write an archive, whole files in two shards; return its URI."""
    half = len(tiles) // 2
    if kind == "folder":
        write_folder(lambda name, data: store.write_bytes(store.join(root, name), data), tiles)
        return root
    if kind == "zip":
        store.write_bytes(uri := store.join(root, "tiles.zip"), zip_bytes(tiles))
        return uri
    for index, part in enumerate([tiles[:half], tiles[half:]]):
        if kind == "webdataset":
            store.write_bytes(store.join(root, f"{index:05d}.tar"), tar_bytes(part))
        else:
            data = parquet_bytes(part, as_struct=kind.endswith("struct"))
            store.write_bytes(store.join(root, f"{index:05d}.parquet"), data)
    return root


def catalog(store: Store, archive: ArchiveConfig) -> tuple[list[SourceShard], pa.Table, pa.Table]:
    """Return the shards, the joined catalog and the joined quarantine of an archive."""
    shards = discover(store, archive)
    indexed = [index_shard(store, shard, archive) for shard in shards]
    schema = unify_schemas([i.table.schema for i in indexed], [s.shard_id for s in shards])
    tables = pa.concat_tables([i.table for i in indexed], promote_options="permissive")
    assert tables.schema == schema
    return shards, tables, pa.concat_tables([i.quarantine for i in indexed])


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_tiles(store: Store, root: str, kind: str) -> None:
    archive = ArchiveConfig(uri=write_archive(store, root, kind), tiles_per_shard=4)
    shards, table, quarantine = catalog(store, archive)
    assert quarantine.num_rows == 0
    whole_name = kind in {"folder", "zip"}
    ids = [tile.name if whole_name else tile.stem for tile in TILES]
    assert table["tile_id"].to_pylist() == ids
    assert table["sha256"].to_pylist() == [hashlib.sha256(t.data).hexdigest() for t in TILES]
    assert table["lon"].to_pylist() == [tile.sidecar["lon"] for tile in TILES]
    assert set(table["width"].to_pylist()) == {16}
    assert set(table["mode"].to_pylist()) == {"RGB"}
    if kind == "webdataset":
        classes = list(CLASSES)
        assert table["cls"].to_pylist() == [classes.index(tile.label) for tile in TILES]
    else:
        assert Counter(table["label"].to_pylist()) == CLASSES
    assert len(shards) == (3 if whole_name else 2)
    assert len({shard.shard_id for shard in shards}) == len(shards)
    assert [s.shard_id for s in discover(store, archive)] == [s.shard_id for s in shards]

    read = dict(read_tiles(store, table))
    assert [read[row] for row in range(len(TILES))] == [tile.data for tile in TILES]
    some = dict(read_tiles(store, table, indices=np.array([7, 2])))
    assert some == {2: TILES[2].data, 7: TILES[7].data}


@pytest.mark.parametrize("kind", ["zip", "webdataset"])
def test_a_container_is_read_with_few_requests(
    store: Store, tmp_path: object, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = ArchiveConfig(uri=write_archive(store, str(tmp_path), kind))
    _, table, _ = catalog(store, archive)
    requests = []
    read_bytes = Store.read_bytes

    def counting(self: Store, uri: str, offset: int = 0, num_bytes: int | None = None) -> bytes:
        requests.append(uri)
        return read_bytes(self, uri, offset, num_bytes)

    monkeypatch.setattr(Store, "read_bytes", counting)
    assert len(list(read_tiles(store, table))) == len(TILES)
    assert len(requests) == len(set(table["uri"].to_pylist()))


def test_unreadable_tiles_are_quarantined_with_reasons(store: Store, root: str) -> None:
    bad = bad_tiles()
    for name, (_, data) in bad.items():
        store.write_bytes(store.join(root, f"{name}.jpg"), data)
    store.write_bytes(store.join(root, "good.jpg"), TILES[0].data)
    _, table, quarantine = catalog(store, ArchiveConfig(uri=root))
    assert table["tile_id"].to_pylist() == ["good.jpg"]
    reasons = {row["tile_id"]: row["reason"] for row in quarantine.to_pylist()}
    assert reasons == {f"{name}.jpg": reason for name, (reason, _) in bad.items()}
    assert all(quarantine["detail"].to_pylist())


def test_a_damaged_zip_member_is_quarantined(store: Store, root: str) -> None:
    data = bytearray(zip_bytes(TILES))
    for tile in TILES[:2]:
        start = data.index(tile.name.encode()) + len(tile.name)
        data[start + 40 : start + 60] = bytes(20)
    store.write_bytes(uri := store.join(root, "a.zip"), bytes(data))
    _, table, quarantine = catalog(store, ArchiveConfig(uri=uri))
    assert quarantine["tile_id"].to_pylist() == [tile.name for tile in TILES[:2]]
    assert set(quarantine["reason"].to_pylist()) == {"corrupt"}
    assert table.num_rows == len(TILES) - 2


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_cut_container_is_quarantined(store: Store, root: str, kind: str, share: float) -> None:
    data = tar_bytes(TILES) if kind == "tar" else parquet_bytes(TILES)
    cut = data[: int(len(data) * share)]
    store.write_bytes(store.join(root, f"a.{kind}"), cut)
    _, table, quarantine = catalog(store, ArchiveConfig(uri=root))
    assert quarantine["tile_id"].to_pylist() == [""]
    assert quarantine["reason"].to_pylist() == ["truncated" if cut else "empty"]
    assert quarantine["uri"].to_pylist() == [store.join(root, f"a.{kind}")]
    assert table.num_rows < len(TILES)


def test_a_tar_cut_between_members_is_noticed(store: Store, root: str) -> None:
    data = tar_bytes(TILES[:2]).rstrip(b"\0")
    data += bytes(-len(data) % 512)
    store.write_bytes(store.join(root, "a.tar"), data)
    _, table, quarantine = catalog(store, ArchiveConfig(uri=root))
    assert table.num_rows == 2
    assert quarantine["reason"].to_pylist() == ["truncated"]
    assert "no end mark" in quarantine["detail"][0].as_py()


def test_samples_without_or_with_two_images(store: Store, root: str) -> None:
    def tar(names: Sequence[str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(TILES[0].data)
                archive.addfile(info, io.BytesIO(TILES[0].data))
        return buffer.getvalue()

    store.write_bytes(uri := store.join(root, "a.tar"), tar(["a.txt", "b.jpg"]))
    _, table, quarantine = catalog(store, ArchiveConfig(uri=uri))
    assert table["tile_id"].to_pylist() == ["b"]
    assert quarantine["tile_id"].to_pylist() == ["a"]
    store.write_bytes(uri, tar(["a.rgb.jpg", "a.nir.jpg"]))
    with pytest.raises(DataError, match=r"'a' in .* has nir\.jpg, rgb\.jpg"):
        catalog(store, ArchiveConfig(uri=uri))


def test_empty_and_ambiguous_archives(store: Store, root: str) -> None:
    with pytest.raises(DataError, match=r"looked for images .* got no files at all"):
        discover(store, ArchiveConfig(uri=root))
    store.write_bytes(store.join(root, "readme.txt"), b"x")
    with pytest.raises(DataError, match=r"got 1 other files \(1 x \.txt\)"):
        discover(store, ArchiveConfig(uri=root))
    with pytest.raises(DataError, match=r"looked for \*\.tar files"):
        discover(store, ArchiveConfig(uri=root, format="webdataset"))
    with pytest.raises(DataError, match="must be a zip file; there is none"):
        discover(store, ArchiveConfig(uri=store.join(root, "x.zip")))
    store.write_bytes(store.join(root, "x.zip"), b"no zip")
    with pytest.raises(DataError, match="must be a complete zip file"):
        discover(store, ArchiveConfig(uri=store.join(root, "x.zip")))
    store.write_bytes(store.join(root, "a.jpg"), TILES[0].data)
    store.write_bytes(store.join(root, "a.tar"), tar_bytes(TILES))
    with pytest.raises(DataError, match="1 files for folder, 1 files for webdataset"):
        discover(store, ArchiveConfig(uri=root))
    assert len(discover(store, ArchiveConfig(uri=root, format="webdataset"))) == 1


def test_metadata_errors_name_the_place(store: Store, root: str) -> None:
    archive = ArchiveConfig(uri=root)
    store.write_bytes(store.join(root, "a.jpg"), TILES[0].data)
    for text, message in [
        (b"[1]", r"a\.json in .* holds a list"),
        (b"{", r"a\.json in .* is not JSON"),
        (b'{"sha256": "x"}', "must not be named 'sha256'"),
        (b'{"n": 123456789012345678901234567890}', "'n' must hold 64-bit numbers"),
    ]:
        store.write_bytes(store.join(root, "a.json"), text)
        with pytest.raises(DataError, match=message):
            catalog(store, archive)
    store.write_bytes(store.join(root, "a.json"), b'{"n": 1, "list": [1, 2], "none": null}')
    _, table, _ = catalog(store, archive)
    assert table.select(["n", "list", "none"]).to_pylist() == [
        {"n": 1, "list": "[1, 2]", "none": None}
    ]
    store.write_bytes(store.join(root, "b.jpg"), TILES[0].data)
    store.write_bytes(store.join(root, "b.json"), b'{"n": "one"}')
    with pytest.raises(DataError, match=r"'n' must hold one type; got int at tile 'a\.jpg'"):
        catalog(store, archive)


def test_parquet_columns_are_checked(store: Store, root: str) -> None:
    store.write_bytes(store.join(root, "a.parquet"), parquet_bytes(TILES))
    for config, message in [
        ({"id_column": "key"}, r"'key'; it has tile_id, image, lon, label. Set archive\.id_column"),
        ({"image_column": "img"}, r"Set archive\.image_column"),
        ({"id_column": "lon"}, "must not be named 'tile_id'"),
        ({"image_column": "label"}, "must hold image bytes; got string"),
    ]:
        with pytest.raises(DataError, match=message):
            catalog(store, ArchiveConfig.model_validate({"uri": root, **config}))


def test_parquet_ids_are_whole_and_present(store: Store, root: str) -> None:
    for ids, message in [
        ([1.5, 2.5], "must hold ids as text or whole numbers; got double"),
        (["a", None], "must have an id in every row; row 1 is null"),
    ]:
        buffer = io.BytesIO()
        pq.write_table(pa.table({"id": ids, "image": [TILES[0].data] * 2}), buffer)
        store.write_bytes(uri := store.join(root, "a.parquet"), buffer.getvalue())
        with pytest.raises(DataError, match=message):
            catalog(store, ArchiveConfig(uri=uri, id_column="id"))


def test_a_damaged_row_group_is_quarantined(store: Store, root: str) -> None:
    data = bytearray(parquet_bytes(TILES))
    data[data.index(TILES[5].data) + 5] ^= 1
    store.write_bytes(store.join(root, "a.parquet"), bytes(data))
    _, table, quarantine = catalog(store, ArchiveConfig(uri=root))
    assert table.num_rows == 3
    assert quarantine["reason"].to_pylist() == ["corrupt"]
    assert "row group 1" in quarantine["detail"][0].as_py()


def test_schemas_merge_or_name_the_conflict() -> None:
    one = pa.schema([("a", pa.int64()), ("b", pa.string())])
    other = pa.schema([("a", pa.float64()), ("c", pa.null())])
    merged = unify_schemas([one, other], ["s1", "s2"])
    assert merged == pa.schema([("a", pa.float64()), ("b", pa.string()), ("c", pa.null())])
    with pytest.raises(DataError, match=r"'b' must have one type .* string in s1 and int64 in s3"):
        unify_schemas([one, other, pa.schema([("b", pa.int64())])], ["s1", "s2", "s3"])


def made_catalog(ids: Sequence[str], contents: Sequence[str], uri: str) -> pa.Table:
    return pa.table(
        {
            "tile_id": pa.array(ids, pa.string()),
            "sha256": pa.array(contents, pa.string()),
            "uri": pa.array([uri] * len(ids), pa.string()),
            "member": pa.array(ids, pa.string()),
            "offset": pa.array(range(len(ids)), pa.int64()),
            "codec": pa.array(["raw"] * len(ids), pa.string()),
        }
    )


def test_duplicates_are_dropped_or_refused() -> None:
    tables = [
        made_catalog(["a", "b", "a"], ["1", "2", "1"], "x.tar"),
        made_catalog([], [], "y.tar"),
        made_catalog(["c", "b"], ["2", "2"], "z.tar"),
    ]
    found = find_duplicates(tables)
    assert [keep.tolist() for keep in found.keep] == [[True, True, False], [], [True, False]]
    assert found.num_dropped == 2
    with pytest.raises(DataError, match=r"'b' has different bytes in x\.tar \(b\) and in w\.tar"):
        find_duplicates([*tables, made_catalog(["b"], ["9"], "w.tar")])
    assert find_duplicates([]).num_dropped == 0
    assert find_duplicates([tables[1]]).keep[0].tolist() == []


def test_changed_and_vanished_tiles_are_reported(store: Store, root: str) -> None:
    archive = ArchiveConfig(uri=write_archive(store, root, "folder", TILES[:3]))
    _, table, _ = catalog(store, archive)
    store.write_bytes(store.join(root, TILES[0].name), TILES[5].data)
    store.delete(store.join(root, TILES[1].name))
    read = dict(read_tiles(store, table))
    for row, message in [(0, "no longer has the bytes"), (1, "does not exist any more")]:
        error = read[row]
        assert isinstance(error, UnreadableTileError)
        assert error.reason == "changed"
        assert message in error.detail
    assert read[2] == TILES[2].data


@pytest.mark.parametrize("kind", ["zip", "webdataset", "parquet"])
def test_a_vanished_container_is_named(store: Store, root: str, kind: str) -> None:
    archive = ArchiveConfig(uri=write_archive(store, root, kind))
    shards, table, _ = catalog(store, archive)
    store.delete(shards[0].uri)
    with pytest.raises(DataError, match=f"{shards[0].uri} .*--out"):
        list(read_tiles(store, table))
    with pytest.raises(DataError, match="does not exist any more"):
        index_shard(store, shards[0], archive)


def test_a_flipped_byte_is_read_again(
    store: Store, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, table, _ = catalog(store, ArchiveConfig(uri=write_archive(store, str(tmp_path), "zip")))
    read_bytes = Store.read_bytes
    calls: list[str] = []

    def flipping(self: Store, uri: str, offset: int = 0, num_bytes: int | None = None) -> bytes:
        data = bytearray(read_bytes(self, uri, offset, num_bytes))
        if not calls:
            data[10] ^= 1
        calls.append(uri)
        return bytes(data)

    monkeypatch.setattr(Store, "read_bytes", flipping)
    assert dict(read_tiles(store, table)) == {i: tile.data for i, tile in enumerate(TILES)}
    assert len(calls) == 2


def test_members_of_other_methods_are_quarantined(store: Store, root: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.jpg", TILES[0].data)
    store.write_bytes(uri := store.join(root, "a.zip"), buffer.getvalue())
    _, table, quarantine = catalog(store, ArchiveConfig(uri=uri))
    assert table.num_rows == 0
    assert quarantine["reason"].to_pylist() == ["unsupported-codec"]
