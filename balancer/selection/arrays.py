"""Selection on plain arrays: no Ray, no files, no run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from balancer.clustering.assignment import assign
from balancer.clustering.kmeans import default_num_clusters, fit
from balancer.config import ClusteringConfig, SelectionConfig
from balancer.distances import l2_normalize, require_finite
from balancer.seeding import derive_seed
from balancer.selection.certified import Certified, certify_selection
from balancer.selection.constraints import Constraints, kept_rows, quality_columns
from balancer.selection.fallback import NEEDS_HEALTH
from balancer.selection.pool import ArrayPool
from balancer.selection.strategies import CLUSTERED, Settings, run_strategy
from balancer.types import Clustering, FloatArray, IdArray, Selection


def select(
    embeddings: ArrayLike,
    selection: SelectionConfig | float,
    *,
    ids: IdArray | None = None,
    seed: int = 0,
    normalize: bool = True,
    clustering: ClusteringConfig | None = None,
    constraints: Constraints | None = None,
) -> Selection:
    """Pick a balanced, diverse subset of embeddings: the whole selection in one call.

    Args:
        embeddings: (N, D) numbers, finite; converted to float32.
        selection: the budget as a number, or a share below 1 (default strategy), or the whole
            `SelectionConfig`.
        ids: (N,) unique ids; row numbers as text when absent.
        seed: decides the first picks and the clustering.
        normalize: L2-normalise the rows first, which makes distances cosine distances.
        clustering: settings of k-means for the strategies that cluster.
        constraints: ids that must or must not be picked, and the rows' quality.

    Returns:
        The picks, best first; the same as a run's `select` stage makes of the same embeddings.

    Raises:
        ValueError: shapes, duplicate ids, rows that are not finite, a budget beyond N,
            constraints that cannot be met, a fallback.

    Cost: O(N D) memory; time of the strategy, see `balancer.selection.strategies`.

    >>> tiles = np.random.default_rng(0).normal(size=(100, 8))
    >>> len(select(tiles, 10))
    10
    """
    return select_certified(
        embeddings,
        selection,
        ids=ids,
        seed=seed,
        normalize=normalize,
        clustering=clustering,
        constraints=constraints,
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

    >>> tiles = np.random.default_rng(0).normal(size=(100, 8))
    >>> picks, certify = select_certified(tiles, 10)
    >>> certify().certificate.ratio >= 1
    True
    """
    config = (
        selection
        if isinstance(selection, SelectionConfig)
        else SelectionConfig(budget=float(selection))
    )
    if config.fallback is not None:
        raise ValueError(NEEDS_HEALTH)
    limits = constraints or Constraints()
    points, names, columns = _prepare_kept(embeddings, ids, limits, config, normalize=normalize)
    budget = int(config.budget) if config.budget >= 1 else round(config.budget * len(points))
    if not 1 <= budget <= len(points):
        raise ValueError(
            f"The budget must lie between 1 and the {len(points)} rows there are; got {budget}. "
            f"Lower the budget or add rows."
        )
    pool = ArrayPool(points, names, columns=columns)
    fitted: Clustering | None = None
    if config.strategy in CLUSTERED:
        kmeans = clustering or ClusteringConfig()
        count = kmeans.num_clusters or default_num_clusters(budget, len(points))
        fitted = fit(pool, count, config=kmeans, seed=derive_seed(seed, "cluster"))
        labels, _ = assign(points, fitted.centroids)
        pool = ArrayPool(points, names, labels, fitted.centroids, columns)
    include = np.asarray(limits.include, dtype=np.str_)
    settings = Settings.of(config, derive_seed(seed, "select"), fitted, include=include)
    if columns:
        settings = replace(settings, quality_column=next(iter(columns)))
    picked = run_strategy(config.strategy, pool, budget, settings)
    return picked, partial(certify_selection, pool, picked, seed=settings.seed)


def prepare(
    embeddings: ArrayLike, ids: IdArray | None, *, normalize: bool
) -> tuple[FloatArray, IdArray]:
    """Validate embeddings and ids; return (N, D) float32 rows, normalised if asked, and ids.

    Raises:
        ValueError: what is wrong, with the id of the row.
    """
    points, names = _matrix_and_ids(embeddings, ids)
    require_finite(points, names, nonzero=normalize)
    return (l2_normalize(points) if normalize else points), names


def _prepare_kept(
    embeddings: ArrayLike,
    ids: IdArray | None,
    constraints: Constraints,
    config: SelectionConfig,
    *,
    normalize: bool,
) -> tuple[FloatArray, IdArray, dict[str, NDArray[Any]]]:
    """Do as `prepare` for the rows that are not excluded; return their columns too."""
    points, names = _matrix_and_ids(embeddings, ids)
    columns = quality_columns(constraints, config, len(names))
    kept = kept_rows(names, constraints)
    if kept is not None:
        points, names = points[kept], names[kept]
        columns = {name: values[kept] for name, values in columns.items()}
    points, names = prepare(points, names, normalize=normalize)
    return points, names, columns


def _matrix_and_ids(embeddings: ArrayLike, ids: IdArray | None) -> tuple[FloatArray, IdArray]:
    points = np.ascontiguousarray(embeddings, dtype=np.float32)
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(
            f"Embeddings must be a matrix of N > 0 rows and D > 0 columns; "
            f"got shape {points.shape}."
        )
    names = (
        np.arange(len(points)).astype(np.str_) if ids is None else np.asarray(ids, dtype=np.str_)
    )
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
