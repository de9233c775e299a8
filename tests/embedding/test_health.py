from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from balancer.config import EncoderConfig
from balancer.embedding.backbones import Backbone, build_backbone
from balancer.embedding.health import (
    EmbeddingHealth,
    effective_rank,
    embedding_health,
    measure_health,
    uniformity,
)
from balancer.embedding.transforms import OverheadViews

HEALTHY = EmbeddingHealth(
    num_tiles=1000,
    dim=128,
    effective_rank=60.0,
    retrieval_at_1=0.95,
    alignment=0.3,
    uniformity=-3.0,
    dead_share=0.0,
    spread=0.8,
    intrinsic_dimension=12.0,
    hubness=1.0,
    outlier_ratio=1.5,
    leading_variance=0.5,
    spectral_decay=1.0,
    cluster_variance=0.6,
    retrieval_at_10=0.99,
    neighbor_agreement=0.6,
    cluster_agreement=0.6,
    lidar=40.0,
)


def _changed(**values: float) -> EmbeddingHealth:
    fields = {name: getattr(HEALTHY, name) for name in HEALTHY.__dataclass_fields__}
    return EmbeddingHealth(**{**fields, **values})


def test_orthogonal_rows_are_perfectly_healthy() -> None:
    rows = np.eye(16, dtype=np.float32) * 3
    health = embedding_health(rows, 2 * rows, rows)
    assert health.retrieval_at_1 == 1.0
    assert health.alignment == 0.0
    assert health.effective_rank == pytest.approx(16)
    # Different rows are at squared distance 2: log(exp(-4)).
    assert health.uniformity == pytest.approx(-4.0)
    assert health.dead_share == 0.0
    # Each dimension has one 1 among 16 values: std = sqrt(15) / 16, times sqrt(16).
    assert health.spread == pytest.approx(np.sqrt(15) / 4)
    assert health.warnings() == []


def test_constant_embedding_is_called_collapsed() -> None:
    rows = np.ones((50, 8), dtype=np.float32)
    health = embedding_health(rows, rows, rows)
    assert health.effective_rank == pytest.approx(1.0)
    assert health.dead_share == 1.0
    assert health.uniformity == pytest.approx(0.0)
    assert health.retrieval_at_1 == pytest.approx(1 / 50)
    (warning,) = health.warnings()
    assert "collapsed" in warning
    assert "pretrained" in warning


def test_zero_embedding_does_not_divide_by_zero() -> None:
    rows = np.zeros((4, 3), dtype=np.float32)
    assert "collapsed" in embedding_health(rows, rows, rows).warnings()[0]


def test_retrieval_counts_own_second_views() -> None:
    first = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    swapped = first[[1, 0, 2, 3]]
    health = embedding_health(first, swapped, first)
    assert health.retrieval_at_1 == 0.5
    assert health.alignment == pytest.approx(1.0)  # two rows at squared distance 2, two at 0


def test_effective_rank_of_unequal_singular_values() -> None:
    # Shares 3/4 and 1/4: exp(entropy) = (4/3)^(3/4) * 4^(1/4).
    rows = np.diag([3.0, 1.0])
    assert effective_rank(rows) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)


def test_uniformity_prefers_spread_rows() -> None:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(100, 16))
    narrow = spread + 10
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    narrow /= np.linalg.norm(narrow, axis=1, keepdims=True)
    assert uniformity(spread) < uniformity(narrow)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"retrieval_at_1": 0.2}, "does not tell tiles apart"),
        ({"outlier_ratio": 1.9}, r"lie 1\.90 times as far .* \(trusted up to 1\.50\)"),
        ({"effective_rank": 4.0}, r"4\.0 of its 128 dimensions"),
        ({"dead_share": 0.9}, "90% of the embedding's 128 dimensions never change"),
        ({"spread": 0.01}, "collapsed"),
    ],
)
def test_each_weakness_has_its_warning(values: dict[str, float], match: str) -> None:
    (warning,) = _changed(**values).warnings()
    with pytest.raises(UserWarning, match=match):
        raise UserWarning(warning)


def test_healthy_gives_no_warning() -> None:
    assert HEALTHY.warnings() == []


def test_dead_dimensions_alone_do_not_speak_against_diverse_picks() -> None:
    assert _changed(dead_share=0.9).against_diversity() == []
    weak = _changed(outlier_ratio=1.9)
    assert weak.against_diversity() == weak.warnings()


def test_shapes_must_agree() -> None:
    rows = np.ones((3, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="same N >= 2 tiles"):
        embedding_health(rows, rows[:2], rows)


def test_measure_health_is_repeatable() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    backbone = build_backbone(EncoderConfig(width=4, image_size=16))
    views = OverheadViews(16)
    first = measure_health(backbone, tiles, views, batch_size=8, seed=1)
    again = measure_health(backbone, tiles, views, batch_size=8, seed=1)
    assert first == again
    assert first is not None
    assert first.num_tiles == 20
    assert first.dim == backbone.dim


class _WhiteIsNan(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return torch.where((flat.mean(1) > 0.9)[:, None], torch.nan, flat[:, :6])


def test_tiles_without_finite_features_are_left_out() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    tiles[:3] = 255
    backbone = Backbone(_WhiteIsNan(), 6)
    views = OverheadViews(16, color_strength=0.0)
    found = measure_health(backbone, tiles, views, batch_size=8, seed=1)
    assert found is not None
    assert found.num_tiles == 3
    assert measure_health(backbone, tiles[:3], views, batch_size=8, seed=1) is None
