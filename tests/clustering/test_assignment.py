"""Every engine and device gives the labels and the bits of the plain scan."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.clustering import torch_assignment
from balancer.clustering.assignment import Engine, assign, choose_engine
from balancer.clustering.nearest_centroid import nearest_centroids
from balancer.distances import nearest_rows
from balancer.errors import ConfigError
from balancer.types import FloatArray


def rows(seed: int, count: int, dim: int, *, scale: float = 1.0, offset: float = 0.0) -> FloatArray:
    rng = np.random.default_rng(seed)
    points: FloatArray = (scale * (rng.standard_normal((count, dim)) + offset)).astype(np.float32)
    return points


def crowded(points: FloatArray, count: int) -> FloatArray:
    """Return centroids with exact copies and with neighbours that float32 products cannot tell."""
    some = points[:count]
    return np.concatenate([some, some, np.nextafter(some, np.float32(np.inf))])


def check(points: FloatArray, centroids: FloatArray, device: str, engine: Engine) -> None:
    labels, squared = assign(points, centroids, device=device, engine=engine)
    expected, distances = nearest_rows(points, centroids)
    np.testing.assert_array_equal(labels, expected)
    assert squared.tobytes() == distances.tobytes()


@pytest.mark.parametrize("engine", [e for e in get_args(Engine) if e != "auto"])
@given(
    seed=st.integers(0, 1000),
    dim=st.integers(1, 40),
    scale=st.sampled_from([1e-15, 1e-4, 1.0, 1e6, 1e15]),
    offset=st.sampled_from([0.0, 300.0]),
)
@settings(max_examples=15, deadline=None)
def test_every_engine_gives_the_plain_scan(
    engine: Engine, seed: int, dim: int, scale: float, offset: float
) -> None:
    points = rows(seed, 300, dim, scale=scale, offset=offset)
    check(points, crowded(points, 50), "cpu", engine)


@pytest.mark.parametrize("num_centroids", [4, 127, 128, 1023, 1024, 1025, 2500])
def test_any_number_of_centroids_around_the_blocks(num_centroids: int) -> None:
    points, centroids = rows(0, 600, 5), rows(1, num_centroids, 5)
    expected, distances = nearest_rows(points, centroids)
    for count in (1, 255, 256, 257, 600):
        labels, squared = nearest_centroids(points[:count], centroids)
        np.testing.assert_array_equal(labels, expected[:count])
        assert squared.tobytes() == distances[:count].tobytes()


def test_torch_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_assignment, "BLOCK_ENTRIES", 700)
    points = rows(2, 301, 8)
    check(points, crowded(points, 30), "cpu", "torch")


def test_read_only_arrays_are_taken() -> None:
    points, centroids = rows(3, 50, 4), rows(4, 9, 4)
    points.setflags(write=False)
    centroids.setflags(write=False)
    for engine in ("compiled", "torch"):
        check(points, centroids, "cpu", engine)


def test_the_device_decides_the_engine() -> None:
    assert choose_engine("cpu") == "compiled"
    points = rows(5, 10, 3)
    with pytest.raises(ConfigError, match="compiled engine runs on the device cpu; got cuda"):
        assign(points, points, device="cuda", engine="compiled")
    with pytest.raises(ConfigError, match=r"got 'nowhere'.*Use cpu"):
        assign(points, points, device="nowhere", engine="torch")


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_cuda_gives_the_plain_scan(engine: Engine, scale: float) -> None:
    points = rows(6, 5000, 64, scale=scale)
    check(points, crowded(points, 400), "cuda", engine)
