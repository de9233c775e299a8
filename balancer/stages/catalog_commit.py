"""Commit of the catalog: the checks of the whole archive, and the list of what can be picked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.config import ArchiveConfig
from balancer.errors import ConfigError, DataError
from balancer.imbalance.long_tail import long_tailed_pool
from balancer.imbalance.measures import class_name
from balancer.stages.context import RunContext
from balancer.storage.ledger import Record, new_attempt
from balancer.storage.sources import SourceShard
from balancer.storage.tables import read_table, write_table
from balancer.storage.tile_metadata import unify_schemas
from balancer.storage.tile_shards import find_duplicates
from balancer.types import BoolArray

STAGE = "catalog"
FOLDER_LABEL = "label"
"""Column in which folder names come as labels."""
EXAMPLES = 3
"""Unreadable tiles that a message names."""


def commit_catalog(
    context: RunContext, sources: Sequence[SourceShard], records: Sequence[Record], digest: str
) -> Record:
    """Check what was indexed, leave out duplicates, and commit the list of shards.

    Args:
        context: of the run.
        sources: the archive's shards.
        records: completion record of each, in the same order.
        digest: of the sources.

    Raises:
        DataError: too many unreadable tiles, one id with two contents, metadata that do not fit.
        ConfigError: a label column that is not there, or a budget beyond the archive.
    """
    _check_bad_fraction(records, context.config.archive.max_bad_fraction)
    stage = context.ledger.stage(STAGE)
    tables = [
        read_table(context.store, stage.file(record).uri, sha256=record["sha256"])
        for record in records
    ]
    names = [f"{source.uri} ({source.shard_id})" for source in sources]
    schema = unify_schemas([table.schema for table in tables], names)
    label = _label_column(context.config.archive, schema)
    duplicates = find_duplicates(tables)
    keep, holdout = _pool(context.config.archive, tables, label, duplicates.keep)
    shards, labels = [], Counter[str]()
    for source, indexed, rows, kept in zip(sources, records, tables, keep, strict=True):
        table, record = (
            (rows, indexed) if kept.all() else _rewrite(context, source, rows, kept, digest)
        )
        if table.num_rows == 0:
            continue
        shards.append(_shard_entry(source, record, table))
        if label is not None and label in table.column_names:
            named = (class_name(value) for value in table[label].to_pylist())
            labels.update(name for name in named if name is not None)
    facts: dict[str, Any] = {
        "inputs": digest,
        "sources": [[source.shard_id, source.uri, source.etag] for source in sources],
        "shards": shards,
        "quarantine": [record["quarantine"] for record in records],
        "reasons": dict(sum((Counter(record["reasons"]) for record in records), Counter())),
        "num_listed": sum(r["rows"] + r["quarantine"]["rows"] for r in records),
        "num_tiles": sum(shard["num_tiles"] for shard in shards),
        "num_quarantined": sum(record["quarantine"]["rows"] for record in records),
        "num_duplicates": duplicates.num_dropped,
        "num_left_out": sum(
            int((first & ~second).sum())
            for first, second in zip(duplicates.keep, keep, strict=True)
        ),
        "metadata_columns": [n for n in schema.names if n not in tables[0].schema.names[:10]],
        "label_column": label,
        "label_counts": dict(sorted(labels.items())),
    }
    accounted = sum(
        facts[name] for name in ("num_tiles", "num_quarantined", "num_duplicates", "num_left_out")
    )
    if accounted != facts["num_listed"]:
        raise DataError(
            f"Every listed tile must be accounted for; {facts['num_listed']} were listed and "
            f"{accounted} are kept, quarantined, duplicates or left out. Delete the catalog folder "
            f"of the run to index again."
        )
    if holdout is not None:
        uri = stage.data_uri("holdout", new_attempt(), "parquet")
        file = write_table(context.store, uri, holdout)
        facts["holdout"] = {"path": context.ledger.relative(uri), "sha256": file.sha256}
    if shards:
        context.config.selection.resolve(facts["num_tiles"])  # before anything is fixed
    else:
        raise DataError(
            f"The archive {context.config.archive.uri} must hold at least one readable tile; "
            f"got none ({facts['num_quarantined']} unreadable)."
        )
    return context.ledger.commit(STAGE, facts)


def _check_bad_fraction(records: Sequence[Record], limit: float) -> None:
    bad = sum(record["quarantine"]["rows"] for record in records)
    total = bad + sum(record["rows"] for record in records)
    if bad > limit * total:
        reasons = sum((Counter(record["reasons"]) for record in records), Counter[str]())
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        examples = [example for record in records for example in record["examples"]][:EXAMPLES]
        raise DataError(
            f"At most {limit:.2%} of the tiles may be unreadable (archive.max_bad_fraction); got "
            f"{bad} of {total} ({bad / total:.2%}): {counts}. For example:\n  "
            + "\n  ".join(examples)
            + "\nMend the files or raise archive.max_bad_fraction; the quarantine tables under "
            "catalog/ list them all."
        )


def _label_column(archive: ArchiveConfig, schema: pa.Schema) -> str | None:
    wanted = archive.label_column
    if wanted is None:
        return FOLDER_LABEL if FOLDER_LABEL in schema.names else None
    if wanted not in schema.names:
        raise ConfigError(
            f"archive.label_column must name a metadata column; got {wanted!r}. "
            f"There are: {', '.join(schema.names)}."
        )
    return wanted


def _pool(
    archive: ArchiveConfig,
    tables: Sequence[pa.Table],
    label: str | None,
    keep: Sequence[BoolArray],
) -> tuple[list[BoolArray], pa.Table | None]:
    """Restrict to the long-tailed pool where one is configured."""
    if archive.long_tail is None:
        return list(keep), None
    if label is None:
        raise ConfigError(
            "archive.long_tail needs labels; the archive has none. "
            "Name archive.label_column, or use an archive with one folder per class."
        )
    whole = pa.concat_tables(
        [table.filter(pa.array(kept)) for table, kept in zip(tables, keep, strict=True)],
        promote_options="permissive",
    )
    ids = np.array(whole["tile_id"].to_pylist())
    names = [class_name(value) for value in whole[label].to_pylist()]
    if None in names:
        raise ConfigError(
            f"archive.long_tail needs a label for every tile; {names.count(None)} of "
            f"{len(names)} have none in {label!r}. Label or remove them."
        )
    classes = np.array(names)
    pool, held = long_tailed_pool(ids, classes, archive.long_tail)
    chosen = set(ids[pool].tolist())
    masks = [
        kept & np.array([name in chosen for name in table["tile_id"].to_pylist()], dtype=bool)
        for table, kept in zip(tables, keep, strict=True)
    ]
    return masks, whole.take(pa.array(held))


def _rewrite(
    context: RunContext, source: SourceShard, table: pa.Table, keep: BoolArray, digest: str
) -> tuple[pa.Table, Record]:
    kept = table.filter(pa.array(keep))
    stage = context.ledger.stage(f"{STAGE}/kept")
    attempt = new_attempt()
    file = write_table(context.store, stage.data_uri(source.shard_id, attempt, "parquet"), kept)
    record = stage.record(
        source.shard_id,
        attempt=attempt,
        inputs=digest,
        file=file,
        num_bytes=int(np.sum(kept["num_bytes"].to_numpy())),
    )
    return kept, record


def _shard_entry(source: SourceShard, record: Record, table: pa.Table) -> dict[str, Any]:
    return {
        "shard_id": source.shard_id,
        "source_uri": source.uri,
        "etag": source.etag,
        "path": record["path"],
        "sha256": record["sha256"],
        "num_tiles": table.num_rows,
        "num_bytes": record["num_bytes"],
    }
