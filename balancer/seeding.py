"""Randomness as a parameter: generators and hashes derived from (seed, round, stage, shard).

Nothing in balancer uses a global generator or a worker's identity, so the same configuration draws
the same numbers on any number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np

from balancer.types import IdArray, IntArray, UInt64Array


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on `seed` and every one of `names`, in order.

    >>> derive_seed(0, "round", 1) == derive_seed(0, "round", 1)
    True
    >>> derive_seed(0, "round", 1) == derive_seed(0, "round", 2)
    False
    """
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def child_generator(seed: int, *names: object) -> np.random.Generator:
    """Return the generator named by `names` under the root `seed`."""
    return np.random.default_rng(derive_seed(seed, *names))


def hash_ids(ids: IdArray, seed: int) -> UInt64Array:
    """Hash every id to 64 bits, depending on `seed` and the id's characters only.

    The order that these hashes give is a seeded random order of the tiles which is the same
    however the tiles are split into shards. Polynomial hash by columns, then the splitmix64
    finaliser (Steele et al. 2014).

    Args:
        ids: (N,) unicode array.
        seed: any integer.

    Returns:
        (N,) uint64.

    Cost: O(N * longest id) time, 12 bytes per character and id.

    >>> a = hash_ids(np.array(["x", "yy"]), 1)
    >>> b = hash_ids(np.array(["yy", "long-id"]), 1)
    >>> bool(a[1] == b[0])
    True
    """
    ids = np.ascontiguousarray(ids, dtype=np.str_)
    state = np.full(len(ids), derive_seed(seed, "ids"), dtype=np.uint64)
    if len(ids) == 0:
        return state
    characters = ids.view(np.uint32).reshape(len(ids), -1)
    prime = np.uint64(0x100000001B3)
    for column in characters.T:
        used = column != 0
        state[used] = (state[used] ^ column[used].astype(np.uint64)) * prime
    return _splitmix64(state)


def hash_numbers(numbers: IntArray, seed: int) -> UInt64Array:
    """Hash every whole number to 64 bits, depending on `seed` and the number only.

    For a seeded random order of clusters: splitmix64 (Steele et al. 2014) of the number.

    Args:
        numbers: (N,) int64, >= 0.
        seed: any integer.

    Returns:
        (N,) uint64, all different.

    Cost: O(N), 8 bytes per number.

    >>> bool((hash_numbers(np.arange(3), 1)[2] == hash_numbers(np.array([2]), 1)).all())
    True
    """
    state = np.asarray(numbers, dtype=np.int64).astype(np.uint64) + np.uint64(1)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(derive_seed(seed, "numbers"))
    return _splitmix64(state)


def _splitmix64(state: UInt64Array) -> UInt64Array:
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


def lowest_hashes(ids: IdArray, count: int, *, seed: int) -> IntArray:
    """Return the rows of the `count` ids with the lowest hashes under `seed`, lowest first.

    Args:
        ids: (N,) unique tile ids.
        count: how many; all rows when N is smaller.
        seed: decides the hashes, and so the random order.

    Returns:
        (min(count, N),) int64 row numbers, ascending by (hash, id).

    Cost: O(N + count log count).

    >>> ids = np.array(["a", "b", "c", "d"])
    >>> whole = ids[lowest_hashes(ids, 2, seed=3)]
    >>> parts = [shard[lowest_hashes(shard, 2, seed=3)] for shard in (ids[:2], ids[2:])]
    >>> union = np.concatenate(parts)
    >>> bool((union[lowest_hashes(union, 2, seed=3)] == whole).all())
    True
    """
    hashes = hash_ids(ids, seed)
    rows = np.arange(len(ids))
    if 0 < count < len(ids):
        rows = np.flatnonzero(hashes <= np.partition(hashes, count - 1)[count - 1])
    return rows[np.lexsort((ids[rows], hashes[rows]))][:count]
