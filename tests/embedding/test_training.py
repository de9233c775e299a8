from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from balancer.config import EncoderConfig, EncoderKind, TrainingConfig
from balancer.embedding.backbones import build_backbone
from balancer.embedding.models import build_model
from balancer.embedding.self_supervised import SelfSupervisedModel, feature_spread
from balancer.embedding.training import EpochReport, TrainingPlan, train_epochs
from balancer.embedding.weights import (
    Arrays,
    load_weights,
    state_from_numpy,
    state_to_numpy,
)
from balancer.errors import ConfigError
from balancer.types import ByteArray

TRAINING = TrainingConfig(batch_size=32, projection_dim=8, learning_rate=3e-3)
KINDS: tuple[EncoderKind, ...] = ("simclr", "autoencoder")


def _tiles(count: int = 128) -> ByteArray:
    """Four kinds of tile that differ in colour and texture."""
    rng = np.random.default_rng(0)
    kind = np.arange(count) % 4
    base = np.array([[40, 80, 160], [60, 120, 50], [190, 170, 120], [120, 120, 125]])[kind]
    noise = rng.normal(size=(count, 16, 16, 1)) * (5 + 12 * kind)[:, None, None, None]
    return np.clip(base[:, None, None] + noise, 0, 255).astype(np.uint8)


def _batches(epoch: int, size: int = 32) -> Iterator[ByteArray]:
    tiles = _tiles()
    order = np.random.default_rng(epoch).permutation(len(tiles))
    for start in range(0, len(order), size):
        yield tiles[order[start : start + size]]


def _model(kind: EncoderKind, factory: str | None = None) -> SelfSupervisedModel:
    backbone = "small-conv" if factory is None else "factory"
    config = EncoderConfig(kind=kind, width=8, image_size=16, backbone=backbone, factory=factory)
    return build_model(config, TRAINING, build_backbone(config, seed=1), seed=1)


def _trained(kind: EncoderKind, epochs: int = 2) -> tuple[Arrays, list[EpochReport]]:
    model = _model(kind)
    reports: list[EpochReport] = []
    plan = TrainingPlan(epochs=epochs, steps_per_epoch=4, seed=5)
    train_epochs(model, _batches, TRAINING, plan, on_epoch=reports.append)
    return state_to_numpy(model), reports


def _identical(one: Arrays, two: Arrays) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_falls_and_the_report_tells(kind: EncoderKind) -> None:
    _, reports = _trained(kind, epochs=8)
    assert [report.epoch for report in reports] == list(range(8))
    assert all(report.num_tiles == 128 for report in reports)
    assert reports[-1].loss < 0.9 * reports[0].loss
    assert 0 < reports[-1].spread <= 1
    assert reports[-1].learning_rate < reports[1].learning_rate


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_weights_and_leaves_the_global_generator(
    kind: EncoderKind,
) -> None:
    first, _ = _trained(kind)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    second, _ = _trained(kind)
    assert torch.equal(before, torch.get_rng_state())
    assert _identical(first, second)


def test_dropout_in_a_backbone_is_seeded_too() -> None:
    states = []
    for _ in range(2):
        model = _model("simclr", "tests.embedding.factories:with_dropout")
        plan = TrainingPlan(epochs=1, steps_per_epoch=4, seed=5)
        train_epochs(model, _batches, TRAINING, plan)
        states.append(state_to_numpy(model))
    assert _identical(*states)


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(kind: EncoderKind) -> None:
    """Story: epochs 0 and 1 run, the process dies, another goes on with epochs 2 and 3."""
    whole, _ = _trained(kind, epochs=4)
    checkpoint: dict[str, Any] = {}

    def save(report: EpochReport) -> None:
        if report.epoch == 1:
            checkpoint["model"] = report.model_state()
            checkpoint["optimizer"] = report.optimizer_state()

    train_epochs(_model(kind), _batches, TRAINING, TrainingPlan(4, 4, 5), on_epoch=save)
    fresh = _model(kind)
    load_weights(fresh, state_from_numpy(checkpoint["model"]))
    plan = TrainingPlan(epochs=4, steps_per_epoch=4, seed=5, start_epoch=2)
    train_epochs(fresh, _batches, TRAINING, plan, optimizer_state=checkpoint["optimizer"])
    assert _identical(whole, state_to_numpy(fresh))


def test_backbone_state_rebuilds_the_encoder() -> None:
    config = EncoderConfig(width=8, image_size=16)
    _, reports = _trained("simclr", epochs=1)
    backbone = build_backbone(config, load_state=state_from_numpy(reports[0].backbone_state()))
    assert _identical(state_to_numpy(backbone), state_to_numpy(reports[0].model.backbone))


class Wrapper(nn.Module):
    """As data-parallel wrappers do: keeps the model as `module` and must be called itself."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, tiles: Tensor, seed: int) -> Tensor:
        self.calls += 1
        loss: Tensor = self.module(tiles, seed)
        return loss


def test_a_wrapped_model_is_called_through_its_wrapper() -> None:
    model = _model("simclr")
    wrapper = Wrapper(model)
    plan = TrainingPlan(epochs=2, steps_per_epoch=4, seed=5)
    train_epochs(wrapper, _batches, TRAINING, plan)
    assert wrapper.calls == 8
    assert _identical(state_to_numpy(model), _trained("simclr")[0])


def test_single_tiles_are_left_out_and_steps_are_limited() -> None:
    sizes: list[int] = []
    tiles = _tiles(16)
    batches = [tiles[:1], tiles[:8], tiles[8:9], tiles[8:], tiles]
    plan = TrainingPlan(epochs=1, steps_per_epoch=2, seed=0)
    train_epochs(
        _model("simclr"),
        lambda _: batches,
        TRAINING,
        plan,
        on_epoch=lambda report: sizes.append(report.num_tiles),
    )
    assert sizes == [16]


def test_an_epoch_without_a_batch_is_refused() -> None:
    plan = TrainingPlan(epochs=1, steps_per_epoch=2, seed=0)
    with pytest.raises(ValueError, match=r"batch of at least 2 tiles\. Got none"):
        train_epochs(_model("simclr"), lambda _: [_tiles(1)], TRAINING, plan)


def test_a_loss_that_is_not_finite_stops() -> None:
    model = _model("simclr")
    with torch.no_grad():
        next(model.backbone.parameters()).fill_(float("nan"))
    plan = TrainingPlan(epochs=1, steps_per_epoch=4, seed=0)
    with pytest.raises(ConfigError, match="must stay finite; got nan in epoch 0"):
        train_epochs(model, _batches, TRAINING, plan)


def test_frozen_is_not_trained() -> None:
    config = EncoderConfig(
        kind="frozen",
        backbone="factory",
        factory="tests.embedding.factories:flat_linear",
        image_size=16,
    )
    with pytest.raises(ValueError, match="Got frozen instead"):
        build_model(config, TRAINING, build_backbone(config))


def test_a_foreign_optimizer_state_is_refused() -> None:
    _, reports = _trained("simclr", epochs=1)
    plan = TrainingPlan(epochs=1, steps_per_epoch=4, seed=0)
    with pytest.raises(ValueError, match="optimizer of the same"):
        train_epochs(
            _model("autoencoder"),
            _batches,
            TRAINING,
            plan,
            optimizer_state=reports[0].optimizer_state(),
        )


def test_spread_is_zero_when_collapsed_and_near_one_when_random() -> None:
    assert float(feature_spread(torch.ones(10, 4))) == pytest.approx(0, abs=1e-6)
    random = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    assert float(feature_spread(random)) == pytest.approx(1, abs=0.02)
