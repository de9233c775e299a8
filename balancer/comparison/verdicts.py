"""Plain-words verdicts on the claims of Panigrahi and Zhu, section 5.

A claim is supported, refuted, or not distinguishable. "No effect" is a claim that few data cannot
support: the whole interval of the difference must lie within a margin of 0. What is neither shown
nor excluded is reported as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from balancer.comparison.intervals import Interval, mean_interval
from balancer.comparison.paired_statistics import PairedTest
from balancer.types import DoubleArray, IntArray

Outcome = Literal["supported", "refuted", "not distinguishable"]
Kind = Literal["no effect", "negative", "not worse"]
MARGIN = 0.01
"""Differences of less than this, a point of accuracy or recall, count as none."""
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the data say about one claim.

    Attributes:
        claim: `a`, `b` or `c`, and which part of it.
        statement: the claim in words.
        outcome: see the module.
        sentence: the outcome in words, with the numbers that decide it.
    """

    claim: str
    statement: str
    outcome: Outcome
    sentence: str


def judge(test: PairedTest, kind: Kind, margin: float = MARGIN) -> Outcome:
    """Judge one difference against one kind of claim.

    `no effect`: supported where the interval lies within the margin; refuted where the difference
    is told from 0 (adjusted p < 0.05). `negative`: supported where it is told from 0 and below;
    refuted where the interval lies above minus the margin. `not worse`: supported where the
    interval lies above minus the margin; refuted where the difference is told from 0 and below.
    What holds first in this order decides.

    Args:
        test: the arm against the baseline.
        kind: of the claim.
        margin: above 0, in the units of the score.

    Raises:
        ValueError: a margin that is not above 0, an unknown kind.

    >>> drop = PairedTest(Interval(-0.05, -0.07, -0.03, 5), 0.001, 0.002)
    >>> judge(drop, "negative"), judge(drop, "not worse"), judge(drop, "no effect")
    ('supported', 'refuted', 'refuted')
    """
    if not margin > 0:
        raise ValueError(f"margin must be above 0; got {margin}.")
    found, told = test.difference, test.adjusted < LEVEL
    tests: dict[str, tuple[bool, bool]] = {
        "no effect": (found.low > -margin and found.high < margin, told),
        "negative": (told and found.mean < 0, found.low > -margin),
        "not worse": (found.low > -margin, told and found.mean < 0),
    }
    if kind not in tests:
        raise ValueError(f"kind must be one of {', '.join(tests)}; got {kind!r}.")
    supported, refuted = tests[kind]
    if supported:
        return "supported"
    return "refuted" if refuted else "not distinguishable"


def judge_reweighting(
    tests: Mapping[str, Mapping[str, PairedTest]], margin: float = MARGIN
) -> list[Verdict]:
    """Judge claim (a): reweighting has no effect, for any k.

    Args:
        tests: by group of classes (`low`, `rest`), by the name of each level such as `k=10`.
        margin: see `judge`.

    Returns:
        One verdict per group: supported where it is for every level, refuted where it is for one.

    >>> none = PairedTest(Interval(0.0, -0.004, 0.004, 5), 0.9, 1.0)
    >>> judge_reweighting({"low": {"k=10": none}})[0].outcome
    'supported'
    """
    verdicts = []
    for group, levels in tests.items():
        outcomes = {name: judge(test, "no effect", margin) for name, test in levels.items()}
        verdicts.append(
            _combine(
                f"a, {group}",
                f"Reweighting does not change {_group(group)}.",
                outcomes,
                levels,
                all_must_hold=True,
            )
        )
    return verdicts


def judge_undersampling(
    low: PairedTest,
    rest: PairedTest,
    classes: Mapping[str, PairedTest],
    margin: float = MARGIN,
    *,
    dropping: Sequence[str] = ("agriculture", "partly_cloudy"),
    keeping: Sequence[str] = ("selective_logging", "bare_ground"),
) -> list[Verdict]:
    """Judge claim (b): undersampling keeps low-frequency classes and lowers the others.

    Args:
        low: mean over low-frequency classes, against the baseline.
        rest: mean over the others.
        classes: by class; the classes below that are not there are left out.
        margin: see `judge`.
        dropping: classes that are claimed to drop.
        keeping: classes that are claimed not to.

    >>> drop = PairedTest(Interval(-0.05, -0.07, -0.03, 5), 0.001, 0.002)
    >>> [each.outcome for each in judge_undersampling(drop, drop, {"agriculture": drop})]
    ['refuted', 'supported', 'supported']
    """
    parts: list[tuple[str, str, PairedTest, Kind]] = [
        ("low", f"Undersampling does not change {_group('low')}.", low, "no effect"),
        ("rest", f"Undersampling lowers {_group('rest')}.", rest, "negative"),
    ]
    parts += [
        (name, f"Undersampling lowers {name}.", classes[name], "negative")
        for name in dropping
        if name in classes
    ]
    parts += [
        (name, f"Undersampling does not lower {name}.", classes[name], "not worse")
        for name in keeping
        if name in classes
    ]
    return [
        _verdict(f"b, {part}", statement, judge(test, kind, margin), part, test)
        for part, statement, test, kind in parts
    ]


def judge_oversampling(
    low: PairedTest,
    classes: Mapping[str, PairedTest],
    margin: float = MARGIN,
    *,
    rarity: Interval | None = None,
) -> list[Verdict]:
    """Judge claim (c): oversampling is no worse on low-frequency classes, worse on some others.

    Args:
        low: mean over low-frequency classes, against the baseline.
        classes: each of the other classes; tested together, so that one that is lower is not
            chance.
        margin: see `judge`.
        rarity: slope of the gain over the logarithm of the class's count, from `rarity_slopes`;
            claimed positive for ResNet-18: the gap shrinks with rarity.

    >>> none = PairedTest(Interval(0.0, -0.004, 0.004, 5), 0.9, 1.0)
    >>> found = judge_oversampling(none, {"road": none}, rarity=Interval(0.1, -0.1, 0.3, 5))
    >>> [each.outcome for each in found]
    ['supported', 'refuted', 'not distinguishable']
    """
    verdicts = [
        _verdict(
            "c, low",
            f"Oversampling does not lower {_group('low')}.",
            judge(low, "not worse", margin),
            "low",
            low,
        ),
        _combine(
            "c, rest",
            "Oversampling lowers some of the other classes.",
            {name: judge(test, "negative", margin) for name, test in classes.items()},
            classes,
            all_must_hold=False,
        ),
    ]
    if rarity is not None:
        verdicts.append(_judge_rarity(rarity))
    return verdicts


def rarity_slopes(gains: ArrayLike, counts: IntArray) -> DoubleArray:
    """Return for each unit the slope of the gain over log2 of the class's count.

    Positive: the rarer a class, the smaller its gain. Classes without a gain (NaN) are left out.

    Args:
        gains: (n, C) arm minus baseline, of the low-frequency classes.
        counts: (C,) tiles of these classes in the training part.

    Returns:
        (n,) least-squares slopes per doubling of the count; NaN where fewer than two counts differ.

    Raises:
        ValueError: shapes that do not fit, a count of 0.

    >>> rarity_slopes([[0.1, 0.2, 0.3]], np.array([100, 200, 400])).round(6).tolist()
    [0.1]
    """
    matrix = np.asarray(gains, np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != len(counts) or (np.asarray(counts) < 1).any():
        raise ValueError(
            f"gains must be units by classes, with a count of 1 or more for each class; got "
            f"{matrix.shape} and counts {np.asarray(counts).tolist()}."
        )
    places = np.log2(counts)
    slopes = np.full(len(matrix), np.nan)
    for row, values in enumerate(matrix):
        known = ~np.isnan(values)
        if len(np.unique(places[known])) > 1:
            slopes[row] = np.polyfit(places[known], values[known], 1)[0]
    return slopes


def judge_slopes(slopes: ArrayLike) -> Verdict:
    """Judge by the slopes of `rarity_slopes` whether the gain shrinks with rarity.

    >>> judge_slopes([0.1, 0.11, 0.12]).outcome
    'supported'
    """
    return _judge_rarity(mean_interval(slopes))


def _judge_rarity(slope: Interval) -> Verdict:
    outcome: Outcome = "not distinguishable"
    if slope.low > 0:
        outcome = "supported"
    elif slope.high < 0:
        outcome = "refuted"
    return Verdict(
        "c, rarity",
        "The gain of oversampling shrinks as classes get rarer.",
        outcome,
        f"{outcome.capitalize()}: the gain changes by {_numbers(slope)} per doubling of the count.",
    )


def _verdict(claim: str, statement: str, outcome: Outcome, what: str, test: PairedTest) -> Verdict:
    return Verdict(
        claim,
        statement,
        outcome,
        f"{outcome.capitalize()}: {_group(what)} changed by {_numbers(test.difference)}, "
        f"adjusted p {_p(test)}.",
    )


def _combine(
    claim: str,
    statement: str,
    outcomes: Mapping[str, Outcome],
    tests: Mapping[str, PairedTest],
    *,
    all_must_hold: bool,
) -> Verdict:
    """Combine parts: all must be supported and one refuted is enough, or the other way round."""
    if not outcomes:
        raise ValueError(f"The claim {claim!r} must have tests to be judged by; it has none.")
    deciding: Outcome = "refuted" if all_must_hold else "supported"
    other: Outcome = "supported" if all_must_hold else "refuted"
    found = [name for name, each in outcomes.items() if each == deciding]
    if found:
        outcome, named = deciding, found
    elif all(each == other for each in outcomes.values()):
        outcome, named = other, list(outcomes)
    else:
        outcome = "not distinguishable"
        named = [name for name, each in outcomes.items() if each == outcome]
    details = "; ".join(
        f"{name} {_numbers(tests[name].difference)}, adjusted p {_p(tests[name])}" for name in named
    )
    return Verdict(claim, statement, outcome, f"{outcome.capitalize()}: {details}.")


def _group(name: str) -> str:
    names = {"low": "the low-frequency classes", "rest": "the other classes"}
    return names.get(name, name)


def _numbers(found: Interval) -> str:
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}, n = {found.num_units})"


def _p(test: PairedTest) -> str:
    return "below 0.001" if test.adjusted < 0.001 else f"{test.adjusted:.3f}"
