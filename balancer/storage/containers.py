"""Readers of the four container formats. Each yields every tile's bytes with where they lie.

Each container is read once, front to back, in pieces; what cannot be read becomes a `Rejected`.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from balancer.errors import DataError, UnreadableTileError
from balancer.storage.failures import storage_errors
from balancer.storage.filesystem import Store
from balancer.storage.range_reads import read_merged
from balancer.storage.sources import IMAGE_SUFFIXES, Member, SourceShard
from balancer.storage.tile_metadata import parse_sidecar
from balancer.types import Tile

MAX_TILE_BYTES = 256 * 2**20
"""Largest tile file; a deflated member that grows beyond it is taken for a bomb."""
_STORED, _DEFLATED, _ENCRYPTED = 0, 8, -1
_HEADER_LENGTH = 30


@dataclass(frozen=True, slots=True)
class Found:
    """A tile's bytes, as they go to the decoder, and its metadata."""

    position: int
    tile: Tile
    data: bytes
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A tile, or with an empty id a whole container, that cannot be read."""

    position: int
    tile_id: str
    uri: str
    member: str
    num_bytes: int
    reason: str
    detail: str


def read_folder(store: Store, source: SourceShard) -> Iterator[Found | Rejected]:
    """Yield the tiles of a folder shard. Cost: one request per file; 16 at once on S3."""
    pairs = source.members()
    sidecars = [sidecar for _, sidecar in pairs if sidecar]
    wanted = [(f"{source.uri}/{m.name}", 0, m.num_bytes) for m in sidecars]
    texts = {sidecars[i].name: data or b"" for i, data in read_merged(store, wanted)}
    wanted = [(f"{source.uri}/{tile.name}", 0, tile.num_bytes) for tile, _ in pairs]
    for position, data in read_merged(store, wanted):
        member, sidecar = pairs[position]
        uri = wanted[position][0]
        if data is None or len(data) != member.num_bytes:
            got = "no file" if data is None else f"{len(data)} bytes"
            yield Rejected(
                position, member.name, uri, "", member.num_bytes, "changed",
                f"{member.num_bytes} bytes were listed, now there is {got}",
            )  # fmt: skip
            continue
        metadata = _path_metadata(member, sidecar, texts, source.uri)
        tile = Tile(member.name, uri, "", 0, member.num_bytes, "raw")
        yield Found(position, tile, data, metadata)


def read_zip(store: Store, source: SourceShard) -> Iterator[Found | Rejected]:
    """Yield the tiles of a zip shard. Cost: about one request per 8 MiB."""
    pairs = source.members()
    sidecars = [sidecar for _, sidecar in pairs if sidecar]
    spans = [(source.uri, m.offset, m.span) for m in sidecars]
    texts = {}
    for index, data in read_merged(store, spans):
        name = sidecars[index].name
        try:
            texts[name] = _zip_payload(sidecars[index], _present(data, source.uri))[1]
        except UnreadableTileError as error:
            raise DataError(
                f"A sidecar must be readable; {name} in {source.uri} is not ({error}). Write the "
                f"zip again."
            ) from error
    spans = [(source.uri, tile.offset, tile.span) for tile, _ in pairs]
    for position, data in read_merged(store, spans):
        member, sidecar = pairs[position]
        try:
            offset, content = _zip_payload(member, _present(data, source.uri))
        except UnreadableTileError as error:
            yield Rejected(
                position, member.name, source.uri, member.name, member.num_bytes,
                error.reason, error.detail,
            )  # fmt: skip
            continue
        codec = "deflate" if member.method == _DEFLATED else "raw"
        tile = Tile(
            member.name, source.uri, member.name, member.offset + offset, member.num_bytes, codec
        )
        metadata = _path_metadata(member, sidecar, texts, source.uri)
        yield Found(position, tile, content, metadata)


def read_tar(store: Store, source: SourceShard) -> Iterator[Found | Rejected]:
    """Yield the samples of a WebDataset tar. Cost: one request per 4 MiB, one pass."""
    position = -1
    try:
        with storage_errors(source.uri), store.open(source.uri) as file:
            for position, sample in enumerate(_samples(file, source.uri)):
                yield _read_sample(position, sample, source.uri)
    except (tarfile.TarError, EOFError) as error:
        reason = "truncated" if source.num_bytes else "empty"
        yield Rejected(position + 1, "", source.uri, "", source.num_bytes, reason, str(error))
    except FileNotFoundError as error:
        raise _vanished(source.uri) from error


def inflate(data: bytes) -> bytes:
    """Inflate a deflated zip member, at most to `MAX_TILE_BYTES`.

    Raises:
        UnreadableTileError: `corrupt`, `truncated` or `too-large`.
    """
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = decoder.decompress(data, MAX_TILE_BYTES + 1)
    except zlib.error as error:
        raise UnreadableTileError("corrupt", f"the member cannot be inflated ({error})") from error
    if len(content) > MAX_TILE_BYTES:
        raise UnreadableTileError("too-large", f"inflates beyond {MAX_TILE_BYTES} bytes")
    if not decoder.eof:
        raise UnreadableTileError("truncated", "the deflated member ends too early")
    return content


@dataclass(slots=True)
class _Sample:
    """Consecutive tar members with one key."""

    key: str
    members: dict[str, tuple[tarfile.TarInfo, bytes]] = field(default_factory=dict)


def _samples(file: BinaryIO, uri: str) -> Iterator[_Sample]:
    sample: _Sample | None = None
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            if not info.isreg():
                continue
            key, suffix = _split_key(info.name)
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                sample = _Sample(key)
            content = archive.extractfile(info)
            data = content.read() if content is not None else b""
            if len(data) != info.size:
                raise tarfile.ReadError(f"{uri} ends inside the member {info.name}")
            sample.members[suffix] = (info, data)
        if sample is not None:
            yield sample
        # tarfile takes a damaged header for the end of the archive; the real end is a zero block.
        file.seek(archive.offset)
        mark = file.read(tarfile.BLOCKSIZE)
        if mark != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError(
                f"{uri} has no end mark at byte {archive.offset}: it is cut or damaged there, and "
                f"tiles after that are lost. Write it again."
            )


def _read_sample(position: int, sample: _Sample, uri: str) -> Found | Rejected:
    images = [s for s in sample.members if f".{s.rpartition('.')[2]}" in IMAGE_SUFFIXES]
    if len(images) > 1:
        raise DataError(
            f"A WebDataset sample must hold one image; {sample.key!r} in {uri} has "
            f"{', '.join(sorted(images))}. Keep one of them per sample."
        )
    if not images:
        kinds = ", ".join(sorted(sample.members))
        return Rejected(
            position, sample.key, uri, "", 0, "not-an-image", f"the sample holds only {kinds}"
        )
    info, data = sample.members[images[0]]
    metadata: dict[str, Any] = {}
    if "json" in sample.members:
        metadata |= parse_sidecar(sample.members["json"][1], f"{sample.key}.json in {uri}")
    for name in ("cls", "txt"):
        if name in sample.members:
            text = sample.members[name][1].decode("utf-8", "replace").strip()
            is_number = name == "cls" and text.lstrip("-").isdecimal()
            metadata[name] = int(text) if is_number else text
    tile = Tile(sample.key, uri, info.name, info.offset_data, info.size, "raw")
    return Found(position, tile, data, metadata)


def _split_key(name: str) -> tuple[str, str]:
    """Split at the first dot of the file name, as WebDataset does.

    >>> _split_key("a.b/000001.rgb.jpg")
    ('a.b/000001', 'rgb.jpg')
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _zip_payload(member: Member, span: bytes) -> tuple[int, bytes]:
    """Return (offset of the payload in `span`, inflated and checked payload)."""
    if member.method == _ENCRYPTED or member.method not in {_STORED, _DEFLATED}:
        got = "is encrypted" if member.method == _ENCRYPTED else f"has method {member.method}"
        raise UnreadableTileError(
            "unsupported-codec", f"a zip member must be stored or deflated; this one {got}"
        )
    if len(span) < _HEADER_LENGTH or span[:4] != b"PK\x03\x04":
        raise UnreadableTileError("corrupt", "the zip member has no local header")
    # The local header may differ from the central directory in the length of its extra field.
    name_length = int.from_bytes(span[26:28], "little")
    extra_length = int.from_bytes(span[28:30], "little")
    offset = _HEADER_LENGTH + name_length + extra_length
    stored = span[offset : offset + member.num_bytes]
    if len(stored) != member.num_bytes:
        raise UnreadableTileError("truncated", "the zip ends inside the member")
    content = inflate(stored) if member.method == _DEFLATED else stored
    if zlib.crc32(content) != member.crc:
        raise UnreadableTileError("corrupt", "the zip member's CRC-32 does not match")
    return offset, content


def _path_metadata(
    member: Member, sidecar: Member | None, texts: Mapping[str, bytes], root: str
) -> dict[str, Any]:
    """Return the folder's name as `label`, and the sidecar's values, which go first."""
    parent = PurePosixPath(member.name).parent.name
    metadata: dict[str, Any] = {"label": parent} if parent else {}
    if sidecar is not None:
        metadata |= parse_sidecar(texts[sidecar.name], f"{sidecar.name} in {root}")
    return metadata


def _present(data: bytes | None, uri: str) -> bytes:
    if data is None:
        raise _vanished(uri)
    return data


def _vanished(uri: str) -> DataError:
    return DataError(
        f"{uri} was listed but does not exist any more. Restore it, or start a run with another "
        f"--out for the archive as it is now."
    )
