"""Orders of tile ids for many strata at once, without a numpy call for each of them."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from balancer.distances import id_ranks
from balancer.seeding import derive_seed
from balancer.types import IdArray, IntArray, UInt64Array


def quick_ranks(ids: IdArray) -> IntArray:
    """Return the rank of each id in ascending order, without sorting ids that ascend already.

    >>> quick_ranks(np.array(["b", "a", "c"]))
    array([1, 0, 2])
    """
    if _ascends(_characters(ids)):
        return np.arange(len(ids))
    return id_ranks(ids)


def first_places(
    ids: IdArray, rows: IntArray, starts: IntArray, seeds: list[int], ranks: IntArray
) -> IntArray:
    """Return the place of each stratum's row whose hash under the stratum's seed is lowest.

    The row is that of `balancer.selection.farthest_point.seeded_first`.

    Args:
        ids: (N,) unique ids.
        rows: (M,) int64 row numbers, stratum by stratum.
        starts: (C + 1,) int64 where each stratum begins among them.
        seeds: one per stratum.
        ranks: (N,) int64 order of the ids, for ties.

    Cost: O(M * longest id).
    """
    states = np.array([derive_seed(seed, "ids") for seed in seeds], dtype=np.uint64)
    places = np.empty(len(seeds), np.int64)
    wanted = np.linspace(0, len(rows), 4 * numba.get_num_threads() + 1)
    parts = np.searchsorted(starts[:-1], wanted).astype(np.int64)
    _lowest_parts(_characters(ids), rows, starts, states, ranks, places, parts)
    return places


def _characters(ids: IdArray) -> NDArray[np.uint32]:
    names = np.ascontiguousarray(ids)
    return names.view(np.uint32).reshape(len(names), names.dtype.itemsize // 4)


@numba.njit(cache=True)
def _ascends(characters: NDArray[np.uint32]) -> bool:
    for i in range(1, characters.shape[0]):
        for j in range(characters.shape[1]):
            if characters[i, j] != characters[i - 1, j]:
                if characters[i, j] < characters[i - 1, j]:
                    return False
                break
    return True


@numba.njit(cache=True)
def _hash(characters: NDArray[np.uint32], state: np.uint64) -> np.uint64:
    """Hash one id as `balancer.seeding.hash_ids` does."""
    for c in characters:
        if c != 0:
            state = (state ^ np.uint64(c)) * np.uint64(0x100000001B3)
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@numba.njit(cache=True)
def _lowest(
    characters: NDArray[np.uint32],
    rows: IntArray,
    starts: IntArray,
    states: UInt64Array,
    ranks: IntArray,
    places: IntArray,
) -> None:
    for c in range(places.shape[0]):
        best, lowest = starts[c], _hash(characters[rows[starts[c]]], states[c])
        for p in range(starts[c] + 1, starts[c + 1]):
            value = _hash(characters[rows[p]], states[c])
            if value < lowest or (value == lowest and ranks[rows[p]] < ranks[rows[best]]):
                best, lowest = p, value
        places[c] = best - starts[c]


@numba.njit(cache=True, parallel=True)
def _lowest_parts(
    characters: NDArray[np.uint32],
    rows: IntArray,
    starts: IntArray,
    states: UInt64Array,
    ranks: IntArray,
    places: IntArray,
    parts: IntArray,
) -> None:
    for b in numba.prange(parts.shape[0] - 1):
        first, last = parts[b], parts[b + 1]
        _lowest(
            characters,
            rows,
            starts[first : last + 1],
            states[first:last],
            ranks,
            places[first:last],
        )
