"""Pick the budget by the configured strategy, and by those it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.clustering.assignment import assign
from balancer.config import Strategy, digest_json
from balancer.config_selection import ENGINE_KEYS
from balancer.seeding import derive_seed
from balancer.selection.certified import certify_selection
from balancer.selection.fallback import Fallback, marked
from balancer.selection.included import with_included_rates
from balancer.selection.settings import Settings
from balancer.selection.strategies import run_strategy
from balancer.stages.constraints import check_pool
from balancer.stages.context import RunContext
from balancer.stages.pool import RayPool
from balancer.storage.allocations import allocation_table, read_allocation
from balancer.storage.ledger import Record, StageLedger, new_attempt
from balancer.storage.selections import read_selections, selection_notes, selections_table
from balancer.storage.tables import read_table, write_table
from balancer.types import Clustering, IdArray, Selection

SELECT = "select"
SELECTED = "selected"
PACKING = "packing"
ALLOCATION = "allocation"


@dataclass(frozen=True, slots=True)
class Selections:
    """A round's selections.

    Attributes:
        picks: by name; `selected` is the round's result.
        record: names the table that holds them.
        certificate: of the round's result, as JSON values.
        packing_ids: rows of its packing, where they are not the picks themselves.
        notes: what it says of itself for the manifest's footer.
    """

    picks: dict[str, Selection]
    record: Record
    certificate: Mapping[str, Any]
    packing_ids: IdArray | None
    notes: Mapping[str, Any]


def select(
    context: RunContext,
    pool: RayPool,
    clustering: Clustering,
    budget: int,
    round_index: int,
    *,
    fallback: Fallback | None = None,
) -> Selections:
    """Return the round's selections and certificate, computing them unless they are recorded.

    `selected` is the round's result. The strategies of `measures.compare` follow under their own
    names, `random` with a number for each repeat. The record names the table that holds them. With
    a `fallback` it makes `selected`, and the picks' reasons say so.

    Raises:
        DataError: fewer tiles could be embedded than the budget asks for, or not all included ones.
    """
    config = context.config
    inputs = digest_json(
        [
            clustering.fingerprint,
            config.selection.model_dump(exclude=ENGINE_KEYS),
            budget,
            config.seed,
            list(config.measures.compare),
            config.measures.compare_repeats,
            *([fallback.to_json()] if fallback else []),
            *([context.lists.fingerprint()] if len(context.lists) else []),
        ]
    )
    stage = context.ledger.stage(f"{context.round_name(round_index)}/{SELECT}")
    record = stage.completed("selections", inputs)
    if record is None:
        check_pool(context, pool, budget)
        rows = pool.with_clustering(clustering)
        seed = derive_seed(config.seed, SELECT)
        plans = _plans(context, clustering, seed, fallback)
        found = {}
        with context.reporter.task(
            f"select round {round_index}", len(plans), "selections"
        ) as advance:
            for name, (strategy, settings) in plans.items():
                picked = run_strategy(strategy, rows, budget, settings)
                if fallback is not None and name == SELECTED:
                    picked = marked(picked)
                found[name] = _with_clusters(rows, clustering, picked)
                advance(1, "")
            certified = certify_selection(rows, found[SELECTED], seed=seed)
            exchange = rows.last_exchange
        attempt = new_attempt()
        allocation = found[SELECTED].allocation
        report = () if allocation is None else allocation.report
        if allocation is not None:
            uri = stage.data_uri(ALLOCATION, attempt, "parquet")
            file = write_table(context.store, uri, *allocation_table(allocation))
            stage.record(ALLOCATION, attempt=attempt, inputs=inputs, file=file)
        for line in report:
            context.reporter.say(f"quotas: {line}")
        packing = certified.packing_ids
        if packing is not None:
            uri = stage.data_uri(PACKING, attempt, "parquet")
            file = write_table(context.store, uri, pa.table({"tile_id": packing.tolist()}))
            stage.record(PACKING, attempt=attempt, inputs=inputs, file=file)
        uri = stage.data_uri("selections", attempt, "parquet")
        file = write_table(context.store, uri, selections_table(found))
        record = stage.record(
            "selections",
            attempt=attempt,
            inputs=inputs,
            file=file,
            certificate=certified.certificate.to_json(),
            exchange=asdict(exchange),
            notes=selection_notes(found[SELECTED], listed=config.selection.include is not None),
        )
        if exchange.num_picks:
            context.reporter.say(f"farthest-point: {exchange.describe()}")
    table = read_table(context.store, stage.file(record).uri, sha256=record["sha256"])
    picks = read_selections(table)
    picks[SELECTED] = _with_allocation(picks[SELECTED], stage, inputs, context)
    return Selections(
        picks,
        record,
        record["certificate"],
        _packing(stage, inputs, context),
        record["notes"],
    )


def _with_allocation(
    picked: Selection, stage: StageLedger, inputs: str, context: RunContext
) -> Selection:
    record = stage.completed(ALLOCATION, inputs)
    if record is None:
        return picked
    table = read_table(context.store, stage.file(record).uri, sha256=record["sha256"])
    allocation = with_included_rates(read_allocation(table), picked)
    return replace(picked, allocation=allocation)


def _plans(
    context: RunContext, clustering: Clustering, seed: int, fallback: Fallback | None
) -> dict[str, tuple[Strategy, Settings]]:
    """Return strategy and settings of the round's selection and of those it is compared with."""
    config = context.config
    include = context.lists.include

    def settings_of(own_seed: int) -> Settings:
        return Settings.of(config.selection, own_seed, clustering, include=include)

    chosen, settings = config.selection.strategy, settings_of(seed)
    if fallback is not None:
        chosen, settings = fallback.strategy, replace(settings, within=fallback.within)
    plans: dict[str, tuple[Strategy, Settings]] = {SELECTED: (chosen, settings)}
    for strategy in config.measures.compare:
        if strategy == "random":
            for repeat in range(config.measures.compare_repeats):
                own = settings_of(derive_seed(seed, "compare", repeat))
                plans[f"random-{repeat}"] = (strategy, own.for_comparison(strategy))
        else:
            plans[strategy] = (strategy, settings_of(seed).for_comparison(strategy))
    return plans


def _packing(stage: StageLedger, inputs: str, context: RunContext) -> IdArray | None:
    record = stage.completed(PACKING, inputs)
    if record is None:
        return None
    table = read_table(context.store, stage.file(record).uri, sha256=record["sha256"])
    return np.array(table["tile_id"].to_pylist())


def _with_clusters(pool: RayPool, clustering: Clustering, picked: Selection) -> Selection:
    """Name the cluster of picks that a strategy without clusters made."""
    unknown = picked.cluster < 0
    if not unknown.any():
        return picked
    labels, _ = assign(pool.vectors(picked.tile_ids[unknown]), clustering.centroids)
    cluster = picked.cluster.copy()
    cluster[unknown] = labels
    return replace(picked, cluster=cluster)
