"""Synthetic Planet tiles: deterministic, every label visible, refusals."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from balancer.demo.planet_scenes import PAINTERS, render_planet_jpeg, render_planet_tile
from balancer.storage.published_labels import PLANET_COUNTS


def test_every_published_label_has_a_painter() -> None:
    assert set(PAINTERS) == set(PLANET_COUNTS)


def test_the_same_name_and_labels_give_the_same_bytes() -> None:
    labels = ["clear", "primary", "road", "water"]
    first = render_planet_jpeg("train_7", labels, 0)
    assert render_planet_jpeg("train_7", [*labels[::-1], "road"], 0) == first
    assert render_planet_jpeg("train_8", labels, 0) != first
    assert render_planet_jpeg("train_7", labels, 1) != first
    assert Image.open(io.BytesIO(first)).size == (64, 64)


@pytest.mark.parametrize("label", sorted(set(PAINTERS) - {"primary", "clear"}))
def test_every_label_changes_the_tile(label: str) -> None:
    """The mean over tiles moves, or the pixels vary more: a pattern that is there can be seen."""
    apart = []
    for seed in range(3):
        plain = render_planet_tile(["clear", "primary"], np.random.default_rng(seed))
        drawn = render_planet_tile(["primary", label], np.random.default_rng(seed))
        apart.append(np.abs(plain.astype(int) - drawn.astype(int)).max(axis=2).mean())
    assert max(apart) > 3


def test_clouds_hide_and_haze_pales() -> None:
    rng = [np.random.default_rng(1) for _ in range(3)]
    clear, haze, cloudy = (
        render_planet_tile(["primary", weather], generator).mean()
        for weather, generator in zip(("clear", "haze", "cloudy"), rng, strict=True)
    )
    assert clear < haze < cloudy


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must be among primary, .*; got 'artisanal_mine'"):
        render_planet_tile(["artisanal_mine"], np.random.default_rng(0))
