from __future__ import annotations

import base64
import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from balancer.report import figures, round_figures
from balancer.report.content import Coordinates, GroupSizes, ReportContent, RoundRecord
from balancer.report.style import Picture


def svg(picture: Picture) -> str:
    return base64.b64decode(picture.uri.removeprefix("data:image/svg+xml;base64,")).decode()


def test_class_sizes_names_the_rarest(content: ReportContent) -> None:
    assert content.class_sizes is not None
    picture = figures.class_sizes(content.class_sizes)
    assert "mine, goes from 2.2 % of the archive to 33.3 % of the selection" in picture.alt
    assert "<svg" in svg(picture)


def test_class_sizes_leaves_out_the_middle_of_many_classes() -> None:
    archive = np.arange(100, 0, -1)
    sizes = GroupSizes(tuple(f"class {i}" for i in range(100)), archive, np.ones(100, np.int64))
    assert "Bar chart of 30 classes" in figures.class_sizes(sizes).alt


@pytest.mark.parametrize("num_clusters", [1, 7, 400])
def test_cluster_sizes_of_any_number(num_clusters: int) -> None:
    counts = np.arange(num_clusters, 0, -1)
    sizes = GroupSizes(tuple(map(str, counts)), counts, np.minimum(counts, 2))
    assert f"of {num_clusters} clusters" in figures.cluster_sizes(sizes).alt


def test_nothing_selected_is_drawn() -> None:
    sizes = GroupSizes(("a", "b"), np.array([3, 1]), np.zeros(2, np.int64))
    assert "0.0 % of the selection" in figures.class_sizes(sizes).alt


@pytest.mark.parametrize(
    ("lon", "lat"),
    [([7.0], [50.0]), ([-179, 179], [0, 1]), ([1, 2], [89.5, 90]), ([5, 5], [-40, 40])],
)
def test_map_of_odd_extents(lon: list[float], lat: list[float]) -> None:
    picked = np.ones(len(lon), dtype=bool)
    picture = figures.coordinates_map(
        Coordinates(np.array(lon, float), np.array(lat, float), picked, len(lon))
    )
    assert picture.height < 700


def test_wide_archive_is_drawn_on_the_whole_globe() -> None:
    lon, lat = np.array([-120.0, 140.0]), np.array([10.0, -30.0])
    picture = figures.coordinates_map(Coordinates(lon, lat, np.array([True, False]), 2))
    assert "180\N{DEGREE SIGN}W and 180\N{DEGREE SIGN}E" in picture.alt


def test_projection_without_picks_or_with_picks_only(content: ReportContent) -> None:
    assert content.projection is not None
    for value in (False, True):
        picked = np.full(len(content.projection.picked), value)
        assert figures.projection_picks(replace(content.projection, picked=picked)).uri


def test_single_round_draws_single_points(content: ReportContent) -> None:
    rounds = content.rounds[:1]
    assert round_figures.loss_curves(rounds, "loss") is not None
    assert round_figures.covering_radii(rounds) is not None
    assert len(round_figures.measure_curves(rounds)) == 5


def test_unmeasured_rounds_draw_nothing() -> None:
    rounds = (RoundRecord(0, 5),)
    assert round_figures.loss_curves(rounds, "loss") is None
    assert round_figures.covering_radii(rounds) is None
    assert round_figures.measure_curves(rounds) == []


def test_pictures_repeat_and_leave_the_global_style_alone(content: ReportContent) -> None:
    assert content.projection is not None
    before = dict(mpl.rcParams)
    first = figures.projection_groups(content.projection)
    assert first == figures.projection_groups(content.projection)
    assert dict(mpl.rcParams) == before
    assert not re.search(r"<dc:date>", svg(first))
