"""The nearest rows of a reference set, by (canonical distance, id). FAISS proposes.

Every row is found with `SPARE` candidates more than asked for, which the canonical distance orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.distances import id_ranks, paired_distances
from balancer.types import FloatArray, IdArray, IntArray

SPARE = 8
"""Candidates of FAISS beyond k, so that its rounding does not decide the k-th neighbour."""
ENTRIES_PER_BLOCK = 1 << 22
"""Entries of queries repeated for the exact distances at a time, 16 MB."""


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest rows of each query.

    Attributes:
        rows: (N, k) int64 row numbers of the reference, nearest first.
        squared: (N, k) float32 canonical squared distances.
    """

    rows: IntArray
    squared: FloatArray


def nearest_neighbors(
    queries: FloatArray, query_ids: IdArray, reference: FloatArray, ids: IdArray, k: int
) -> Neighbors:
    """Find the k nearest rows of `reference` for each query, the query itself left out.

    Args:
        queries: (N, D) float32, C-contiguous, finite.
        query_ids: (N,) ids.
        reference: (M, D) float32, C-contiguous, finite; more than k rows.
        ids: (M,) unique ids of the reference.
        k: at least 1.

    Raises:
        ValueError: k out of range.

    Cost: N * M * D multiply-adds, 24 bytes per query and neighbour.

    >>> line, names = np.array([[0.0], [1.0], [3.0]], np.float32), np.array(list("abc"))
    >>> nearest_neighbors(line, names, line, names, 1).rows.ravel()
    array([1, 0, 1])
    """
    if not 1 <= k < len(reference):
        raise ValueError(
            f"k must lie between 1 and {len(reference) - 1}, the reference's other rows; got {k}."
        )
    import faiss

    index = faiss.IndexFlatL2(reference.shape[1])
    index.add(reference)
    asked = min(len(reference), k + 1 + SPARE)
    ranks = id_ranks(ids)
    rows = np.empty((len(queries), k), np.int64)
    squared = np.empty((len(queries), k), np.float32)
    block = max(1, ENTRIES_PER_BLOCK // (asked * reference.shape[1]))
    for begin in range(0, len(queries), block):
        here = slice(begin, begin + block)
        found = index.search(queries[here], asked)[1]
        repeated = np.repeat(queries[here], asked, axis=0)
        exact = paired_distances(repeated, reference, found.ravel()).reshape(found.shape)
        own = ids[found] == query_ids[here, None]
        order = np.lexsort((ranks[found], exact, own), axis=1)[:, :k]
        rows[here] = np.take_along_axis(found, order, axis=1)
        squared[here] = np.take_along_axis(exact, order, axis=1)
    return Neighbors(rows, squared)
