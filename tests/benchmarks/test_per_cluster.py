"""Farthest-point inside every cluster: all clusters at once, against loops over them.

pytest tests/benchmarks -m "" -s -k per_cluster

fpsample is single-threaded and compares float32 sums; it is given each cluster's rows and the same
first pick. Its time is that of its calls alone, the copies of the rows left out. The former loop is
what the pool did before: `farthest_point` on one cluster after the other.
"""

from __future__ import annotations

import tracemalloc
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from balancer.distances import l2_normalize
from balancer.selection.farthest_point import farthest_point, row_ids, seeded_first
from balancer.selection.strata import cluster_strata
from balancer.selection.stratum_picks import PickPlan, StratumPicks, pick_strata
from balancer.types import FloatArray, IntArray
from tests.benchmarks.measuring import PAIRS, SCALE, alternate, print_table, scaled

ROWS, DIM, CLUSTERS = scaled(1_000_000, 2000), 64, scaled(1000, 10)

pytestmark = pytest.mark.timeout(3600)


def zipf_rows(count: int) -> tuple[FloatArray, IntArray]:
    """Return L2-normalised rows of clusters whose sizes follow k^-1, and the clusters."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, CLUSTERS + 1)
    labels = rng.choice(CLUSTERS, count, p=share / share.sum())
    points = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)[labels]
    for start in range(0, count, 1 << 17):
        part = points[start : start + (1 << 17)]
        part += 0.5 * rng.standard_normal(part.shape, dtype=np.float32)
    return l2_normalize(points), labels


@pytest.mark.parametrize("per_cluster", [10, 100])
def test_per_cluster(per_cluster: int) -> None:
    if not find_spec("fpsample"):
        pytest.skip("fpsample is not installed: pip install -e '.[bench]'")
    sample = import_module("fpsample").fps_sampling
    points, labels = zipf_rows(ROWS)
    ids = row_ids(ROWS)
    sizes = np.bincount(labels, minlength=CLUSTERS)
    counts = np.minimum(sizes, per_cluster)
    plan = PickPlan(
        cluster_strata(sizes),
        counts,
        "farthest-point",
        0,
        np.zeros((CLUSTERS, DIM), np.float32),
    )
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.cumsum(sizes)[:-1])
    firsts = [seeded_first(ids[rows], plan.seed_of(c)) for c, rows in enumerate(parts)]

    def batched() -> list[IntArray]:
        found = pick_strata(points, ids, labels, plan)
        return _rows(found)

    def former() -> list[IntArray]:
        return [
            rows[
                farthest_point(
                    np.ascontiguousarray(points[rows]),
                    int(counts[c]),
                    first=seeded_first(ids[rows], plan.seed_of(c)),
                    ids=ids[rows],
                ).indices
            ]
            for c, rows in enumerate(parts)
        ]

    copies = [np.ascontiguousarray(points[rows]) for rows in parts]

    def peer() -> list[IntArray]:
        return [
            rows[sample(copies[c], int(counts[c]), start_idx=firsts[c]).astype(np.int64)]
            for c, rows in enumerate(parts)
        ]

    ours, theirs = alternate([batched, peer], pairs=min(3, PAIRS))
    [loop] = alternate([former], pairs=1, warm=SCALE < 1)
    for one, other in zip(ours.result, loop.result, strict=True):
        assert one.tolist() == other.tolist()
    alike = sum(
        one.tolist() == other.tolist()
        for one, other in zip(ours.result, theirs.result, strict=True)
    )
    tracemalloc.start()
    batched()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print_table(
        f"{ROWS} x {DIM}, {CLUSTERS} clusters of Zipf sizes, at most {per_cluster} picks in each; "
        f"peak beside the rows {peak / points.nbytes:.2f} of their bytes; fpsample makes the same "
        f"picks in {alike} clusters",
        ["", "wall s", "CPU s", "x wall", "x CPU"],
        [
            [name, t.wall_s, t.cpu_s, t.wall_s / ours.wall_s, t.cpu_s / ours.cpu_s]
            for name, t in (("batched", ours), ("former loop", loop), ("fpsample loop", theirs))
        ],
    )


def _rows(found: StratumPicks) -> list[IntArray]:
    rows = found.ids.astype(np.int64)
    return np.split(rows, np.flatnonzero(np.diff(found.stratum)) + 1)
