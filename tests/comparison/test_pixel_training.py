from __future__ import annotations

import numpy as np
import pytest
import torch

from balancer.comparison import pixel_training
from balancer.comparison.pixel_training import (
    Augment,
    PixelModel,
    PixelSettings,
    augmented_input,
    pixel_logits,
    repeats_of,
    train_pixels,
)
from balancer.comparison.plans import TrainingPlan
from balancer.imbalance.resampling import oversample
from balancer.types import BoolArray, ByteArray, FloatArray, IntArray
from tests.comparison.pixel_tiles import made_backbone, made_tiles

SETTINGS = PixelSettings(hidden=16, batch=16, epochs=6, lr=0.01, encoder_lr=0.01)


def plan_of(rows: IntArray, num_classes: int = 3) -> TrainingPlan:
    return TrainingPlan(rows, np.ones(len(rows), np.float32), np.ones(num_classes, np.float32))


def test_learns_from_oversampled_tiles_and_leaves_the_encoder_as_it_was() -> None:
    reader, labels = made_tiles(30, 20, 4)
    rows = oversample(labels.matrix, 30, np.random.default_rng(0))
    backbone = made_backbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = train_pixels(reader, labels, plan_of(rows), backbone, SETTINGS, seed=1)
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    changed = [
        name
        for name, value in model.backbone.named_parameters()
        if not torch.equal(value, before[name])
    ]
    assert len(changed) == len(list(backbone.named_parameters()))
    fresh, truth = made_tiles(20, 20, 20, seed=5)
    logits = pixel_logits(model, fresh, 60, SETTINGS)
    assert (logits.argmax(axis=1) == truth.top_class()).mean() > 0.9


def shown(
    monkeypatch: pytest.MonkeyPatch, augment: Augment
) -> tuple[list[BoolArray], list[FloatArray]]:
    """Return what the network saw of one tile shown three times and one shown once, per epoch."""
    reader, labels = made_tiles(2, 2)
    chosen, images = [], []
    original = augmented_input

    def recorded(
        tiles: ByteArray, marked: BoolArray, settings: PixelSettings, seed: int
    ) -> torch.Tensor:
        batch = original(tiles, marked, settings, seed)
        chosen.append(marked)
        images.append(batch.numpy().copy())
        return batch

    monkeypatch.setattr(pixel_training, "augmented_input", recorded)
    settings = SETTINGS.model_copy(update={"augment": augment, "epochs": 2})
    rows = np.array([1, 2, 1, 1])
    train_pixels(reader, labels, plan_of(rows, 2), made_backbone(), settings, seed=0)
    return chosen, images


def distinct(images: FloatArray) -> int:
    return len(np.unique(images.reshape(len(images), -1), axis=0))


def test_copies_differ_within_and_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, images = shown(monkeypatch, "repeats")
    assert [int(marked.sum()) for marked in chosen] == [2, 2]
    assert [distinct(batch) for batch in images] == [4, 4]
    # The two tiles that are not repeats are the same in both epochs; the augmented copies are new.
    assert distinct(np.concatenate(images)) == 6


def test_without_augmentation_copies_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    _, images = shown(monkeypatch, "none")
    assert distinct(np.concatenate(images)) == 2


def test_everything_augmented(monkeypatch: pytest.MonkeyPatch) -> None:
    _, images = shown(monkeypatch, "all")
    assert distinct(np.concatenate(images)) == 8


def test_tiles_that_are_not_chosen_stay_as_they_are() -> None:
    reader, _ = made_tiles(3)
    tiles = reader(np.arange(3))
    found = augmented_input(tiles, np.array([False, True, False]), SETTINGS, 0)
    plain = augmented_input(tiles, np.zeros(3, np.bool_), SETTINGS, 0)
    assert [torch.equal(found[i], plain[i]) for i in range(3)] == [True, False, True]
    with pytest.raises(ValueError, match=r"\(B, S, S, 3\) uint8; got shape \(3, 8, 16, 3\)"):
        augmented_input(tiles[:, :8], np.zeros(3, np.bool_), SETTINGS, 0)


def weights(model: PixelModel) -> list[torch.Tensor]:
    return [value.detach().clone() for value in model.state_dict().values()]


def test_twice_is_the_same_and_leaves_the_global_generator_alone() -> None:
    reader, labels = made_tiles(10, 6)
    plan = plan_of(np.r_[np.arange(16), 12, 12], 2)
    state = torch.get_rng_state()
    one, two, other = (
        weights(train_pixels(reader, labels, plan, made_backbone(), SETTINGS, seed=seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_frozen_encoder_does_not_change_by_a_bit() -> None:
    reader, labels = made_tiles(10, 6)
    settings = SETTINGS.model_copy(update={"encoder_lr": 0.0})
    backbone = made_backbone()
    model = train_pixels(reader, labels, plan_of(np.arange(16), 2), backbone, settings, seed=0)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, backbone.state_dict()[name])
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_number_of_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, labels = made_tiles(10, 7)
    sizes: list[int] = []
    step = pixel_training._Run._step

    def counted(self: pixel_training._Run, places: IntArray, seed: int) -> None:
        sizes.append(len(places))
        step(self, places, seed)

    monkeypatch.setattr(pixel_training._Run, "_step", counted)
    plan = plan_of(np.arange(17), 2)
    train_pixels(reader, labels, plan, made_backbone(), SETTINGS, seed=0)
    assert sizes == [16] * 6  # the last tile of each epoch would be a batch of one
    sizes.clear()
    train_pixels(reader, labels, plan, made_backbone(), SETTINGS, seed=0, num_updates=8)
    assert sizes == [16] * 8


def test_repeats() -> None:
    assert repeats_of(np.array([], dtype=np.int64)).tolist() == []
    assert repeats_of(np.array([2, 1, 2, 2, 1, 0])).tolist() == [
        False, False, True, True, True, False,
    ]  # fmt: skip


def test_refusals() -> None:
    reader, labels = made_tiles(3, 3)
    for rows, message in (
        (np.array([1]), "at least 2 rows; it has 1"),
        (np.array([1, 6]), "within the 6 tiles of the training part; got 1 to 6"),
    ):
        with pytest.raises(ValueError, match=message):
            train_pixels(reader, labels, plan_of(rows, 2), made_backbone(), SETTINGS, seed=0)
    plan = plan_of(np.arange(6), 2)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        train_pixels(reader, labels, plan, made_backbone(), SETTINGS, seed=0, num_updates=0)
    plan = TrainingPlan(plan.rows, np.full(6, np.inf, np.float32), plan.class_weights)
    with pytest.raises(ValueError, match="loss must stay finite"):
        train_pixels(reader, labels, plan, made_backbone(), SETTINGS, seed=0)
