"""Catalog: index every shard of the archive, then commit the list of what can be picked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balancer.config import ArchiveConfig, digest_json
from balancer.errors import ConfigError
from balancer.stages.catalog_commit import EXAMPLES, STAGE, commit_catalog
from balancer.stages.context import RunContext
from balancer.stages.tasks import run_tasks
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.sources import SourceShard, discover
from balancer.storage.tables import write_table
from balancer.storage.tile_shards import index_shard
from balancer.types import ShardRef

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
        committed = commit_catalog(context, sources, records, digest)
    return _catalog(context.ledger, committed)


def _index(context: RunContext, sources: Sequence[SourceShard]) -> list[Record]:
    archive = context.config.archive
    # A shard's catalog depends on the shard and on these keys, not on the rest of the archive.
    keys = [archive.id_column, archive.image_column]
    if archive.bands != "rgb":
        keys.append(archive.bands)
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
