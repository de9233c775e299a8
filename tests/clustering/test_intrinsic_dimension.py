from __future__ import annotations

import math

import numpy as np
import pytest

from balancer.clustering.intrinsic_dimension import two_nn
from balancer.types import FloatArray


def embedded(count: int, dim: int, ambient: int = 24, seed: int = 0) -> FloatArray:
    """Return uniform rows of a `dim`-dimensional cube, rotated into `ambient` dimensions."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((ambient, dim)))[0]
    points: FloatArray = (rng.random((count, dim)) @ basis.T).astype(np.float32)
    return points


def slow_two_nn(points: FloatArray, discard: float) -> float:
    """The paper's five steps, one by one."""
    rows = np.unique(points, axis=0).astype(np.float64)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    r1, r2 = np.sqrt(np.sort(squared, axis=1)[:, :2]).T
    mu = np.sort(r2 / r1)
    kept = int((1 - discard) * len(mu))
    x = np.log(mu[:kept])
    y = -np.log(1 - np.arange(1, kept + 1) / len(mu))
    return float(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0])


def test_by_hand() -> None:
    # On a line at 0, 1, 3, 7: ratios 3/1, 2/1, 3/2, 6/4; the largest is left out at F = 1.
    points = np.array([[0.0], [1.0], [3.0], [7.0]], dtype=np.float32)
    x = np.log([1.5, 1.5, 2.0])
    y = -np.log([0.75, 0.5, 0.25])
    assert two_nn(points, discard=0.0) == pytest.approx((x @ y) / (x @ x))


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("discard", [0.1, 0.3])
def test_equals_the_papers_steps(dim: int, discard: float) -> None:
    points = embedded(300, dim)
    assert two_nn(points, discard=discard) == pytest.approx(slow_two_nn(points, discard), rel=1e-4)


@pytest.mark.parametrize("dim", [1, 2, 4, 8])
def test_finds_the_dimension_of_a_cube(dim: int) -> None:
    # The boundary of a cube lowers the estimate, more so in higher dimensions.
    assert 0.85 * dim < two_nn(embedded(3000, dim)) < 1.1 * dim


def test_a_smooth_change_of_density_does_not_matter() -> None:
    points = np.random.default_rng(1).standard_normal((3000, 3)).astype(np.float32)
    assert two_nn(points) == pytest.approx(3, rel=0.1)


def test_order_scale_and_duplicates_do_not_matter() -> None:
    points = embedded(500, 3)
    expected = two_nn(points)
    assert two_nn(points[::-1]) == expected
    assert two_nn(4 * points) == expected
    assert two_nn(np.concatenate([points, points[:200], points[:100]])) == expected


def test_neighbours_at_one_distance() -> None:
    assert two_nn(np.eye(6, dtype=np.float32)) == math.inf


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 3 distinct rows; got 2 among 5"):
        two_nn(np.array([[0.0], [0.0], [0.0], [1.0], [1.0]], dtype=np.float32))
    with pytest.raises(ValueError, match=r"discard must lie in \[0, 1\); got 1"):
        two_nn(embedded(10, 2), discard=1.0)
