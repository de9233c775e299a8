"""A catalog cut to the tiles that a label file names, so that no others are embedded."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np
import pyarrow as pa

from balancer.config import digest_json
from balancer.errors import DataError
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.storage.labeled_sources import image_stem
from balancer.storage.ledger import new_attempt
from balancer.storage.tables import read_table, write_table
from balancer.types import ShardRef

STAGE = "catalog/named"


def keep_named(context: RunContext, catalog: Catalog, names: AbstractSet[str]) -> Catalog:
    """Return the catalog of the tiles with one of the image names; the others are not changed.

    Args:
        context: of the run; its folder must be for these names only.
        catalog: of the whole archive.
        names: without folder and suffix.

    Raises:
        DataError: no tile has one of the names.
        StorageError: the store refuses or fails.

    Cost: reads every catalog table once, on the driver; writes those that lose tiles.
    """
    stage = context.ledger.stage(STAGE)
    wanted = digest_json(sorted(names))
    inputs = {s.shard_id: digest_json([s.sha256, wanted]) for s in catalog.shards}
    done = stage.completed_all(inputs)
    shards: list[ShardRef] = []
    for shard in catalog.shards:
        key = shard.shard_id
        if key not in done:
            table = read_table(context.store, shard.catalog_uri, sha256=shard.sha256)
            has = np.array([image_stem(tile) in names for tile in table["tile_id"].to_pylist()])
            if has.all():
                shards.append(shard)
                continue
            kept = table.filter(pa.array(has))
            attempt = new_attempt()
            file = write_table(context.store, stage.data_uri(key, attempt, "parquet"), kept)
            num_bytes = int(np.sum(kept["num_bytes"].to_numpy()))
            done[key] = stage.record(
                key, attempt=attempt, inputs=inputs[key], file=file, num_bytes=num_bytes
            )
        record = done[key]
        if record["rows"]:
            shards.append(
                replace(
                    shard,
                    catalog_uri=stage.file(record).uri,
                    sha256=record["sha256"],
                    num_tiles=record["rows"],
                    num_bytes=record["num_bytes"],
                )
            )
    if not shards:
        raise DataError(
            f"Labeled images must be among {context.config.archive.uri}; none of {len(names)} is, "
            f"for example {min(names)!r}. Give the folder of the labeled images."
        )
    fingerprint = digest_json([[shard.shard_id, shard.sha256] for shard in shards])
    return replace(catalog, shards=tuple(shards), fingerprint=fingerprint)
