"""Atomic and create-only writes, and listing, on a local disk.

A file appears whole or not at all, and survives a power cut once the call has returned: the bytes
go to a temporary file that is flushed to the disk before it gets its name, and the folder entry is
flushed after.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TEMPORARY_SUFFIX = ".partial"


def write_atomic(path: str, data: bytes) -> None:
    """Write `data` to `path`, replacing what is there.

    Raises:
        OSError: as the file system says.
    """
    with _temporary(path, data) as temporary:
        os.replace(temporary, path)
    _flush_folder(path)


def create_exclusive(path: str, data: bytes) -> None:
    """Write `data` to `path` only if nothing has that name.

    `os.link` is the one call that both names a complete file and fails if the name is taken.

    Raises:
        FileExistsError: something has that name.
        OSError: as the file system says, such as one without hard links.
    """
    with _temporary(path, data) as temporary:
        os.link(temporary, path)
    _flush_folder(path)


def walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file under `root` with its status; `root` itself if it is a file.

    Links to folders are followed, each real folder once. Unfinished temporary files are left out.
    """
    if os.path.isfile(root):
        yield root, os.stat(root)
        return
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder)
        except FileNotFoundError:
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    pending.append(entry.path)
                elif entry.is_file() and not _is_temporary(entry.name):
                    yield entry.path, entry.stat()


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


@contextmanager
def _temporary(path: str, data: bytes) -> Iterator[str]:
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _flush_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
