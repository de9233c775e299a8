"""The nearest centroid of every row on CPU: a blocked matrix product filters, canonically decided.

For a tile of rows x and a block of centroids c the filter computes |x|^2 + |c|^2 - 2 x.c in
float32. It differs from the canonical squared distance by at most

    e = (D + 16) 2^-24 (|x|^2 + |c|^2)

in any order of summation: D 2^-24 |x||c| for the product [Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., eq. 3.5], twice that with the factor 2 and
|x||c| <= (|x|^2 + |c|^2) / 2, and 16 roundings for lengths, additions and the canonical value. So
the nearest centroid of a block is among the columns within 2 e of the smallest value seen so far;
those are measured canonically at once, while the tile is in the cache. One pass, no second search
for rows whose two nearest centroids are about equally far.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

from balancer.distances import squared_distance
from balancer.types import FloatArray, IntArray

TILE_ROWS = 256
BLOCK = 1024
"""Centroids per product: with `TILE_ROWS` rows a megabyte, which stays in the L2 cache."""
CHUNK = 128
"""Columns that share a minimum; only chunks that may hold the nearest are searched."""
SMALLEST = np.float64(1e-36)
"""Covers what underflow loses."""
BLAS = ThreadpoolController()


class _Centroids(NamedTuple):
    """Centroids as the compiled loop reads them.

    Attributes:
        rows: (K, D) float32.
        doubled: (K, D) float32, -2 times the rows.
        norms: (K,) float32 squared lengths.
        largest: largest squared length.
        error: e over |x|^2 + |c|^2, with a margin for the float32 lengths it is applied to.
    """

    rows: FloatArray
    doubled: FloatArray
    norms: FloatArray
    largest: float
    error: float


def nearest_centroids(points: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return each row's nearest centroid by (canonical distance, centroid number).

    Args:
        points: (N, D) float32, finite.
        centroids: (K, D) float32, K >= 1.

    Returns:
        (N,) int64 centroid numbers and (N,) float32 canonical squared distances.

    Cost: N K D multiply-adds on all cores; 12 bytes per row and a megabyte per thread.

    >>> nearest_centroids(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1])[0]
    array([1, 0])
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    dim = points.shape[1]
    rows = np.array(centroids, dtype=np.float32, order="C")
    lengths = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    unit = (dim + 16) * 2.0**-24
    known = _Centroids(
        rows,
        rows * np.float32(-2),
        lengths.astype(np.float32),
        float(lengths.max()),
        1.001 * unit / (1 - unit),
    )
    labels = np.empty(len(points), dtype=np.int64)
    squared = np.empty(len(points), dtype=np.float32)
    threads = max(1, min(numba.get_num_threads(), -(-len(points) // TILE_ROWS)))
    products = np.empty((threads, TILE_ROWS * min(BLOCK, len(rows))), np.float32)
    with BLAS.limit(limits=1, user_api="blas"):  # the loop has its own threads
        _assign_tiles(points, known, labels, squared, products)
    return labels, squared


@numba.njit(cache=True, fastmath={"reassoc", "contract"})
def _length(row: FloatArray) -> np.float32:
    """Return the squared length in float32; its order of summation only moves the bound."""
    total = np.float32(0)
    for j in range(row.shape[0]):
        total += row[j] * row[j]
    return total


@numba.njit(cache=True)
def _lower(
    points: FloatArray,
    known: _Centroids,
    low: int,
    products: FloatArray,
    best: tuple[FloatArray, FloatArray, IntArray],
) -> None:
    """Lower (R,) rows' nearest by the (W,) centroids from number `low` on.

    `products` (R, W) holds -2 x.c and is overwritten by the approximate distances. `best` holds
    each row's smallest approximate distance, canonical distance and centroid so far.
    """
    approximate, squared, labels = best
    bits = products.view(np.int32)
    width = products.shape[1]
    whole = width // CHUNK
    norms = known.norms[low : low + width]
    minima = np.empty((width + CHUNK - 1) // CHUNK, np.int32)
    held = np.empty(1, np.int32)
    number = held.view(np.float32)
    for r in range(points.shape[0]):
        norm = _length(points[r])
        row, row_bits = products[r], bits[r]
        for c in range(width):
            row[c] = (norms[c] + norm) + row[c]
        # Floats that are not negative order as their bits, and integers have a fast minimum. What
        # the rounding made negative counts as 0. Loops of a fixed length are unrolled.
        smallest = np.int32(0x7F7FFFFF)
        for k in range(whole):
            least, begin = np.int32(0x7F800000), k * CHUNK
            for c in range(CHUNK):
                least = min(least, row_bits[begin + c])
            minima[k] = least
            smallest = min(smallest, least)
        if whole < minima.shape[0]:
            least = np.int32(0x7F800000)
            for c in range(whole * CHUNK, width):
                least = min(least, row_bits[c])
            minima[whole] = least
            smallest = min(smallest, least)
        held[0] = smallest if smallest > 0 else 0
        approximate[r] = min(number[0], approximate[r])
        slack = known.error * (np.float64(norm) + known.largest) + SMALLEST
        number[0] = np.float32(approximate[r] + 2 * slack) * np.float32(1 + 1e-6)
        limit = held[0]
        for k in range(minima.shape[0]):
            if minima[k] <= limit:
                for c in range(k * CHUNK, min((k + 1) * CHUNK, width)):
                    if row_bits[c] <= limit:
                        distance = squared_distance(points[r], known.rows[low + c])
                        if distance < squared[r]:
                            squared[r] = distance
                            labels[r] = low + c


@numba.njit(cache=True, parallel=True)
def _assign_tiles(
    points: FloatArray,
    known: _Centroids,
    labels: IntArray,
    squared: FloatArray,
    products: FloatArray,
) -> None:
    num_rows, num_centroids = points.shape[0], known.rows.shape[0]
    tiles = (num_rows + TILE_ROWS - 1) // TILE_ROWS
    threads = products.shape[0]
    for thread in numba.prange(threads):
        for tile in range(thread, tiles, threads):
            begin, end = tile * TILE_ROWS, min((tile + 1) * TILE_ROWS, num_rows)
            rows = points[begin:end]
            approximate = np.full(end - begin, np.inf, np.float32)
            squared[begin:end] = np.inf
            for low in range(0, num_centroids, BLOCK):
                high = min(low + BLOCK, num_centroids)
                count = (end - begin) * (high - low)
                block = products[thread, :count].reshape((end - begin, high - low))
                np.dot(rows, known.doubled[low:high].T, block)
                _lower(
                    rows, known, low, block, (approximate, squared[begin:end], labels[begin:end])
                )
