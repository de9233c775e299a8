"""Which label-free recipe closes most of the gap between random and class-balanced picks?

Every recipe picks from the same embeddings of a pool, with several seeds, and labels score the
picks: macro accuracy of linear probes on a balanced test set, and the balance of the classes. Pools
are the unit of all statistics; seeds of one pool are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from balancer.comparison.balance_study import (
    ORACLE,
    RANDOM,
    LabeledRows,
    class_balanced_ids,
)
from balancer.comparison.probes import linear_probe
from balancer.comparison.recipes import Recipe
from balancer.imbalance.measures import count_labels
from balancer.seeding import child_generator, derive_seed
from balancer.selection.uniform import lowest_hashes
from balancer.types import DoubleArray, IdArray

BASELINE_REPEATS = 8
"""Draws over which `random` and `oracle` are averaged: their noise is in every difference."""
RESAMPLES = 4000
"""Bootstrap resamples of the pools for the interval of the share of the gap."""


@dataclass(frozen=True, slots=True)
class RecipeScore:
    """One recipe on one pool, averaged over seeds.

    Attributes:
        variant: data set and encoder.
        pool: number of the pool.
        share: budget as a share of the pool.
        recipe: its name, `random` or `oracle`.
        accuracy: macro accuracy of the probe, in percent.
        weighted_accuracy: of the class-weighted probe.
        class_std: standard deviation of the class sizes, in tiles.
        num_missing: classes without a tile.
    """

    variant: str
    pool: int
    share: float
    recipe: str
    accuracy: float
    weighted_accuracy: float
    class_std: float
    num_missing: float


@dataclass(frozen=True, slots=True)
class Case:
    """One pool at one budget.

    Attributes:
        variant: data set and encoder.
        number: of the pool; also seeds the picks.
        share: budget as a share of the pool.
        pool: the tiles to pick from.
        test: a balanced test set in the same embedding.
    """

    variant: str
    number: int
    share: float
    pool: LabeledRows
    test: LabeledRows

    @property
    def budget(self) -> int:
        """Tiles to pick."""
        return max(1, round(self.share * len(self.pool.ids)))


def score_recipe(case: Case, recipe: Recipe, num_seeds: int) -> RecipeScore:
    """Score a recipe on one pool, averaged over `num_seeds` seeds."""
    pool, budget = case.pool, case.budget
    return _score(
        case,
        recipe.name,
        [
            recipe.pick(pool.features, pool.ids, budget, derive_seed(case.number, "recipe", seed))
            for seed in range(num_seeds)
        ],
    )


def score_baseline(case: Case, name: str) -> RecipeScore:
    """Score `random` or `oracle` on one pool, averaged over `BASELINE_REPEATS` draws.

    Raises:
        ValueError: another name.
    """
    pool, budget = case.pool, case.budget
    seeds = [derive_seed(case.number, name, repeat) for repeat in range(BASELINE_REPEATS)]
    if name == RANDOM:
        picks = [pool.ids[lowest_hashes(pool.ids, budget, seed=seed)] for seed in seeds]
    elif name == ORACLE:
        picks = [class_balanced_ids(pool.ids, pool.labels, budget, seed) for seed in seeds]
    else:
        raise ValueError(f"A baseline must be {RANDOM} or {ORACLE}; got {name!r}.")
    return _score(case, name, picks)


def summarize_scores(
    scores: Sequence[RecipeScore], pools: Sequence[int], *, against: str
) -> list[str]:
    """Return a Markdown table for each variant and budget, best recipe first.

    Args:
        scores: of all pools.
        pools: the numbers of those to report.
        against: recipe that the others are compared with, pool by pool.

    Intervals are 95 % over pools: Student's t for gains and differences; a percentile bootstrap of
    the pools for the share of the gap, which is the ratio of the mean gains.
    """
    lines: list[str] = []
    chosen = [score for score in scores if score.pool in set(pools)]
    for variant, share in sorted({(score.variant, score.share) for score in chosen}):
        here = [s for s in chosen if (s.variant, s.share) == (variant, share)]
        table = _Table.of(here)
        random = table.accuracy[RANDOM]
        gap = table.accuracy[ORACLE] - random
        lines += [
            f"**{variant}, budget {share:.0%}, {len(random)} pools.** "
            f"Random {random.mean():.1f} %, oracle {_interval(gap)}.",
            "",
            f"| recipe | over random | gap closed | over {against} | class std / random's "
            "(worst pool) | class-weighted probes |",
            "|---|---|---|---|---|---|",
        ]
        names = [name for name in table.accuracy if name not in (RANDOM, ORACLE)]
        for name in sorted(names, key=lambda name: -table.accuracy[name].mean()):
            gain = table.accuracy[name] - random
            ratio = table.class_std[name] / table.class_std[RANDOM]
            difference = (
                _interval(table.accuracy[name] - table.accuracy[against])
                if against in table.accuracy and name != against
                else ""
            )
            lines.append(
                f"| {name} | {_interval(gain)} | {_closed(gain, gap)} | {difference} "
                f"| {ratio.mean():.2f} ({ratio.max():.2f}) "
                f"| {_interval(table.weighted[name] - table.weighted[RANDOM])} |"
            )
        lines.append("")
    return lines


def best_recipe(scores: Sequence[RecipeScore], pools: Sequence[int]) -> str:
    """Return the recipe with the greatest mean share of the gap closed, over variants and budgets.

    A gap of less than a point counts as a point, so that noise where there is nothing to gain does
    not decide.

    Args:
        scores: of all pools.
        pools: the numbers of those to tune on.

    Raises:
        ValueError: none of the pools was scored.
    """
    chosen = [score for score in scores if score.pool in set(pools)]
    cells = sorted({(score.variant, score.share) for score in chosen})
    if not cells:
        raise ValueError(f"Pools to tune on must have been scored; none of {list(pools)} was.")
    closed: dict[str, list[float]] = {}
    for cell in cells:
        table = _Table.of([s for s in chosen if (s.variant, s.share) == cell])
        gap = float((table.accuracy[ORACLE] - table.accuracy[RANDOM]).mean())
        for name in table.accuracy.keys() - {RANDOM, ORACLE}:
            gain = float((table.accuracy[name] - table.accuracy[RANDOM]).mean())
            closed.setdefault(name, []).append(gain / max(gap, 1.0))
    return max(sorted(closed), key=lambda name: float(np.mean(closed[name])))


@dataclass(frozen=True, slots=True)
class _Table:
    """Scores by recipe, (P,) over the pools in the same order."""

    accuracy: dict[str, DoubleArray]
    weighted: dict[str, DoubleArray]
    class_std: dict[str, DoubleArray]

    @classmethod
    def of(cls, scores: Sequence[RecipeScore]) -> _Table:
        names = list(dict.fromkeys(score.recipe for score in scores))
        rows = {
            name: sorted((s for s in scores if s.recipe == name), key=lambda s: s.pool)
            for name in names
        }
        pools = {tuple(s.pool for s in mine) for mine in rows.values()}
        if len(pools) != 1:
            raise ValueError(f"Every recipe must be scored once on the same pools; got {pools}.")
        return cls(
            {name: np.array([s.accuracy for s in mine]) for name, mine in rows.items()},
            {name: np.array([s.weighted_accuracy for s in mine]) for name, mine in rows.items()},
            {name: np.array([s.class_std for s in mine]) for name, mine in rows.items()},
        )


def half_width(values: DoubleArray) -> float:
    """Return half the width of the 95 % interval of a mean by Student's t; NaN for one value.

    >>> round(half_width(np.array([1.0, 3.0])), 2)
    12.71
    """
    if len(values) < 2:
        return float("nan")
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return quantile * float(np.std(values, ddof=1)) / float(np.sqrt(len(values)))


def _interval(values: DoubleArray) -> str:
    return f"{values.mean():+.1f} ± {half_width(values):.1f}"


def _closed(gain: DoubleArray, gap: DoubleArray) -> str:
    if gap.mean() <= 0:
        return "no gap"
    rows = child_generator(0, "bootstrap").integers(len(gain), size=(RESAMPLES, len(gain)))
    gaps = gap[rows].mean(axis=1)
    if (gaps <= 0).any():  # the ratio has no bounds
        return f"{gain.mean() / gap.mean():.0%} (no interval: the gap may be 0)"
    low, high = np.percentile(gain[rows].mean(axis=1) / gaps, [2.5, 97.5])
    return f"{gain.mean() / gap.mean():.0%} ({low:.0%} to {high:.0%})"


def _score(case: Case, name: str, picks: Sequence[IdArray]) -> RecipeScore:
    pool, test = case.pool, case.test
    place = {tile: row for row, tile in enumerate(pool.ids.tolist())}
    classes = np.unique(pool.labels).tolist()
    scores = []
    for picked in picks:
        rows = np.array([place[tile] for tile in picked.tolist()])
        labels = pool.labels[rows]
        counts = count_labels(labels.tolist(), classes)
        probe = linear_probe(pool.features[rows], labels, test.features, test.labels)
        scores.append(
            (
                100 * probe.plain,
                100 * probe.weighted,
                float(np.std(counts)),
                float((counts == 0).sum()),
            )
        )
    means = np.mean(scores, axis=0).tolist()
    return RecipeScore(case.variant, case.number, case.share, name, *means)
