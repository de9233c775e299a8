"""Selection for users who have embeddings already: read vectors, select, write a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balancer.config import ClusteringConfig, SelectionConfig
from balancer.config_fields import Section
from balancer.config_file import apply_overrides, build_model
from balancer.config_selection import ENGINE_KEYS
from balancer.errors import ConfigError, DataError
from balancer.selection.arrays import row_numbers, select_weighted
from balancer.selection.constraints import Constraints
from balancer.selection.fallback import NEEDS_HEALTH
from balancer.selection.mapped_pool import OUT_OF_CORE
from balancer.selection.strategies import CLUSTERED
from balancer.storage.allocations import weight_table
from balancer.storage.certificates import write_certificate, write_excluded
from balancer.storage.embedding_identity import embeddings_fingerprint, sum_row_digests
from balancer.storage.embedding_shards import read_vectors
from balancer.storage.filesystem import Store
from balancer.storage.manifests import manifest_table, write_manifest
from balancer.storage.mapped_vectors import map_vectors
from balancer.storage.outputs import require_apart
from balancer.storage.selections import selection_notes
from balancer.storage.tables import write_table
from balancer.storage.tile_lists import TileLists, read_numbers, read_tile_lists
from balancer.types import FloatArray, IdArray, Manifest
from balancer.version import __version__

_BLOCK = 1 << 14
NUM_CLUSTERS = "clustering.num_clusters"


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """What to select from, how, and where the manifest goes.

    Attributes:
        uri: a `.npy` matrix (row number = tile id), or a Parquet file or folder.
        out: the Parquet file to write.
        selection: fields of `SelectionConfig`.
        overrides: `selection.key=value` and `clustering.key=value` as a run's `--set` takes them,
            for keys that have no place of their own here.
        num_clusters: K, from the budget when None.
        seed: decides first picks and clusters.
        normalize: L2-normalise the rows first.
        id_column: column with the ids, for Parquet.
        vector_column: column with the vectors, for Parquet.
        weights: a Parquet file for every row's weight; not written when None.
    """

    uri: str
    out: str
    selection: Mapping[str, Any]
    num_clusters: int | None = None
    seed: int = 0
    normalize: bool = True
    id_column: str = "tile_id"
    vector_column: str = "embedding"
    weights: str | None = None
    overrides: Sequence[str] = ()


class Sections(Section):
    """The sections of a run's configuration that matter where embeddings are given."""

    selection: SelectionConfig
    clustering: ClusteringConfig = ClusteringConfig()


def configure(request: EmbeddingsRequest) -> Sections:
    """Return the configuration of a request.

    Raises:
        ConfigError: naming the key and what is wrong with it.
    """
    tree: dict[str, Any] = {"selection": dict(request.selection)}
    if request.num_clusters is not None:
        tree["clustering"] = {"num_clusters": request.num_clusters}
    for override in request.overrides:
        key = override.partition("=")[0].strip()
        section, _, name = key.partition(".")
        own = (section == "selection" and name in tree["selection"]) or key == NUM_CLUSTERS
        if own:
            raise ConfigError(
                f"--set {override}: {key} must be given by its own option, "
                f"--{name.replace('_', '-')}. Use that."
            )
    lines: dict[tuple[str, ...], int | str] = {}
    apply_overrides(tree, request.overrides, lines)
    found = build_model(Sections, tree, origin="selection", lines=lines)
    if found.selection.deduplicate is not None:
        raise ConfigError(
            "selection.deduplicate must be absent where embeddings are given: `balancer dedup` "
            "finds their near-duplicates. Select from the rows that it keeps, or --exclude the "
            "others."
        )
    if found.selection.fallback is not None:
        raise ConfigError(NEEDS_HEALTH)
    return found


def select_embeddings(request: EmbeddingsRequest, store: Store | None = None) -> Manifest:
    """Select from stored embeddings and write the manifest.

    Raises:
        ConfigError: an unknown strategy, a budget that does not fit, or an output that is an input
            or lies in the folder of one.
        DataError: embeddings that cannot be used, naming file, column or row.
        StorageError: a store that refuses or fails.
    """
    store = store or Store()
    sections = configure(request)
    selection, clustering = sections.selection, sections.clustering
    if request.weights is not None and selection.strategy not in CLUSTERED:
        raise ConfigError(
            f"weights (--weights) need a strategy with quotas, {' or '.join(sorted(CLUSTERED))}: "
            f"{selection.strategy} has no rate for rows that it leaves. Leave it out, or use one "
            f"of these."
        )
    outputs = {"out": request.out} | (
        {} if request.weights is None else {"weights": request.weights}
    )
    require_apart(
        outputs,
        {
            "the embeddings": request.uri,
            "the list of --include": selection.include,
            "the list of --exclude": selection.exclude,
        },
    )
    if request.uri.lower().endswith(".npy") and not store.exists(request.uri):
        raise DataError(f"{request.uri} must be a .npy file; there is none. Check the path.")
    lists = read_tile_lists(store, selection)
    ids, vectors = _read(store, request, selection)
    column = selection.quality_column
    constraints = Constraints(
        lists.include,
        lists.exclude,
        None if column is None else read_numbers(store, request.uri, column),
    )
    columns = {
        name: read_numbers(store, request.uri, name, key="selection.quotas.axes")
        for name in selection.quotas.axes
    }
    num_excluded = int(np.isin(ids, lists.exclude).sum())
    left = " that are not excluded" if num_excluded else ""
    budget = selection.resolve(len(ids) - num_excluded, pool=f"the rows of {request.uri}{left}")
    try:
        picked, certify, weights = select_weighted(
            vectors,
            selection.model_copy(update={"budget": budget} | _without_ids(lists)),
            ids=ids,
            seed=request.seed,
            normalize=request.normalize,
            clustering=clustering,
            constraints=constraints,
            columns=columns,
        )
        found = certify()
    except ValueError as error:
        message = str(error).replace("normalize=False", "normalize=False (--no-normalize)")
        raise DataError(f"{request.uri}: {message}") from error
    footer = {
        "config": {
            "selection": selection.model_dump(mode="json", exclude=ENGINE_KEYS),
            "clustering": clustering.model_dump(mode="json"),
            "normalize": request.normalize,
        },
        "embeddings": store.absolute(request.uri),
        "embeddings_fingerprint": embeddings_fingerprint(_digest(ids, vectors), len(ids)),
        "id_column": request.id_column,
        "vector_column": request.vector_column,
        "seed": request.seed,
        "round": 0,
        "code_version": __version__,
    }
    out = store.absolute(request.out)
    table = manifest_table(picked)
    if found.packing_ids is not None or len(lists.exclude):
        # An --out that cannot be written is refused by its name, before a packing lies beside it.
        write_manifest(store, out, table, footer)
    footer |= selection_notes(picked, listed=selection.include is not None)
    footer |= write_excluded(store, out, lists.exclude)
    if request.weights is not None:
        if weights is None:
            raise ConfigError(
                "weights (--weights) need a per-cluster part (global_share below 1) and, for "
                f"hybrid-medoid, no included tiles; got {selection.strategy} with global_share "
                f"{selection.global_share} and {picked.num_included} included. Use hybrid or "
                "per-cluster, or leave weights out."
            )
        uri = store.absolute(request.weights)
        write_table(store, uri, weight_table(weights.ids, weights.cluster, weights.weight))
    footer |= write_certificate(store, out, found.certificate.to_json(), found.packing_ids)
    return write_manifest(store, out, table, footer)


def _without_ids(lists: TileLists) -> dict[str, None]:
    """Return the fields of lists that name no tile: to the selection they are as good as absent."""
    named = {"include": lists.include, "exclude": lists.exclude}
    return {name: None for name, ids in named.items() if len(ids) == 0}


def _read(
    store: Store, request: EmbeddingsRequest, selection: SelectionConfig
) -> tuple[IdArray, FloatArray]:
    """Read ids and vectors; map a matrix that the strategy can select from as it lies there."""
    mapped = map_vectors(store, request.uri) if selection.strategy in OUT_OF_CORE else None
    if mapped is None:
        return read_vectors(store, request.uri, request.id_column, request.vector_column)
    return row_numbers(len(mapped)), mapped


def _digest(ids: IdArray, vectors: FloatArray) -> int:
    """Digest all rows, block by block."""
    rows = np.asarray(vectors)  # a plain array, whose rows are cheap to look at
    return sum(
        sum_row_digests(ids[begin : begin + _BLOCK], rows[begin : begin + _BLOCK])
        for begin in range(0, len(ids), _BLOCK)
    )
