"""Farthest-point selection against scans and packages: alternating, medians of five pairs.

make bench      (or: pytest tests/benchmarks -m "" -s -k fused_scan; also: peers, scaling, ray,
                memory, gpu)

BENCH_SCALE=0.025 BENCH_PAIRS=1 makes it a smoke test; BENCH_BUDGET_S bounds the scaling table.
"""

from __future__ import annotations

import os
import statistics
import time

import numpy as np
import pytest
from scipy.optimize import nnls

from balancer.selection.engine import LazyBounds
from balancer.selection.farthest_point import farthest_point
from balancer.types import FloatArray, IntArray
from tests.benchmarks.measuring import PAIRS, SCALE, alternate, print_table, scaled
from tests.benchmarks.selection_data import NAMES, make, zipf_clusters
from tests.benchmarks.selection_peers import FUSED, PEERS, Agreement, Peer, agreement

ROWS, PICKS = scaled(200_000, 500), scaled(2000, 20)
EXACT_PICKS = 200
ROUNDING = 1e-4
"""Picks may differ where squared distances agree this far: float32 sums of 128 terms."""
HEADER = [
    "peer",
    "picks",
    "wall s",
    "CPU s",
    "engine wall s",
    "engine CPU s",
    "wall ratio",
    "CPU ratio",
    "same picks",
]
LARGEST_ROWS = [100_000, 1_000_000, 4_000_000]
MANY_PICKS = [100, 1000, 10_000, 100_000]
BUDGET_S = float(os.environ.get("BENCH_BUDGET_S", "300"))

pytestmark = pytest.mark.timeout(4 * 3600)


def engine(points: FloatArray, num_picks: int, first: int) -> IntArray:
    return farthest_point(points, num_picks, first=first).indices


def require_exact(points: FloatArray) -> None:
    """Require the plain scan's picks of the engine, on a prefix."""
    count = min(PICKS, EXACT_PICKS)
    expected = farthest_point(points, count, first=0, engine="plain").indices
    np.testing.assert_array_equal(engine(points, PICKS, 0)[:count], expected)


def against(peer: Peer, points: FloatArray) -> tuple[list[object], float, Agreement]:
    """Return a table's row, the ratio of wall times, and how far the picks agree."""
    count = min(PICKS, peer.most_picks or PICKS)

    def run_engine() -> IntArray:
        return engine(points, PICKS, 0)

    def run_peer() -> IntArray:
        return peer.pick(points, count, 0)

    ours, theirs = alternate([run_engine, run_peer])
    found = agreement(points, ours.result, theirs.result)
    # A scan that made fewer picks is charged for all of them, at its time per pick.
    share = PICKS / count
    wall, cpu = share * theirs.wall_s / ours.wall_s, share * theirs.cpu_s / ours.cpu_s
    same = f"first {found.prefix}, {found.shared} of {count} in all"
    if found.prefix < count:
        same += f", differ by {found.gap:.0e}" + " (not rounding)" * (found.gap > ROUNDING)
    times = [theirs.wall_s, theirs.cpu_s, ours.wall_s, ours.cpu_s]
    return [peer.name, count, *times, f"x{wall:.1f}", f"x{cpu:.1f}", same], wall, found


def test_engine_against_fused_scan() -> None:
    rows, walls = [], []
    for name in NAMES:
        points = make(name, ROWS)
        require_exact(points)
        row, wall, found = against(FUSED, points)
        assert found.gap < ROUNDING, f"{name}: the scan picks other rows: {found}"
        rows.append([name, *row[1:]])
        walls.append(wall)
    print_table(
        f"Engine against a fused scan, {ROWS} x 128, n = {PICKS}, medians of {PAIRS} pairs",
        ["rows", *HEADER[1:]],
        rows,
    )
    gigabytes = ROWS * 512 * PICKS / 1e9
    print(f"\nwall ratio: geometric mean {statistics.geometric_mean(walls):.1f}, least", end=" ")
    print(f"{min(walls):.1f}; a scan reads {gigabytes:.0f} GB; the engine's first", end=" ")
    print(f"{min(PICKS, EXACT_PICKS)} picks are the plain scan's. EuroSAT: 27,000 tiles, repeated")
    print("with noise where there are more rows.")


@pytest.mark.parametrize("name", NAMES)
def test_engine_against_peers(name: str) -> None:
    points = make(name, ROWS)
    require_exact(points)
    rows = []
    for peer in PEERS:
        if note := peer.missing():
            print(f"\n{note}")
        else:
            rows.append(against(peer, points)[0])
    print_table(
        f"Peers, {name}, {ROWS} x 128, engine n = {PICKS}, medians of {PAIRS} pairs; ratios are "
        f"per pick where a peer made fewer",
        HEADER,
        rows,
    )


def test_scaling() -> None:
    """Zipf clusters: one run each, after a warm-up, while the time lasts."""
    rows: list[list[object]] = []
    measured: list[tuple[float, float, float, float]] = []
    engine(zipf_clusters(500), 20, 0)
    deadline = time.perf_counter() + BUDGET_S
    for count in LARGEST_ROWS:
        points = zipf_clusters(scaled(count, 500))
        scan_s = _seconds_per_scan(points)
        expected_s = 0.0
        for picks in MANY_PICKS:
            num_picks = min(len(points), scaled(picks, 10))
            if time.perf_counter() + expected_s > deadline:
                rows.append([len(points), num_picks, "no time left", *[""] * 4])
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            bounds = LazyBounds(points, np.arange(len(points)), num_picks)
            bounds.take(0)
            bounds.run(num_picks)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            expected_s = 10 * wall
            share = bounds.num_pairs / (len(points) * num_picks)
            ratio = f"x{num_picks * scan_s / wall:.1f}"
            row = [len(points), num_picks, wall, cpu, 1e3 * wall / num_picks, f"{share:.1%}"]
            rows.append([*row, ratio])
            measured.append((len(points), bounds.num_pairs, num_picks, wall))
    print_table(
        f"Scaling on Zipf clusters, 128 dimensions, one run each, within {BUDGET_S:.0f} s; the "
        f"fused scan's time is that of 20 picks, scaled",
        ["N", "n", "wall s", "CPU s", "ms per pick", "pairs measured", "fused scan / engine"],
        rows,
    )
    assert SCALE < 1 or all(isinstance(row[2], float) for row in rows[:3])
    print_cost_model(measured)


def print_cost_model(measured: list[tuple[float, float, float, float]]) -> None:
    """Fit wall = a N + b pairs + c n, none negative, to relative errors; print it with its misses.

    Args:
        measured: rows, pairs measured, picks and wall seconds of each run.
    """
    table = np.array(measured)
    walls = table[:, 3]
    costs, _ = nnls(table[:, :3] / walls[:, None], np.ones(len(table)))
    misses = np.abs(table[:, :3] @ costs / walls - 1)
    print(
        f"\ncost model: {1e9 * costs[0]:.1f} ns per row, {1e9 * costs[1]:.3f} ns per pair", end=""
    )
    print(f" measured, {1e6 * costs[2]:.1f} us per pick; misses the runs by", end=" ")
    print(f"{np.median(misses):.0%} (median), {misses.max():.0%} (worst)")


def _seconds_per_scan(points: FloatArray) -> float:
    FUSED.pick(points[:500], 2, 0)
    started = time.perf_counter()
    FUSED.pick(points, 20, 0)
    return (time.perf_counter() - started) / 20
