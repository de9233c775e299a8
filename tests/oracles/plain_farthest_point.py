"""Algorithm 1 as the paper means it, in the slowest and most obvious way."""

from __future__ import annotations

import itertools

import numpy as np

from balancer.types import FloatArray, IdArray


def canonical(a: FloatArray, b: FloatArray) -> np.float32:
    """Squared distance: float64 differences, eight lanes, pairwise sum, rounded to float32."""
    squares = (a.astype(np.float64) - b.astype(np.float64)) ** 2
    whole = len(squares) - len(squares) % 8
    lanes = [0.0] * 8
    for j in range(whole):
        lanes[j % 8] += float(squares[j])
    tail = 0.0
    for j in range(whole, len(squares)):
        tail += float(squares[j])
    low = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
    high = (lanes[4] + lanes[5]) + (lanes[6] + lanes[7])
    return np.float32(low + high + tail)


def farthest_point_oracle(
    points: FloatArray, ids: IdArray, num_picks: int, first: int
) -> list[int]:
    """Return row numbers of the picks."""
    picks = [first]
    while len(picks) < num_picks:
        best: tuple[float, str, int] | None = None
        for row in range(len(points)):
            if row in picks:
                continue
            distance = min(canonical(points[row], points[p]) for p in picks)
            key = (-float(distance), str(ids[row]), row)
            if best is None or key < best:
                best = key
        assert best is not None
        picks.append(best[2])
    return picks


def optimal_radius(points: FloatArray, num_centers: int) -> float:
    """Return the optimum of the k-center problem by trying every set of centers."""
    distances = np.sqrt(((points[:, None] - points[None]).astype(np.float64) ** 2).sum(-1))
    return min(
        float(distances[:, list(centers)].min(axis=1).max())
        for centers in itertools.combinations(range(len(points)), num_centers)
    )
