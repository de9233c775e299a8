from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.distances import nearest_rows
from balancer.errors import ConfigError
from balancer.selection import torch_filter
from balancer.selection.faiss_filter import FaissFilter
from balancer.selection.farthest_point import Engine, farthest_point, row_ids
from balancer.selection.filter_errors import Precision, kappa
from balancer.selection.filters import FILTERS, Filter, fastest_filter, new_filter
from balancer.selection.torch_filter import TorchFilter
from balancer.types import FloatArray, IntArray

ON_CPU = ("torch", "torch-tf32", "torch-bfloat16", "faiss")
ON_GPU = tuple(name for name in FILTERS if "cuda" in name or "triton" in name)
KINDS = ("gaussian", "grid", "near-duplicates", "repeated")
DIMS = (1, 2, 7, 8, 9, 17, 31, 65)


def rows_of_kind(
    kind: str, seed: int, count: int, dim: int, *, scale: float = 1.0, offset: float = 0.0
) -> FloatArray:
    """Rows that are hard on a filter: ties, duplicates, and distances far below the lengths."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dim))
    if kind == "grid":
        rows = rng.integers(0, 3, (count, dim)).astype(np.float64)
    elif kind == "near-duplicates":
        near = rows[rng.integers(0, min(4, count), count)]
        rows = near + 1e-4 * rng.standard_normal((count, dim))
    elif kind == "repeated":
        rows = rows[rng.integers(0, max(1, count // 3), count)]
    return (rows * scale + offset).astype(np.float32)


def squared_lengths(rows: FloatArray) -> FloatArray:
    wide = rows.astype(np.float64)
    lengths: FloatArray = (wide * wide).sum(axis=1).astype(np.float32)
    return lengths


def least_of_pairs(
    rows: FloatArray, picks: FloatArray, places: IntArray, columns: IntArray, bound: FloatArray
) -> FloatArray:
    """The bounds after the proposed pairs, measured canonically, have lowered them."""
    least = bound.copy()
    for place, column in zip(places.tolist(), columns.tolist(), strict=True):
        _, squared = nearest_rows(rows[place : place + 1], picks[column : column + 1])
        least[place] = min(least[place], squared[0])
    return least


@pytest.mark.parametrize("name", ON_CPU)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    dim=st.sampled_from(DIMS),
    num_picks=st.sampled_from([1, 2, 4, 5, 40]),
    scale=st.sampled_from([1e-18, 1e-6, 1.0, 1e6, 1e15]),
)
@settings(max_examples=15, deadline=None)
def test_the_nearest_pick_is_always_a_candidate(
    name: str, seed: int, kind: str, dim: int, num_picks: int, scale: float
) -> None:
    rows = rows_of_kind(kind, seed, 40 + num_picks, dim, scale=scale)
    rows, picks = rows[:40].copy(), rows[40:].copy()
    chosen = new_filter(name)
    assert chosen is not None
    nearest = nearest_rows(rows, picks)[1]
    factor = np.random.default_rng(seed).choice([0.5, 1, 1 + 1e-6, 2, np.inf], 40)
    with np.errstate(invalid="ignore", over="ignore"):
        bound = np.where(nearest == 0, np.inf, nearest * factor).astype(np.float32)
    places, columns = chosen.candidates(
        rows,
        squared_lengths(rows),
        picks,
        squared_lengths(picks),
        bound.astype(np.float64),
    )
    assert places.dtype == columns.dtype == np.int64
    assert len(np.unique(places * num_picks + columns)) == len(places)
    least = least_of_pairs(rows, picks, places, columns, bound)
    assert least.tolist() == np.minimum(bound, nearest).tolist()


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    dim=st.sampled_from(DIMS),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
@settings(max_examples=15, deadline=None)
def test_a_row_is_a_candidate_of_itself(
    precision: Precision, seed: int, kind: str, dim: int, scale: float
) -> None:
    # Worst case of the expanded form: the distance is 0 and all of the value is rounding.
    rows = rows_of_kind(kind, seed, 50, dim, scale=scale)
    lengths = squared_lengths(rows)
    bound = np.full(50, float(np.nextafter(np.float32(0), np.float32(1))))
    places, columns = TorchFilter("cpu", precision).candidates(rows, lengths, rows, lengths, bound)
    assert set(places[places == columns].tolist()) == set(range(50))


def test_few_pairs_are_candidates() -> None:
    rows = rows_of_kind("gaussian", 0, 500, 64)
    rows, picks = rows[:400].copy(), rows[400:].copy()
    for name, most in (("torch", 440), ("faiss", 440), ("torch-tf32", 600)):
        chosen = new_filter(name)
        assert chosen is not None
        places, _ = chosen.candidates(
            rows, squared_lengths(rows), picks, squared_lengths(picks), np.full(400, np.inf)
        )
        assert 400 <= len(places) <= most
        places, _ = chosen.candidates(
            rows, squared_lengths(rows), picks, squared_lengths(picks), np.full(400, 1.0)
        )
        assert len(places) == 0


def test_without_its_bound_a_filter_would_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of_kind("near-duplicates", 1, 300, 16)
    rows, picks = rows[:200].copy(), rows[200:].copy()
    monkeypatch.setattr(torch_filter, "kappa", lambda _precision, _dim: 0.0)
    bound = np.full(200, np.inf, np.float32)
    places, columns = TorchFilter("cpu", "bfloat16").candidates(
        rows, squared_lengths(rows), picks, squared_lengths(picks), bound.astype(np.float64)
    )
    least = least_of_pairs(rows, picks, places, columns, bound)
    assert (least > nearest_rows(rows, picks)[1]).any()


def check_same_picks(
    chosen: str | Filter, kind: str, seed: int, dim: int, scale: float, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(20, 400))
    points = rows_of_kind(kind, seed, count, dim, scale=scale, offset=offset)
    num_picks, first = int(rng.integers(1, count)), int(rng.integers(count))
    plain = farthest_point(points, num_picks, first=first, engine="plain")
    picks = farthest_point(points, num_picks, first=first, filter=chosen)
    assert picks.indices.tolist() == plain.indices.tolist()
    assert picks.distances.tolist() == plain.distances.tolist()
    assert (picks.radius, picks.farthest) == (plain.radius, plain.farthest)


@pytest.mark.parametrize("name", ON_CPU)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    dim=st.integers(1, 65),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    offset=st.sampled_from([0.0, 1000.0]),
)
@settings(max_examples=12, deadline=None)
def test_same_picks_for_any_filter(
    name: str, seed: int, kind: str, dim: int, scale: float, offset: float
) -> None:
    check_same_picks(name, kind, seed, dim, scale, offset)


@pytest.mark.parametrize("name", ON_CPU)
def test_same_picks_with_every_option(name: str) -> None:
    rng = np.random.default_rng(5)
    points = rows_of_kind("gaussian", 5, 300, 9, offset=3)
    quality = rng.choice([1e-6, 0.3, 1.0], 300)
    excluded = rng.random(300) < 0.2
    ids = rng.permutation(row_ids(300))
    free = np.flatnonzero(~excluded)
    choices: list[tuple[str, Engine]] = [(name, "lazy"), ("blas", "plain")]
    runs = [
        farthest_point(
            points,
            120,
            ids=ids,
            include=free[[4, 9]],
            selected=points[:3] / np.linalg.norm(points[:3], axis=1, keepdims=True),
            excluded=excluded,
            quality=quality,
            num_outliers=5,
            metric="cosine",
            filter=chosen,
            engine=engine,
        )
        for chosen, engine in choices
    ]
    assert runs[0].indices.tolist() == runs[1].indices.tolist()
    assert runs[0].distances.tolist() == runs[1].distances.tolist()
    assert runs[0].outliers.tolist() == runs[1].outliers.tolist()


def test_many_blocks_and_tiles() -> None:
    # More picks than the largest block, and more rows than a tile.
    points = rows_of_kind("gaussian", 2, 5000, 3)
    expected = farthest_point(points, 2500, first=0).indices.tolist()
    for name in ("torch", "faiss"):
        assert farthest_point(points, 2500, first=0, filter=name).indices.tolist() == expected


def test_choices_of_the_process_do_not_matter() -> None:
    import torch

    points = rows_of_kind("near-duplicates", 3, 300, 33)
    expected = farthest_point(points, 100, first=0, engine="plain").indices.tolist()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = farthest_point(points, 100, first=0, filter="torch").indices.tolist()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == expected


def test_round_to_tf32_keeps_ten_bits() -> None:
    import torch

    values = torch.tensor([1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-10 - 2**-12, 0.0])
    expected = [1 + 2**-10, 1.0, 1 + 2**-9, -1 - 2**-10, 0.0]
    assert torch_filter.round_to_tf32(values).tolist() == expected


def test_fastest_filter_is_one_of_those_named() -> None:
    assert fastest_filter(8, num_rows=64, num_picks=16) in ("blas", *FILTERS)
    assert fastest_filter(8, num_rows=64, num_picks=16, names=["faiss"]) == "faiss"
    points = rows_of_kind("gaussian", 0, 50, 4)
    expected = farthest_point(points, 20, first=0).indices.tolist()
    assert farthest_point(points, 20, first=0, filter="fastest").indices.tolist() == expected


def test_names_are_explained() -> None:
    line = np.arange(4, dtype=np.float32)[:, None]
    with pytest.raises(ValueError, match=r"filter must be one of blas, torch, .*; got 'knn'"):
        farthest_point(line, 2, first=0, filter="knn")
    with pytest.raises(ValueError, match="precision must be one of float32, tf32, bfloat16; got"):
        TorchFilter("cpu", "float8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="device must be one that torch can use here; got 'tpu'"):
        TorchFilter("tpu")
    with pytest.raises(ValueError, match="names must hold a filter that can run here"):
        fastest_filter(4, names=[])
    with pytest.raises(ValueError, match="bound must stay below 1; rows of 3000000 columns"):
        kappa("tf32", 3_000_000)


def test_faiss_for_gpus_is_refused_without_one() -> None:
    import faiss

    if hasattr(faiss, "knn_gpu") and faiss.get_num_gpus() > 0:
        pytest.skip("there is a GPU that FAISS can use")
    with pytest.raises(ConfigError, match="needs a GPU and a build of FAISS for it"):
        FaissFilter(gpu=True)


def test_selection_does_not_load_torch_or_faiss() -> None:
    code = (
        "import sys, balancer.selection.filters, balancer.selection.farthest_point;"
        "sys.exit(bool({'torch', 'faiss'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*ON_GPU, "faiss-gpu"])
@pytest.mark.parametrize("kind", KINDS)
def test_same_picks_on_a_gpu(name: str, kind: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    try:
        chosen = new_filter(name)
    except ConfigError as error:
        pytest.skip(str(error))
    assert chosen is not None
    for seed, dim in enumerate((1, 9, 64, 65)):
        for offset in (0.0, 1000.0):
            check_same_picks(chosen, kind, seed, dim, 1.0, offset)
