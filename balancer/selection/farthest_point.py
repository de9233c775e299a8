"""Farthest-point selection (greedy k-center): each pick is the row farthest from the picks so far.

Algorithm 1 of Patel et al., "Scalable Data Balancing for Unlabeled Satellite Imagery", read so
that it terminates: the first pick is seeded or given and counts, distances start at infinity, rows
are masked instead of deleted, and ties go to the lowest tile id. It is Gonzalez's 2-approximation
of the k-center problem (Theoretical Computer Science 38, 1985).

Distances are canonical (`balancer.distances`), so the picks are the same for any engine, filter,
number of threads and sharding.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from balancer.distances import id_ranks, l2_normalize, require_finite, underflow
from balancer.seeding import hash_ids
from balancer.selection.bounds import Options
from balancer.selection.engine import LazyBounds
from balancer.selection.filters import BLAS, Filter, fastest_filter, new_filter, require_device
from balancer.selection.plain_scan import plain_scan
from balancer.types import BoolArray, DoubleArray, FloatArray, IdArray, IntArray, UInt64Array

if TYPE_CHECKING:
    from balancer.selection.device_engine import DeviceBounds

Metric = Literal["euclidean", "cosine"]
Engine = Literal["lazy", "plain"]
LEAST_QUALITY = 1e-6
"""Below it, weighted squared distances would underflow float32."""


@dataclass(frozen=True, slots=True)
class FarthestPoints:
    """The picks, in order, and what is left.

    Attributes:
        indices: (n,) int64 row numbers.
        distances: (n,) float32 distance of each pick to the picks before it, times its quality;
            infinity for a first pick that had none before it. Without rows to include it never
            increases, and `distances[k]` is the covering radius of the first k picks.
        radius: the covering radius of all picks (times quality) over the rows that could be
            picked, the outliers left out.
        farthest: the row at that distance; -1 when every row is picked or left out.
        outliers: (z,) int64 rows left out, farthest first: by weighted distance where there is a
            quality. A certificate measures plain distances, so the z rows that its radius leaves
            out are the plainly farthest, which need not be these.
    """

    indices: IntArray
    distances: FloatArray
    radius: float
    farthest: int
    outliers: IntArray


def farthest_point(  # noqa: PLR0913 - a public call spells its options out
    points: FloatArray,
    num_picks: int,
    *,
    first: int | None = None,
    ids: IdArray | None = None,
    include: Sequence[int] | IntArray = (),
    selected: FloatArray | None = None,
    excluded: BoolArray | None = None,
    quality: FloatArray | DoubleArray | None = None,
    num_outliers: int = 0,
    metric: Metric = "euclidean",
    engine: Engine = "lazy",
    filter: str | Filter = BLAS,
    device: str = "cpu",
) -> FarthestPoints:
    """Pick `num_picks` rows, each the farthest from the picks so far.

    Args:
        points: (N, D) float32, finite; may be memory-mapped and larger than memory.
        num_picks: how many, `first` and `include` counted.
        first: row to start from; by default row 0, or the row farthest from what is included or
            selected.
        ids: (N,) unique ids for breaking ties; row numbers when absent.
        include: rows that must be picked: they come first, in this order.
        selected: (M, D) rows already selected elsewhere: distances start from them (from their
            directions, with `cosine`).
        excluded: (N,) rows that must not be picked and need not be covered; they may hold anything,
            NaN too.
        quality: (N,) weights from 1e-6 to 1: the row with the greatest quality * distance is next.
        num_outliers: z: each pick is the row after the z farthest, and the z farthest at the end
            are left out (k-center with outliers, after the greedy rule of Ding, Yu and Wang, ESA
            2019, without its sampling).
        metric: `cosine` is the Euclidean distance of the L2-normalised rows.
        engine: `lazy` measures a few per cent of the pairs; `plain` is the plain scan. Both give
            the same picks.
        filter: what rules pairs out before they are measured: `blas` (compiled), a name of
            `balancer.selection.filters.FILTERS`, `fastest` (measured first), or a `Filter`. All
            give the same picks.
        device: `cpu`, or a torch device that holds the rows and the engine, such as `cuda`; the
            picks are the same. It has a filter of its own.

    Returns:
        The picks in order, their distances, the final radius and the outliers.

    Warns:
        RuntimeWarning: all rows are so short that squared distances underflow float32; the picks
            are then those of the distances that are left, down to 0 for rows that differ.

    Raises:
        ValueError: more picks than rows, a row that is neither excluded nor finite, a row number
            out of range, an unknown filter, complex numbers or text, a number of picks or outliers
            that is not whole.
        ConfigError: a filter or a device that cannot be used here.

    Cost: at most O(N * num_picks * D) time, usually a tenth of it or less; about 30 bytes per row
        beside the input.

    >>> line = np.array([[0.0], [1.0], [2.0], [10.0]], dtype=np.float32)
    >>> run = farthest_point(line, 3, first=0)
    >>> run.indices, run.radius
    (array([0, 3, 2]), 1.0)
    >>> farthest_point(line, 2, first=0, num_outliers=1).outliers
    array([3])
    """
    points = _matrix(points, "points")
    num_picks = _whole("num_picks", num_picks)
    num_outliers = _whole("num_outliers", num_outliers)
    excluded = _mask(excluded, len(points))
    if first is not None:
        if len(include):
            raise ValueError("Give either first or include; include comes first anyway.")
        include = _rows("first", [first], len(points), excluded)
    include = _rows("include", include, len(points), excluded)
    _check_count(num_picks, num_outliers, len(include), len(points), excluded)
    _check_choices(metric, engine, filter, device)
    cosine = metric == "cosine"
    if selected is not None:
        selected = _matrix(selected, "selected", points.shape[1])
        require_finite(selected, None, nonzero=cosine)
        selected = l2_normalize(selected) if cosine else selected
    if len(include) == 0 and (selected is None or len(selected) == 0):
        start = 0 if excluded is None else int(np.flatnonzero(~excluded)[0])
        include = np.array([start], np.int64)
    if ids is not None:
        ids = _names(ids, len(points))
    require_finite(points, ids, nonzero=cosine, ignored=excluded)
    problem = None if cosine else underflow(points, excluded)
    if problem is not None:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    weights = None if quality is None else _weights(quality, len(points), excluded)
    ranks = np.arange(len(points)) if ids is None else id_ranks(ids)
    options = Options(cosine, weights, excluded, num_outliers)
    if engine == "plain":
        scan = plain_scan(
            points, num_picks, ranks, options, taken_first=include.tolist(), selected=selected
        )
        return FarthestPoints(
            scan.picked,
            np.sqrt(scan.squared),
            float(np.sqrt(scan.next_squared)),
            scan.next_row,
            scan.outliers,
        )
    others = 0 if selected is None else len(selected)
    capacity = others + num_picks
    bounds = (
        LazyBounds(points, ranks, capacity, options, filter=_filter(filter, points.shape[1]))
        if device == "cpu"
        else on_device(points, ranks, capacity, options, device)
    )
    if selected is not None:
        bounds.add(selected)
    for row in include.tolist():
        bounds.take(row)
    bounds.run(capacity)
    outliers, squared, row = bounds.outliers()
    return FarthestPoints(
        bounds.picked[others:],
        np.sqrt(bounds.squared[others:]),
        float(np.sqrt(squared)),
        row,
        outliers,
    )


def seeded_first(ids: IdArray, seed: int) -> int:
    """Return the row whose hash under `seed` is lowest: a random row, whatever the sharding."""
    hashes: UInt64Array = hash_ids(ids, seed)
    rows = np.flatnonzero(hashes == hashes.min())
    return int(rows[np.argmin(ids[rows])]) if len(rows) > 1 else int(rows[0])


def row_ids(count: int) -> IdArray:
    """Return zero-padded row numbers as ids, so that their order is the row order.

    >>> row_ids(11)[[0, 10]].tolist()
    ['00', '10']
    """
    width = max(1, len(str(count - 1)))
    return np.char.zfill(np.arange(count).astype(np.str_), width)


def _check_choices(metric: Metric, engine: Engine, chosen: str | Filter, device: str) -> None:
    for name, value, known in (("metric", metric, Metric), ("engine", engine, Engine)):
        if value not in get_args(known):
            raise ValueError(f"{name} must be one of {get_args(known)}; got {value!r}.")
    if engine == "plain" and (chosen != BLAS or device != "cpu"):
        raise ValueError(
            f"engine 'plain' measures every pair on the CPU; got filter {chosen!r} and device "
            f"{device!r}. Leave both out, or use engine 'lazy'."
        )
    if device != "cpu" and chosen != BLAS:
        raise ValueError(
            f"device {device!r} has its own filter; got filter {chosen!r} too. Leave one of them "
            f"out."
        )


def _filter(chosen: str | Filter, dim: int) -> Filter | None:
    if not isinstance(chosen, str):
        return chosen
    return new_filter(fastest_filter(dim) if chosen == "fastest" else chosen)


def on_device(
    points: FloatArray, ranks: IntArray, capacity: int, options: Options, device: str
) -> DeviceBounds:
    """Return the engine on a torch device; excluded rows may hold anything."""
    require_device(device)
    # Here, so that selecting on a CPU does not load torch.
    from balancer.selection.device_engine import DeviceBounds

    rows = points
    if options.excluded is not None:  # they may hold anything, which sums would spread
        kept = np.flatnonzero(~options.excluded)[:1]
        filler = points[kept[0]] if len(kept) else np.ones(points.shape[1], np.float32)
        rows = np.where(options.excluded[:, None], filler, points)
    rows = l2_normalize(rows) if options.cosine else rows
    return DeviceBounds(rows, ranks, capacity, options, device=device)


def _whole(name: str, value: int) -> int:
    """Return a whole number as int; a float, text or a truth value is none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"{name} must be a whole number; got {value!r} ({type(value).__name__}). Give an int."
        )
    return int(value)


def _matrix(values: FloatArray, name: str, dim: int | None = None) -> FloatArray:
    # asarray makes a plain array of a memory map without reading it.
    given = np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must hold real numbers; got {given.dtype}. Convert them to float32."
        )
    rows = np.ascontiguousarray(given, dtype=np.float32)
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        raise ValueError(f"{name} must be a matrix (N, {dim or 'D'}); got shape {rows.shape}.")
    return rows


def _mask(excluded: BoolArray | None, count: int) -> BoolArray | None:
    if excluded is None:
        return None
    mask = np.asarray(excluded)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise ValueError(
            f"excluded must be {count} booleans, one per row; got {mask.dtype} of shape "
            f"{mask.shape}."
        )
    return mask


def _check_count(
    num_picks: int, num_outliers: int, included: int, count: int, excluded: BoolArray | None
) -> None:
    if num_outliers < 0:
        raise ValueError(f"num_outliers must not be negative; got {num_outliers}.")
    free = count if excluded is None else int(count - np.count_nonzero(excluded))
    most = free - num_outliers
    least = max(1, included)
    if not least <= num_picks <= most:
        raise ValueError(
            f"num_picks must lie between {least} and the {most} rows that can be picked; got "
            f"{num_picks}."
        )


def _rows(
    name: str, rows: Sequence[int] | IntArray, count: int, excluded: BoolArray | None
) -> IntArray:
    given = np.asarray(rows).reshape(-1)
    if len(given) and given.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole row numbers; got {given.dtype} values.")
    numbers = given.astype(np.int64)
    outside = numbers[(numbers < 0) | (numbers >= count)]
    if len(outside):
        raise ValueError(f"{name} must be a row number below {count}; got {outside[0]}.")
    if len(np.unique(numbers)) != len(numbers):
        raise ValueError(f"{name} must name each row once; some repeat.")
    if excluded is not None and excluded[numbers].any():
        raise ValueError(
            f"{name} must not name excluded rows; got {numbers[excluded[numbers]][0]}."
        )
    return numbers


def _names(ids: IdArray, count: int) -> IdArray:
    names = np.asarray(ids)
    if names.shape != (count,):
        raise ValueError(f"ids must be one per row ({count}); got shape {names.shape}.")
    if len(np.unique(names)) != count:
        raise ValueError("ids must be unique, because they break ties; some repeat. Rename them.")
    return names


def _weights(
    quality: FloatArray | DoubleArray, count: int, excluded: BoolArray | None
) -> FloatArray:
    values = np.asarray(quality, dtype=np.float64)
    if values.shape != (count,):
        raise ValueError(f"quality must be one number per row ({count}); got {values.shape}.")
    if excluded is not None:
        values = np.where(excluded, 1.0, values)
    if not ((values >= LEAST_QUALITY) & (values <= 1)).all():
        raise ValueError(
            f"quality must lie between {LEAST_QUALITY} and 1; got {values.min()} to "
            f"{values.max()}. Exclude rows instead of giving them quality 0."
        )
    return (values * values).astype(np.float32)
