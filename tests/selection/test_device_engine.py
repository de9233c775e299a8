from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.distances import paired_distances
from balancer.errors import ConfigError
from balancer.selection import device_catch_up, device_tensors
from balancer.selection.bounds import Options
from balancer.selection.device_engine import DeviceBounds
from balancer.selection.device_selection import farthest_point_on_device
from balancer.selection.device_tensors import canonical_distances
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.selection.filter_errors import Precision
from balancer.types import FloatArray
from tests.selection.test_filters import KINDS, rows_of_kind

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


@given(
    seed=st.integers(0, 10_000),
    dim=st.integers(1, 70),
    scale=st.sampled_from([1e-18, 1e-6, 1.0, 1e6, 1e17]),
    offset=st.sampled_from([0.0, 1000.0]),
)
@settings(max_examples=40, deadline=None)
def test_canonical_distances_have_the_bits(
    seed: int, dim: int, scale: float, offset: float
) -> None:
    check_bits(seed, dim, scale, offset, "cpu")


def check_bits(seed: int, dim: int, scale: float, offset: float, device: str) -> None:
    left = rows_of_kind("gaussian", seed, 200, dim, scale=scale, offset=offset)
    right = rows_of_kind("gaussian", seed + 1, 200, dim, scale=scale, offset=offset)
    found = canonical_distances(
        torch.from_numpy(left).to(device), torch.from_numpy(right).to(device)
    )
    expected = paired_distances(left, right, np.arange(200))
    assert found.cpu().numpy().tobytes() == expected.tobytes()


def check_same_picks(
    points: FloatArray, num_picks: int, first: int, precision: Precision, device: str = "cpu"
) -> None:
    plain = farthest_point(points, num_picks, first=first, engine="plain")
    found = farthest_point_on_device(
        points, num_picks, first=first, device=device, precision=precision
    )
    assert found.indices.tolist() == plain.indices.tolist()
    assert found.distances.tolist() == plain.distances.tolist()
    assert (found.radius, found.farthest) == (plain.radius, plain.farthest)


@pytest.mark.parametrize("precision", PRECISIONS)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    dim=st.integers(1, 65),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    offset=st.sampled_from([0.0, 1000.0]),
)
@settings(max_examples=15, deadline=None)
def test_same_picks_as_the_plain_scan(
    precision: Precision, seed: int, kind: str, dim: int, scale: float, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 400))
    points = rows_of_kind(kind, seed, count, dim, scale=scale, offset=offset)
    check_same_picks(points, int(rng.integers(1, count + 1)), int(rng.integers(count)), precision)


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    room=st.sampled_from([1, 2, 17, 100]),
    skip=st.sampled_from([0, 3]),
)
@settings(max_examples=20, deadline=None)
def test_same_picks_for_any_room(seed: int, kind: str, room: int, skip: int) -> None:
    points = rows_of_kind(kind, seed, 200, 5)
    ranks = np.random.default_rng(seed).permutation(200)
    ids = row_ids(200)[ranks]
    plain = farthest_point(points, 90, first=7, ids=ids, num_outliers=skip, engine="plain")
    bounds = DeviceBounds(points, ranks, 90, Options(skip=skip), room=room)
    bounds.take(7)
    bounds.run(90)
    assert bounds.picked.tolist() == plain.indices.tolist()
    outliers, squared, row = bounds.outliers()
    assert outliers.tolist() == plain.outliers.tolist()
    assert (float(np.sqrt(squared)), row) == (plain.radius, plain.farthest)


def test_same_picks_in_small_tiles_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    points = rows_of_kind("gaussian", 3, 1500, 6)
    expected = farthest_point(points, 700, first=0, engine="plain").indices.tolist()
    monkeypatch.setattr(device_catch_up, "ROWS_PER_TILE", 37)
    monkeypatch.setattr(device_tensors, "ENTRIES_PER_CHUNK", 100)
    monkeypatch.setattr(device_catch_up, "FIRST_WIDTH", 3)
    monkeypatch.setattr(device_catch_up, "WIDTH", 11)
    monkeypatch.setattr(device_catch_up, "WAVES", (5, 20, 1 << 31))
    bounds = DeviceBounds(points, np.arange(1500), 700, room=64)
    bounds.take(0)
    bounds.run(700)
    assert bounds.picked.tolist() == expected


def test_many_picks_per_round_and_few_pairs() -> None:
    centres = np.random.default_rng(0).standard_normal((400, 16)) * 5
    near = np.random.default_rng(1).standard_normal((20_000, 16))
    points = (centres[np.random.default_rng(2).integers(0, 400, 20_000)] + near).astype(np.float32)
    bounds = DeviceBounds(points, np.arange(20_000), 1000)
    bounds.take(0)
    bounds.run(1000)
    assert 1000 / bounds.num_rounds > 20
    assert bounds.num_pairs < 0.6 * 20_000 * 1000
    assert bounds.picked.tolist() == farthest_point(points, 1000, first=0).indices.tolist()


def run_with_options(points: FloatArray, **changes: str) -> tuple[list[Any], ...]:
    rng = np.random.default_rng(5)
    quality = rng.choice([1e-6, 0.3, 1.0], len(points))
    excluded = rng.random(len(points)) < 0.2
    free = np.flatnonzero(~excluded)
    run = farthest_point(
        points,
        120,
        ids=rng.permutation(row_ids(len(points))),
        include=free[[4, 9]],
        selected=points[:3] / np.linalg.norm(points[:3], axis=1, keepdims=True),
        excluded=excluded,
        quality=quality,
        num_outliers=5,
        metric="cosine",
        **changes,  # type: ignore[arg-type]
    )
    return run.indices.tolist(), run.distances.tolist(), run.outliers.tolist()


def test_every_option_is_as_on_the_cpu() -> None:
    points = rows_of_kind("gaussian", 5, 300, 9, offset=3)
    # `cpu:0` is torch's name of the same device: the device engine instead of the compiled one.
    assert run_with_options(points, device="cpu:0") == run_with_options(points, engine="plain")


def test_rows_may_be_tensors_of_any_kind_and_read_only(tmp_path: Path) -> None:
    points = rows_of_kind("grid", 1, 60, 4)
    expected = farthest_point(points, 20, first=2).indices.tolist()
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    for values in (
        mapped,
        np.asfortranarray(points),
        torch.from_numpy(points).half(),
        torch.from_numpy(points.T.copy()).T.requires_grad_(),
    ):
        found = farthest_point_on_device(values, 20, first=2, device="cpu")
        assert found.indices.tolist() == expected
    assert farthest_point(mapped, 20, first=2, device="cpu:0").indices.tolist() == expected


def test_messages() -> None:
    line = np.arange(4, dtype=np.float32)[:, None]
    with pytest.raises(ValueError, match="num_picks must lie between 1 and the 4 rows"):
        farthest_point_on_device(line, 5, device="cpu")
    with pytest.raises(ValueError, match="first must be a row number below 4; got 4"):
        farthest_point_on_device(line, 2, first=4, device="cpu")
    with pytest.raises(ValueError, match=r"points must be a matrix \(N, D\); got shape \(4,\)"):
        farthest_point_on_device(line[:, 0], 2, device="cpu")
    with pytest.raises(ValueError, match="1 of 4 rows hold NaN or infinity"):
        farthest_point_on_device(np.where(line == 2, np.nan, line), 2, device="cpu")
    with pytest.raises(ValueError, match="precision must be one of"):
        farthest_point_on_device(line, 2, device="cpu", precision="half")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="device must be one that torch can use here; got 'tpu'"):
        farthest_point(line, 2, first=0, device="tpu")
    with pytest.raises(
        ValueError, match="device 'cuda' has its own filter; got filter 'faiss' too"
    ):
        farthest_point(line, 2, first=0, device="cuda", filter="faiss")
    for choice in ({"device": "cuda"}, {"filter": "faiss"}):
        with pytest.raises(ValueError, match="engine 'plain' measures every pair on the CPU; got"):
            farthest_point(line, 2, first=0, engine="plain", **choice)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_same_picks_on_a_gpu(precision: Precision, kind: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for dim in (1, 8, 65, 128):
        check_bits(dim, dim, 1.0, 1000.0, "cuda")
        for offset in (0.0, 1000.0):
            points = rows_of_kind(kind, dim, 3000, dim, offset=offset)
            check_same_picks(points, 800, 11, precision, "cuda")


@pytest.mark.gpu
def test_every_option_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    points = rows_of_kind("gaussian", 5, 300, 9, offset=3)
    assert run_with_options(points, device="cuda") == run_with_options(points, engine="plain")
