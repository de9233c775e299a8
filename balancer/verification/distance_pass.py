"""Two passes over the embeddings: gather the rows that are named, then measure all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.storage.embedding_identity import embeddings_fingerprint, sum_row_digests
from balancer.types import DoubleArray, FloatArray, IdArray
from balancer.verification.geometry import nearest_squared, normalize_rows
from balancer.verification.inputs import Embeddings


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the first pass found.

    Attributes:
        num_rows: all rows of the embeddings.
        fingerprint: of their content, as a manifest names it; None if not asked for.
        repeated: an id that two rows have, or None.
        missing: wanted ids that no row has.
        vectors: by id, (D,) float32, of the wanted ids that there are.
        ids: (N,) of all rows, sorted.
    """

    num_rows: int
    fingerprint: str | None
    repeated: str | None
    missing: tuple[str, ...]
    vectors: dict[str, FloatArray]
    ids: IdArray

    def rows(self, ids: Sequence[str]) -> FloatArray:
        """Return the (n, D) vectors of ids that are not missing."""
        return np.stack([self.vectors[tile_id] for tile_id in ids])


def gather(embeddings: Embeddings, wanted: Sequence[str], *, fingerprint: bool) -> Gathered:
    """Find the wanted rows, as the selection saw them, and digest all rows if asked to.

    Raises:
        DataError: embeddings that cannot be used.
        StorageError: the store refuses or fails.

    Cost: one pass; the vectors of the wanted rows, one block, and the ids of all rows in memory.
    """
    searched = np.unique(np.array(list(wanted), dtype=np.str_))
    all_ids: list[IdArray] = []
    vectors: dict[str, FloatArray] = {}
    digest_sum = 0
    for ids, raw in embeddings.raw_blocks():
        all_ids.append(ids)
        if fingerprint:
            digest_sum += sum_row_digests(ids, raw)
        found = np.flatnonzero(np.isin(ids, searched))
        rows = raw[found]
        rows = normalize_rows(rows) if embeddings.normalize else rows
        vectors |= dict(zip(ids[found].tolist(), rows, strict=True))
    names = np.sort(np.concatenate(all_ids)) if all_ids else np.empty(0, np.str_)
    repeated = names[1:][names[1:] == names[:-1]]
    return Gathered(
        num_rows=len(names),
        fingerprint=embeddings_fingerprint(digest_sum, len(names)) if fingerprint else None,
        repeated=str(repeated[0]) if len(repeated) else None,
        missing=tuple(tile_id for tile_id in searched.tolist() if tile_id not in vectors),
        vectors=vectors,
        ids=names,
    )


def measure(
    embeddings: Embeddings, picks: FloatArray, prefixes: Sequence[int]
) -> tuple[DoubleArray, DoubleArray]:
    """Return every row's squared distance to its nearest pick, and the prefixes' greatest.

    Args:
        embeddings: all rows.
        picks: (K, D) float32 in rank order.
        prefixes: rising numbers of picks, the last is K.

    Returns:
        (N,) in reading order, and (len(prefixes),), see `geometry.nearest_squared`.

    Cost: O(N K D) in matrix products; 8 bytes per row, the picks and one block in memory.
    """
    parts, greatest = [], np.zeros(len(prefixes))
    for _, points in embeddings.blocks():
        squared, falls = nearest_squared(points, picks, prefixes)
        parts.append(squared)
        greatest = np.maximum(greatest, falls)
    return np.concatenate(parts), greatest
