"""A weight for every tile of the archive: how often a trainer should show it, on average.

The weight of a tile is its stratum's count over its stratum's size, so a trainer can draw from all
tiles with these weights instead of a hard subset. A tile that must be included has the weight 1,
times how often it is shown where tiles repeat, and the others of its stratum share what it leaves
of the count; excluded tiles have no row. Workers write them shard by shard; a shard that
is recorded is not written again. The run's folder has the last round's under `weights.parquet`, a
folder of Parquet files that any reader takes as one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balancer.clustering.assignment import assign
from balancer.selection.included import tile_rates
from balancer.selection.strata import label_rows
from balancer.stages.context import RunContext
from balancer.stages.pool import RayPool
from balancer.stages.tasks import run_tasks
from balancer.storage.allocations import weight_table
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.tables import read_artefact, write_table
from balancer.types import Allocation, Clustering, FloatArray, ShardRows

WEIGHTS = "weights"
WEIGHTS_NAME = "weights.parquet"


def write_weights(
    context: RunContext,
    pool: RayPool,
    clustering: Clustering,
    allocation: Allocation | None,
    round_index: int,
    *,
    inputs: str,
) -> list[Record]:
    """Write every tile's weight, unless it is recorded; return one record per shard.

    Args:
        context: of the run.
        pool: all rows, with the columns of the strata.
        clustering: of the round.
        allocation: of the round's selection; without one (a strategy without quotas has no
            inclusion rate for tiles that it did not pick) nothing is written, and that is said.
        round_index: whose folder they go to.
        inputs: fingerprint of the selection.

    Cost: one assignment of the rows whose shard is not recorded; 16 bytes per row on the worker.
    """
    if allocation is None:
        context.reporter.say(
            f"no {WEIGHTS_NAME}: {context.config.selection.strategy} has no quotas (hybrid-medoid "
            f"none with included tiles), so tiles that were not picked have no weight"
        )
        return []
    name = f"{context.round_name(round_index)}/{WEIGHTS}"
    done = context.ledger.stage(name).completed_all(inputs)
    if sum(record["rows"] for record in done.values()) < pool.num_rows:
        parts = pool.map_shards(
            write_shard_weights,
            context.ledger,
            name,
            inputs,
            clustering.centroids,
            allocation,
            frozenset(done),
        )
        done |= {record["shard"]: record for record in parts if record is not None}
    return [done[key] for key in sorted(done)]


def write_shard_weights(
    rows: ShardRows,
    ledger: Ledger,
    name: str,
    inputs: str,
    centroids: FloatArray,
    allocation: Allocation,
    done: frozenset[str],
) -> Record | None:
    """Write the weights of one shard's tiles and record them (runs on a worker).

    Returns:
        The completion record; None where the shard is recorded already.
    """
    if rows.name in done:
        return None
    clusters, _ = assign(rows.points, centroids, device=rows.device)
    labels = label_rows(rows, clusters, allocation.strata)
    table = weight_table(rows.ids, clusters, tile_rates(rows.ids, labels, allocation))
    stage, attempt = ledger.stage(name), new_attempt()
    file = write_table(ledger.store, stage.data_uri(rows.name, attempt, "parquet"), table)
    return stage.record(rows.name, attempt=attempt, inputs=inputs, file=file, shard=rows.name)


def publish_weights(context: RunContext, files: Sequence[dict[str, Any]]) -> str | None:
    """Copy the last round's weights to the name that does not change; return it.

    Args:
        context: of the run.
        files: `path` and `sha256` of each shard's, from the round's commit.
    """
    if not files:
        return None
    folder = context.ledger.absolute(WEIGHTS_NAME)
    arguments = [(context.ledger, file["path"], file["sha256"]) for file in files]
    with context.reporter.task(WEIGHTS_NAME, len(arguments), "shards") as advance:
        for _ in run_tasks(copy_weights, arguments):
            advance(1, "")
    return folder


def copy_weights(ledger: Ledger, path: str, sha256: str) -> None:
    """Copy one shard's weights under the shard's name, unless they are there."""
    shard = path.rpartition("/")[2].partition(".")[0]
    uri = ledger.absolute(f"{WEIGHTS_NAME}/{shard}.parquet")
    data = read_artefact(ledger.store, ledger.absolute(path), sha256=sha256)
    if not ledger.store.exists(uri) or ledger.store.info(uri).num_bytes != len(data):
        ledger.store.write_bytes(uri, data)
