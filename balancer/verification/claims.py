"""What a footer claims in its certificate, read with suspicion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

PERCENTAGES = (100, 99, 95)
WITNESSES = ("picks", "table", "none")


@dataclass(frozen=True, slots=True)
class PackingClaim:
    """Rows said to be `radius` apart, and where they are named."""

    radius: float
    num_points: int
    witness: str
    farthest_tile_id: str | None
    file: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Claims:
    """A certificate as the footer has it; `certificate_checks` explains the terms.

    `covering_radius` is by percentage; `curve` holds (picks, radius, lower bound).
    """

    num_rows: int
    num_picks: int
    num_outliers: int
    num_included: int
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
        ValueError: saying what is missing or impossible.
    """
    if not isinstance(facts, Mapping):
        raise ValueError(f"a certificate must be an object; got {type(facts).__name__}")  # noqa: TRY004 - a damaged file, not a wrong call
    try:
        claims = _read(facts)
    except KeyError as error:
        raise ValueError(f"the certificate must have the key {error}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the certificate must hold numbers where they belong; {error}") from error
    _check_numbers(claims)
    return claims


def _read(facts: Mapping[str, Any]) -> Claims:
    packing = facts["packing"]
    return Claims(
        num_rows=_count(facts, "num_rows"),
        num_picks=_count(facts, "num_picks"),
        num_outliers=_count(facts, "num_outliers"),
        num_included=_count(facts, "num_included"),
        covering_radius={p: _length(facts["covering_radius"], str(p)) for p in PERCENTAGES},
        radius=_length(facts, "radius"),
        lower_bound=_length(facts, "lower_bound"),
        ratio=None if facts["ratio"] is None else _length(facts, "ratio"),
        factor=None if facts["factor"] is None else _length(facts, "factor"),
        packing=PackingClaim(
            _length(packing, "radius"),
            _count(packing, "num_points"),
            str(packing["witness"]),
            packing["farthest_tile_id"],
            packing.get("file"),
        ),
        curve=tuple((int(k), float(r), float(b)) for k, r, b in facts["budget_curve"]),
    )


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


def _count(facts: Mapping[str, Any], name: str) -> int:
    value = facts[name]
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"the certificate's {name} must be a whole number >= 0; got {value!r}")
    return value


def _length(facts: Mapping[str, Any], name: str) -> float:
    value = float(facts[name])
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"the certificate's {name} must be finite and >= 0; got {value}")
    return value
