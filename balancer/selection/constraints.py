"""What a selection on arrays must and must not pick, and how much each row is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from balancer.config import SelectionConfig
from balancer.selection.included import no_ids
from balancer.types import BoolArray, IdArray

COLUMN = "quality"
"""Name of the column that `Constraints.quality` becomes, where the configuration has none."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """Constraints of one selection on arrays.

    Attributes:
        include: ids that must be picked; they come first, in this order.
        exclude: ids that must not be picked: the rows are dropped before anything else, so they
            are not covered either, and may hold anything. Ids that no row has do nothing.
        quality: (N,) numbers above 0 that multiply the distances of farthest-point.
    """

    include: IdArray = field(default_factory=no_ids)
    exclude: IdArray = field(default_factory=no_ids)
    quality: ArrayLike | None = None


def kept_rows(ids: IdArray, constraints: Constraints) -> BoolArray | None:
    """Return (N,) which rows may be picked; None where none is excluded.

    Raises:
        ValueError: an excluded id is included too; no row is left.

    >>> kept_rows(np.array(["a", "b"]), Constraints(exclude=np.array(["a"]))).tolist()
    [False, True]
    """
    excluded = np.asarray(constraints.exclude, dtype=np.str_)
    if len(excluded) == 0:
        return None
    both = np.intersect1d(excluded, constraints.include)
    if len(both):
        raise ValueError(
            f"A tile must not be both included and excluded; {str(both[0])!r} is. Take it off one "
            f"of the lists."
        )
    kept = ~np.isin(ids, excluded)
    if not kept.any():
        raise ValueError(
            f"Some of the {len(ids)} rows must be left to pick from; all are excluded."
        )
    return kept


def quality_columns(
    constraints: Constraints, config: SelectionConfig, count: int
) -> dict[str, NDArray[Any]]:
    """Return the column of qualities by name, none where there is none.

    Raises:
        ValueError: the configuration names files or a column whose content is not given, or there
            is not one number per row.
    """
    for name, given in (
        ("include", len(constraints.include)),
        ("exclude", len(constraints.exclude)),
        ("quality_column", constraints.quality is not None),
    ):
        if getattr(config, name) is not None and not given:
            raise ValueError(
                f"On arrays, what {name} names must be given as Constraints; got "
                f"{getattr(config, name)!r} alone."
            )
    if constraints.quality is None:
        return {}
    values = np.asarray(constraints.quality)
    if values.shape != (count,):
        raise ValueError(f"quality must be one number per row ({count}); got {values.shape}.")
    return {config.quality_column or COLUMN: values}
