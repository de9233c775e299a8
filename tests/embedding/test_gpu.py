"""The GPU path, on a machine that has one: `pytest -m gpu`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from balancer.config import EncoderConfig, TrainingConfig
from balancer.embedding.backbones import build_backbone
from balancer.embedding.health import measure_health
from balancer.embedding.inference import embed_tiles
from balancer.embedding.models import build_model
from balancer.embedding.training import EpochReport, TrainingPlan, train_epochs
from balancer.embedding.transforms import OverheadViews
from balancer.types import ByteArray

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
MEAN = STD = (0.5, 0.5, 0.5)


def tiles(count: int) -> ByteArray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_embeddings_agree_with_the_cpu() -> None:
    backbone = build_backbone(EncoderConfig(width=8, image_size=32))
    on_cpu = embed_tiles(backbone, tiles(70), batch_size=32, mean=MEAN, std=STD)
    on_gpu = embed_tiles(
        backbone.to("cuda"), tiles(70), batch_size=32, mean=MEAN, std=STD, device="cuda"
    )
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", ["simclr", "autoencoder"])
def test_training_lowers_the_loss(kind: str) -> None:
    encoder = EncoderConfig.model_validate({"kind": kind, "width": 8, "image_size": 32})
    training = TrainingConfig(batch_size=64)
    model = build_model(encoder, training, build_backbone(encoder)).to("cuda")
    data = tiles(256)
    reports: list[EpochReport] = []
    train_epochs(
        model,
        lambda _epoch: [data[start : start + 64] for start in range(0, 256, 64)],
        training,
        TrainingPlan(epochs=8, steps_per_epoch=4, seed=0, device="cuda"),
        on_epoch=reports.append,
    )
    assert reports[-1].loss < reports[0].loss


def test_health_is_measured_on_the_device() -> None:
    backbone = build_backbone(EncoderConfig(width=8, image_size=32)).to("cuda")
    health = measure_health(
        backbone, tiles(64), OverheadViews(image_size=32), batch_size=32, seed=0, device="cuda"
    )
    assert health is not None
    assert health.num_tiles == 64
    assert np.isfinite(health.effective_rank)
