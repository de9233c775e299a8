"""Selection on plain arrays: no Ray, no files, no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from balancer.clustering.assignment import assign
from balancer.clustering.hierarchy import fit_hierarchy
from balancer.clustering.kmeans import default_num_clusters, fit
from balancer.config import ClusteringConfig, SelectionConfig
from balancer.distances import l2_normalize, require_finite, underflow
from balancer.seeding import derive_seed
from balancer.selection.certified import Certified, certify_selection
from balancer.selection.constraints import Constraints, kept_rows, quality_columns
from balancer.selection.fallback import NEEDS_HEALTH
from balancer.selection.included import tile_rates
from balancer.selection.mapped_pool import OUT_OF_CORE, MappedPool
from balancer.selection.pool import ArrayPool
from balancer.selection.settings import Settings
from balancer.selection.shard_bounds import EngineChoice
from balancer.selection.strata import label_rows
from balancer.selection.strategies import CLUSTERED, run_strategy
from balancer.types import (
    BoolArray,
    Clustering,
    DoubleArray,
    FloatArray,
    IdArray,
    IntArray,
    Selection,
    ShardRows,
)


def select(  # noqa: PLR0913 - a public call spells its options out
    embeddings: ArrayLike,
    selection: SelectionConfig | float,
    *,
    ids: IdArray | None = None,
    seed: int = 0,
    normalize: bool = True,
    clustering: ClusteringConfig | None = None,
    constraints: Constraints | None = None,
    columns: Mapping[str, NDArray[Any]] | None = None,
) -> Selection:
    """Pick a balanced, diverse subset of embeddings: the whole selection in one call.

    Args:
        embeddings: (N, D) numbers, finite; converted to float32. From a float32 memory map
            (`np.load(path, mmap_mode="r")`), `farthest-point` and `random` select without copying
            it; it may be larger than memory.
        selection: the budget as a number, or a share below 1 (default strategy), or the whole
            `SelectionConfig`.
        ids: (N,) unique ids; row numbers as text when absent.
        seed: decides the first picks and the clustering.
        normalize: L2-normalise the rows first, which makes distances cosine distances.
        clustering: settings of k-means for the strategies that cluster.
        constraints: ids that must or must not be picked, and the rows' quality.
        columns: (N,) metadata values by name, for `selection.quotas.axes`.

    Returns:
        The picks, best first; the same as a run's `select` stage makes of the same embeddings.

    Raises:
        ValueError: shapes, duplicate ids, rows that are not finite, a budget beyond N,
            constraints that cannot be met, a fallback.

    Cost: O(N D) memory, mapped arrays apart; time of the strategy, see
    `balancer.selection.strategies`.

    >>> tiles = np.random.default_rng(0).normal(size=(100, 8))
    >>> len(select(tiles, 10))
    10
    """
    return select_weighted(
        embeddings,
        selection,
        ids=ids,
        seed=seed,
        normalize=normalize,
        clustering=clustering,
        constraints=constraints,
        columns=columns,
    )[0]


def select_certified(
    embeddings: ArrayLike,
    selection: SelectionConfig | float,
    *,
    ids: IdArray | None = None,
    seed: int = 0,
    normalize: bool = True,
    clustering: ClusteringConfig | None = None,
    constraints: Constraints | None = None,
) -> tuple[Selection, Callable[[], Certified]]:
    """Pick as `select` does, and return with the picks a function that certifies them.

    Certifying costs about as much as selecting, hence the choice.

    Returns:
        The picks of `select`, and a function without arguments that returns a `Certified`: the
        certificate (radii, lower bound, ratio, factor, budget curve) and the ids of its packing.

    Raises:
        ValueError: as `select`.

    >>> from balancer import select_certified
    >>> tiles = np.random.default_rng(0).normal(size=(100, 8))
    >>> picks, certify = select_certified(tiles, 10)
    >>> certify().certificate.ratio >= 1
    True
    """
    return select_weighted(
        embeddings,
        selection,
        ids=ids,
        seed=seed,
        normalize=normalize,
        clustering=clustering,
        constraints=constraints,
    )[:2]


@dataclass(frozen=True, slots=True)
class TileWeights:
    """How often each tile should be shown, on average, picked or not.

    (N,) ids, cluster and weight, without excluded rows; the weights add up to the budget.
    """

    ids: IdArray
    cluster: IntArray
    weight: DoubleArray


def select_weighted(  # noqa: PLR0913 - a public call spells its options out
    embeddings: ArrayLike,
    selection: SelectionConfig | float,
    *,
    ids: IdArray | None = None,
    seed: int = 0,
    normalize: bool = True,
    clustering: ClusteringConfig | None = None,
    constraints: Constraints | None = None,
    columns: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[Selection, Callable[[], Certified], TileWeights | None]:
    """Pick as `select` does; return the picks, what certifies them, and every tile's weight.

    The weights are None for a strategy without quotas, which has no rate for what it left.

    Raises:
        ValueError: as `select`; a column of `quotas.axes` that is not there.

    >>> tiles = np.random.default_rng(0).normal(size=(100, 8))
    >>> _, _, weights = select_weighted(tiles, 10)
    >>> float(weights.weight.sum().round(9))
    10.0
    """
    config = (
        selection
        if isinstance(selection, SelectionConfig)
        else SelectionConfig(budget=float(selection))
    )
    if config.fallback is not None:
        raise ValueError(NEEDS_HEALTH)
    limits = constraints or Constraints()
    include = np.asarray(limits.include, dtype=np.str_)
    if isinstance(embeddings, np.memmap) and config.strategy in OUT_OF_CORE:
        mapped, column = _mapped_pool(embeddings, config, ids, columns, limits, normalize=normalize)
        settings = Settings.of(config, derive_seed(seed, "select"), None, include=include)
        settings = replace(settings, quality_column=column)
        picked = run_strategy(config.strategy, mapped, _budget(config, mapped.num_rows), settings)
        return picked, partial(certify_selection, mapped, picked, seed=settings.seed), None
    points, names, kept = _prepare_kept(embeddings, ids, limits, normalize=normalize)
    found, quality_column = _all_columns(config, columns, limits, len(kept))
    found = {name: values[kept] for name, values in found.items()}
    budget = _budget(config, len(points))
    engine = EngineChoice.of(config)
    pool = ArrayPool(points, names, columns=found, engine=engine)
    fitted: Clustering | None = None
    if config.strategy in CLUSTERED:
        kmeans = clustering or ClusteringConfig()
        count = kmeans.num_clusters or default_num_clusters(budget, len(points))
        fitter = fit_hierarchy if config.strategy == "hierarchical" else fit
        fitted = fitter(pool, count, config=kmeans, seed=derive_seed(seed, "cluster"))
        labels, _ = assign(points, fitted.centroids)
        pool = ArrayPool(points, names, labels, fitted.centroids, found, engine)
    settings = Settings.of(config, derive_seed(seed, "select"), fitted, include=include)
    settings = replace(settings, quality_column=quality_column)
    picked = run_strategy(config.strategy, pool, budget, settings)
    return (
        picked,
        partial(certify_selection, pool, picked, seed=settings.seed),
        _weigh(pool, picked),
    )


def _budget(config: SelectionConfig, count: int) -> int:
    budget = int(config.budget) if config.budget >= 1 else round(config.budget * count)
    if not 1 <= budget <= count:
        raise ValueError(
            f"The budget must lie between 1 and the {count} rows there are; got {budget}. "
            f"Lower the budget or add rows."
        )
    return budget


def _mapped_pool(
    embeddings: ArrayLike,
    config: SelectionConfig,
    ids: IdArray | None,
    columns: Mapping[str, NDArray[Any]] | None,
    constraints: Constraints,
    *,
    normalize: bool,
) -> tuple[MappedPool, str | None]:
    """Return the validated rows of a mapped array, and the name of the quality's column.

    Nothing is copied where the array is float32 and C-contiguous.
    """
    points, names = _matrix_and_ids(embeddings, ids)
    kept = kept_rows(names, constraints)
    ignored = None if kept is None else ~kept
    require_finite(points, names, nonzero=normalize, ignored=ignored)
    _require_scale(points, ignored, normalize=normalize)
    found, quality_column = _all_columns(config, columns, constraints, len(names))
    kept = np.ones(len(names), np.bool_) if kept is None else kept
    engine = EngineChoice.of(config)
    pool = MappedPool(points, names, kept, normalize=normalize, columns=found, engine=engine)
    return pool, quality_column


def _columns(
    config: SelectionConfig, columns: Mapping[str, NDArray[Any]] | None, count: int
) -> dict[str, NDArray[Any]]:
    found = {}
    for name in config.quotas.axes:
        if columns is None or name not in columns:
            there = ", ".join(columns) if columns else "none"
            raise ValueError(
                f"quotas.axes must name columns that are given; got {name!r}, and there are: "
                f"{there}. Give it in columns."
            )
        found[name] = np.asarray(columns[name])
        if found[name].shape != (count,):
            raise ValueError(
                f"Column {name!r} must have one value per row ({count}); got {found[name].shape}."
            )
        if found[name].dtype.kind not in "fO":
            numeric = found[name].dtype.kind in "iu"
            found[name] = found[name].astype(np.float64 if numeric else object)
    return found


def _weigh(pool: ArrayPool, picked: Selection) -> TileWeights | None:
    if picked.allocation is None or pool.labels is None:
        return None
    rows = ShardRows(pool.ids, pool.points, pool.columns)
    strata = label_rows(rows, pool.labels, picked.allocation.strata)
    return TileWeights(pool.ids, pool.labels, tile_rates(pool.ids, strata, picked.allocation))


def prepare(
    embeddings: ArrayLike, ids: IdArray | None, *, normalize: bool
) -> tuple[FloatArray, IdArray]:
    """Validate embeddings and ids; return (N, D) float32 rows, normalised if asked, and ids.

    Raises:
        ValueError: what is wrong, with the id of the row.
    """
    points, names = _matrix_and_ids(embeddings, ids)
    require_finite(points, names, nonzero=normalize)
    _require_scale(points, None, normalize=normalize)
    return (l2_normalize(points) if normalize else points), names


def _require_scale(points: FloatArray, ignored: BoolArray | None, *, normalize: bool) -> None:
    problem = None if normalize else underflow(points, ignored)
    if problem is not None:
        raise ValueError(problem)


def _all_columns(
    config: SelectionConfig,
    columns: Mapping[str, NDArray[Any]] | None,
    constraints: Constraints,
    count: int,
) -> tuple[dict[str, NDArray[Any]], str | None]:
    """Return the columns of quotas and quality together, and the name of the quality."""
    found = _columns(config, columns, count)
    quality = quality_columns(constraints, config, count)
    for name, values in quality.items():
        if name in found and not np.array_equal(found[name], values):
            raise ValueError(
                f"Column {name!r} of quotas.axes must hold the quality that is given, because both "
                f"have its name. Give one of them another name, or the same values."
            )
    return found | quality, next(iter(quality), None)


def _prepare_kept(
    embeddings: ArrayLike, ids: IdArray | None, constraints: Constraints, *, normalize: bool
) -> tuple[FloatArray, IdArray, BoolArray]:
    """Do as `prepare` for the rows that are not excluded; return which those are too."""
    points, names = _matrix_and_ids(embeddings, ids)
    kept = kept_rows(names, constraints)
    if kept is None:
        kept = np.ones(len(names), np.bool_)
    else:
        points, names = points[kept], names[kept]
    points, names = prepare(points, names, normalize=normalize)
    return points, names, kept


def row_numbers(count: int) -> IdArray:
    """Return row numbers as decimal text, in no more characters than they take.

    >>> row_numbers(11)[[0, 10]].tolist()
    ['0', '10']
    """
    return np.arange(count).astype(f"U{len(str(max(0, count - 1)))}")


def _matrix_and_ids(embeddings: ArrayLike, ids: IdArray | None) -> tuple[FloatArray, IdArray]:
    # asarray makes a plain array of a memory map without reading it.
    given = np.asarray(embeddings)
    if given.dtype.kind not in "fiub":
        raise ValueError(
            f"Embeddings must hold real numbers; got {given.dtype}. Convert them to float32."
        )
    points = np.ascontiguousarray(given, dtype=np.float32)
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(
            f"Embeddings must be a matrix of N > 0 rows and D > 0 columns; "
            f"got shape {points.shape}."
        )
    names = row_numbers(len(points)) if ids is None else np.asarray(ids, dtype=np.str_)
    if names.shape != (len(points),):
        raise ValueError(f"There must be one id per row ({len(points)}); got {names.shape}.")
    ordered = np.sort(names)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise ValueError(
            f"Ids must be unique; {len(repeated)} repeat, the first is {str(repeated[0])!r}. "
            f"Drop or rename the duplicates."
        )
    return points, names
