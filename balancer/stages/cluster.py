"""Cluster the embeddings with distributed k-means and record each tile's cluster."""

from __future__ import annotations

from balancer.clustering.hierarchy import fit_hierarchy
from balancer.clustering.kmeans import default_num_clusters, describe_num_clusters, fit, silent
from balancer.clustering.skew import skew_of
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
    budget: int,
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
        budget: tiles to pick, for the log.
        kind: name of the stage. The reference is always flat.

    Returns:
        The clustering and its completion record.
    """
    config = context.config
    in_levels = kind == CLUSTER and config.selection.strategy == "hierarchical"
    inputs = digest_json(
        [embeddings, config.clustering.model_dump(), num_clusters, config.seed, in_levels]
    )
    stage = context.ledger.stage(f"{context.round_name(round_index)}/{kind}")
    record = stage.completed("kmeans", inputs)
    if record is None:
        if kind == CLUSTER:
            given = (config.clustering.num_clusters or config.clustering.levels) is not None
            line = describe_num_clusters(num_clusters, budget, pool.num_rows, given=given)
            context.reporter.say(line)
        fitter = fit_hierarchy if in_levels else fit
        found = fitter(
            pool,
            num_clusters,
            config=config.clustering,
            seed=derive_seed(config.seed, "cluster"),
            say=context.reporter.say if kind == CLUSTER else silent,
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
            skew=skew_of(found.sizes),
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
    """Return K, of the finest level where there are levels: as configured, or from the budget."""
    clustering = context.config.clustering
    given = clustering.levels[0] if clustering.levels else clustering.num_clusters
    return given or default_num_clusters(budget, num_rows)
