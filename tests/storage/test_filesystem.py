from __future__ import annotations

import os
import pickle  # noqa: TID251 - a store must travel between processes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from balancer.config import StorageConfig
from balancer.errors import ConfigError, StorageError
from balancer.storage.filesystem import Store


def test_bytes_come_back_whole_and_in_ranges(store: Store, root: str) -> None:
    uri = store.join(root, "a", "b.bin")
    store.write_bytes(uri, b"0123456789")
    assert store.read_bytes(uri) == b"0123456789"
    assert store.read_bytes(uri, 3, 4) == b"3456"
    assert store.read_bytes(uri, 7) == b"789"
    assert store.read_bytes(uri, 8, 100) == b"89"
    assert store.read_bytes(uri, 50, 5) == b""
    assert store.read_bytes(uri, 3, 0) == b""
    assert store.read_ranges([(uri, 0, 2), (uri + "x", 0, 1), (uri, 5, 1)]) == [b"01", None, b"5"]
    with store.open(uri) as file:
        file.seek(-2, 2)
        assert file.read() == b"89"
    store.write_bytes(uri, b"")
    assert store.read_bytes(uri) == b""


def test_listing_is_recursive_sorted_and_has_versions(store: Store, root: str) -> None:
    for name in ("b.txt", "a/z.txt", "a.txt"):
        store.write_bytes(store.join(root, name), name.encode())
    listed = store.list_files(root)
    assert [f.uri.removeprefix(f"{root}/") for f in listed] == ["a.txt", "a/z.txt", "b.txt"]
    assert [f.num_bytes for f in listed] == [5, 7, 5]
    assert store.info(listed[1].uri) == listed[1]
    assert store.list_files(listed[0].uri) == [listed[0]]
    assert store.list_files(store.join(root, "absent")) == []
    before = listed[0].etag
    store.write_bytes(listed[0].uri, b"other")
    assert store.info(listed[0].uri).etag != before


def test_missing_objects(store: Store, root: str) -> None:
    uri = store.join(root, "x")
    assert not store.exists(uri)
    for call in (store.read_bytes, store.open, store.info):
        with pytest.raises(FileNotFoundError):
            call(uri)
    store.delete(uri)
    store.write_bytes(store.join(uri, "y"), b"y")
    assert store.exists(uri)
    with pytest.raises(FileNotFoundError, match="folder"):
        store.info(uri)
    store.delete(store.join(uri, "y"))
    assert not store.exists(store.join(uri, "y"))


def test_create_exclusive_has_one_winner(store: Store, root: str) -> None:
    uri = store.join(root, "done", "key.json")
    store.create_exclusive(uri, b"first")
    with pytest.raises(FileExistsError, match="another writer was first"):
        store.create_exclusive(uri, b"second")
    assert store.read_bytes(uri) == b"first"
    store.create_exclusive(uri, b"first")
    assert [f.uri for f in store.list_files(root)] == [uri]


def test_a_race_has_one_winner(store: Store, root: str) -> None:
    uri = store.join(root, "key.json")

    def create(token: int) -> int | None:
        try:
            store.create_exclusive(uri, str(token).encode())
        except FileExistsError:
            return None
        return token

    with ThreadPoolExecutor(8) as pool:
        winners = [token for token in pool.map(create, range(8)) if token is not None]
    assert [str(token).encode() for token in winners] == [store.read_bytes(uri)]


_READER = """
import sys
from balancer.storage.filesystem import Store
assert "s3fs" not in sys.modules
print(Store().read_bytes(sys.argv[1]).decode())
"""


def test_a_new_process_reads_and_ends(store: Store, root: str) -> None:
    uri = store.join(root, "x")
    store.write_bytes(uri, b"content")
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _READER, uri],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("content\n", "")


class LostReply:
    """Stands for an S3 connection that does the write and loses the reply."""

    def __init__(self, error: Exception, *, does_write: bool) -> None:
        self.content: dict[str, bytes] = {}
        self.error = error
        self.does_write = does_write

    def pipe_file(self, path: str, data: bytes, mode: str) -> None:
        assert mode == "create"
        if self.does_write:
            self.content[path] = data
        raise self.error

    def cat_file(self, path: str, max_concurrency: int) -> bytes:
        assert max_concurrency == 1
        if path not in self.content:
            raise FileNotFoundError(path)
        return self.content[path]


@pytest.mark.parametrize("error", [FileExistsError("412"), TimeoutError(), OSError("reset")])
def test_a_lost_reply_is_recognised_as_own(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    connection = LostReply(error, does_write=True)
    monkeypatch.setattr(Store, "_s3", lambda _: connection)
    Store().create_exclusive("s3://bucket/key", b"attempt 1")
    connection.does_write = False
    with pytest.raises(FileExistsError):
        Store().create_exclusive("s3://bucket/key", b"attempt 2")


@pytest.mark.parametrize("error", [FileExistsError("412"), TimeoutError(), OSError("reset")])
def test_a_failed_write_is_not_taken_for_own(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Store, "_s3", lambda _: LostReply(error, does_write=False))
    with pytest.raises(StorageError, match="'bucket'"):
        Store().create_exclusive("s3://bucket/key", b"x")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:geheim@bucket/key",
        "s3://bucket/key?X-Amz-Signature=geheim",
        "s3://bucket/key?AWSAccessKeyId=geheim",
        "https://user:geheim@host/key",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_echoed(store: Store, uri: str) -> None:
    with pytest.raises(ConfigError, match="must not carry credentials") as caught:
        store.read_bytes(uri)
    assert "geheim" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


def test_other_schemes_are_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="got gs://"):
        store.read_bytes("gs://bucket/key")
    with pytest.raises(ConfigError, match="must name a bucket"):
        store.read_bytes("s3://")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_server")
def test_a_missing_bucket_is_named(store: Store) -> None:
    uri = "s3://no-such-bucket/key"
    calls = (store.read_bytes, store.open, store.list_files, store.info, store.exists)
    for call in calls:
        with pytest.raises(StorageError, match="Bucket 'no-such-bucket' must exist"):
            call(uri)
    for write in (store.write_bytes, store.create_exclusive):
        with pytest.raises(StorageError, match="Bucket 'no-such-bucket' must exist"):
            write(uri, b"x")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_server")
def test_an_unreachable_endpoint_is_a_storage_error() -> None:
    config = StorageConfig(endpoint_url="http://127.0.0.1:9", max_attempts=1, connect_timeout_s=2)
    with pytest.raises(StorageError, match=r"must be reachable.*AWS_ENDPOINT_URL"):
        Store(config).read_bytes("s3://bucket/key")


@pytest.mark.s3
def test_missing_credentials_are_a_storage_error(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    # Another value than in the other tests, so that the connection is a new one.
    config = StorageConfig(endpoint_url=s3_server, read_timeout_s=7)
    with pytest.raises(StorageError, match="must be reached with credentials"):
        Store(config).read_bytes("s3://bucket/key")


def test_a_store_travels_and_compares_by_value() -> None:
    store = Store(StorageConfig(max_attempts=3))
    assert pickle.loads(pickle.dumps(store)) == store
    assert hash(store) == hash(Store(StorageConfig(max_attempts=3)))


def test_arrow_reads_what_the_store_wrote(store: Store, root: str) -> None:
    uri = store.join(root, "a.bin")
    store.write_bytes(uri, b"arrow")
    filesystem, path = store.arrow_filesystem(uri)
    assert isinstance(filesystem, fs.FileSystem)
    with filesystem.open_input_stream(path) as stream:
        assert stream.read() == b"arrow"


def test_local_paths_become_absolute(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.write_bytes("a.bin", b"x")
    assert store.absolute("a.bin") == str(tmp_path / "a.bin")
    assert store.read_bytes(f"file://{tmp_path}/a.bin") == b"x"
    assert [f.uri for f in store.list_files(".")] == [str(tmp_path / "a.bin")]


def test_unfinished_files_are_not_listed_and_linked_folders_are(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("a")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".a.txt.0123.partial").write_text("half")
    os.symlink(tmp_path / "real", tmp_path / "root" / "link")
    os.symlink(tmp_path / "root", tmp_path / "real" / "loop")
    listed = store.list_files(str(tmp_path / "root"))
    assert [f.uri for f in listed] == [str(tmp_path / "root" / "link" / "a.txt")]
