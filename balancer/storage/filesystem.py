"""`Store`: the one object that opens URIs. A plain path, `file://` or `s3://`.

A `Store` is a small value that travels between processes; connections are made in the process that
uses them, on first use, and never pickled. Workers must be spawned, not forked: fsspec's event loop
does not survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from balancer.config import StorageConfig
from balancer.errors import StorageError
from balancer.storage import local_files
from balancer.storage.failures import describe, starts_beyond_end, storage_errors
from balancer.storage.object_store import CONCURRENT_READS, object_store
from balancer.storage.uris import resolve

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_READ_AHEAD = 4 * 2**20


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One stored object.

    Attributes:
        uri: absolute.
        num_bytes: its size.
        etag: its version: S3's ETag, or `size-mtime_ns` on a local disk.
    """

    uri: str
    num_bytes: int
    etag: str


@dataclass(frozen=True)
class Store:
    """Reads and writes URIs as `config` says. Hashable, picklable, without state of its own."""

    config: StorageConfig = field(default_factory=StorageConfig)

    def read_bytes(self, uri: str, offset: int = 0, num_bytes: int | None = None) -> bytes:
        """Return the object's bytes, or `num_bytes` of them from `offset` on.

        Fewer bytes than asked come back where the object ends early. Cost: one request.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: the store refuses or fails.
        """
        if num_bytes == 0:
            return b""
        remote, path = resolve(uri)
        with storage_errors(uri):
            if not remote:
                with open(path, "rb") as file:
                    file.seek(offset)
                    return file.read(-1 if num_bytes is None else num_bytes)
            if offset == 0 and num_bytes is None:
                # One request: with more concurrency s3fs asks for the size first.
                return cast(bytes, self._s3().cat_file(path, max_concurrency=1))
            end = None if num_bytes is None else offset + num_bytes
            try:
                return cast(bytes, self._s3().cat_file(path, start=offset, end=end))
            except OSError as error:
                if starts_beyond_end(error):
                    return b""
                raise

    def read_ranges(self, ranges: Sequence[tuple[str, int, int | None]]) -> list[bytes | None]:
        """Read many (uri, offset, num_bytes), several at once from an object store.

        Returns:
            The bytes of each range, in the order given; None where the object does not exist.

        Raises:
            StorageError: the store refuses or fails.
        """

        def read(item: tuple[str, int, int | None]) -> bytes | None:
            try:
                return self.read_bytes(*item)
            except FileNotFoundError:
                return None

        if len(ranges) < 2 or not any(self.is_remote(uri) for uri, _, _ in ranges):
            return [read(item) for item in ranges]
        with ThreadPoolExecutor(min(CONCURRENT_READS, len(ranges))) as pool:
            return list(pool.map(read, ranges))

    def write_bytes(self, uri: str, data: bytes) -> None:
        """Write the object whole or not at all, replacing what is there.

        Raises:
            StorageError: the store refuses or fails.
        """
        remote, path = resolve(uri)
        try:
            with storage_errors(uri):
                if remote:
                    self._s3().pipe_file(path, data)
                else:
                    local_files.write_atomic(path, data)
        except (FileNotFoundError, FileExistsError) as error:  # of a folder on the way to it
            raise StorageError(describe(error, uri)) from error

    def create_exclusive(self, uri: str, data: bytes) -> None:
        """Write the object only if there is none: the commit primitive.

        A reply can be lost although the write was done, and a retry then reports that the object
        exists. So after anything but success the object is read back, and if it holds exactly
        `data` the write was ours. Put a token of the attempt into `data` where that matters.

        Raises:
            FileExistsError: another writer was first.
            StorageError: the store refuses or fails.
        """
        remote, path = resolve(uri)
        write: Callable[[], Any] = (
            (lambda: self._s3().pipe_file(path, data, mode="create"))
            if remote
            else (lambda: local_files.create_exclusive(path, data))
        )
        try:
            with storage_errors(uri):
                write()
        except (FileExistsError, FileNotFoundError, StorageError) as error:
            try:
                present = self.read_bytes(uri)
            except (FileNotFoundError, StorageError):
                present = None
            if present == data:
                return
            if present is not None:
                raise FileExistsError(
                    f"{uri} must not exist before it is created, but another writer was first."
                ) from error
            if isinstance(error, StorageError):
                raise
            raise StorageError(describe(error, uri)) from error

    def open(self, uri: str) -> BinaryIO:
        """Return a seekable binary file for reading; close it after use.

        Reads from it may fail later: use it inside `storage_errors(uri)`.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: the store refuses or fails.
        """
        remote, path = resolve(uri)
        with storage_errors(uri):
            if remote:
                file = self._s3().open(
                    path, "rb", block_size=_READ_AHEAD, cache_type="readahead", fill_cache=False
                )
                return cast(BinaryIO, file)
            return open(path, "rb")

    def exists(self, uri: str) -> bool:
        """Whether there is an object, or a folder of objects, at `uri`.

        Raises:
            StorageError: the store refuses or fails, or the bucket does not exist.
        """
        remote, path = resolve(uri)
        if not remote:
            return os.path.exists(path)
        try:
            with storage_errors(uri):
                self._s3().info(path)
        except FileNotFoundError:
            return False
        return True

    def list_files(self, uri: str) -> list[FileInfo]:
        """List every file under `uri` (or `uri` itself if it is a file), sorted by uri.

        A folder that does not exist is empty, as in an object store. Cost: one request per 1,000
        objects.

        Raises:
            StorageError: the store refuses or fails, or the bucket does not exist.
        """
        remote, path = resolve(uri)
        with storage_errors(uri):
            if remote:
                listing = self._s3().find(path, detail=True).values()
                found = [_remote_info(entry) for entry in listing if _is_object(entry)]
            else:
                found = [_local_info(name, status) for name, status in local_files.walk(path)]
        return sorted(found, key=lambda info: info.uri)

    def info(self, uri: str) -> FileInfo:
        """Describe one object.

        Raises:
            FileNotFoundError: there is no such object, or it is a folder.
            StorageError: the store refuses or fails.
        """
        remote, path = resolve(uri)
        with storage_errors(uri):
            if remote:
                entry = self._s3().info(path)
                if not _is_object(entry):
                    raise FileNotFoundError(f"{uri} must be an object; it is a folder.")
                return _remote_info(entry)
            if os.path.isdir(path):
                raise FileNotFoundError(f"{uri} must be a file; it is a folder.")
            return _local_info(path, os.stat(path))

    def delete(self, uri: str) -> None:
        """Delete one object; nothing happens if there is none.

        Raises:
            StorageError: the store refuses or fails.
        """
        remote, path = resolve(uri)
        try:
            with storage_errors(uri):
                if remote:
                    self._s3().rm_file(path)
                else:
                    os.unlink(path)
        except FileNotFoundError:
            return

    def arrow_filesystem(self, uri: str) -> tuple[Any, str]:
        """Return a `pyarrow.fs.FileSystem` and the path of `uri` in it.

        Raises:
            ConfigError: the URI cannot be used.
        """
        from pyarrow import fs

        remote, path = resolve(uri)
        if remote:
            return fs.PyFileSystem(fs.FSSpecHandler(self._s3())), path
        return fs.LocalFileSystem(), path

    def absolute(self, uri: str) -> str:
        """Return the URI as it is recorded: `s3://bucket/key`, or an absolute local path.

        Raises:
            ConfigError: the URI cannot be used.
        """
        remote, path = resolve(uri)
        return f"s3://{path}" if remote else path

    def join(self, uri: str, *parts: str) -> str:
        """Append path parts to a URI.

        >>> Store().join("s3://bucket/run/", "round-000", "x.json")
        's3://bucket/run/round-000/x.json'
        """
        return "/".join([uri.rstrip("/") or "/", *(part.strip("/") for part in parts)])

    def is_remote(self, uri: str) -> bool:
        """Whether `uri` lies in an object store.

        >>> Store().is_remote("s3://bucket/key"), Store().is_remote("tiles/a.jpg")
        (True, False)
        """
        return uri.startswith("s3://")

    def _s3(self) -> AbstractFileSystem:
        return object_store(self.config)


def _is_object(entry: dict[str, Any]) -> bool:
    return entry["type"] == "file" and not entry["name"].endswith("/")


def _remote_info(entry: dict[str, Any]) -> FileInfo:
    return FileInfo(f"s3://{entry['name']}", int(entry["size"]), str(entry["ETag"]).strip('"'))


def _local_info(path: str, status: os.stat_result) -> FileInfo:
    return FileInfo(path, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")
