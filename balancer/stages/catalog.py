"""Catalog: index every shard of the archive, refuse or drop duplicates, commit the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.config import ArchiveConfig, digest_json
from balancer.errors import ConfigError, DataError
from balancer.imbalance.long_tail import long_tailed_pool
from balancer.imbalance.measures import class_name
from balancer.stages.context import RunContext
from balancer.stages.tasks import run_tasks
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.sources import SourceShard, discover
from balancer.storage.tables import read_table, write_table
from balancer.storage.tile_metadata import unify_schemas
from balancer.storage.tile_shards import find_duplicates, index_shard
from balancer.types import BoolArray, ShardRef

STAGE = "catalog"
FOLDER_LABEL = "label"
"""Column in which folder names come as labels."""
EXAMPLES = 3
LISTED_SOURCES = 6


@dataclass(frozen=True, slots=True)
class Catalog:
    """The committed catalog of a run.

    Attributes:
        shards: in the order of the archive.
        fingerprint: digest of the sources that were indexed.
        label_column: metadata column used for measuring, None without labels.
        label_counts: tiles of each label, by label.
        facts: the whole commit record, JSON.
    """

    shards: tuple[ShardRef, ...]
    fingerprint: str
    label_column: str | None
    label_counts: Mapping[str, int]
    facts: Mapping[str, Any]

    @property
    def num_tiles(self) -> int:
        """How many tiles can be picked."""
        return sum(shard.num_tiles for shard in self.shards)


def discover_sources(store: Store, archive: ArchiveConfig) -> tuple[list[SourceShard], str]:
    """List the archive's shards and digest what they are."""
    sources = discover(store, archive)
    return sources, digest_json([source.shard_id for source in sources])


def check_sources(ledger: Ledger, sources: Sequence[SourceShard]) -> bool:
    """Tell whether the catalog is committed; refuse other sources than it was made from.

    Raises:
        ConfigError: listing what was added, removed or changed.
    """
    committed = ledger.read_commit(STAGE)
    if committed is None:
        return False
    before = {shard_id: (uri, etag) for shard_id, uri, etag in committed["sources"]}
    now = {source.shard_id: (source.uri, source.etag) for source in sources}
    gone = [f"- {uri} ({etag})" for key, (uri, etag) in before.items() if key not in now]
    new = [f"+ {uri} ({etag})" for key, (uri, etag) in now.items() if key not in before]
    if gone or new:
        more = len(gone) + len(new) - LISTED_SOURCES
        lines = [*gone, *new][:LISTED_SOURCES] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigError(
            f"The run {ledger.run_uri} must be continued with the archive it was started with; "
            f"shards removed (-) and added (+), with their versions:\n  "
            + "\n  ".join(lines)
            + "\nRestore the files, or start another run with another --out."
        )
    return True


def build_catalog(context: RunContext, sources: Sequence[SourceShard], digest: str) -> Catalog:
    """Index what is not indexed yet, check the whole, and commit it.

    Args:
        context: of the run.
        sources: from `discover_sources`.
        digest: of the sources.

    Raises:
        DataError: too many unreadable tiles, one id with two contents, metadata that do not fit.
        ConfigError: a label column that is not there.

    Cost: reads every byte of the archive once; the driver holds ids and digests.
    """
    committed = context.ledger.read_commit(STAGE)
    if committed is None:
        records = _index(context, sources)
        committed = _commit(context, sources, records, digest)
    return _catalog(context.ledger, committed)


def _index(context: RunContext, sources: Sequence[SourceShard]) -> list[Record]:
    archive = context.config.archive
    # A shard's catalog depends on the shard and on these keys, not on the rest of the archive.
    keys = [archive.id_column, archive.image_column]
    inputs = {source.shard_id: digest_json([source.shard_id, *keys]) for source in sources}
    done = context.ledger.stage(STAGE).completed_all(inputs)
    missing = [source for source in sources if source.shard_id not in done]
    arguments = [(context.ledger, source, archive, inputs[source.shard_id]) for source in missing]
    with context.reporter.task("catalog", len(sources), "shards") as advance:
        advance(len(sources) - len(missing), "")
        for number, record in run_tasks(index_source, arguments):
            done[missing[number].shard_id] = record
            advance(1, "")
    return [done[source.shard_id] for source in sources]


def index_source(
    ledger: Ledger, source: SourceShard, archive: ArchiveConfig, digest: str
) -> Record:
    """Index one shard, write its catalog and quarantine, record them (runs on a worker)."""
    indexed = index_shard(ledger.store, source, archive)
    stage = ledger.stage(STAGE)
    attempt = new_attempt()
    bad = write_table(
        ledger.store,
        stage.data_uri(f"{source.shard_id}-quarantine", attempt, "parquet"),
        indexed.quarantine,
    )
    file = write_table(
        ledger.store, stage.data_uri(source.shard_id, attempt, "parquet"), indexed.table
    )
    reasons = Counter(indexed.quarantine["reason"].to_pylist())
    first = indexed.quarantine.slice(0, EXAMPLES).to_pylist()
    return stage.record(
        source.shard_id,
        attempt=attempt,
        inputs=digest,
        file=file,
        num_bytes=int(np.sum(indexed.table["num_bytes"].to_numpy())),
        quarantine={"path": ledger.relative(bad.uri), "sha256": bad.sha256, "rows": bad.num_rows},
        reasons=dict(reasons),
        examples=[
            f"{row['uri']} {row['member']}: {row['reason']}, {row['detail']}" for row in first
        ],
    )


def _commit(
    context: RunContext, sources: Sequence[SourceShard], records: Sequence[Record], digest: str
) -> Record:
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


def _catalog(ledger: Ledger, facts: Mapping[str, Any]) -> Catalog:
    shards = tuple(
        ShardRef(
            shard_id=entry["shard_id"],
            source_uri=entry["source_uri"],
            catalog_uri=ledger.absolute(entry["path"]),
            etag=entry["etag"],
            sha256=entry["sha256"],
            num_tiles=entry["num_tiles"],
            num_bytes=entry["num_bytes"],
        )
        for entry in facts["shards"]
    )
    fingerprint = digest_json([[shard.shard_id, shard.sha256] for shard in shards])
    return Catalog(shards, fingerprint, facts["label_column"], facts["label_counts"], facts)
