"""Certificates: how far a selection's covering radius can be from the best possible one.

`balancer.selection.k_center` states the problem and proves the lower bound. `balancer verify`
recomputes a certificate from manifest and embeddings with code of its own
(`balancer.verification`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from balancer.selection.k_center import NO_PACKING, Packing, Problem, lower_bound
from balancer.types import FloatArray

SHARES = ("100", "99", "95")
"""Percentages of the rows that a covering radius is given for."""
_EVERY_SIZE_UP_TO = 64
_SIZES_PER_DOUBLING = 8


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """What the first `num_picks` picks of a farthest-point selection are worth."""

    num_picks: int
    radius: float
    lower_bound: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """A selection's quality, with the evidence. Made by `certify`.

    Attributes:
        problem: what was to be solved.
        covering_radius: by "100", "99", "95": the distance to the nearest pick that this
            percentage of all rows do not exceed.
        radius: the covering radius that the bound is about: "100", or with the outliers left out.
        lower_bound: of the optimum, OPT.
        ratio: radius / lower_bound, >= radius / OPT; 1 where both are 0, None where only the bound
            is 0.
        factor: how many times OPT the radius is at most by the strategy's own guarantee, such as 2
            for farthest-point; None where there is none.
        packing: the evidence for the lower bound.
        curve: for farthest-point, prefixes of the selection.
    """

    problem: Problem
    covering_radius: Mapping[str, float]
    radius: float
    lower_bound: float
    ratio: float | None
    factor: float | None
    packing: Packing
    curve: tuple[BudgetPoint, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: the problem's fields and `given`, then the other attributes."""
        return {
            **asdict(self.problem),
            "given": self.problem.given,
            "covering_radius": dict(self.covering_radius),
            "radius": self.radius,
            "lower_bound": self.lower_bound,
            "ratio": self.ratio,
            "factor": self.factor,
            "packing": asdict(self.packing),
            "budget_curve": [[p.num_picks, p.radius, p.lower_bound] for p in self.curve],
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Certificate:
        """Return the certificate that `to_json` wrote; further keys are ignored.

        Raises:
            ValueError: a key is missing.
        """
        try:
            packing = facts["packing"]
            return cls(
                Problem(**{name: facts[name] for name in Problem.__slots__}),
                dict(facts["covering_radius"]),
                facts["radius"],
                facts["lower_bound"],
                facts["ratio"],
                facts["factor"],
                Packing(**{name: packing[name] for name in Packing.__slots__}),
                tuple(BudgetPoint(*point) for point in facts["budget_curve"]),
            )
        except KeyError as error:
            raise ValueError(
                f"A certificate must have the key {error}; got {sorted(facts)}."
            ) from error


def certify(
    problem: Problem,
    covering_radius: Mapping[str, float],
    packing: Packing | None,
    *,
    factor: float | None = None,
    radius: float | None = None,
    curve: Sequence[BudgetPoint] = (),
) -> Certificate:
    """Put a certificate together.

    Args:
        problem: what was to be solved.
        covering_radius: of the selection over all rows, by "100", "99" and "95".
        packing: from `k_center.picks_packing` or `table_packing`; None only where OPT or the
            radius is 0.
        factor: guarantee of the strategy, such as 2 for farthest-point.
        radius: with the outliers left out; needed if, and only if, there are any.
        curve: from `budget_curve`.

    Raises:
        ValueError: numbers that cannot belong to one selection.

    >>> from balancer.selection.k_center import picks_packing
    >>> farthest = picks_packing(Problem(5, 2), 4.0, "tile-7")
    >>> certify(Problem(5, 2), {"100": 4.0, "99": 4.0, "95": 4.0}, farthest, factor=2.0).ratio
    2.0
    """
    radii = [float(covering_radius[share]) for share in SHARES]
    if not np.isfinite(radii).all() or radii != sorted(radii, reverse=True) or radii[-1] < 0:
        raise ValueError(
            f"covering_radius must be finite, >= 0 and not increase from 100 to 95 %; got {radii}."
        )
    if (radius is None) != (problem.num_outliers == 0):
        raise ValueError(
            f"radius must be given if, and only if, outliers are left out; got {radius} and "
            f"{problem.num_outliers} outliers."
        )
    objective = radii[0] if radius is None else float(radius)
    bound = lower_bound(problem, packing, objective)
    return Certificate(
        problem,
        dict(zip(SHARES, radii, strict=True)),
        objective,
        bound,
        _ratio(objective, bound),
        factor,
        packing or NO_PACKING,
        tuple(curve),
    )


def budget_curve(
    distances: FloatArray, final_radius: float, *, num_included: int = 0
) -> tuple[BudgetPoint, ...]:
    """Return radius and lower bound of the prefixes of a farthest-point selection.

    The distance of pick j (from 0) to the picks before it is the covering radius of the first j.
    This holds for plain farthest-point picks: not weighted by quality, no rows left out.

    Args:
        distances: (k,) of each pick to the picks before it; those of the first pick and of
            included rows are not looked at.
        final_radius: covering radius of all k.
        num_included: m; smaller prefixes than m are not selections that contain the included.

    Returns:
        Every size up to 64, then eight for each doubling, and always k.

    >>> budget_curve(np.array([np.inf, 10, 4], dtype=np.float32), 2.0)[1]
    BudgetPoint(num_picks=2, radius=4.0, lower_bound=2.0)
    """
    radii = np.append(np.asarray(distances, dtype=np.float64), final_radius)
    curve = []
    for size in prefix_sizes(len(distances), smallest=max(1, num_included)):
        radius = float(radii[size])
        # No free pick yet: the included rows are the only choice, so their radius is the optimum.
        curve.append(BudgetPoint(size, radius, radius if size == num_included else radius / 2))
    return tuple(curve)


def prefix_sizes(count: int, *, smallest: int = 1) -> list[int]:
    """Return the prefix sizes of a budget curve, from `smallest` to `count`.

    >>> prefix_sizes(150, smallest=60)
    [60, 61, 62, 63, 64, 70, 76, 83, 91, 99, 108, 117, 128, 140, 150]
    """
    steps = np.arange(_SIZES_PER_DOUBLING * max(1, count).bit_length())
    spaced = np.rint(_EVERY_SIZE_UP_TO * 2.0 ** (steps / _SIZES_PER_DOUBLING)).astype(np.int64)
    sizes = np.concatenate([np.arange(1, _EVERY_SIZE_UP_TO), spaced, [count]])
    kept: list[int] = np.unique(sizes[(sizes >= smallest) & (sizes <= count)]).tolist()
    return kept


def _ratio(radius: float, bound: float) -> float | None:
    if bound > 0:
        return radius / bound
    return 1.0 if radius == 0 else None
