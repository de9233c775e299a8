"""Quotas over a million clusters, and over several axes at once.

pytest tests/benchmarks -m "" -s -k quotas

The loop is the former form of the allocator: the same bisection, and a Python sort of the clusters
that share the remainder by a digest of each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import pytest

from balancer.config import QuotasConfig
from balancer.seeding import derive_seed
from balancer.selection.quota_plan import plan_quotas
from balancer.selection.quotas import allocate, water_filling
from balancer.selection.strata import count_strata
from balancer.types import Clustering, IntArray, Strata
from tests.benchmarks.measuring import alternate, print_table, scaled

CLUSTERS = scaled(1_000_000, 1000)
PAIRS = 3
T = TypeVar("T")

pytestmark = pytest.mark.timeout(3600)


def zipf_sizes(count: int) -> IntArray:
    """Return (count,) sizes that follow k^-1.2, in random order, a thousand rows on average."""
    share = np.arange(1, count + 1) ** -1.2
    sizes = 1 + (1000 * count * share / share.sum()).astype(np.int64)
    return np.random.default_rng(0).permutation(sizes)


def former(sizes: IntArray, budget: int, seed: int) -> IntArray:
    """Fill with whole levels, and order the remainder by a digest per cluster."""
    low, high = 0, int(sizes.max())
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.minimum(middle, sizes).sum() <= budget else (low, middle)
    counts = np.minimum(low, sizes)
    uncapped = np.flatnonzero(sizes > low)
    order = sorted(uncapped.tolist(), key=lambda cluster: derive_seed(seed, "quota", cluster))
    counts[order[: budget - int(counts.sum())]] += 1
    return counts


def test_quotas_of_many_clusters() -> None:
    sizes = zipf_sizes(CLUSTERS)
    budget = 10 * CLUSTERS + CLUSTERS // 3
    runs: dict[str, Callable[[], IntArray]] = {
        "former loop, alpha 0": lambda: former(sizes, budget, 0),
        "water_filling": lambda: water_filling(sizes, budget).counts,
        "allocate, alpha 0.5": lambda: allocate(sizes, budget, alpha=0.5).counts,
        "allocate, alpha 1": lambda: allocate(sizes, budget, alpha=1.0).counts,
        "allocate, alpha 0.5, floor 3, cap 1,000, repeats 2": lambda: (
            (
                allocate(
                    sizes, budget, alpha=0.5, floors=np.minimum(3, sizes), caps=1000, repeats=2
                )
            ).counts
        ),
    }
    timings = alternate(list(runs.values()), pairs=PAIRS)
    for name, timing in zip(runs, timings, strict=True):
        assert timing.result.sum() == budget, name
    assert np.abs(timings[0].result - timings[1].result).max() <= 1
    rows = [
        [name, timing.wall_s, timing.cpu_s, timings[0].wall_s / timing.wall_s]
        for name, timing in zip(runs, timings, strict=True)
    ]
    print_table(
        f"{CLUSTERS} clusters, budget {budget}", ["", "wall s", "CPU s", "x the loop"], rows
    )


class Counted:
    """A pool whose rows are counted already."""

    def __init__(self, strata: Strata) -> None:
        self.strata = strata

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """Return the strata, whatever is asked."""
        assert local is count_strata
        assert arguments
        return [self.strata]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("clusters", "values", "rare"),
    [
        (1000, (12,), False),
        (1000, (12, 4), False),
        (1000, (12, 4), True),
        (1000, (12, 4, 6), False),
        (10_000, (12, 4), False),
    ],
    ids=str,
)
def test_quotas_of_several_axes(clusters: int, values: tuple[int, ...], rare: bool) -> None:
    """`rare`: the last value of the first column is in five clusters only, so axes contradict."""
    rng = np.random.default_rng(0)
    clusters = scaled(clusters, 20)
    shape = (clusters, *values)
    sizes = np.floor(rng.pareto(1.0, shape) * 30).astype(np.int64)
    if rare:
        sizes[5:, -1] = 0
    keys = np.argwhere(sizes > 0)
    names = tuple(f"axis{place}" for place in range(len(values)))
    strata = Strata(names, keys[:, 0], keys[:, 1:].astype(np.str_), sizes[sizes > 0])
    per_cluster = np.bincount(strata.cluster, strata.sizes, minlength=clusters).astype(np.int64)
    clustering = Clustering(np.zeros((clusters, 1), np.float32), per_cluster, 0.0)
    rows = []
    for share in (0.02, 0.2):
        budget = round(share * strata.sizes.sum())
        quotas = QuotasConfig(axes=dict.fromkeys(names, "uniform"))
        [timing] = alternate(
            [partial(plan_quotas, Counted(strata), clustering, budget, quotas, seed=0)],
            pairs=1,
            warm=False,
        )
        found = timing.result
        assert found.counts.sum() == budget
        assert rare or not any("whole numbers" in line for line in found.report)
        rows.append([len(strata), budget, timing.wall_s, timing.cpu_s, "; ".join(found.report)])
    print_table(
        f"{clusters} clusters x {values} values, uniform on every axis",
        ["cells", "budget", "wall s", "CPU s", "not reached"],
        rows,
    )
