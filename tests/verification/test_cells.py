"""Rows nearest to each pick, and the weights that must equal their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.selection.medoid_refinement import cell_sizes
from balancer.selection.pool import ArrayPool
from balancer.verification import Status
from balancer.verification.cells import count_cells, nearest_picks
from balancer.verification.weight_checks import BY_CELLS
from tests.data.certified import made_embeddings
from tests.verification.tampering import made, outcomes, set_columns, verify


def test_ties_go_to_the_first_pick_and_picks_to_themselves() -> None:
    line = np.array([[0], [2], [1], [2]], np.float32)
    assert nearest_picks(line, line[:2]).tolist() == [0, 1, 0, 1]
    ids = np.array(list("abcd"))
    # d is a pick, at the place of the pick b before it.
    assert count_cells([(ids, line)], ids[[0, 1, 3]], line[[0, 1, 3]]).tolist() == [2, 1, 1]


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("count", [1, 17, 300])
def test_as_many_as_the_selection_counts(decimals: int, count: int) -> None:
    ids, points = made_embeddings()
    points = points.round(decimals)  # ties and twins
    picks = np.random.default_rng(1).permutation(len(ids))[:count]
    blocks = [(ids[part], points[part]) for part in np.array_split(np.arange(len(ids)), 3)]
    found = count_cells(blocks, ids[picks], points[picks])
    assert found.sum() == len(ids)
    assert found.tolist() == cell_sizes(ArrayPool(points, ids), ids[picks]).tolist()


def test_more_picks_than_a_block_of_columns() -> None:
    rng = np.random.default_rng(2)
    picks = rng.integers(0, 9, (4500, 2)).astype(np.float32)
    rows = rng.integers(0, 9, (50, 2)).astype(np.float32)
    squared = ((rows[:, None] - picks) ** 2).sum(axis=2)
    assert nearest_picks(rows, picks).tolist() == squared.argmin(axis=1).tolist()


@pytest.mark.parametrize("strategy", BY_CELLS)
def test_rows_moved_from_one_pick_to_another(tmp_path: Path, strategy: str) -> None:
    path = made(tmp_path, strategy=strategy)
    assert outcomes(verify(path))["cells"][0] is Status.PASSED

    def move(weights: list[float]) -> list[float]:
        weights[3] += 1
        rich = int(np.argmax([*weights[:3], 0, *weights[4:]]))
        weights[rich] -= 1
        return weights

    set_columns(path, weight=move)
    report = verify(path)
    assert report.named(Status.FAILED) == ["cells"]
    assert "rows lie nearest to the pick at rank" in outcomes(report)["cells"][1]
