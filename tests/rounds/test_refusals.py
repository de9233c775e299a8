"""What a user may get wrong and then mend: plain errors, the same folder where possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer import run_rounds
from balancer.config import EncoderConfig
from balancer.config_file import build_config
from balancer.errors import ConfigError, DataError
from balancer.stages.encoders import load_trained
from balancer.stages.remote_driver import require_shared_paths
from balancer.stages.tile_stream import TileGroup, split_groups
from balancer.storage.filesystem import Store
from balancer.types import EncoderRef
from tests.data.make_tiles import encode, make_tiles
from tests.data.tiny_runs import NETWORKS, QUIET, frozen, trained


@pytest.mark.ray
def test_an_error_in_training_comes_plain_and_once(
    ray_cluster: str, folder: Path, tmp_path: Path
) -> None:
    assert ray_cluster
    config = trained(
        folder,
        tmp_path / "run",
        archive={"label_column": None},
        selection={"budget": 4},
        encoder={"weights": str(tmp_path / "absent.safetensors")},
    )
    with pytest.raises(ConfigError, match=r"^encoder\.weights must name an existing file; there"):
        run_rounds(config, reporter=QUIET)


@pytest.mark.ray
def test_tiles_without_a_label_do_not_count(ray_cluster: str, folder: Path, tmp_path: Path) -> None:
    assert ray_cluster
    rng = np.random.default_rng(3)
    for number in range(4):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        (folder / f"0-no-label-{number}.png").write_bytes(encode(pixels))
    config = frozen(folder, tmp_path / "run", archive={"tiles_per_shard": 4})
    measures = run_rounds(config, reporter=QUIET).measures
    assert measures["class_names"] == sorted({tile.name.split("/")[0] for tile in make_tiles()})
    assert sum(measures["sets"]["archive"]["classes"]["counts"]) == 10
    assert measures["sets"]["archive"]["num_tiles"] == 14


@pytest.mark.ray
def test_a_mistake_before_the_catalog_is_committed_can_be_mended_in_place(
    ray_cluster: str, folder: Path, tmp_path: Path
) -> None:
    assert ray_cluster
    wrong = frozen(folder, tmp_path / "run", archive={"label_column": "klass"})
    with pytest.raises(ConfigError, match="label_column must name a metadata column; got 'klass'"):
        run_rounds(wrong, reporter=QUIET)
    large = frozen(folder, tmp_path / "run", selection={"budget": 11})
    with pytest.raises(ConfigError, match=r"readable tiles \(10\); got 11"):
        run_rounds(large, reporter=QUIET)
    assert run_rounds(frozen(folder, tmp_path / "run"), reporter=QUIET).num_rounds == 1
    with pytest.raises(ConfigError, match=r"config\.selection\.budget: 4\.0 -> 5\.0"):
        run_rounds(frozen(folder, tmp_path / "run", selection={"budget": 5}), reporter=QUIET)


def test_a_cluster_needs_paths_that_mean_the_same_everywhere() -> None:
    tree = {"archive": {"uri": "tiles"}, "selection": {"budget": 1}, "out": "/shared/run"}
    require_shared_paths(build_config(tree))
    with pytest.raises(ConfigError, match=r"archive\.uri must be a URI or an absolute path"):
        require_shared_paths(build_config({**tree, "ray": {"address": "auto"}}))
    tree["archive"] = {"uri": "s3://bucket/tiles"}
    require_shared_paths(build_config({**tree, "ray": {"address": "auto"}}))


@pytest.mark.parametrize("inside", ["", "runs/first", "../tiles/run"])
def test_a_run_inside_its_archive(folder: Path, inside: str) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigError, match=r"^out \(--out\) must not lie inside .* beside"):
        run_rounds(frozen(folder, folder / inside), reporter=QUIET)
    assert sorted(folder.rglob("*")) == before


def test_a_run_inside_its_archive_on_s3() -> None:
    config = frozen("s3://bucket/tiles/", "s3://bucket/tiles/runs/first")
    with pytest.raises(ConfigError, match=r"got out='s3://bucket/tiles/runs/first' and archive\.u"):
        run_rounds(config, reporter=QUIET)


def test_every_training_worker_gets_a_group() -> None:
    groups = [TileGroup("a", "", np.arange(5)), TileGroup("b", "", np.arange(2))]
    found = split_groups(groups, 4)
    assert sorted(len(group.rows) for group in found) == [1, 2, 2, 2]
    rows = np.concatenate([group.rows for group in found if group.uri == "a"])
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="at least as many tiles; got 7"):
        split_groups(groups, 8)


def test_a_frozen_encoder_that_changed_is_refused() -> None:
    config = EncoderConfig.model_validate(
        {
            "kind": "frozen",
            "backbone": "factory",
            "factory": f"{NETWORKS}:projection",
            "image_size": 16,
        }
    )
    earlier = EncoderRef("run/encoder", "frozen", 6, "fingerprint of other weights")
    with pytest.raises(DataError, match="must stay as it was when the run began"):
        load_trained(Store(), earlier, config, seed=0)
