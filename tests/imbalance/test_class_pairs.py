from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.imbalance.class_pairs import (
    class_geometry,
    confusions,
    nearest_by_company,
    nearest_by_confusion,
)
from balancer.imbalance.labels import label_table
from tests.data.planet import needs_planet, planet_labels

ONE_HOT = np.eye(3, dtype=np.bool_)


def test_geometry_by_hand() -> None:
    # Class 0 at 0 and 2 (centroid 1, spread 1), class 1 at 4 and 8 (6, 2), class 2 at 20 (20, 0).
    features = np.array([[0], [2], [4], [8], [20]], dtype=np.float32)
    found = class_geometry(features, ONE_HOT[[0, 0, 1, 1, 2]])
    assert found.spread.tolist() == [1, 2, 0]
    assert found.nearest.tolist() == [1, 0, 1]
    assert found.distance.tolist() == [5, 5, 14]
    assert found.separation.tolist() == [5 / 1.5, 5 / 1.5, 14]
    # Without itself, the tile at 4 has its own centroid at 8 and the other one at 1: wrong.
    assert found.pair_accuracy[:2].tolist() == [0.75, 0.75]
    assert np.isnan(found.pair_accuracy[2])  # a single tile has no other tiles of its class


def test_a_class_without_tiles() -> None:
    features = np.array([[0], [1]], dtype=np.float32)
    found = class_geometry(features, ONE_HOT[[0, 0]])
    assert found.nearest.tolist() == [-1, -1, -1]
    assert np.isnan(found.spread[1:]).all()
    assert np.isnan(found.separation).all()
    with pytest.raises(ValueError, match="each of 1 tiles"):
        class_geometry(features, ONE_HOT[[0]])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_pair_accuracy_is_that_of_leaving_one_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(20, 3)).astype(np.float32)
    matrix = rng.random((20, 3)) < 0.5
    found = class_geometry(features, matrix)
    for own in range(3):
        other = int(found.nearest[own])
        shares = []
        for a, b in ((own, other), (other, own)):
            right = []
            for row in np.flatnonzero(matrix[:, a] & ~matrix[:, b]):
                rest = matrix[:, a].copy()
                rest[row] = False
                if rest.any():
                    point = features[row].astype(np.float64)
                    to_own = ((point - features[rest].mean(axis=0, dtype=np.float64)) ** 2).sum()
                    center = features[matrix[:, b]].mean(axis=0, dtype=np.float64)
                    right.append(to_own < ((point - center) ** 2).sum())
            if right:
                shares.append(np.mean(right))
        expected = np.mean(shares) if len(shares) == 2 else np.nan
        assert found.pair_accuracy[own] == pytest.approx(expected, nan_ok=True)


def test_company() -> None:
    rows = [["haze", "tree"], ["cloud", "tree"], ["town", "road", "tree"], ["road", "tree"]]
    table = label_table("abcd", rows)
    names = np.array(table.classes)
    nearest = dict(zip(table.classes, names[nearest_by_company(table.matrix)], strict=True))
    assert nearest["haze"] == "cloud"
    assert nearest["cloud"] == "haze"
    assert nearest_by_company(ONE_HOT).tolist() == [-1, -1, -1]


@needs_planet
def test_company_finds_planets_pair_of_haze() -> None:
    labels = planet_labels()
    nearest = nearest_by_company(labels.matrix)
    found = {name: labels.classes[nearest[c]] for c, name in enumerate(labels.classes)}
    assert found["haze"] == "partly_cloudy"
    assert found["agriculture"] == "cultivation"


def test_confusion_by_hand() -> None:
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=bool)
    predicted = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 1]], dtype=bool)
    assert confusions(truth, predicted).tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]
    assert nearest_by_confusion(truth, predicted).tolist() == [2, 2, -1]
    with pytest.raises(ValueError, match="must have one shape"):
        confusions(truth, predicted[:2])
