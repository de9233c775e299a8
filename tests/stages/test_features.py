"""Features: extracted once, kept by fingerprint, with an encoder that does not change by a bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.config import ArchiveConfig, EncoderConfig
from balancer.embedding.backbones import build_backbone
from balancer.embedding.inference import embed_tiles
from balancer.embedding.weights import state_to_numpy
from balancer.errors import ConfigError, DataError
from balancer.stages.features import (
    FeatureRequest,
    ImageFeatures,
    describe_frozen,
    extract_features,
)
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from tests.data.make_tiles import encode
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
def test_only_named_images_are_embedded_at_their_shape(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    rng = np.random.default_rng(0)
    pixels = {
        f"{'ab'[n % 2]}/{n}.png": rng.integers(0, 256, (16, 40, 3), np.uint8) for n in range(5)
    }
    for name, image in pixels.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image))
    encoder = ENCODER.model_copy(update={"resize": "crop-bicubic"})
    archive = ArchiveConfig(uri=str(tmp_path / "images"), tiles_per_shard=2)

    def extract(*names: str) -> ImageFeatures:
        wanted = frozenset(names) or None
        made = FeatureRequest(archive, encoder, str(tmp_path / "features"), names=wanted)
        return extract_features(made, QUIET)

    whole, some = extract(), extract("0", "1", "4", "elsewhere")
    assert whole.ids.tolist() == sorted(pixels)
    assert some.ids.tolist() == ["a/0.png", "a/4.png", "b/1.png"]
    assert (whole.num_unnamed, some.num_unnamed) == (0, 2)
    assert some.columns["label"].tolist() == ["a", "a", "b"]
    rows = [whole.ids.tolist().index(tile) for tile in some.ids]
    assert some.features.tobytes() == whole.features[rows].tobytes()
    assert extract("4", "1", "0", "elsewhere").fingerprint == some.fingerprint
    assert whole.fingerprint != some.fingerprint
    # 16 x 40 pixels: the middle square is columns 12 to 27, bit by bit.
    middle = np.stack([pixels[tile][:, 12:28] for tile in some.ids.tolist()])
    backbone = build_backbone(encoder)
    expected = embed_tiles(backbone, middle, batch_size=128, mean=encoder.mean, std=encoder.std)
    np.testing.assert_allclose(some.features, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="none of 1 is, for example 'elsewhere'"):
        extract("elsewhere")


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
