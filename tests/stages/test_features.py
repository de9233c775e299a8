"""Features: extracted once, kept by fingerprint, with an encoder that does not change by a bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.config import ArchiveConfig, EncoderConfig
from balancer.embedding.backbones import build_backbone
from balancer.embedding.inference import embed_tiles
from balancer.embedding.weights import state_to_numpy
from balancer.errors import ConfigError
from balancer.stages.features import FeatureRequest, describe_frozen, extract_features
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from tests.data.tiny_runs import NETWORKS

QUIET = Reporter(quiet=True)
ENCODER = EncoderConfig(
    kind="frozen", backbone="factory", factory=f"{NETWORKS}:projection", image_size=16
)


def request(archive: Path, folder: Path, encoder: EncoderConfig = ENCODER) -> FeatureRequest:
    return FeatureRequest(ArchiveConfig(uri=str(archive)), encoder, str(folder))


@pytest.mark.ray
def test_extracted_once_per_archive_and_encoder(
    ray_cluster: str, demo_archive: Path, tmp_path: Path
) -> None:
    assert ray_cluster
    first = extract_features(request(demo_archive, tmp_path), QUIET)
    assert first.features.shape == (240, 6)
    assert len(set(first.ids.tolist())) == 240
    assert set(first.columns["class"].tolist()) >= {"ocean", "storm"}
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = extract_features(request(demo_archive, tmp_path), QUIET)
    assert again.features.tobytes() == first.features.tobytes()
    assert again.fingerprint == first.fingerprint
    assert written == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.ray
def test_an_untrained_encoder_is_refused(
    ray_cluster: str, demo_archive: Path, tmp_path: Path
) -> None:
    assert ray_cluster
    with pytest.raises(ConfigError, match=r"must be frozen .* got kind 'simclr' without a run"):
        extract_features(request(demo_archive, tmp_path, EncoderConfig()), QUIET)
    named = FeatureRequest(
        ArchiveConfig(uri=str(demo_archive)), ENCODER, str(tmp_path), run=str(tmp_path / "none")
    )
    with pytest.raises(ConfigError, match=r"must be the folder of a run; it has no .*spec\.json"):
        extract_features(named, QUIET)


def test_a_frozen_encoder_does_not_change_by_a_bit() -> None:
    """Batch normalisation too: extraction must not update running means (as published code did)."""
    backbone = build_backbone(EncoderConfig(backbone="resnet18", image_size=32), seed=1)
    backbone.train()
    before = state_to_numpy(backbone.network)
    assert any("running_mean" in name for name in before)
    tiles = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    features = embed_tiles(backbone, tiles, batch_size=4, mean=(0.5,) * 3, std=(0.5,) * 3)
    after = state_to_numpy(backbone.network)
    assert features.shape == (10, 512)
    assert {name: array.tobytes() for name, array in before.items()} == {
        name: array.tobytes() for name, array in after.items()
    }
    assert backbone.training  # left as it was


def test_the_fingerprint_is_of_every_weight() -> None:
    dim, fingerprint = describe_frozen(Store(), ENCODER)
    assert dim == 6
    assert describe_frozen(Store(), ENCODER) == (dim, fingerprint)
