"""Near-duplicates exact across borders, against a brute-force scan and SemDeDup's rule per cluster.

pytest tests/benchmarks/test_near_duplicates.py -m "" -s     BENCH_SCALE=0.05 is a smoke test.

The brute-force scan lists all pairs with one blocked float32 product, decides those near the
threshold by the canonical distance and keeps tile after tile in the same order. Peak memory is that
of a process of its own, above what the process holds before it starts.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from balancer.config_deduplicate import DeduplicateConfig
from balancer.distances import l2_normalize
from balancer.seeding import hash_ids
from balancer.selection.greedy_net import net_of_pairs
from balancer.selection.near_duplicates import NearDuplicates, deduplicate
from balancer.selection.near_order import order_seed
from balancer.selection.near_pairs import RankedRows, near_pairs
from balancer.types import BoolArray, FloatArray, IdArray
from tests.benchmarks.measuring import alternate, print_table, scaled
from tests.benchmarks.selection_data import eurosat, zipf_clusters

ROWS = scaled(60_000, 2000)
THRESHOLD = 0.95
METHODS = {"cells": None, "one block": 1}
PAIRS = 1

pytestmark = pytest.mark.timeout(3600)


def planted(count: int) -> FloatArray:
    """Return Zipf clusters of which a fifth of the rows are near copies of others."""
    rng = np.random.default_rng(1)
    points = zipf_clusters(count)
    copies = rng.permutation(count)[: count // 5]
    noise = rng.standard_normal((len(copies), points.shape[1])).astype(np.float32)
    points[copies] = points[rng.integers(0, count, len(copies))] + np.float32(0.01) * noise
    return l2_normalize(points)


def spread_out(count: int) -> FloatArray:
    """Return rows without clusters (32 dimensions), a fifth of them near copies of others."""
    rng = np.random.default_rng(2)
    points = rng.standard_normal((count, 32)).astype(np.float32)
    copies = rng.permutation(count)[: count // 5]
    noise = rng.standard_normal((len(copies), 32)).astype(np.float32)
    points[copies] = points[rng.integers(0, count, len(copies))] + np.float32(0.1) * noise
    return l2_normalize(points)


def tiles(count: int) -> FloatArray:
    """Return embeddings of `count` EuroSAT tiles; above 27,000 each is there with near copies."""
    return eurosat(27_000)[:count].copy() if count <= 27_000 else eurosat(count)


DATA: dict[str, Callable[[int], FloatArray]] = {
    "zipf clusters, planted": planted,
    "no clusters, planted": spread_out,
    "eurosat": tiles,
}


def names(points: FloatArray) -> IdArray:
    return np.arange(len(points)).astype(np.str_)


def ours(points: FloatArray, **more: object) -> NearDuplicates:
    config = DeduplicateConfig.model_validate({"threshold": THRESHOLD, **more})
    return deduplicate(points, names(points), config)


def brute_force(points: FloatArray) -> BoolArray:
    """Return the kept rows, from all pairs."""
    ids = names(points)
    order = np.lexsort((ids, hash_ids(ids, order_seed(0))))
    ranks = np.argsort(order)
    rows = RankedRows(points, np.arange(len(points)), ranks)
    limit = DeduplicateConfig(threshold=THRESHOLD).limit
    kept: BoolArray = net_of_pairs(len(points), near_pairs(rows, rows, limit), limit).kept[ranks]
    return kept


def peak_mib(name: str, count: int, method: str) -> float:
    """Return the memory that a method needs above the data, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(name, count, method, theirs))
    process.start()
    theirs.close()
    found: float = mine.recv()
    process.join()
    return found


def _measure(name: str, count: int, method: str, pipe: Connection) -> None:
    points = DATA[name](count)

    def run(rows: FloatArray) -> None:
        if method == "brute force":
            brute_force(rows)
        else:
            ours(rows, num_cells=METHODS[method])

    run(points[:500].copy())
    # A child begins with its parent's high-water mark; 5 resets it to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _high_water_kib()
    run(points)
    pipe.send((_high_water_kib() - before) / 1024)


def _high_water_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("name", DATA)
def test_exact_against_brute_force_and_semdedup(name: str) -> None:
    points = DATA[name](min(ROWS, 27_000) if name == "eurosat" else ROWS)
    ours(points[:500].copy())
    runs: list[Callable[[], BoolArray | NearDuplicates]] = [
        lambda: brute_force(points),
        lambda: ours(points),
        lambda: ours(points, borders="ignore"),
        lambda: ours(points, rule="semdedup"),
    ]
    brute, exact, ignoring, published = alternate(runs, pairs=PAIRS, warm=False)
    assert isinstance(exact.result, NearDuplicates)
    expected = np.asarray(brute.result)
    np.testing.assert_array_equal(exact.result.kept, expected)
    rows: list[list[object]] = [
        ["brute force", brute.wall_s, brute.cpu_s, "", int(expected.sum()), "", "", "",
         peak_mib(name, len(points), "brute force")]
    ]  # fmt: skip
    for label, timing in (
        ("exact across borders", exact),
        ("borders ignored", ignoring),
        ("SemDeDup's rule", published),
    ):
        found = timing.result
        assert isinstance(found, NearDuplicates)
        misses = found.effort.misses
        uncovered = _uncovered(points, found.kept)
        rows.append(
            [
                label,
                timing.wall_s,
                timing.cpu_s,
                f"x{brute.wall_s / timing.wall_s:.1f}",
                int(found.kept.sum()),
                f"{found.effort.replication:.2f}",
                "" if misses is None else f"{misses.rate:.2%}",
                uncovered,
                peak_mib(name, len(points), "cells") if found is exact.result else "",
            ]
        )
    print_table(
        f"{name}, {len(points)} x {points.shape[1]}, cosine similarity >= {THRESHOLD}, "
        f"{exact.result.effort.num_cells} cells; brute force keeps the same rows as exact",
        [
            "method",
            "wall s",
            "CPU s",
            "speed",
            "kept",
            "replication",
            "near pairs missed",
            "dropped without a kept tile near",
            "MiB above the data",
        ],
        rows,
    )


@pytest.mark.parametrize("count", [20_000, 100_000, 200_000])
@pytest.mark.parametrize("name", DATA)
def test_cells_against_one_block(name: str, count: int) -> None:
    """The same greedy net, with the default cells and with every batch against all kept rows."""
    points = DATA[name](scaled(count, 1000))
    ours(points[:500].copy())
    found = alternate(
        [partial(ours, points, num_cells=number) for number in METHODS.values()],
        pairs=3 if count == 20_000 else 1,
        warm=False,
    )
    cells, block = found
    np.testing.assert_array_equal(cells.result.kept, block.result.kept)
    print_table(
        f"{name}, {len(points)} x {points.shape[1]}, cosine similarity >= {THRESHOLD}, "
        f"{int(cells.result.kept.sum())} kept, the same by both; the data take "
        f"{points.nbytes / 2**20:.0f} MiB",
        ["method", "cells", "replication", "wall s", "CPU s", "x CPU", "MiB above the data"],
        [
            [
                label,
                timing.result.effort.num_cells,
                timing.result.effort.replication,
                timing.wall_s,
                timing.cpu_s,
                block.cpu_s / timing.cpu_s,
                peak_mib(name, len(points), label),
            ]
            for label, timing in zip(METHODS, found, strict=True)
        ],
    )


def _uncovered(points: FloatArray, kept: BoolArray) -> int:
    """Return how many dropped rows have no kept one near."""
    dropped, net = np.flatnonzero(~kept), points[kept]
    bound = np.float32(THRESHOLD - 1e-6)
    return sum(
        int(((points[dropped[at : at + 1024]] @ net.T).max(axis=1) < bound).sum())
        for at in range(0, len(dropped), 1024)
    )
