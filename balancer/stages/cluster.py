"""Cluster the embeddings with distributed k-means and record each tile's cluster."""

from __future__ import annotations

from balancer.clustering.kmeans import default_num_clusters, fit
from balancer.config import digest_json
from balancer.seeding import derive_seed
from balancer.stages.context import RunContext
from balancer.stages.pool import RayPool
from balancer.storage.ledger import Record, new_attempt
from balancer.storage.selections import clustering_table, read_clustering
from balancer.storage.tables import read_table, write_table
from balancer.types import Clustering

CLUSTER, ASSIGN, REFERENCE = "cluster", "assign", "reference"


def cluster(
    context: RunContext,
    pool: RayPool,
    round_index: int,
    *,
    embeddings: str,
    num_clusters: int,
    kind: str = CLUSTER,
) -> tuple[Clustering, Record]:
    """Return the round's clustering, computing it unless it is recorded.

    The seed does not depend on the round: with the same embeddings every round finds the same
    clusters, so that churn measures what the encoder learned and not the dice.

    Args:
        context: of the run.
        pool: the embeddings.
        round_index: whose folder the clustering goes to.
        embeddings: fingerprint of the embeddings.
        num_clusters: K.
        kind: name of the stage.

    Returns:
        The clustering and its completion record.
    """
    config = context.config
    inputs = digest_json([embeddings, config.clustering.model_dump(), num_clusters, config.seed])
    stage = context.ledger.stage(f"{context.round_name(round_index)}/{kind}")
    record = stage.completed("kmeans", inputs)
    if record is None:
        found = fit(
            pool, num_clusters, config=config.clustering, seed=derive_seed(config.seed, "cluster")
        )
        attempt = new_attempt()
        uri = stage.data_uri("kmeans", attempt, "parquet")
        file = write_table(context.store, uri, clustering_table(found))
        record = stage.record(
            "kmeans",
            attempt=attempt,
            inputs=inputs,
            file=file,
            inertia=found.inertia,
            skew=float(found.sizes.max() / max(1.0, found.sizes.mean())),
        )
    table = read_table(context.store, stage.file(record).uri, sha256=record["sha256"])
    return read_clustering(table, record["inertia"], inputs), record


def assign_tiles(
    context: RunContext, pool: RayPool, round_index: int, clustering: Clustering
) -> list[Record]:
    """Write every tile's cluster, unless it is recorded; return one record per shard."""
    name = f"{context.round_name(round_index)}/{ASSIGN}"
    done = context.ledger.stage(name).completed_all(clustering.fingerprint)
    if sum(record["rows"] for record in done.values()) == pool.num_rows:
        return [done[key] for key in sorted(done)]
    records = pool.with_clustering(clustering).write_assignments(
        context.ledger, name, clustering.fingerprint
    )
    return sorted(records, key=lambda record: str(record["path"]))


def clusters_for(context: RunContext, budget: int, num_rows: int) -> int:
    """Return K: as configured, or from the budget."""
    return context.config.clustering.num_clusters or default_num_clusters(budget, num_rows)
