"""Uniform random selection that does not depend on the sharding: the rows with the lowest hashes.

Local: `lowest_hashes` of one shard's ids. Merge: the same function on the ids the shards returned,
because the m lowest of a union are among the m lowest of each part.
"""

from __future__ import annotations

from balancer.seeding import lowest_hashes

__all__ = ["lowest_hashes"]
