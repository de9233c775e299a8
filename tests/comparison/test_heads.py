from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from balancer.comparison import heads
from balancer.comparison.heads import Head, HeadSettings, count_updates, train_head
from balancer.comparison.losses import weighted_bce
from balancer.comparison.plans import StrategySettings, TrainingData, TrainingPlan, make_plan
from balancer.seeding import child_generator
from balancer.types import FloatArray
from tests.comparison.labeled_blobs import many_labels, single_label


def baseline(data: TrainingData) -> TrainingPlan:
    return make_plan(data, StrategySettings(name="baseline"), np.random.default_rng(0))


def arrays(head: Head) -> list[FloatArray]:
    return [head.hidden_weight, head.hidden_bias, head.weight, head.bias]


def test_learns_and_is_the_same_twice() -> None:
    data, fresh = single_label(40, 30, 10), single_label(20, 20, 20, seed=1)
    first, again = (train_head(data, baseline(data), HeadSettings(lr=0.01), 3) for _ in range(2))
    truth = fresh.labels.top_class()
    assert (first.logits(fresh.features).argmax(axis=1) == truth).mean() > 0.95
    for one, other in zip(arrays(first), arrays(again), strict=True):
        np.testing.assert_array_equal(one, other)
    another = train_head(data, baseline(data), HeadSettings(lr=0.01), 4)
    assert (another.weight != first.weight).any()


@pytest.mark.parametrize("as_published", [False, True])
def test_equals_autograd_and_torchs_adam(as_published: bool) -> None:
    data = many_labels(70)
    rng = np.random.default_rng(1)
    rows = rng.integers(70, size=90)
    plan = TrainingPlan(
        rows,
        rng.uniform(1, 3, 90).astype(np.float32),
        rng.uniform(0.5, 2, 5).astype(np.float32),
        2.0 if as_published else None,
    )
    settings = HeadSettings(hidden=16, batch=32, epochs=3, dropout=0.0, step_lr=(2, 0.1))
    start = train_head(data, plan, settings.model_copy(update={"lr": 1e-30}), 5, num_updates=1)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))
    model.load_state_dict(
        dict(zip(model.state_dict(), [torch.from_numpy(a) for a in arrays(start)], strict=True))
    )
    adam = torch.optim.Adam(model.parameters(), lr=settings.lr)
    decay = torch.optim.lr_scheduler.StepLR(adam, step_size=2, gamma=0.1)
    for epoch in range(3):
        order = child_generator(5, "order", epoch).permutation(90)
        for begin in range(0, 90, 32):
            places = order[begin : begin + 32]
            chosen = rows[places]
            adam.zero_grad()
            weighted_bce(
                model(torch.from_numpy(data.features[chosen])),
                torch.from_numpy(data.labels.matrix[chosen].astype(np.float32)),
                torch.from_numpy(plan.item_weights[places]),
                torch.from_numpy(plan.class_weights),
                as_published=as_published,
            ).backward()
            adam.step()
        decay.step()
    found = train_head(data, plan, settings, 5)
    for array, parameter in zip(arrays(found), model.parameters(), strict=True):
        np.testing.assert_allclose(array, parameter.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_starts_like_torchs_linear() -> None:
    data = single_label(30, 30, dim=64)
    head = train_head(data, baseline(data), HeadSettings(lr=1e-30), 0, num_updates=1)
    for array, inputs in zip(arrays(head), (64, 64, 128, 128), strict=True):
        assert np.abs(array).max() <= inputs**-0.5
    # Uniform within 1/8: deviation 1 / 8 / sqrt(3).
    assert head.hidden_weight.std() == pytest.approx(64**-0.5 / 3**0.5, rel=0.02)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    data = single_label(64, dim=4)
    trainer = heads._Trainer(
        data.features, data, baseline(data), HeadSettings(hidden=4096, dropout=0.2), 0
    )
    noise = torch.rand(64, 4096, generator=trainer._noise)
    assert (noise < 0.2).float().mean().item() == pytest.approx(0.2, abs=0.005)
    plain, dropped = (
        train_head(data, baseline(data), HeadSettings(dropout=share), 0, num_updates=1)
        for share in (0.0, 0.5)
    )
    assert (plain.weight != dropped.weight).any()


def test_number_of_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    data = single_label(70, 30)
    rates: list[float] = []
    sizes: list[int] = []
    step = heads._Trainer.step

    def counted(
        self: heads._Trainer, places: np.ndarray[tuple[int], np.dtype[np.int64]], *, rate: float
    ) -> None:
        rates.append(rate)
        sizes.append(len(places))
        step(self, places, rate=rate)

    monkeypatch.setattr(heads._Trainer, "step", counted)
    settings = HeadSettings(epochs=4, step_lr=(1, 0.5))
    train_head(data, baseline(data), settings, 0)
    assert sizes == [64, 36] * 4
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4, 1.25e-4]
    assert count_updates(100, settings) == 8
    rates.clear()
    sizes.clear()
    train_head(data, baseline(data), settings, 0, num_updates=4)
    assert sizes == [64, 36, 64, 36]
    assert rates == [1e-3, 5e-4, 2.5e-4, 1.25e-4]


def test_an_arm_with_fewer_rows_takes_as_many_updates_in_the_equal_updates_arm() -> None:
    data = single_label(300, 20)
    small = make_plan(data, StrategySettings(name="undersample", target=20), child_generator(0))
    whole = count_updates(320, HeadSettings())
    few, many = (
        train_head(data, small, HeadSettings(), 0, num_updates=updates) for updates in (None, whole)
    )
    assert count_updates(len(small.rows), HeadSettings()) < whole
    moved = [np.abs(head.weight).sum() for head in (few, many)]
    assert moved[0] < moved[1]


def test_standardizing_makes_scale_and_offset_irrelevant() -> None:
    data = single_label(40, 30)
    other = replace(data, features=(data.features * 64 + 128).astype(np.float32))
    settings = HeadSettings(standardize=True)
    one, two = (train_head(d, baseline(d), settings, 0).logits(d.features) for d in (data, other))
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_weighted_tile_pulls_harder() -> None:
    data = single_label(50, 50, noise=3.0)
    ones = np.ones(2, np.float32)
    weights = np.where(data.labels.matrix[:, 1], 10, 1).astype(np.float32)
    plans = [TrainingPlan(np.arange(100), w, ones) for w in (np.ones(100, np.float32), weights)]
    means = [
        train_head(data, p, HeadSettings(), 0).logits(data.features)[:, 1].mean() for p in plans
    ]
    assert means[1] > means[0] + 0.5


def test_refusals() -> None:
    data = single_label(3, 2)
    ones, classes = np.ones(5, np.float32), np.ones(2, np.float32)
    rows = np.arange(5)
    with pytest.raises(ValueError, match="must have rows"):
        train_head(data, TrainingPlan(rows[:0], ones[:0], classes), HeadSettings(), 0)
    with pytest.raises(ValueError, match=r"each of 5 rows; got shape \(4,\)"):
        train_head(data, TrainingPlan(rows, ones[:4], classes), HeadSettings(), 0)
    with pytest.raises(ValueError, match=r"each of 2 classes; got shape \(5,\)"):
        train_head(data, TrainingPlan(rows, ones, ones), HeadSettings(), 0)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        train_head(data, TrainingPlan(rows, ones, classes), HeadSettings(), 0, num_updates=0)
    huge = replace(data, features=np.full((5, 8), 3e38, np.float32))
    with pytest.raises(ValueError, match="must lead to finite weights"):
        train_head(huge, TrainingPlan(rows, ones, classes), HeadSettings(), 0)
    head = train_head(data, TrainingPlan(rows, ones, classes), HeadSettings(), 0)
    with pytest.raises(ValueError, match=r"8 columns; got shape \(2, 3\)"):
        head.logits(np.zeros((2, 3), np.float32))
