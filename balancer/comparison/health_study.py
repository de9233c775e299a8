"""Which measure of an embedding's health tells how much diverse selection gains over random?

Every finished round of a labeled run is one observation: label-free measures of its embedding, and
the lift of each strategy over random. Spearman's rank correlation asks for a monotone relation
only. Two things could fake one: the data sets (a set that is easy to balance may also be easy to
embed), hence the version within sets; and few encoders with many pools each, hence a bootstrap that
draws encoders first and pools second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from balancer.types import DoubleArray

BOOTSTRAP = 1000
"""Draws of the interval: its ends are then known to about a percentile."""
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Observation:
    """One round of one pool.

    Attributes:
        data_set: which archive.
        variant: which encoder and how it was trained.
        pool: number of the pool.
        measures: label-free, by name.
        lifts: by name; greater is better for all.
    """

    data_set: str
    variant: str
    pool: int
    measures: Mapping[str, float]
    lifts: Mapping[str, float]

    @property
    def cell(self) -> tuple[str, str]:
        """Return what the pools of one encoder have in common."""
        return self.data_set, self.variant


@dataclass(frozen=True, slots=True)
class Correlation:
    """A measure against a lift: Spearman's rho over all, and within sets, with intervals.

    Attributes:
        measure: name.
        lift: name.
        count: observations that have both.
        overall: rho over all observations.
        overall_range: bootstrap interval of it.
        within: the same after ranking inside each set.
        within_range: bootstrap interval of it.
    """

    measure: str
    lift: str
    count: int
    overall: float
    overall_range: tuple[float, float]
    within: float
    within_range: tuple[float, float]


def spearman(x: DoubleArray, y: DoubleArray) -> float:
    """Return Spearman's rank correlation of two (N,) arrays; 0 where one of them is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0]))
    1.0
    """
    return _pearson(rankdata(x), rankdata(y))


def spearman_within(x: DoubleArray, y: DoubleArray, groups: Sequence[str]) -> float:
    """Return the correlation of ranks that are given inside each group, scaled to [-1, 1].

    Groups of one row, or in which x is constant, say nothing and are left out.

    >>> x = np.array([1.0, 2.0, 11.0, 12.0])
    >>> round(spearman(x, -x % 10), 1), spearman_within(x, -x % 10, ["a", "a", "b", "b"])
    (-0.4, -1.0)
    """
    parts = []
    names = np.array(groups)
    for name in np.unique(names):
        mine = names == name
        if np.count_nonzero(mine) > 1 and len(np.unique(x[mine])) > 1:
            parts.append([_scaled(rankdata(values[mine])) for values in (x, y)])
    if not parts:
        return 0.0
    ranks = [np.concatenate(side) for side in zip(*parts, strict=True)]
    return _pearson(ranks[0], ranks[1])


def correlations(
    rows: Sequence[Observation],
    measures: Sequence[str],
    lifts: Sequence[str],
    *,
    seed: int,
    num_draws: int = BOOTSTRAP,
) -> list[Correlation]:
    """Correlate every measure with every lift, strongest within sets first.

    Args:
        rows: observations; those without a measure are left out of its correlations.
        measures: names.
        lifts: names.
        seed: of the bootstrap.
        num_draws: of the bootstrap.

    Cost: `num_draws` times measures times lifts rankings.
    """
    found = []
    for measure in measures:
        mine = [row for row in rows if measure in row.measures]
        if len(mine) < 3:
            continue
        for lift in lifts:
            x = np.array([row.measures[measure] for row in mine])
            y = np.array([row.lifts[lift] for row in mine])
            sets = np.array([row.data_set for row in mine])
            draws = _draws(mine, num_draws, np.random.default_rng(seed))
            overall = [spearman(x[d], y[d]) for d in draws]
            within = [spearman_within(x[d], y[d], sets[d].tolist()) for d in draws]
            found.append(
                Correlation(
                    measure,
                    lift,
                    len(mine),
                    spearman(x, y),
                    _interval(overall),
                    spearman_within(x, y, sets.tolist()),
                    _interval(within),
                )
            )
    return sorted(found, key=lambda c: (c.lift, -abs(c.within), c.measure))


@dataclass(frozen=True, slots=True)
class Rule:
    """Select diversely where `sign * measure >= sign * threshold`, else fall back.

    `sign` is 1 where high values are good, -1 where low ones are.
    """

    measure: str
    threshold: float
    sign: int

    def trusts(self, row: Observation) -> bool:
        """Tell whether diverse picks are trusted."""
        return self.sign * row.measures[self.measure] >= self.sign * self.threshold


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """What rules learned on the other sets gain on each set, as means over sets.

    Attributes:
        measure: name.
        rules: learned for each left-out set, in the order of their names.
        chosen: mean lift when the rule chooses.
        diverse: when never falling back.
        fallback: when always.
        best: when the better of the two is known for every observation.
    """

    measure: str
    rules: tuple[Rule, ...]
    chosen: float
    diverse: float
    fallback: float
    best: float


def fit_rule(rows: Sequence[Observation], measure: str, diverse: str, fallback: str) -> Rule:
    """Return the rule with the greatest mean lift on `rows`; of equal ones the most trusting.

    Args:
        rows: with the measure.
        measure: name.
        diverse: name of the lift of the diverse strategy.
        fallback: name of the lift of the fallback.
    """
    values = np.unique([row.measures[measure] for row in rows])
    middles = (values[1:] + values[:-1]) / 2
    found = []
    for sign in (1, -1):
        for threshold in (-sign * np.inf, *middles.tolist()):
            rule = Rule(measure, threshold, sign)
            trusted = sum(rule.trusts(row) for row in rows)
            found.append((_mean_lift(rows, rule.trusts, diverse, fallback), trusted, sign, rule))
    return max(found, key=lambda item: item[:3])[3]


def check_rules(
    rows: Sequence[Observation], measures: Sequence[str], *, diverse: str, fallback: str
) -> list[RuleCheck]:
    """Learn a rule on all sets but one and apply it to that one, for each measure, best first.

    Raises:
        ValueError: fewer than two sets.
    """
    sets = sorted({row.data_set for row in rows})
    if len(sets) < 2:
        raise ValueError(f"Leaving one set out needs at least two sets; got {sets}.")
    found = []
    for measure in measures:
        if not all(measure in row.measures for row in rows):
            continue
        rules, gains = [], []
        for left_out in sets:
            rule = fit_rule([r for r in rows if r.data_set != left_out], measure, diverse, fallback)
            test = [r for r in rows if r.data_set == left_out]
            choices: list[Callable[[Observation], bool]] = [
                rule.trusts,
                lambda _: True,
                lambda _: False,
                lambda row: row.lifts[diverse] >= row.lifts[fallback],
            ]
            rules.append(rule)
            gains.append([_mean_lift(test, choice, diverse, fallback) for choice in choices])
        found.append(RuleCheck(measure, tuple(rules), *np.mean(gains, axis=0).tolist()))
    return sorted(found, key=lambda check: (-check.chosen, check.measure))


def _mean_lift(
    rows: Sequence[Observation],
    trusts: Callable[[Observation], bool],
    diverse: str,
    fallback: str,
) -> float:
    return float(np.mean([row.lifts[diverse if trusts(row) else fallback] for row in rows]))


def _draws(rows: Sequence[Observation], count: int, rng: np.random.Generator) -> list[list[int]]:
    """Draw cells with replacement, then observations of each drawn cell with replacement."""
    cells: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(rows):
        cells.setdefault(row.cell, []).append(number)
    listed = list(cells.values())
    return [
        [
            listed[cell][place]
            for cell in rng.integers(len(listed), size=len(listed))
            for place in rng.integers(len(listed[cell]), size=len(listed[cell]))
        ]
        for _ in range(count)
    ]


def _scaled(ranks: DoubleArray) -> DoubleArray:
    """Scale ranks 1 to n to [-1, 1]."""
    return (2 * ranks - len(ranks) - 1) / (len(ranks) - 1)


def _pearson(x: DoubleArray, y: DoubleArray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
