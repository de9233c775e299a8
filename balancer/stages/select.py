"""Pick the budget by the configured strategy, and by those it is compared with."""

from __future__ import annotations

from dataclasses import replace

from balancer.clustering.assignment import assign
from balancer.config import Strategy, digest_json
from balancer.errors import DataError
from balancer.seeding import derive_seed
from balancer.selection.strategies import Settings, run_strategy
from balancer.stages.context import RunContext
from balancer.stages.pool import RayPool
from balancer.storage.ledger import Record, new_attempt
from balancer.storage.selections import read_selections, selections_table
from balancer.storage.tables import read_table, write_table
from balancer.types import Clustering, Selection

SELECT = "select"
SELECTED = "selected"


def select(
    context: RunContext, pool: RayPool, clustering: Clustering, budget: int, round_index: int
) -> tuple[dict[str, Selection], Record]:
    """Return the round's selections by name, computing them unless they are recorded.

    `selected` is the round's result. The strategies of `measures.compare` follow under their own
    names, `random` with a number for each repeat. The record names the table that holds them.

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
        ]
    )
    stage = context.ledger.stage(f"{context.round_name(round_index)}/{SELECT}")
    record = stage.completed("selections", inputs)
    if record is None:
        rows = pool.with_clustering(clustering)
        seed = derive_seed(config.seed, SELECT)
        plans: dict[str, tuple[Strategy, int]] = {SELECTED: (config.selection.strategy, seed)}
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
                picked = run_strategy(strategy, rows, budget, settings)
                found[name] = _with_clusters(rows, clustering, picked)
                advance(1, "")
        attempt = new_attempt()
        uri = stage.data_uri("selections", attempt, "parquet")
        file = write_table(context.store, uri, selections_table(found))
        record = stage.record("selections", attempt=attempt, inputs=inputs, file=file)
    table = read_table(context.store, stage.file(record).uri, sha256=record["sha256"])
    return read_selections(table), record


def _with_clusters(pool: RayPool, clustering: Clustering, picked: Selection) -> Selection:
    """Name the cluster of picks that a strategy without clusters made."""
    unknown = picked.cluster < 0
    if not unknown.any():
        return picked
    labels, _ = assign(pool.vectors(picked.tile_ids[unknown]), clustering.centroids)
    cluster = picked.cluster.copy()
    cluster[unknown] = labels
    return replace(picked, cluster=cluster)
