"""A small archive of images in class folders as arrays in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.config import ArchiveConfig
from balancer.errors import DataError, UnreadableTileError
from balancer.imbalance.measures import class_name
from balancer.storage.containers import Rejected, read_folder, read_zip
from balancer.storage.decoding import decode_tile
from balancer.storage.filesystem import Store
from balancer.storage.sources import discover
from balancer.types import ByteArray, IdArray


@dataclass(frozen=True, slots=True)
class LabeledTiles:
    """Tiles of an archive: ids (N,), class names (N,), pixels (N, S, S, 3) uint8."""

    ids: IdArray
    labels: IdArray
    tiles: ByteArray


def read_labeled_tiles(store: Store, uri: str, image_size: int) -> LabeledTiles:
    """Read and decode a folder or zip with one folder per class.

    Args:
        store: where to read.
        uri: the folder, or the zip.
        image_size: S, the side that tiles are scaled to.

    Raises:
        DataError: no tiles, a tile that cannot be read, one that lies in no class folder, an
            archive in another format.
        StorageError: the store refuses or fails.

    Cost: N * S * S * 3 bytes; one thread decodes.
    """
    readers = {"folder": read_folder, "zip": read_zip}
    ids, labels, tiles = [], [], []
    for shard in discover(store, ArchiveConfig(uri=uri)):
        if shard.format not in readers:
            raise DataError(
                f"{uri} must be a folder or zip of images in class folders; it holds "
                f"{shard.format} shards. Unpack them."
            )
        for found in readers[shard.format](store, shard):
            if isinstance(found, Rejected):
                raise DataError(
                    f"Every tile must be readable; {found.tile_id} of {uri} is not "
                    f"({found.reason}: {found.detail}). Remove it."
                )
            name = class_name(found.metadata.get("label"))
            if name is None:
                raise DataError(
                    f"Every tile must lie in the folder of its class; {found.tile.tile_id} of "
                    f"{uri} does not. Move or remove it."
                )
            try:
                pixels = decode_tile(found.data, image_size)
            except UnreadableTileError as error:
                raise DataError(
                    f"Every tile must be readable; {found.tile.tile_id} of {uri} is not "
                    f"({error}). Remove it."
                ) from error
            ids.append(found.tile.tile_id)
            labels.append(name)
            tiles.append(pixels)
    return LabeledTiles(np.array(ids, np.str_), np.array(labels, np.str_), np.stack(tiles))
