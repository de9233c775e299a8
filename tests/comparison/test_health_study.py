"""Correlations and rules on observations whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

from balancer.comparison.health_study import (
    Observation,
    check_rules,
    correlations,
    fit_rule,
    spearman,
    spearman_within,
)
from balancer.comparison.health_tables import study_tables

FEW = 50
"""Draws of the bootstrap."""
DIVERSE, FALLBACK = "accuracy of farthest-point", "accuracy of per-cluster"


def _rows(lift: Callable[[float, int], float], pools: int = 4) -> list[Observation]:
    """Two sets of five encoders: `good` says how good an encoder is, `noise` nothing."""
    rng = np.random.default_rng(0)
    return [
        Observation(
            data_set,
            f"encoder {quality}",
            pool,
            {"good": quality + 10.0 * number + rng.normal() / 10, "noise": rng.normal()},
            {DIVERSE: lift(quality, number), FALLBACK: 0.5},
        )
        for number, data_set in enumerate(("fields", "towns"))
        for quality in range(5)
        for pool in range(pools)
    ]


def test_spearman_as_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert spearman(np.ones(4), np.arange(4.0)) == 0.0


def test_within_sets_only_what_happens_inside_counts() -> None:
    """The measure is high where the set's lift is high, and means nothing inside a set."""
    x = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    y = np.array([0.0, 1.0, 0.0, 10.0, 11.0, 10.0])
    groups = ["a"] * 3 + ["b"] * 3
    assert spearman(x, y) > 0.7
    assert spearman_within(x, y, groups) == pytest.approx(0.0)
    assert spearman_within(x, y, list("abcdef")) == 0.0


def test_the_measure_that_predicts_comes_first() -> None:
    rows = _rows(lambda q, n: q - 100.0 * n)
    found = correlations(rows, ["noise", "good"], [DIVERSE], seed=0, num_draws=FEW)
    best, other = found
    assert (best.measure, best.count) == ("good", 40)
    assert best.within > 0.95
    assert best.within_range[0] > 0.8
    assert best.overall < 0  # between the sets the relation is the opposite
    assert other.within_range[0] < 0 < other.within_range[1]
    assert other.within_range[0] <= other.within <= other.within_range[1]
    assert found == correlations(rows, ["noise", "good"], [DIVERSE], seed=0, num_draws=FEW)


def test_observations_without_a_measure_are_left_out() -> None:
    rows = _rows(lambda q, _: q)
    part = [Observation(r.data_set, r.variant, r.pool, {}, r.lifts) for r in rows[:10]] + rows[10:]
    assert [c.count for c in correlations(part, ["good"], [DIVERSE], seed=0, num_draws=FEW)] == [30]
    assert correlations(part[:12], ["good"], [DIVERSE], seed=0, num_draws=FEW) == []


def test_a_rule_by_hand() -> None:
    rows = [
        Observation("s", "e", pool, {"m": measure}, {DIVERSE: lift, FALLBACK: 1.0})
        for pool, (measure, lift) in enumerate([(1.0, -2.0), (2.0, 0.0), (3.0, 4.0), (4.0, 3.0)])
    ]
    rule = fit_rule(rows, "m", DIVERSE, FALLBACK)
    assert (rule.threshold, rule.sign) == (2.5, 1)
    assert [rule.trusts(row) for row in rows] == [False, False, True, True]
    low_is_good = [Observation("s", "e", r.pool, {"m": -r.measures["m"]}, r.lifts) for r in rows]
    assert fit_rule(low_is_good, "m", DIVERSE, FALLBACK).sign == -1


def test_diverse_picks_that_always_win_are_always_trusted() -> None:
    rows = _rows(lambda q, _: 5.0 + q)
    assert all(fit_rule(rows, "noise", DIVERSE, FALLBACK).trusts(row) for row in rows)


def test_a_rule_carries_over_to_the_set_left_out() -> None:
    rows = []
    for row in _rows(lambda q, _: q - 2.0):
        fair = row.measures["good"] - (10.0 if row.data_set == "towns" else 0.0)
        measures = {"noise": row.measures["noise"], "fair": fair}
        rows.append(Observation(row.data_set, row.variant, row.pool, measures, row.lifts))
    checks = check_rules(rows, ["noise", "fair"], diverse=DIVERSE, fallback=FALLBACK)
    assert checks[0].measure == "fair"
    assert checks[0].chosen == pytest.approx(checks[0].best, abs=0.11)
    assert checks[0].chosen > max(checks[0].diverse, checks[0].fallback)
    assert checks[1].chosen < checks[0].chosen
    assert len(checks[0].rules) == 2


def test_one_set_cannot_be_left_out() -> None:
    rows = [row for row in _rows(lambda q, _: q) if row.data_set == "towns"]
    with pytest.raises(ValueError, match="at least two sets"):
        check_rules(rows, ["good"], diverse=DIVERSE, fallback=FALLBACK)
    assert (
        "one set only"
        in study_tables(rows, ["good"], fallback="per-cluster", seed=0, num_draws=FEW)[-1]
    )


def test_tables() -> None:
    lines = study_tables(
        _rows(lambda q, _: q), ["good", "noise"], fallback="per-cluster", seed=0, num_draws=50
    )
    text = "\n".join(lines)
    assert "| fields | encoder 0 | 4 |" in text
    assert "| accuracy of farthest-point | good | 40 | +" in text
    assert "| good: >= " in text
    assert f"{FALLBACK}: rule" not in text
