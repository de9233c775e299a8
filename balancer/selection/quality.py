"""Per-tile quality weights from a metadata column, for rows spread over shards.

Farthest-point selection with quality q picks the row with the greatest q * distance, so a tile of
quality 0.5 must be twice as far away as one of quality 1. Only ratios matter: values are divided by
the greatest of all rows, which no sharding changes, and are then the `quality` of
`balancer.selection.farthest_point`.

Local: the range of a shard's values. Merge: the range of all. Finalize: the scale, or a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.selection.farthest_point import LEAST_QUALITY
from balancer.types import DoubleArray, FloatArray, ShardRows


@dataclass(frozen=True, slots=True)
class Quality:
    """Which column holds the quality of a tile, and its greatest value over all rows."""

    column: str
    greatest: float


@dataclass(frozen=True, slots=True)
class QualityRange:
    """What a shard's values are.

    Attributes:
        least: the least value; infinity where there is none.
        least_id: the lowest id of a tile that has it.
        greatest: the greatest value; 0 where there is none.
        bad_id: the lowest id of a tile whose value is no finite number above 0; None if there is
            no such tile.
        bad_value: its value as text.
    """

    least: float
    least_id: str
    greatest: float
    bad_id: str | None
    bad_value: str


def local_quality(rows: ShardRows, column: str) -> QualityRange:
    """Return the range of one shard's values (local).

    >>> rows = ShardRows(np.array(["a"]), np.ones((1, 1), np.float32), {"q": np.array([0.5])})
    >>> local_quality(rows, "q").greatest
    0.5
    """
    values = rows.columns[column]
    numbers = _numbers(values)
    good = np.isfinite(numbers) & (numbers > 0)
    bad_id, bad_value = None, ""
    if not good.all():
        bad = np.flatnonzero(~good)
        place = int(bad[np.argmin(rows.ids[bad])])
        bad_id, bad_value = str(rows.ids[place]), str(values[place])
    kept = np.flatnonzero(good)
    if len(kept) == 0:
        return QualityRange(np.inf, "", 0.0, bad_id, bad_value)
    least = float(numbers[kept].min())
    lowest = rows.ids[kept][numbers[kept] == least]
    return QualityRange(
        least, str(np.sort(lowest)[0]), float(numbers[kept].max()), bad_id, bad_value
    )


def merge_quality(parts: Sequence[QualityRange]) -> QualityRange:
    """Return the range of all shards (merge); associative.

    >>> low, high = QualityRange(1.0, "a", 2.0, None, ""), QualityRange(3.0, "b", 4.0, None, "")
    >>> merge_quality([low, high]).greatest
    4.0
    """
    lowest = min(parts, key=lambda part: (part.least, part.least_id))
    bad = min(
        (part for part in parts if part.bad_id is not None),
        key=lambda part: part.bad_id or "",
        default=lowest,
    )
    greatest = max(part.greatest for part in parts)
    return QualityRange(lowest.least, lowest.least_id, greatest, bad.bad_id, bad.bad_value)


def finalize_quality(merged: QualityRange, column: str) -> Quality:
    """Return the scale of the column (finalize).

    Raises:
        ValueError: a tile without a finite value above 0, or one below a millionth of the greatest,
            whose weighted squared distances would underflow float32.

    >>> finalize_quality(QualityRange(1.0, "a", 2.0, None, ""), "q")
    Quality(column='q', greatest=2.0)
    """
    if merged.bad_id is not None:
        raise ValueError(
            f"The quality column {column!r} must hold a finite number above 0 for every tile; tile "
            f"{merged.bad_id!r} has {merged.bad_value}. Exclude such tiles, or give them a value."
        )
    if merged.least < LEAST_QUALITY * merged.greatest:
        raise ValueError(
            f"The quality column {column!r} must not fall below {LEAST_QUALITY} of its greatest "
            f"value, {merged.greatest}; tile {merged.least_id!r} has {merged.least}. Exclude such "
            f"tiles instead."
        )
    return Quality(column, merged.greatest)


def scaled_quality(columns: Mapping[str, NDArray[Any]], quality: Quality) -> DoubleArray:
    """Return the (N,) qualities of one shard's rows, between 1e-6 and 1.

    >>> scaled_quality({"q": np.array([1.0, 4.0])}, Quality("q", 4.0))
    array([0.25, 1.  ])
    """
    # The least quotient may round to just below what `finalize_quality` let pass.
    return np.clip(_numbers(columns[quality.column]) / quality.greatest, LEAST_QUALITY, 1.0)


def squared_weights(columns: Mapping[str, NDArray[Any]], quality: Quality | None) -> FloatArray:
    """Return the (N,) float32 factors of squared distances; (0,) without a quality.

    >>> squared_weights({"q": np.array([1.0, 4.0])}, Quality("q", 4.0))
    array([0.0625, 1.    ], dtype=float32)
    """
    if quality is None:
        return np.empty(0, np.float32)
    values = scaled_quality(columns, quality)
    return (values * values).astype(np.float32)


def _numbers(values: NDArray[Any]) -> DoubleArray:
    """Return values as float64, NaN where one is no number."""
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)
    kinds = (int, float, np.integer, np.floating)
    return np.array([float(v) if isinstance(v, kinds) else np.nan for v in values.tolist()])
