"""Selecting from a memory map: the same selection, certificate and manifest, without a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balancer.config import SelectionConfig
from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.selection import Constraints, select_certified
from balancer.selection import mapped_pool as module
from balancer.selection.exchange import Picks
from balancer.selection.farthest_point import row_ids
from balancer.selection.mapped_pool import OUT_OF_CORE, MappedPool
from balancer.storage.filesystem import Store
from balancer.storage.mapped_vectors import map_vectors
from balancer.types import FloatArray
from balancer.verification import verify_manifest
from tests.selection.test_engine import KINDS, make_points

COUNT = 600


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * 7 * 50)


def mapped(folder: Path, points: FloatArray) -> FloatArray:
    np.save(folder / "rows.npy", points)
    found: FloatArray = np.load(folder / "rows.npy", mmap_mode="r")
    return found


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("strategy", sorted(OUT_OF_CORE))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_selection_in_memory(
    tmp_path: Path, strategy: str, kind: str, normalize: bool
) -> None:
    points = make_points(kind, COUNT, 7, 1.0, np.random.default_rng(2))
    points[~points.any(axis=1)] += 1  # what cannot be normalised is refused
    ids = np.random.default_rng(3).permutation(row_ids(COUNT))
    plain: dict[str, Any] = {"budget": 60, "strategy": strategy}
    full = plain | {"num_outliers": 4} if strategy == "farthest-point" else plain
    quality = np.random.default_rng(4).uniform(0.2, 3, COUNT)
    constraints = Constraints(
        include=ids[[5, 3]],
        exclude=ids[100:220],
        quality=quality if strategy == "farthest-point" else None,
    )
    holes = points.copy()
    holes[100:220] = np.nan
    for config, limits, rows in ((plain, None, points), (full, constraints, holes)):
        chosen = SelectionConfig.model_validate(config)
        (one, first), (two, second) = (
            select_certified(
                given, chosen, ids=ids, seed=1, normalize=normalize, constraints=limits
            )
            for given in (rows, mapped(tmp_path, rows))
        )
        assert one.tile_ids.tolist() == two.tile_ids.tolist()
        assert one.distance.tobytes() == two.distance.tobytes()
        assert one.weight.tobytes() == two.weight.tobytes()
        assert (one.outliers is None) == (two.outliers is None)
        if one.outliers is not None and two.outliers is not None:
            assert one.outliers.tolist() == two.outliers.tolist()
        assert first().certificate == second().certificate


def test_errors_are_those_in_memory(tmp_path: Path) -> None:
    rows = make_points("general", 30, 7, 1.0, np.random.default_rng(2))
    rows[3] = np.nan
    config = SelectionConfig(budget=5, strategy="farthest-point")
    with pytest.raises(ValueError, match=r"1 of 30 rows hold NaN .*tile ids 3\)"):
        select_certified(mapped(tmp_path, rows), config)
    rows[3] = 1
    with pytest.raises(ValueError, match="must lie between 1 and the 30 rows there are; got 31"):
        select_certified(
            mapped(tmp_path, rows), SelectionConfig(budget=31, strategy="farthest-point")
        )


def test_what_needs_memory_is_refused() -> None:
    pool = MappedPool(np.eye(3, dtype=np.float32), row_ids(3), np.ones(3, bool), normalize=False)
    with pytest.raises(ValueError, match="by farthest-point and random; got a strategy that needs"):
        pool.pick_in_clusters(np.ones(1, np.int64), "random", 0)
    none = Picks(np.empty(0, np.str_), np.empty((0, 3), np.float32), np.empty(0, np.float32))
    with pytest.raises(ValueError, match=r"needs a coreset\. Load the array first"):
        pool.pick_from_coresets(1, None, 0, None, none)


class TestCommand:
    def test_the_manifest_has_the_same_bytes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = make_points("clusters", COUNT, 7, 1.0, np.random.default_rng(2))
        np.save(tmp_path / "rows.npy", rows)
        out = tmp_path / "manifest.parquet"
        asked = EmbeddingsRequest(
            str(tmp_path / "rows.npy"), str(out), {"budget": 30, "strategy": "farthest-point"}
        )
        select_embeddings(asked)
        found = out.read_bytes()
        assert verify_manifest(Store(), str(out)).verified
        monkeypatch.setattr("balancer.rounds.embeddings_only.map_vectors", lambda *_: None)
        select_embeddings(asked)
        assert out.read_bytes() == found

    @pytest.mark.parametrize(
        "rows",
        [
            np.ones((4, 3), np.float64),
            np.ones((4, 3), np.float16),
            np.asfortranarray(np.ones((4, 3), np.float32)),
            np.ones(4, np.float32),
            np.empty((0, 3), np.float32),
        ],
    )
    def test_only_what_can_be_used_as_it_lies_there_is_mapped(
        self, tmp_path: Path, rows: FloatArray
    ) -> None:
        path = tmp_path / "rows.npy"
        np.save(path, rows)
        assert map_vectors(Store(), str(path)) is None
        path.write_bytes(b"no matrix")
        assert map_vectors(Store(), str(path)) is None
        assert map_vectors(Store(), str(tmp_path / "none.npy")) is None
        assert map_vectors(Store(), "s3://bucket/rows.npy") is None
        np.save(path, np.ones((4, 3), np.float32))
        assert map_vectors(Store(), f"file://{path}") is not None
