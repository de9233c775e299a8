"""k-means against faiss.Kmeans and MiniBatchKMeans: time to equal inertia, overhead, memory.

pytest tests/benchmarks/test_kmeans.py -m "" -s

Every inertia is over all rows, from the canonical distances. A peer's time is that of its training
and of assigning all rows once, because clusters without their sizes are of no use to anyone; the
training alone is printed too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from functools import cache
from pathlib import Path

import faiss
import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from balancer.clustering.assignment import assign
from balancer.clustering.hierarchy import fit_hierarchy, flattening_exponent
from balancer.clustering.kmeans import ArrayRows, fit, lloyd, seed_centroids
from balancer.clustering.lloyd import finalize_sums, inertia_of, make_scale
from balancer.config import ClusteringConfig
from balancer.selection.farthest_point import row_ids
from balancer.types import FloatArray, IntArray
from tests.benchmarks.measuring import PAIRS, Timing, alternate, print_table, scaled
from tests.benchmarks.selection_data import gaussian, zipf_clusters
from tests.benchmarks.test_selection_memory import STATUS, resident
from tests.benchmarks.test_selection_ray import open_workers, write_shards
from tests.clustering.densities import measured_exponent, truncated_normal

ROWS, DIM, CLUSTERS = scaled(1_000_000, 4000), 64, scaled(1000, 20)
MAX_ITERATIONS = 20
MISSED = f"{MAX_ITERATIONS}, not enough"
OVERHEAD_ITERATIONS = 3
THREADS = len(os.sched_getaffinity(0))
ROOT = Path(__file__).parents[2]
TOP = 256
SHAPES = [((TOP,), 0), ((TOP,), 1), ((TOP,), 3), ((4 * TOP, TOP), 0), ((4 * TOP, TOP), 1)]
"""(clusters per level, resamplings) of the flattening table."""
DATA = {"zipf clusters": zipf_clusters, "gaussian": gaussian}

pytestmark = [pytest.mark.timeout(3600)]


def inertia(points: FloatArray, centroids: FloatArray) -> float:
    return float(assign(points, centroids)[1].sum(dtype=np.float64))


def by_faiss(points: FloatArray) -> FloatArray:
    """Train with every default; return the centroids."""
    peer = faiss.Kmeans(points.shape[1], CLUSTERS)
    peer.train(points)
    return np.asarray(peer.centroids, dtype=np.float32)


def by_minibatch(points: FloatArray) -> FloatArray:
    """Train with every default; return the centroids."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        centroids: FloatArray = (
            MiniBatchKMeans(CLUSTERS, random_state=0).fit(points).cluster_centers_
        )
    return np.ascontiguousarray(centroids, dtype=np.float32)


def assign_by_faiss(points: FloatArray, centroids: FloatArray) -> None:
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(centroids)
    index.search(points, 1)


PEERS = {"faiss.Kmeans": by_faiss, "MiniBatchKMeans": by_minibatch}


def our_fit(rows: ArrayRows, iterations: int) -> float:
    """Fit with all defaults but the number of iterations; return the inertia."""
    config = ClusteringConfig(iterations=max(1, iterations), tolerance=0)
    return fit(rows, CLUSTERS, config=config, seed=0).inertia


def seeds_only(rows: ArrayRows) -> float:
    """Seed and assign all rows once: an iteration less than the least that `fit` does."""
    config = ClusteringConfig()
    centroids = seed_centroids(rows, CLUSTERS, config, 0)
    return inertia(rows.points, centroids)


@cache
def rows_of(name: str) -> ArrayRows:
    return ArrayRows(DATA[name](ROWS, DIM), row_ids(ROWS))


def iterations_to(rows: ArrayRows, target: float) -> tuple[int | None, float]:
    """Return the fewest iterations whose inertia is at most `target`, and the last inertia.

    0 is the seeds alone; None, if `MAX_ITERATIONS` do not get there.
    """
    scale = make_scale(rows.num_rows, *rows.extent())
    centroids = seed_centroids(rows, CLUSTERS, ClusteringConfig(), 0)
    for count in range(MAX_ITERATIONS + 1):
        total = rows.sums(centroids, scale)
        if inertia_of(total, scale) <= target:
            return count, inertia_of(total, scale)
        centroids = finalize_sums(total, centroids, scale)
    return None, inertia_of(total, scale)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("peer", PEERS)
def test_time_to_equal_inertia(name: str, peer: str) -> None:
    rows, train = rows_of(name), PEERS[peer]
    centroids = train(rows.points)
    target = inertia(rows.points, centroids)
    count, reached = iterations_to(rows, target)

    def ours() -> None:
        if count == 0:
            seeds_only(rows)
        else:
            our_fit(rows, MAX_ITERATIONS if count is None else count)

    def theirs() -> None:
        train(rows.points)

    def assigning() -> None:
        assign_by_faiss(rows.points, centroids)

    mine, trained, assigned = alternate([ours, theirs, assigning], warm=False)
    wall, cpu = trained.wall_s + assigned.wall_s, trained.cpu_s + assigned.cpu_s
    print_table(
        f"Time to equal inertia, {name}, {ROWS} x {DIM}, K = {CLUSTERS}, {peer} with its defaults, "
        f"medians of {PAIRS}",
        ["", "inertia", "iterations over all rows", "wall s", "CPU s", "wall ratio", "CPU ratio"],
        [
            ["balancer", reached, MISSED if count is None else count, mine.wall_s, mine.cpu_s,
             "", ""],
            [f"{peer}, trained and assigned", target, "", wall, cpu,
             *ratios(wall, cpu, mine)],
            [f"{peer}, trained only", target, "", trained.wall_s, trained.cpu_s,
             *ratios(trained.wall_s, trained.cpu_s, mine)],
        ],
    )  # fmt: skip


def ratios(wall_s: float, cpu_s: float, ours: Timing[None]) -> list[str]:
    return [f"x{wall_s / ours.wall_s:.2f}", f"x{cpu_s / ours.cpu_s:.2f}"]


def faiss_lloyd(points: FloatArray, first: FloatArray, iterations: int) -> FloatArray:
    """Run Lloyd iterations of FAISS on all rows from given centroids."""
    peer = faiss.Kmeans(
        points.shape[1],
        len(first),
        niter=iterations,
        max_points_per_centroid=len(points),
    )
    peer.train(points, init_centroids=first)
    return np.asarray(peer.centroids, dtype=np.float32)


@pytest.mark.ray
def test_overhead_of_the_distributed_form(ray_cluster: str, tmp_path: Path) -> None:
    """The same iterations from the same seeds; ours ends with one more assignment, of the result.

    FAISS runs `OVERHEAD_ITERATIONS` + 1 of them, so that both assign all rows equally often.
    """
    assert ray_cluster
    count = scaled(500_000, 4000)
    points, ids = zipf_clusters(count, DIM), row_ids(count)
    first = points[:: count // CLUSTERS][:CLUSTERS].copy()
    shards = write_shards(tmp_path, points, ids)
    config = ClusteringConfig(iterations=OVERHEAD_ITERATIONS, tolerance=0)
    table = []
    for workers in (1, 2):
        with open_workers(shards, workers) as pool:

            def distributed() -> float:
                centroids, total = lloyd(pool, first, config)
                assert total.counts.sum() == count
                return float(centroids[0, 0])

            def alone() -> float:
                return float(faiss_lloyd(points, first, OVERHEAD_ITERATIONS + 1)[0, 0])

            ours, theirs = alternate([distributed, alone])
            ratio = ours.wall_s / theirs.wall_s
            table.append([workers, ours.wall_s, theirs.wall_s, theirs.cpu_s, f"{ratio:.2f}"])
    print_table(
        f"Lloyd iterations on Ray over one-process FAISS, zipf clusters, {count} x {DIM}, "
        f"K = {CLUSTERS}, {OVERHEAD_ITERATIONS + 1} assignments, medians of {PAIRS} pairs",
        ["workers", "Ray, wall s", "FAISS, wall s", "FAISS, CPU s", "overhead"],
        table,
    )


def measure_fit(path: str) -> dict[str, int]:
    """Fit rows of a file in this process; return its memory, in bytes, over what it had before."""
    config = ClusteringConfig(iterations=2)
    fit(ArrayRows(gaussian(3000, DIM), row_ids(3000)), 30, config=config, seed=0)
    ids = row_ids(ROWS)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
    fit(ArrayRows(np.load(path), ids), CLUSTERS, config=config, seed=0)
    return {"peak": resident("VmHWM") - before}


@pytest.mark.skipif(not STATUS.exists(), reason="resident memory is read from /proc")
def test_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, gaussian(ROWS, DIM))
    program = f"from {__name__} import *; print(json.dumps(measure_fit({str(path)!r})))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, num_bytes = json.loads(done.stdout), 4 * ROWS * DIM
    print_table(
        f"Peak memory of a fit beside the ids, {ROWS} x {DIM} float32, K = {CLUSTERS}",
        ["embeddings MB", "peak MB", "peak / embeddings"],
        [[num_bytes / 1e6, found["peak"] / 1e6, found["peak"] / num_bytes]],
    )


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_flattening(dim: int) -> None:
    """The exponent of the centroids' density over p, on a normal density cut off at 2.5."""
    count = scaled(100_000, 4000)
    rows = ArrayRows(truncated_normal(count, dim, seed=0), row_ids(count))
    table = []
    for rule in ("random", "nearest"):
        for levels, resamplings in SHAPES:
            config = ClusteringConfig(
                levels=levels,
                resamplings=resamplings,
                resample_rule=rule,
                resample_rows=32,
                iterations=50,
                tolerance=0,
            )
            began = time.perf_counter()
            found = fit_hierarchy(rows, levels[0], config=config, seed=0)
            top = found.centroids if len(levels) == 1 else _top(found.centroids, found.ancestors)
            table.append(
                [
                    rule,
                    len(levels),
                    resamplings,
                    flattening_exponent(dim, len(levels), resamplings),
                    measured_exponent(top),
                    time.perf_counter() - began,
                ]
            )
    print_table(
        f"Exponent of the density of centroids, {count} rows in {dim} dimensions, {TOP} at the top "
        f"(1 is the archive's density, 0 is flat)",
        ["members resampled", "levels", "resamplings", "theory", "measured", "wall s"],
        table,
    )


def _top(finest: FloatArray, ancestors: IntArray) -> FloatArray:
    """Return the means of the finest centroids under each top cluster."""
    nodes = ancestors[-1]
    means: FloatArray = np.array(
        [finest[nodes == node].mean(axis=0, dtype=np.float64) for node in np.unique(nodes)],
        dtype=np.float32,
    )
    return means
