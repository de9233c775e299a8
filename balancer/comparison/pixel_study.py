"""Do augmented repeats, or hard triplets, help rare classes? Arms that train on pixels, compared.

Every arm starts from the same encoder and shows the same oversampled rows; they differ by what is
augmented, and by whether triplets come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from balancer.comparison.paired_statistics import Interval, mean_interval, paired_tests, unit_values
from balancer.comparison.pixel_training import (
    PixelSettings,
    TileReader,
    pixel_logits,
    train_pixels,
)
from balancer.comparison.plans import TrainingPlan
from balancer.comparison.scores import score
from balancer.comparison.triplet_training import TripletSettings, finetune_triplets
from balancer.embedding.backbones import Backbone
from balancer.imbalance.labels import LabelTable
from balancer.imbalance.low_frequency import low_frequency
from balancer.imbalance.resampling import oversample
from balancer.seeding import child_generator, derive_seed
from balancer.types import DoubleArray

BASELINE, EXACT = "baseline", "exact copies"
ARMS = (
    BASELINE,
    EXACT,
    "augmented repeats",
    "all augmented",
    "semi-hard triplets first",
    "hardest triplets first",
)
"""`baseline` shows every tile once, without augmentation; all others are oversampled."""
SCORES = ("macro_recall", "low_recall")


@dataclass(frozen=True, slots=True)
class LabeledReader:
    """Tiles by row, and their labels."""

    read: TileReader
    labels: LabelTable


@dataclass(frozen=True, slots=True)
class PixelCase:
    """One pool, and how arms are trained on it.

    Attributes:
        pool: its number; also part of the seed.
        train: the training part, one label per tile.
        test: tiles to score on, with the same classes.
        settings: of the training; the arm decides `augment`.
        triplets: of the fine-tuning; the arm decides `mining`.
    """

    pool: int
    train: LabeledReader
    test: LabeledReader
    settings: PixelSettings
    triplets: TripletSettings


@dataclass(frozen=True, slots=True)
class PixelScore:
    """One arm on one pool with one seed.

    Attributes:
        arm: one of `ARMS`.
        pool: number of the pool.
        seed: number of the seed.
        macro_recall: on the test tiles.
        low_recall: mean over the low-frequency classes of the training part.
    """

    arm: str
    pool: int
    seed: int
    macro_recall: float
    low_recall: float


def score_pixel_arm(arm: str, case: PixelCase, backbone: Backbone, seed: int) -> PixelScore:
    """Train one arm and score it. All arms make as many updates as oversampling does.

    Args:
        arm: one of `ARMS`.
        case: the pool.
        backbone: where every arm starts from.
        seed: number of the seed.

    Raises:
        ValueError: an unknown arm.
    """
    if arm not in ARMS:
        raise ValueError(f"arm must be one of {', '.join(ARMS)}; got {arm!r}.")
    train, labels, settings = case.train, case.train.labels, case.settings
    own = derive_seed(seed, "pixel-study", case.pool)
    counts = labels.counts()
    over = oversample(labels.matrix, int(counts.max()), child_generator(own, "oversample"))
    rows = np.arange(len(labels)) if arm == BASELINE else over
    augment = {"augmented repeats": "repeats", "all augmented": "all"}.get(arm, "none")
    options = settings.model_copy(update={"augment": augment})
    if arm.endswith("triplets first"):
        mining = case.triplets.model_copy(update={"mining": arm.split()[0]})
        backbone, _ = finetune_triplets(train.read, labels, backbone, mining, seed=own)
    ones = np.ones(len(rows), np.float32)
    model = train_pixels(
        train.read,
        labels,
        TrainingPlan(rows, ones, np.ones(len(labels.classes), np.float32)),
        backbone,
        options,
        seed=own,
        num_updates=settings.epochs * -(-len(over) // settings.batch),
    )
    logits = pixel_logits(model, case.test.read, len(case.test.labels), options)
    found = score(logits, case.test.labels.matrix, None)
    low = float(np.nanmean(found.recall[low_frequency(counts)]))
    return PixelScore(arm, case.pool, seed, found.macro_recall, low)


def summarize_pixel_arms(scores: Sequence[PixelScore], *, against: str = EXACT) -> list[str]:
    """Return a Markdown table: means with 95 % intervals over pools, and differences with tests.

    Args:
        scores: every arm on the same pools and seeds.
        against: the arm that the others are compared with.

    Raises:
        ValueError: an arm that lacks a pool or a seed.

    >>> scores = [PixelScore(arm, p, 0, 0.5 + d, 0.4) for arm, d in (("exact copies", 0),
    ...           ("baseline", 0.1)) for p in (0, 1)]
    >>> print(summarize_pixel_arms(scores)[-1])
    | baseline | 60.0 (60.0 to 60.0) | +10.0 (+10.0 to +10.0), p <0.001 | 40.0 (40.0 to 40.0) \
| +0.0 (+0.0 to +0.0), p 1.000 |
    """
    lines = [
        f"| arm | macro recall, % | over {against} | low-frequency recall, % | over {against} |",
        "|---|---|---|---|---|",
    ]
    arms = list(dict.fromkeys(each.arm for each in scores))
    cells: dict[str, list[str]] = {arm: [] for arm in arms}
    for name in SCORES:
        units = _units(scores, arms, name)
        tests = paired_tests({a: v for a, v in units.items() if a != against}, units[against])
        for arm in arms:
            cells[arm].append(_words(mean_interval(units[arm]), ""))
            if arm == against:
                cells[arm].append("")
                continue
            p = tests[arm].adjusted
            words = "<0.001" if p < 0.001 else f"{p:.3f}"
            cells[arm].append(f"{_words(tests[arm].difference, '+')}, p {words}")
    return lines + [f"| {arm} | {' | '.join(row)} |" for arm, row in cells.items()]


def _units(
    scores: Sequence[PixelScore], arms: Sequence[str], name: str
) -> Mapping[str, DoubleArray]:
    pools = sorted({each.pool for each in scores})
    seeds = sorted({each.seed for each in scores})
    known = {(each.arm, each.pool, each.seed): getattr(each, name) for each in scores}
    missing = [
        (arm, pool, seed)
        for arm in arms
        for pool in pools
        for seed in seeds
        if (arm, pool, seed) not in known
    ]
    if missing:
        raise ValueError(
            f"Every arm must be scored on every pool with every seed; {missing[0]} is missing "
            f"({len(missing)} in all)."
        )
    return {
        arm: 100 * unit_values([[known[arm, pool, seed] for seed in seeds] for pool in pools])
        for arm in arms
    }


def _words(found: Interval, sign: str) -> str:
    return f"{found.mean:{sign}.1f} ({found.low:{sign}.1f} to {found.high:{sign}.1f})"
