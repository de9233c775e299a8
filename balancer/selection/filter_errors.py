"""What a filter may get wrong, as a proven bound, and why the picks do not depend on it.

Every filter measures |x|^2 + |s|^2 - 2 x.s in its own arithmetic, within

    |approximate - d| <= e = kappa (|x|^2 + |s|^2) + tiny        (d the canonical squared distance)

for rows x and picks s less a common mean. The nearest pick s* of a block satisfies, for any pick s,

    approximate(s*) <= d(s*) + e <= d(s) + e <= approximate(s) + 2 e,

so it is among the columns within 2 e of the smallest; and if it is nearer than the row's bound,
approximate(s*) < bound + e. Only such pairs are measured canonically, so a filter changes the time
that a selection takes and never a pick.

kappa for D columns, with the roundings of [Higham, Accuracy and Stability of Numerical Algorithms,
2nd ed., eq. 2.4 and 3.5]; c is the error of x.s over |x||s|, and 2 c |x||s| <= c (|x|^2 + |s|^2):

    inputs rounded to a unit u            2 u + u^2      u = 0 (float32), 2^-11 (TF32), 2^-8
    sum of D products in float32          gamma_D        with unit 2^-24 in any order; tensor cores
                                                         cut off instead of rounding and align the
                                                         terms to the largest: unit 2^-22
    product returned in bfloat16          2^-8
    all else                              16 * 2^-24     centring, lengths, two additions, and the
                                                         rounding of the canonical value

TF32 here means that the inputs are rounded to 10 explicit bits before the product, on any device:
what the hardware does with the bits below is then without effect.
"""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16"]

INPUT_UNIT = {"float32": 0.0, "tf32": 2.0**-11, "bfloat16": 2.0**-8}
SUM_UNIT = {"float32": 2.0**-24, "tf32": 2.0**-22, "bfloat16": 2.0**-22}
OUTPUT_UNIT = {"float32": 0.0, "tf32": 0.0, "bfloat16": 2.0**-8}
OTHERS = 16 * 2.0**-24
SAFETY = 1e-6
"""Relative; covers the float64 and float32 arithmetic on the limits themselves."""


def kappa(precision: Precision, dim: int) -> float:
    """Return the error of |x|^2 + |s|^2 - 2 x.s over |x|^2 + |s|^2; derived in the module.

    >>> kappa("float32", 128) < kappa("tf32", 128) < kappa("bfloat16", 128) < 0.02
    True
    """
    unit, out = INPUT_UNIT[precision], OUTPUT_UNIT[precision]
    total = dim * SUM_UNIT[precision]
    if total >= 0.5:
        raise ValueError(
            f"A {precision} filter's error bound must stay below 1; rows of {dim} columns have too "
            f"many. Reduce their dimension."
        )
    inputs = (1 + unit) ** 2
    product = inputs * (1 + total / (1 - total)) * (1 + out) - 1
    return (1 + SAFETY) * (product + OTHERS * (1 + product))


def tiny(dim: int) -> float:
    """Return what underflow can lose beside: D products below the least normal float32, twice."""
    return (8 + dim) * 2.0**-122


def require_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        ValueError: naming it.
    """
    if precision not in INPUT_UNIT:
        raise ValueError(f"precision must be one of {', '.join(INPUT_UNIT)}; got {precision!r}.")
