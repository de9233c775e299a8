"""Pick the budget by the configured strategy, and by those it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.clustering.assignment import assign
from balancer.config import Strategy, digest_json
from balancer.errors import DataError
from balancer.seeding import derive_seed
from balancer.selection.certified import certify_selection
from balancer.selection.fallback import Fallback, marked
from balancer.selection.strategies import Settings, run_strategy
from balancer.stages.context import RunContext
from balancer.stages.pool import RayPool
from balancer.storage.ledger import Record, StageLedger, new_attempt
from balancer.storage.selections import read_selections, selections_table
from balancer.storage.tables import read_table, write_table
from balancer.types import Clustering, IdArray, Selection

SELECT = "select"
SELECTED = "selected"
PACKING = "packing"


@dataclass(frozen=True, slots=True)
class Selections:
    """A round's selections.

    Attributes:
        picks: by name; `selected` is the round's result.
        record: names the table that holds them.
        certificate: of the round's result, as JSON values.
        packing_ids: rows of its packing, where they are not the picks themselves.
    """

    picks: dict[str, Selection]
    record: Record
    certificate: Mapping[str, Any]
    packing_ids: IdArray | None


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
        DataError: fewer tiles could be embedded than the budget asks for.
    """
    config = context.config
    if budget > pool.num_rows:
        raise DataError(
            f"selection.budget must not exceed the tiles that could be embedded ({pool.num_rows}); "
            f"got {budget}. Lower the budget, or mend the tiles that the quarantine tables of the "
            f"embed stage list."
        )
    inputs = digest_json(
        [
            clustering.fingerprint,
            config.selection.model_dump(),
            budget,
            config.seed,
            list(config.measures.compare),
            config.measures.compare_repeats,
            *([fallback.to_json()] if fallback else []),
        ]
    )
    stage = context.ledger.stage(f"{context.round_name(round_index)}/{SELECT}")
    record = stage.completed("selections", inputs)
    if record is None:
        rows = pool.with_clustering(clustering)
        seed = derive_seed(config.seed, SELECT)
        plans: dict[str, tuple[Strategy, int]] = {SELECTED: (config.selection.strategy, seed)}
        if fallback is not None:
            plans[SELECTED] = fallback.strategy, seed
        for strategy in config.measures.compare:
            if strategy == "random":
                for repeat in range(config.measures.compare_repeats):
                    plans[f"random-{repeat}"] = (strategy, derive_seed(seed, "compare", repeat))
            else:
                plans[strategy] = (strategy, seed)
        found = {}
        with context.reporter.task(
            f"select round {round_index}", len(plans), "selections"
        ) as advance:
            for name, (strategy, own_seed) in plans.items():
                settings = Settings.of(config.selection, own_seed, clustering)
                if fallback is not None and name == SELECTED:
                    settings = replace(settings, within=fallback.within)
                    picked = marked(run_strategy(strategy, rows, budget, settings))
                else:
                    picked = run_strategy(strategy, rows, budget, settings)
                found[name] = _with_clusters(rows, clustering, picked)
                advance(1, "")
            certified = certify_selection(rows, found[SELECTED], seed=seed)
            exchange = rows.last_exchange
        attempt = new_attempt()
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
        )
        if exchange.num_picks:
            context.reporter.say(f"farthest-point: {exchange.describe()}")
    table = read_table(context.store, stage.file(record).uri, sha256=record["sha256"])
    return Selections(
        read_selections(table), record, record["certificate"], _packing(stage, inputs, context)
    )


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
