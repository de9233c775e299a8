from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from balancer.comparison.pixel_training import PixelSettings
from balancer.comparison.triplet_training import (
    CollapseWarning,
    TripletSettings,
    finetune_triplets,
)
from balancer.comparison.triplets import (
    Mining,
    is_collapsed,
    mine_triplets,
    squared_distances,
    triplet_loss,
)
from balancer.distances import l2_normalize
from balancer.embedding.backbones import Backbone
from balancer.embedding.inference import embed_tiles
from balancer.imbalance.class_pairs import class_geometry
from balancer.imbalance.labels import label_table
from balancer.types import FloatArray
from tests.comparison.pixel_tiles import made_backbone, made_tiles

MININGS: list[Mining] = ["hardest", "semi-hard"]
PIXELS = PixelSettings(augment="all", encoder_lr=1e-3)


def test_by_hand_and_not_torchs_loss() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.5]])
    triplet = torch.tensor([[0, 1, 2]])
    squared = squared_distances(points)
    assert triplet_loss(squared, triplet, 0.5).item() == 0
    assert triplet_loss(squared, triplet, 2.0).item() == 0.75
    theirs = nn.TripletMarginLoss(margin=2.0)(points[:1], points[1:2], points[2:])
    assert theirs.item() == pytest.approx(1.5, abs=1e-5)


def test_mining_by_hand() -> None:
    # Anchor 0 of class 0: positive at 1; others at 0.5 (nearer), 1.1 and 1.2 (semi-hard), 3.
    squared = squared_distances(torch.tensor([[0.0], [1.0], [0.5], [-1.2], [-1.1], [3.0]]))
    groups = torch.tensor([0, 0, 1, 2, 3, 4])
    found = {mining: mine_triplets(squared, groups, 1.0, mining).tolist() for mining in MININGS}
    assert found["hardest"] == [[0, 1, 2], [1, 0, 2]]
    assert found["semi-hard"] == [[0, 1, 4]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(MININGS))
def test_mining_is_what_a_slow_search_finds(seed: int, mining: Mining) -> None:
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.integers(0, 4, size=(9, 2)).astype(np.float32))  # with ties
    groups = torch.from_numpy(rng.integers(0, 3, size=9))
    squared = squared_distances(points)
    expected = []
    for anchor in range(9):
        for positive in range(9):
            if anchor == positive or groups[anchor] != groups[positive]:
                continue
            near = squared[anchor, positive]
            others = [
                (float(squared[anchor, other]), other)
                for other in range(9)
                if groups[other] != groups[anchor]
                and (mining == "hardest" or near < squared[anchor, other] < near + 2.0)
            ]
            if others:
                expected.append([anchor, positive, min(others)[1]])
    assert mine_triplets(squared, groups, 2.0, mining).tolist() == expected


def test_collapse_costs_the_margin_per_triplet() -> None:
    features = torch.ones(6, 3)
    squared = squared_distances(features)
    triplets = mine_triplets(squared, torch.tensor([0, 0, 1, 1, 2, 2]), 0.3, "hardest")
    assert len(triplets) == 6
    assert triplet_loss(squared, triplets, 0.3).tolist() == pytest.approx([0.3] * 6)
    assert is_collapsed(features)
    assert not is_collapsed(features + torch.eye(6, 3) * 1e-3)


def test_one_group_has_no_negatives() -> None:
    squared = squared_distances(torch.tensor([[0.0], [1.0]]))
    for mining in MININGS:
        assert mine_triplets(squared, torch.tensor([0, 0]), 1.0, mining).shape == (0, 3)
        assert mine_triplets(squared, torch.tensor([0, 1]), 1.0, mining).shape == (0, 3)
    with pytest.raises(ValueError, match="hardest, semi-hard; got 'easy'"):
        mine_triplets(squared, torch.tensor([0, 0]), 1.0, "easy")  # type: ignore[arg-type]


def embedded(backbone: Backbone, seed: int) -> FloatArray:
    reader, _ = made_tiles(20, 20, 20, seed=seed)
    tiles = reader(np.arange(60))
    features = embed_tiles(backbone, tiles, batch_size=20, mean=(0.5,) * 3, std=(0.5,) * 3)
    return l2_normalize(features)


@pytest.mark.parametrize("mining", MININGS)
def test_fine_tuning_separates_the_classes_of_new_tiles(mining: Mining) -> None:
    reader, labels = made_tiles(30, 20, 4)
    start = made_backbone()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    options = TripletSettings(
        mining=mining, tiles_per_class=6, num_updates=40, margin=0.5, pixels=PIXELS
    )
    tuned, history = finetune_triplets(reader, labels, start, options, seed=0)
    again, _ = finetune_triplets(reader, labels, start, options, seed=0)
    for name, value in start.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(tuned.state_dict()[name], again.state_dict()[name])
    truth = made_tiles(20, 20, 20, seed=7)[1].matrix
    separation = [
        float(class_geometry(embedded(backbone, 7), truth).separation.min())
        for backbone in (start.eval(), tuned)
    ]
    assert separation[1] > 1.2 * separation[0]
    assert len(history.losses) == 40
    assert history.collapsed == 0
    assert max(history.num_triplets) > 0


class Constant(nn.Module):
    """A network whose features do not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(len(images), 4)


def test_a_collapse_is_told_once() -> None:
    reader, labels = made_tiles(4, 4)
    options = TripletSettings(mining="hardest", num_updates=3, tiles_per_class=2, pixels=PIXELS)
    with pytest.warns(
        CollapseWarning, match=r"one point at update 0, .* the margin \(0.2\)"
    ) as got:
        _, history = finetune_triplets(reader, labels, Backbone(Constant(), 4), options, seed=0)
    assert len(got) == 1
    assert history.collapsed == 3
    assert history.losses == pytest.approx([0.2] * 3)


def test_refusals() -> None:
    reader, labels = made_tiles(3, 3)
    alone = label_table(labels.ids, [["a"]] * 5 + [["b"]])
    with pytest.raises(ValueError, match="two classes of two tiles or more; got 1 of 2"):
        finetune_triplets(reader, alone, made_backbone(), TripletSettings(), seed=0)
    repeats = TripletSettings(pixels=PixelSettings(augment="repeats"))
    with pytest.raises(ValueError, match=r"all or none; got 0\.0001 and repeats"):
        finetune_triplets(reader, labels, made_backbone(), repeats, seed=0)
