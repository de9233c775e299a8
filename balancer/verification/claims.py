"""What a footer claims in its certificate, read with suspicion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

PERCENTAGES = (100, 99, 95)
WITNESSES = ("picks", "table", "none")
_POINT = 3
"""Numbers of a point of the budget curve."""


@dataclass(frozen=True, slots=True)
class FileClaim:
    """The table of a packing, in the manifest's folder."""

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class PackingClaim:
    """Rows said to be `radius` apart, and where they are named."""

    radius: float
    num_points: int
    witness: str
    farthest_tile_id: str | None
    file: FileClaim | None


@dataclass(frozen=True, slots=True)
class Claims:
    """A certificate as the footer has it; `certificate_checks` explains the terms.

    `given` says in words what the optimum is over; `covering_radius` is by percentage;
    `curve` holds (picks, radius, lower bound).
    """

    num_rows: int
    num_picks: int
    num_outliers: int
    num_included: int
    given: str
    covering_radius: Mapping[int, float]
    radius: float
    lower_bound: float
    ratio: float | None
    factor: float | None
    packing: PackingClaim
    curve: tuple[tuple[int, float, float], ...]

    @property
    def num_free(self) -> int:
        """Picks that were not given."""
        return self.num_picks - self.num_included

    @property
    def optimum_is_zero(self) -> bool:
        """Whether every row can be picked or left out."""
        return self.num_picks + self.num_outliers >= self.num_rows


def parse_claims(facts: object) -> Claims:
    """Read a certificate.

    Raises:
        ValueError: saying which key is missing or impossible.
    """
    given = _Section("the certificate", facts)
    packing = given.section("packing")
    radii = given.section("covering_radius")
    claims = Claims(
        num_rows=given.count("num_rows"),
        num_picks=given.count("num_picks"),
        num_outliers=given.count("num_outliers"),
        num_included=given.count("num_included"),
        given=given.text("given"),
        covering_radius={p: radii.length(str(p)) for p in PERCENTAGES},
        radius=given.length("radius"),
        lower_bound=given.length("lower_bound"),
        ratio=None if given.is_null("ratio") else given.length("ratio"),
        factor=None if given.is_null("factor") else given.length("factor"),
        packing=PackingClaim(
            packing.length("radius"),
            packing.count("num_points"),
            packing.text("witness"),
            None if packing.is_null("farthest_tile_id") else packing.text("farthest_tile_id"),
            _read_file(packing),
        ),
        curve=_read_curve(given),
    )
    _check_numbers(claims)
    return claims


class _Section:
    """A JSON object of a certificate: every reading fails with the key's full name."""

    def __init__(self, name: str, facts: object, prefix: str = "") -> None:
        if not isinstance(facts, Mapping):
            raise ValueError(f"{name} must be an object; got {type(facts).__name__}")  # noqa: TRY004 - a damaged file, not a wrong call
        self.facts: Mapping[str, Any] = facts
        self.prefix = prefix

    def section(self, name: str) -> _Section:
        key = self.prefix + name
        return _Section(f"the certificate's {key}", self.value(name), f"{key}.")

    def value(self, name: str) -> object:
        if name not in self.facts:
            raise ValueError(f"the certificate must have the key '{self.prefix}{name}'")
        return self.facts[name]

    def is_null(self, name: str) -> bool:
        return self.value(name) is None

    def count(self, name: str) -> int:
        return _count(self.prefix + name, self.value(name))

    def length(self, name: str) -> float:
        return _length(self.prefix + name, self.value(name))

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise ValueError(f"the certificate's {self.prefix}{name} must be text; got {value!r}")  # noqa: TRY004 - a damaged file, not a wrong call
        return value


def _read_file(packing: _Section) -> FileClaim | None:
    if packing.facts.get("file") is None:
        return None
    file = packing.section("file")
    return FileClaim(file.text("name"), file.text("sha256"), file.count("rows"))


def _read_curve(given: _Section) -> tuple[tuple[int, float, float], ...]:
    points = given.value("budget_curve")
    if not isinstance(points, list):
        raise ValueError(f"the certificate's budget_curve must be a list; got {points!r}")  # noqa: TRY004 - a damaged file, not a wrong call
    curve = []
    for place, point in enumerate(points):
        key = f"budget_curve[{place}]"
        if not (isinstance(point, list) and len(point) == _POINT):
            raise ValueError(
                f"the certificate's {key} must be picks, radius and lower bound; got {point!r}"
            )
        curve.append((_count(key, point[0]), _length(key, point[1]), _length(key, point[2])))
    return tuple(curve)


def _check_numbers(claims: Claims) -> None:
    if not (
        0 <= claims.num_included <= claims.num_picks <= claims.num_rows
        and claims.num_picks >= 1
        and claims.num_outliers < claims.num_rows
    ):
        raise ValueError(
            f"the certificate must have 0 <= num_included <= num_picks <= num_rows, num_picks >= 1 "
            f"and num_outliers < num_rows; got {claims.num_included}, {claims.num_picks}, "
            f"{claims.num_rows} and {claims.num_outliers} outliers"
        )
    if claims.packing.witness not in WITNESSES:
        raise ValueError(
            f"the packing's witness must be one of {', '.join(WITNESSES)}; got "
            f"{claims.packing.witness!r}"
        )
    sizes = [size for size, _, _ in claims.curve]
    rising = all(a < b for a, b in pairwise(sizes))
    smallest = max(1, claims.num_included)
    if sizes and not (rising and sizes[0] >= smallest and sizes[-1] == claims.num_picks):
        raise ValueError(
            f"the budget curve must rise from at least {smallest} picks to {claims.num_picks}; got "
            f"{sizes[0]} to {sizes[-1]}"
        )


def _count(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"the certificate's {key} must be a whole number >= 0; got {value!r}")
    return value


def _length(key: str, value: object) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"the certificate's {key} must be a finite number >= 0; got {value!r}")
    return number
