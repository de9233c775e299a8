"""Near-duplicates of embeddings that exist already: find them, or apply another threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from balancer.config_deduplicate import DeduplicateConfig
from balancer.config_file import describe_fields
from balancer.distances import l2_normalize, require_finite, underflow
from balancer.errors import ConfigError, DataError
from balancer.selection.greedy_net import Net, net_of_pairs, semdedup_of_pairs
from balancer.selection.near_duplicates import Effort, NearDuplicates, deduplicate
from balancer.selection.near_misses import Misses
from balancer.selection.near_pairs import NearPairs, TooManyPairsError
from balancer.selection.near_report import facts_of, nearest_in
from balancer.storage.embedding_identity import embeddings_fingerprint, sum_row_digests
from balancer.storage.embedding_shards import read_vectors
from balancer.storage.filesystem import Store
from balancer.storage.near_duplicate_tables import (
    PAIRS,
    TILES,
    Neighbours,
    StoredPairs,
    is_stored,
    num_near,
    pair_table,
    read_stored,
    redecided,
    tile_table,
    write_near_table,
)
from balancer.storage.outputs import require_apart
from balancer.storage.uris import lies_inside
from balancer.types import IdArray, IntArray
from balancer.version import __version__

ROWS_PER_FILE = 1_000_000


@dataclass(frozen=True, slots=True)
class DeduplicateRequest:
    """What to deduplicate, how, and where the tables go.

    Attributes:
        uri: a `.npy` matrix (row number = tile id), a Parquet file or folder, or a folder that an
            earlier call with a floor wrote.
        out: a `.parquet` file for one table of tiles, else a folder with `tiles/` and `pairs/`.
        near: fields of `DeduplicateConfig`.
        seed: of the order in which tiles are decided.
        normalize: L2-normalise the rows first.
        id_column: column with the ids, for Parquet.
        vector_column: column with the vectors, for Parquet.
    """

    uri: str
    out: str
    near: Mapping[str, Any]
    seed: int = 0
    normalize: bool = True
    id_column: str = "tile_id"
    vector_column: str = "embedding"


def deduplicate_embeddings(
    request: DeduplicateRequest, store: Store | None = None
) -> dict[str, Any]:
    """Find near-duplicates among stored embeddings, or apply another threshold to stored pairs.

    Returns:
        The facts (`balancer.selection.near_report.facts_of`).

    Raises:
        ConfigError: settings that do not fit together, a threshold below the stored floor, or an
            output that would overwrite the embeddings or lie among them.
        DataError: embeddings or tables that cannot be used, or too many pairs to list.
        StorageError: a store that refuses or fails.

    Cost: that of `balancer.selection.near_duplicates.deduplicate`; with stored pairs, of reading
    them.
    """
    store = store or Store()
    try:
        config = DeduplicateConfig.model_validate(request.near)
    except ValidationError as error:
        raise ConfigError(
            f"The deduplication must be valid; got {describe_fields(error)}."
        ) from error
    if request.out.lower().endswith(".parquet") and config.floor is not None:
        raise ConfigError(
            f"With a floor, --out must be a folder, for the tiles and the pairs; got "
            f"{request.out}. Name a folder, or leave the floor out."
        )
    if config.priority is not None:
        raise ConfigError("A priority needs a catalog: it works in a run, not on embeddings alone.")
    stored = is_stored(store, request.uri)
    _require_apart(request, store, stored=stored)
    if stored:
        return _decide_again(request, config, store)
    if config.threshold is not None and not request.normalize:
        raise ConfigError(
            "A threshold is a cosine similarity and needs normalised rows. Give --distance with "
            "--no-normalize."
        )
    if request.uri.lower().endswith(".npy") and not store.exists(request.uri):
        raise DataError(f"{request.uri} must be a .npy file; there is none. Check the path.")
    ids, vectors = read_vectors(store, request.uri, request.id_column, request.vector_column)
    if len(ids) == 0:
        raise DataError(f"{request.uri} must hold embeddings; it has no rows.")
    try:
        require_finite(vectors, ids, nonzero=request.normalize)
        problem = None if request.normalize else underflow(vectors)
        if problem is not None:
            raise DataError(f"{request.uri}: {problem}")
        points = l2_normalize(vectors) if request.normalize else vectors
        found = deduplicate(points, ids, config, seed=request.seed)
    except TooManyPairsError as error:
        raise DataError(
            f"The pairs down to the floor must be at most max_pairs ({config.max_pairs}); there "
            f"are more. Raise --floor, or leave it out: then no pairs are listed and the threshold "
            f"cannot be changed later."
        ) from error
    except ValueError as error:
        message = str(error).replace("select with normalize=False", "use --no-normalize")
        raise DataError(f"{request.uri}: {message}") from error
    net, ranks = _by_rank(found)
    facts = facts_of(config, net, found.effort) | {
        "embeddings": store.absolute(request.uri),
        "embeddings_fingerprint": embeddings_fingerprint(sum_row_digests(ids, vectors), len(ids)),
        "normalize": request.normalize,
        "seed": request.seed,
        "code_version": __version__,
    }
    nearest, squared = nearest_in(net)
    by_rank = ids[found.order]
    counts = num_near(len(ids), net.by)
    table = tile_table(
        ids,
        ranks,
        _names(by_rank, net.by[ranks]),
        Neighbours(_names(by_rank, nearest[ranks]), squared[ranks]),
        counts[ranks],
        by_similarity=config.threshold is not None,
    )
    tables = [table.slice(at, ROWS_PER_FILE) for at in range(0, len(ids), ROWS_PER_FILE)]
    _write(request, store, tables, _pair_tables(net.pairs, by_rank), facts)
    return facts


def _require_apart(request: DeduplicateRequest, store: Store, *, stored: bool) -> None:
    """Refuse to write over the input, or among it; a stored result may be decided again in place.

    Raises:
        ConfigError: naming both.
    """
    if stored and store.absolute(request.out) == store.absolute(request.uri):
        return
    name = "the result given" if stored else "the embeddings"
    require_apart({"out": request.out}, {name: request.uri})
    if not request.out.lower().endswith(".parquet"):
        for folder in (TILES, PAIRS):
            written = store.join(request.out, folder)
            if lies_inside(request.uri, written):
                raise ConfigError(
                    f"--out must not be a folder whose {folder}/ holds what is read; got "
                    f"{request.out}, and {name} is {request.uri}. Name another folder."
                )


def _decide_again(
    request: DeduplicateRequest, config: DeduplicateConfig, store: Store
) -> dict[str, Any]:
    """Apply another threshold to the pairs that an earlier call listed."""
    stored = read_stored(store, request.uri)
    before = stored.facts
    by_similarity = before["threshold"] is not None
    if by_similarity != (config.threshold is not None):
        measure = "--threshold" if by_similarity else "--distance"
        raise ConfigError(f"{request.uri} was made by {measure}; give another {measure}.")
    floor = DeduplicateConfig(
        threshold=before["floor"] if by_similarity else None,
        distance=None if by_similarity else before["floor"],
    )
    if config.floor is not None or config.rule != before["rule"] or config.borders is not None:
        raise ConfigError(
            f"Pairs that are listed already have their rule ({before['rule']}), borders "
            f"({before['borders']}) and floor ({before['floor']}). Change the threshold only, or "
            f"deduplicate the embeddings again."
        )
    if config.limit > floor.limit:
        word = "threshold must be at least" if by_similarity else "distance must be at most"
        value = config.threshold if by_similarity else config.distance
        raise ConfigError(
            f"The {word} the floor of {before['floor']:g} that {request.uri} was made with, "
            f"because no other pairs were listed; got {value:g}. Deduplicate the embeddings again "
            f"with another --floor."
        )
    order = np.concatenate([part["order"].to_numpy() for part in stored.parts])
    ids = np.concatenate([np.array(p["tile_id"].to_pylist(), np.str_) for p in stored.parts])
    by_rank = np.empty_like(ids)
    by_rank[order] = ids
    net = _decide_stored(stored, len(ids), str(before["rule"]), config.limit)
    misses = before["misses"]
    effort = Effort(
        before["num_cells"],
        before["replication"],
        Misses(misses["pairs"], misses["missed"]) if misses else None,
    )
    facts = {**before, **facts_of(config, net, effort)} | {
        key: before[key] for key in ("floor", "borders", "rule", "misses")
    }
    counts = num_near(len(ids), net.by)
    tables = []
    for part in stored.parts:
        ranks = part["order"].to_numpy()
        tables.append(redecided(part, _names(by_rank, net.by[ranks]), counts[ranks]))
    pairs = [] if request.out.lower().endswith(".parquet") else _pair_tables(net.pairs, by_rank)
    _write(request, store, tables, pairs, facts)
    return facts


def _decide_stored(stored: StoredPairs, num_rows: int, rule: str, limit: float) -> Net:
    order = np.lexsort((stored.first, stored.second))
    pairs = NearPairs(stored.first[order], stored.second[order], stored.squared[order])
    decide = net_of_pairs if rule == "greedy" else semdedup_of_pairs
    return decide(num_rows, pairs, limit)


def _by_rank(found: NearDuplicates) -> tuple[Net, IntArray]:
    """Return the decisions by rank, and the rank of each row."""
    ranks = np.empty(len(found.order), np.int64)
    ranks[found.order] = np.arange(len(found.order))
    by = found.kept_by[found.order]
    net = Net(
        found.kept[found.order],
        np.where(by >= 0, ranks[by], -1),
        found.squared[found.order],
        found.pairs,
    )
    return net, ranks


def _names(by_rank: IdArray, ranks: IntArray) -> IdArray:
    """Return ids by rank; empty for -1."""
    return np.where(ranks >= 0, by_rank[ranks], "")


def _pair_tables(pairs: NearPairs | None, by_rank: IdArray) -> list[pa.Table]:
    if pairs is None:
        return []
    parts = [
        pairs.take(np.arange(at, min(at + ROWS_PER_FILE, len(pairs))))
        for at in range(0, max(1, len(pairs)), ROWS_PER_FILE)
    ]
    return [pair_table(by_rank[p.first], by_rank[p.second], p.squared) for p in parts]


def _write(
    request: DeduplicateRequest,
    store: Store,
    tiles: list[pa.Table],
    pairs: list[pa.Table],
    facts: Mapping[str, Any],
) -> None:
    """Write one file, or a folder of parts; pairs before tiles, which make the folder readable."""
    out = store.absolute(request.out)
    if out.lower().endswith(".parquet"):
        write_near_table(store, out, pa.concat_tables(tiles), facts)
        return
    for folder, tables in ((PAIRS, pairs), (TILES, tiles)):
        present = {f.uri for f in store.list_files(store.join(out, folder))}
        names = [store.join(out, folder, f"part-{n:05d}.parquet") for n in range(len(tables))]
        others = sorted(present - set(names))
        if others:
            raise ConfigError(
                f"--out must be a new folder, or that of the same result; got {out}, where "
                f"{others[0]} would be mixed with the new tables. Name another folder."
            )
    for folder, tables in ((PAIRS, pairs), (TILES, tiles)):
        for number, table in enumerate(tables):
            uri = store.join(out, folder, f"part-{number:05d}.parquet")
            write_near_table(store, uri, table, facts)
