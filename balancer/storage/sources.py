"""Find the shards of an archive: a folder of images, a zip of one, WebDataset tars, or Parquet.

Nothing is ever extracted to a disk, so member names such as `../x` are only names.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from balancer.config import ArchiveConfig, digest_json
from balancer.errors import DataError
from balancer.storage.failures import storage_errors
from balancer.storage.filesystem import FileInfo, Store

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a folder or zip.

    Attributes:
        name: path relative to the archive's root, with `/`.
        offset: first byte to read: 0 in a folder, the local header in a zip.
        span: bytes from `offset` that surely hold the header and the payload.
        num_bytes: stored length of the payload.
        method: zip compression method, -1 if encrypted; 0 in a folder.
        crc: CRC-32 of the inflated payload in a zip.
        etag: version of the file in a folder; in a zip the container has it.
    """

    name: str
    offset: int
    span: int
    num_bytes: int
    method: int = 0
    crc: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True)
class SourceShard:
    """The unit of indexing: a tar or Parquet file, or a run of members of a folder or zip.

    Attributes:
        format: `folder`, `zip`, `webdataset` or `parquet`.
        uri: the container, or the root folder.
        etag: version of the container; for a folder a digest of its members' versions.
        num_bytes: stored bytes that indexing reads.
        start: position of the first member in the sorted archive; 0 for whole files.
        packed: compressed list of the members; empty for whole files.
    """

    format: str
    uri: str
    etag: str
    num_bytes: int
    start: int = 0
    packed: bytes = b""

    @property
    def shard_id(self) -> str:
        """Digest of uri, etag and range: 16 hex characters."""
        members = hashlib.blake2b(zlib.decompress(self.packed)).hexdigest() if self.packed else ""
        return digest_json([self.uri, self.etag, self.start, members])

    def members(self) -> list[tuple[Member, Member | None]]:
        """Return the tiles of a folder or zip shard, each with its sidecar JSON if it has one."""
        if not self.packed:
            return []
        rows = json.loads(zlib.decompress(self.packed))
        return [(Member(*tile), Member(*sidecar) if sidecar else None) for tile, sidecar in rows]


def discover(store: Store, archive: ArchiveConfig) -> list[SourceShard]:
    """List the shards of an archive, in an order that depends on its content only.

    Cost: one listing; for a zip the central directory, about 100 bytes per member.

    Args:
        store: where to read.
        archive: its uri and format; `tiles_per_shard` cuts folders and zips.

    Raises:
        DataError: no tiles, an ambiguous format, or a damaged zip.
        StorageError: the store refuses or fails.
    """
    root = store.absolute(archive.uri)
    suffix = PurePosixPath(root).suffix.lower()
    if archive.format == "zip" or (archive.format == "auto" and suffix == ".zip"):
        return _zip_shards(store, root, archive.tiles_per_shard)
    files = [info for info in store.list_files(root) if not _is_hidden(_relative(info, root))]
    kind = _detect(files, root) if archive.format == "auto" else archive.format
    if kind == "folder":
        return _folder_shards(files, root, archive.tiles_per_shard)
    wanted = {"webdataset": ".tar", "parquet": ".parquet"}[kind]
    found = [info for info in files if info.uri.lower().endswith(wanted)]
    if not found:
        raise DataError(_nothing_found(files, root, f"*{wanted} files"))
    return [SourceShard(kind, info.uri, info.etag, info.num_bytes) for info in found]


def _detect(files: Sequence[FileInfo], root: str) -> str:
    suffixes = _suffixes(files)
    counts = {
        "folder": sum(suffixes[suffix] for suffix in IMAGE_SUFFIXES),
        "webdataset": suffixes[".tar"],
        "parquet": suffixes[".parquet"],
    }
    present = [kind for kind, count in counts.items() if count]
    if len(present) == 1:
        return present[0]
    if present:
        found = ", ".join(f"{counts[kind]} files for {kind}" for kind in present)
        raise DataError(
            f"The archive {root} must be of one format; got {found}. Set archive.format to one of "
            f"{', '.join(present)}, or give the URI of a folder that holds one kind."
        )
    if suffixes[".zip"]:
        raise DataError(
            f"The archive {root} holds {suffixes['.zip']} zip files and nothing else to read. "
            f"Give the URI of one zip."
        )
    looked = f"images ({', '.join(sorted(IMAGE_SUFFIXES))}), *.tar and *.parquet files"
    raise DataError(_nothing_found(files, root, looked))


def _nothing_found(files: Sequence[FileInfo], root: str, looked_for: str) -> str:
    common = ", ".join(f"{n} x {s or 'no suffix'}" for s, n in _suffixes(files).most_common(5))
    got = f"{len(files)} other files ({common})" if files else "no files at all"
    return (
        f"The archive {root} must hold tiles: looked for {looked_for}; got {got}. "
        f"Check archive.uri and archive.format."
    )


def _folder_shards(files: Sequence[FileInfo], root: str, per_shard: int) -> list[SourceShard]:
    members = [
        Member(_relative(info, root), 0, info.num_bytes, info.num_bytes, etag=info.etag)
        for info in files
    ]
    pairs = _pair(members)
    if not pairs:
        raise DataError(
            _nothing_found(files, root, f"images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        )
    if len(files) == 1 and files[0].uri == root:
        raise DataError(
            f"The archive {root} must be a folder of images; got one file. Give its folder."
        )
    shards = []
    for start in range(0, len(pairs), per_shard):
        part = pairs[start : start + per_shard]
        versions = [[tile.etag, sidecar.etag if sidecar else ""] for tile, sidecar in part]
        shards.append(_logical_shard("folder", root, digest_json(versions), start, part))
    return shards


def _zip_shards(store: Store, root: str, per_shard: int) -> list[SourceShard]:
    try:
        info = store.info(root)
        with storage_errors(root), store.open(root) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            directory = archive.start_dir
    except FileNotFoundError as error:
        raise DataError(
            f"The archive {root} must be a zip file; there is none. Check it."
        ) from error
    # ValueError: an S3 file refuses to seek before its start, in objects too short for a zip.
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError) as error:
        raise DataError(
            f"The archive {root} must be a complete zip file; got {error}. Copy it again."
        ) from error
    starts = sorted({entry.header_offset for entry in entries} | {directory})
    end_of = dict(pairwise(starts))
    members = [
        Member(
            entry.filename,
            entry.header_offset,
            end_of.get(entry.header_offset, directory) - entry.header_offset,
            entry.compress_size,
            -1 if entry.flag_bits & _ENCRYPTED else entry.compress_type,
            entry.CRC,
        )
        for entry in entries
        if not entry.is_dir() and not _is_hidden(entry.filename)
    ]
    pairs = _pair(members)
    if not pairs:
        found = [FileInfo(entry.filename, entry.file_size, "") for entry in entries]
        raise DataError(
            _nothing_found(found, root, f"images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        )
    return [
        _logical_shard("zip", root, info.etag, start, pairs[start : start + per_shard])
        for start in range(0, len(pairs), per_shard)
    ]


def _logical_shard(
    kind: str, root: str, etag: str, start: int, pairs: Sequence[tuple[Member, Member | None]]
) -> SourceShard:
    rows = [[_fields(tile), _fields(sidecar) if sidecar else None] for tile, sidecar in pairs]
    packed = zlib.compress(json.dumps(rows, separators=(",", ":")).encode())
    num_bytes = sum(
        tile.num_bytes + (sidecar.num_bytes if sidecar else 0) for tile, sidecar in pairs
    )
    return SourceShard(kind, root, etag, num_bytes, start, packed)


def _fields(member: Member) -> list[object]:
    return [getattr(member, name) for name in Member.__slots__]


def _pair(members: Iterable[Member]) -> list[tuple[Member, Member | None]]:
    """Sort the image members by name and join `<stem>.json` to each."""
    members = sorted(members, key=lambda member: member.name)
    sidecars = {m.name[: -len(".json")]: m for m in members if m.name.lower().endswith(".json")}
    return [
        (member, sidecars.get(member.name[: -len(suffix)]))
        for member in members
        if (suffix := PurePosixPath(member.name).suffix).lower() in IMAGE_SUFFIXES
    ]


def _suffixes(files: Iterable[FileInfo]) -> Counter[str]:
    return Counter(PurePosixPath(info.uri).suffix.lower() for info in files)


def _relative(info: FileInfo, root: str) -> str:
    if info.uri == root:
        return PurePosixPath(info.uri).name
    return info.uri.removeprefix(root.rstrip("/") + "/")


def _is_hidden(name: str) -> bool:
    # What file managers and archivers add: ._tile.jpg, .DS_Store, __MACOSX/...
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
