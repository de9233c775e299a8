"""The k-center problem that a selection answers, and packings: proofs of a lower bound.

The problem. Among N rows choose k, m of which are given (included); z rows may be left out. The
covering radius of a choice is the greatest distance of a row to its nearest pick, after the z
farthest rows are left out. OPT is the least covering radius of all such choices.

The bound. Let f = k - m be the free picks, and Q a packing: f + z + 1 rows that are pairwise at
least r apart and at least r from every included row. Then OPT >= r / 2, and OPT >= r when f = 0.
For take any choice, of covering radius p. At least f + 1 rows of Q are not left out. If an included
row is the nearest pick of one of them, p >= r. Otherwise f free picks are nearest to f + 1 rows, so
two rows share one, and by the triangle inequality r <= 2 p. The argument holds for picks anywhere
in the space, not only among the rows. With m = z = 0 it is Gonzalez's (Theoretical Computer Science
38, 1985): k + 1 rows pairwise >= r apart, so OPT >= r / 2.

Where a packing comes from:

* Farthest-point selection, from the included rows or one free row on: each pick is as far from the
  picks before it as any row was, and these distances never increase. So its free picks and the row
  that is farthest in the end are pairwise >= R apart and >= R from the included rows, R being the
  covering radius: OPT >= R / 2 and the selection is within twice the optimum. The same holds for
  every prefix of the run: one run certifies a whole curve of budgets (`certificate.budget_curve`).
* Any other selection (other strategies, rows left out, picks weighted by quality): f + z + 1 picks
  of a separate farthest-point run over the same rows; r is the distance of the last of them.
* k + z >= N: there are no f + z + 1 rows beside the included ones, and OPT = 0.

Distances carry the rounding of `balancer.distances`: at most 2^-23 of the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from balancer.types import IdArray

Witness = Literal["picks", "table", "none"]


@dataclass(frozen=True, slots=True)
class Problem:
    """The k-center problem that a selection answers; see the module for the terms.

    Attributes:
        num_rows: N, all rows that must be covered.
        num_picks: k, the included rows among them.
        num_outliers: z rows that may be left out.
        num_included: m picks that were given; they are the first m rows of the selection.

    Raises:
        ValueError: numbers that do not fit together.
    """

    num_rows: int
    num_picks: int
    num_outliers: int = 0
    num_included: int = 0

    def __post_init__(self) -> None:
        if not (
            0 <= self.num_included <= self.num_picks <= self.num_rows
            and self.num_picks >= 1
            and 0 <= self.num_outliers < self.num_rows
        ):
            raise ValueError(
                f"A selection must have 0 <= num_included <= num_picks <= num_rows, num_picks >= 1 "
                f"and 0 <= num_outliers < num_rows; got {self}."
            )

    @property
    def packing_size(self) -> int:
        """How many rows a packing must have: f + z + 1."""
        return self.num_picks - self.num_included + self.num_outliers + 1

    @property
    def is_trivial(self) -> bool:
        """Whether every row can be picked or left out, so that OPT = 0."""
        return self.num_picks + self.num_outliers >= self.num_rows

    @property
    def given(self) -> str:
        """What the optimum is taken over, in words.

        >>> Problem(100, 10, num_included=2).given
        'least radius of any 10 of 100 rows that contain the 2 included ones'
        """
        text = f"least radius of any {self.num_picks} of {self.num_rows} rows"
        if self.num_included:
            text += f" that contain the {self.num_included} included ones"
        if self.num_outliers:
            text += f", the {self.num_outliers} farthest rows left out"
        return text


@dataclass(frozen=True, slots=True)
class Packing:
    """Rows that prove a lower bound, see the module.

    Attributes:
        radius: r.
        num_points: how many rows; 0 where no packing exists because OPT = 0.
        witness: which rows. `picks`: the free picks and `farthest_tile_id`. `table`: those of a
            table beside the manifest (`balancer.storage.certificates`).
        farthest_tile_id: the row that is farthest from the picks, for `picks`.
    """

    radius: float
    num_points: int
    witness: Witness
    farthest_tile_id: str | None = None


NO_PACKING = Packing(0.0, 0, "none")


def picks_packing(problem: Problem, radius: float, farthest_tile_id: str | None) -> Packing:
    """Return the packing of a farthest-point run's free picks and its farthest row.

    Args:
        problem: without outliers: these rows are one more than the free picks.
        radius: the least of their distances: that of the farthest row to the picks.
        farthest_tile_id: that row; None where every row is picked.

    Raises:
        ValueError: the problem has outliers.
    """
    if problem.num_outliers:
        raise ValueError(
            f"With {problem.num_outliers} outliers a packing needs {problem.packing_size} rows; "
            f"picks and farthest row are too few. Give the ids of a longer run to table_packing."
        )
    if farthest_tile_id is None:
        return NO_PACKING
    return Packing(float(radius), problem.packing_size, "picks", farthest_tile_id)


def table_packing(radius: float, tile_ids: IdArray) -> Packing:
    """Return the packing of a separate farthest-point run; its ids go into a table.

    Args:
        radius: distance of the last pick to those before it (and to the included rows).
        tile_ids: all picks of that run, without the included rows.
    """
    return Packing(float(radius), len(tile_ids), "table")


def lower_bound(problem: Problem, packing: Packing | None, radius: float) -> float:
    """Return the lower bound of OPT that a packing proves.

    Args:
        problem: what was to be solved.
        packing: None, or without rows, where OPT or the radius is 0.
        radius: covering radius of the selection, which the bound cannot exceed.

    Raises:
        ValueError: no packing, too few rows, or a bound beyond the radius.

    >>> lower_bound(Problem(9, 2), Packing(3.0, 3, "table"), 4.0)
    1.5
    """
    if packing is None or packing.witness == "none":
        if not problem.is_trivial and radius > 0:
            raise ValueError(
                f"A packing must be given unless every row is picked or left out; got none for "
                f"{problem}. Pick {problem.packing_size} rows by farthest-point."
            )
        return 0.0
    if packing.num_points < problem.packing_size:
        raise ValueError(
            f"The packing must have {problem.packing_size} rows; got {packing.num_points}."
        )
    no_free_pick = problem.num_picks == problem.num_included
    bound = packing.radius if no_free_pick else packing.radius / 2
    if bound > radius * (1 + 2**-20):
        raise ValueError(
            f"The optimum cannot exceed the radius of a selection; got the lower bound {bound} and "
            f"the radius {radius}. Take both from the same rows."
        )
    return min(bound, radius)  # equal up to rounding where the selection is optimal
