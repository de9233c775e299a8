"""Join a selection with the catalog and publish it as a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from balancer.config import digest_json
from balancer.errors import DataError
from balancer.selection.pool import rows_of
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.tasks import run_tasks
from balancer.storage.certificates import write_certificate, write_excluded
from balancer.storage.filesystem import Store
from balancer.storage.ledger import new_attempt
from balancer.storage.manifests import manifest_table, write_manifest
from balancer.storage.tables import FileRecord, read_table
from balancer.types import IdArray, Manifest, Selection, ShardRef
from balancer.version import __version__

PUBLISH = "publish"
SHARD = "shard"


def find_rows(context: RunContext, catalog: Catalog, wanted: Iterable[IdArray]) -> pa.Table:
    """Return the catalog rows of all wanted ids, with a `shard` column, in catalog order.

    Each shard is searched by its own task; only the rows found travel.
    """
    ids = np.unique(np.concatenate([np.asarray(part) for part in wanted]))
    shared = ray.put(ids)
    arguments = [(context.store, shard, shared) for shard in catalog.shards]
    parts: dict[int, pa.Table] = dict(run_tasks(find_in_shard, arguments))
    found = pa.concat_tables(
        [parts[number] for number in sorted(parts)], promote_options="permissive"
    )
    if found.num_rows != len(ids):
        raise DataError(
            f"Every picked tile must be in the catalog; {len(ids) - found.num_rows} of "
            f"{len(ids)} are not. Delete the round's folder to have it made again."
        )
    return found


def find_in_shard(store: Store, shard: ShardRef, ids: IdArray) -> pa.Table:
    """Return one shard's rows among `ids` (runs on a worker)."""
    table = read_table(store, shard.catalog_uri, sha256=shard.sha256)
    mask = np.isin(np.array(table["tile_id"].to_pylist()), ids)
    rows = table.filter(pa.array(mask))
    return rows.append_column(SHARD, pa.array([shard.shard_id] * rows.num_rows, pa.string()))


def publish(  # noqa: PLR0913 - the parts of a manifest
    context: RunContext,
    selection: Selection,
    rows: pa.Table,
    round_index: int,
    lineage: Mapping[str, Any],
    *,
    certificate: Mapping[str, Any] | None = None,
    packing_ids: IdArray | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the round's manifest, unless it is recorded.

    Args:
        context: of the run.
        selection: what was picked.
        rows: catalog rows of at least the picked tiles, from `find_rows`.
        round_index: from 0.
        lineage: fingerprints of input, encoder and clustering for the footer.
        certificate: of the selection, for the footer; from `Certificate.to_json`.
        packing_ids: rows of its packing, where they go into a table.
        notes: further facts for the footer, from `selection_notes`.
    """
    config = context.config
    made_of = [dict(lineage), config.frozen_part(), round_index, __version__]
    inputs = digest_json([*made_of, *([context.lists.fingerprint()] if len(context.lists) else [])])
    stage = context.ledger.stage(f"{context.round_name(round_index)}/{PUBLISH}")
    record = stage.completed("manifest", inputs)
    if record is None:
        places = rows_of(np.array(rows["tile_id"].to_pylist()), selection.tile_ids)
        shards = np.array(rows[SHARD].to_pylist())[places]
        table = manifest_table(
            replace(selection, shard_ids=shards),
            rows.drop_columns([SHARD]),
            round_index=round_index,
        )
        footer = {
            "config": config.frozen_part(),
            "seed": config.seed,
            "round": round_index,
            "code_version": __version__,
            **lineage,
            **(notes or {}),
        }
        attempt = new_attempt()
        uri = stage.data_uri("manifest", attempt, "parquet")
        footer |= write_excluded(context.store, uri, context.lists.exclude)
        footer |= write_certificate(context.store, uri, certificate, packing_ids)
        written = write_manifest(context.store, uri, table, footer)
        file = FileRecord(uri, written.num_rows, context.store.info(uri).num_bytes, written.sha256)
        record = stage.record(
            "manifest",
            attempt=attempt,
            inputs=inputs,
            file=file,
            selection_fingerprint=written.selection_fingerprint,
            schema_version=written.schema_version,
        )
    return Manifest(
        stage.file(record).uri,
        record["rows"],
        record["schema_version"],
        record["selection_fingerprint"],
        record["sha256"],
    )
