"""Splits: disjoint, stratified, every class in every part, groups never divided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.comparison.splits import split_rows
from balancer.errors import DataError
from balancer.imbalance.labels import LabelTable, label_table
from balancer.storage.labeled_sources import parse_planet

PLANET = Path(__file__).parents[3] / "shared" / "data" / "planet" / "train_v2.csv"


def make_labels(single: bool, num: int = 400) -> LabelTable:
    rng = np.random.default_rng(0)
    ids = [f"t{n:03d}" for n in range(num)]
    first = rng.choice(["a", "b", "c"], num, p=[0.7, 0.25, 0.05])
    labels = [
        [str(x)] if single else [str(x), *(["d"] if rng.random() < 0.1 else [])] for x in first
    ]
    groups = np.array([f"site {n // 8}" for n in range(num)])
    return label_table(ids, labels, columns={"site": groups})


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("group", [None, "site"])
def test_parts_are_disjoint_and_whole(single: bool, group: str | None) -> None:
    labels = make_labels(single)
    split = split_rows(labels, kind="60/20/20", group=group, seed=3)
    parts = [split.train, split.validation, split.test]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(400))
    assert len(split.train) == pytest.approx(240, abs=25 if group else 4)
    for rows in parts:
        assert (np.diff(rows) > 0).all()
        assert labels.matrix[rows].any(axis=0).all()
    if group:
        sites = [set(labels.columns["site"][rows]) for rows in parts]
        assert not sites[0] & sites[1]
        assert not (sites[0] | sites[1]) & sites[2]


@pytest.mark.parametrize("single", [True, False])
def test_stratified(single: bool) -> None:
    labels = make_labels(single)
    split = split_rows(labels, kind="60/20/20", group=None, seed=1)
    expected = labels.counts() / 5
    for rows in (split.validation, split.test):
        assert np.abs(labels.matrix[rows].sum(axis=0) - expected).max() <= 2


def test_the_same_seed_the_same_split() -> None:
    labels = make_labels(single=False)
    first, again = (split_rows(labels, kind="60/20/20", group=None, seed=5) for _ in range(2))
    other = split_rows(labels, kind="60/20/20", group=None, seed=6)
    assert first.test.tolist() == again.test.tolist()
    assert first.test.tolist() != other.test.tolist()


def test_the_published_protocol_scores_what_fits_thresholds() -> None:
    split = split_rows(make_labels(single=True), kind="80/20", group=None, seed=0)
    assert (len(split.train), len(split.test)) == (320, 80)
    assert split.validation.tolist() == split.test.tolist()


@pytest.mark.skipif(not PLANET.exists(), reason="Planet's train_v2.csv is not here")
def test_planet_has_every_label_in_every_part() -> None:
    rows = parse_planet(PLANET.read_text(), "train_v2.csv")
    labels = label_table(rows.names, rows.labels)
    split = split_rows(labels, kind="60/20/20", group=None, seed=0)
    sizes = [len(part) for part in (split.train, split.validation, split.test)]
    assert np.abs(np.array(sizes) - [24_287, 8_096, 8_096]).max() < 80
    rarest = labels.classes.index("blow_down")
    counts = [int(labels.matrix[p, rarest].sum()) for p in (split.validation, split.test)]
    assert np.abs(np.array(counts) - 98 / 5).max() < 2


def test_refusals() -> None:
    few = label_table(["a", "b", "c", "d", "e", "f"], [["x"]] * 5 + [["y"]])
    with pytest.raises(DataError, match="'y' has too few"):
        split_rows(few, kind="60/20/20", group=None, seed=0)
    labels = make_labels(single=True)
    with pytest.raises(DataError, match=r"split\.group must be a column .* 'place' among site"):
        split_rows(labels, kind="60/20/20", group="place", seed=0)
    with pytest.raises(ValueError, match=r"60/20/20 or 80/20; got '50/50'"):
        split_rows(labels, kind="50/50", group=None, seed=0)
    one_each = label_table(["a", "b"], [["x", "y"], ["x"]], columns={"g": np.array(["1", "2"])})
    with pytest.raises(DataError, match="at least 5 groups; got 2"):
        split_rows(one_each, kind="60/20/20", group="g", seed=0)
