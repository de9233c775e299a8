"""Drop near-duplicates from a round's embeddings, before clustering and selection.

What is kept is written as embedding shards of the same form, so that clustering, selection and
`balancer verify` work on those alone; the frozen reference keeps using all embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.config import digest_json
from balancer.config_deduplicate import DeduplicateConfig
from balancer.errors import DataError
from balancer.selection.near_order import order_seed
from balancer.selection.near_pairs import TooManyPairsError
from balancer.selection.near_report import describe, facts_of, nearest_in
from balancer.selection.pool import rows_of
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.near_duplicate_search import ROWS_PER_BUCKET, Found, ShardSearch
from balancer.stages.near_duplicate_tasks import (
    Verdicts,
    concatenate_ids,
    counts_in_shard,
    too_many,
    write_shard,
)
from balancer.stages.tasks import run_tasks
from balancer.storage.ledger import Record
from balancer.storage.near_duplicate_tables import Neighbours, num_near
from balancer.storage.tile_metadata import NEAR_COLUMN
from balancer.types import EmbeddingShard, IdArray, IntArray

DEDUPLICATE = "deduplicate"


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """What is left of a round's embeddings.

    Attributes:
        shards: embeddings of the kept tiles, in catalog order; all embeddings when it is off.
        facts: counts and effort (`balancer.selection.near_report.facts_of`); None when it is off.
        records: of the shards, in catalog order.
    """

    shards: tuple[EmbeddingShard, ...]
    facts: Mapping[str, Any] | None = None
    records: tuple[Record, ...] = ()

    def to_json(self, relative: Callable[[str], str]) -> dict[str, Any]:
        """Return what the round's commit says; nothing when it is off."""
        if self.facts is None:
            return {}
        return {
            "near_duplicates": {
                **self.facts,
                "tables": [record["tables"]["tiles"] for record in self.records],
                "pairs": [
                    record["tables"]["pairs"]
                    for record in self.records
                    if "pairs" in record["tables"]
                ],
            },
            "selected_from": [
                {
                    "shard_id": shard.shard_id,
                    "path": relative(shard.uri),
                    "rows": shard.num_rows,
                    "dim": shard.dim,
                    "sha256": shard.sha256,
                }
                for shard in self.shards
            ],
        }


def deduplicate(
    context: RunContext,
    catalog: Catalog,
    shards: tuple[EmbeddingShard, ...],
    round_index: int,
    *,
    budget: int,
    rows_per_bucket: int = ROWS_PER_BUCKET,
) -> Deduplicated:
    """Return the round's embeddings without near-duplicates, finding them unless it is recorded.

    Args:
        context: of the run.
        catalog: of the archive, for the priority.
        shards: all embeddings of the round.
        round_index: whose folder the result goes to.
        budget: tiles that must be left.
        rows_per_bucket: rows that one task compares; it does not affect the result.

    Raises:
        ConfigError: a priority that is no column of numbers.
        DataError: fewer tiles left than the budget, or too many pairs to list.
    """
    config = context.config.selection.deduplicate
    if config is None:
        return Deduplicated(shards)
    inputs = digest_json(
        [
            [[shard.shard_id, shard.sha256] for shard in shards],
            config.model_dump(),
            context.config.embedding.normalize,
            context.config.seed,
            *([context.lists.fingerprint()] if len(context.lists) else []),
        ]
    )
    name = f"{context.round_name(round_index)}/{DEDUPLICATE}"
    stage = context.ledger.stage(name)
    done = stage.completed_all(inputs)
    missing = {shard.shard_id for shard in shards} - done.keys()
    if missing:
        decided = _find(context, catalog, shards, config, rows_per_bucket)
        task = f"near-duplicates {round_index}"
        with context.reporter.task(task, len(missing), "shards") as advance:
            for _ in _write(context, name, inputs, shards, missing, decided):
                advance(1, "")
        done = stage.completed_all(inputs)
    records = tuple(done[shard.shard_id] for shard in shards)
    facts: Mapping[str, Any] = records[0]["facts"]
    for line in describe(facts):
        context.reporter.say(f"near-duplicates: {line}")
    if facts["kept"] < budget:
        raise DataError(
            f"selection.budget must not exceed the tiles that are left without near-duplicates "
            f"({facts['kept']} of {facts['input']}); got {budget}. Lower the budget, or raise "
            f"selection.deduplicate.threshold."
        )
    return Deduplicated(
        tuple(
            EmbeddingShard(
                shard.shard_id,
                stage.file(record).uri,
                record["rows"],
                record["dim"],
                shard.encoder_fingerprint,
                record["sha256"],
            )
            for shard, record in zip(shards, records, strict=True)
            if record["rows"]
        ),
        facts,
        records,
    )


def with_counts(context: RunContext, found: Deduplicated, rows: pa.Table) -> pa.Table:
    """Add to catalog rows how many near-duplicates each tile stands for."""
    if found.facts is None:
        return rows
    wanted = np.array(rows["tile_id"].to_pylist(), dtype=np.str_)
    tables = [(context.ledger, record["tables"]["tiles"], wanted) for record in found.records]
    parts = [part for _, part in run_tasks(counts_in_shard, tables)]
    ids = concatenate_ids([part for part, _ in parts])
    counts = np.concatenate([part for _, part in parts])[rows_of(ids, wanted)]
    return rows.append_column(NEAR_COLUMN, pa.array(counts, pa.int64()))


def _find(
    context: RunContext,
    catalog: Catalog,
    shards: Sequence[EmbeddingShard],
    config: DeduplicateConfig,
    rows_per_bucket: int,
) -> tuple[ShardSearch, Found]:
    search = ShardSearch(
        context.store,
        shards,
        normalize=context.config.embedding.normalize,
        seed=order_seed(context.config.seed),
        lists=context.lists,
    )
    try:
        return search, search.find(config, catalog.shards, rows_per_bucket)
    except TooManyPairsError as error:
        raise too_many(config.max_pairs) from error


def _write(
    context: RunContext,
    name: str,
    inputs: str,
    shards: Sequence[EmbeddingShard],
    missing: Container[str],
    decided: tuple[ShardSearch, Found],
) -> Iterator[Record]:
    """Write every shard that is not recorded (`write_shard`)."""
    search, found = decided
    config = context.config.selection.deduplicate
    assert config is not None
    facts = facts_of(config, found.net, found.effort)
    verdicts = judge(found, search.names)
    arguments = [
        (context.ledger, name, inputs, shard, verdict, facts)
        for shard, verdict in zip(shards, verdicts, strict=True)
        if shard.shard_id in missing
    ]
    for _, record in run_tasks(write_shard, arguments):
        yield record


def judge(found: Found, names_of: Callable[[IntArray], IdArray]) -> list[Verdicts]:
    """Return the decisions of each shard, with the ids of the tiles they refer to.

    Args:
        found: the decisions.
        names_of: returns the ids of tiles, numbered over all shards in their order.
    """
    net, pairs = found.net, found.net.pairs
    nearest, squared = nearest_in(net)
    counts = num_near(len(net.by), net.by)
    named = [net.by, nearest] + ([] if pairs is None else [pairs.first, pairs.second])
    wanted = np.unique(np.concatenate(named))
    wanted = wanted[wanted >= 0]
    names = names_of(found.order[wanted]) if len(wanted) else np.array([""])

    def name(ranks: IntArray) -> IdArray:
        places = np.minimum(np.searchsorted(wanted, ranks), len(names) - 1)
        return np.where(ranks >= 0, names[places], "")

    ends = np.cumsum([len(ranks) for ranks in found.ranks])
    if pairs is not None:
        owner = np.searchsorted(ends, found.order[pairs.second], side="right")
    verdicts = []
    for number, ranks in enumerate(found.ranks):
        listed = None
        if pairs is not None:
            mine = pairs.take(owner == number)
            listed = (name(mine.first), name(mine.second), mine.squared)
        verdicts.append(
            Verdicts(
                ranks,
                name(net.by[ranks]),
                Neighbours(name(nearest[ranks]), squared[ranks]),
                counts[ranks],
                listed,
            )
        )
    return verdicts
