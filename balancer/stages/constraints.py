"""Check a run's constraints against its catalog before anything is trained, and its pool later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.errors import ConfigError, DataError
from balancer.selection.included import find_quality, included_picks
from balancer.selection.quality import (
    QualityRange,
    finalize_quality,
    local_quality,
    merge_quality,
)
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.pool import RayPool
from balancer.stages.pool_worker import read_columns
from balancer.stages.tasks import run_tasks
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.storage.tile_lists import TileLists
from balancer.types import IdArray, ShardRef, ShardRows


@dataclass(frozen=True, slots=True)
class ShardFinding:
    """What one cataloged shard has of the lists: ids, a number, and its range of qualities."""

    included: IdArray
    num_excluded: int
    quality: QualityRange | None


def check_catalog(context: RunContext, catalog: Catalog) -> int:
    """Refuse constraints that the catalog cannot meet.

    Returns:
        How many cataloged tiles are excluded; ids that no tile has are left alone, since one list
        may serve several archives.

    Raises:
        ConfigError: an included tile that is not in the catalog, or more of them than the budget.
        DataError: a tile without a usable quality, named.

    Cost: nothing without constraints; else every shard's catalog is read once, by a task.
    """
    selection, lists = context.config.selection, context.lists
    column = selection.quality_column
    if not len(lists) and column is None:
        return 0
    arguments = [(context.store, shard, lists, column) for shard in catalog.shards]
    parts = [part for _, part in run_tasks(find_in_catalog, arguments)]
    found = np.concatenate([part.included for part in parts])
    absent = lists.include[~np.isin(lists.include, found)]
    if len(absent):
        raise ConfigError(
            f"selection.include must name tiles of the archive that can be read; "
            f"{str(absent[0])!r} of {selection.include} is none ({len(absent)} in all). Take such "
            f"ids off the list; the catalog's quarantine tells which tiles could not be read."
        )
    num_excluded: int = sum(part.num_excluded for part in parts)
    budget = selection.resolve(
        catalog.num_tiles - num_excluded, pool="the archive's readable tiles less the excluded"
    )
    if len(lists.include) > budget:
        raise ConfigError(
            f"selection.include must not name more tiles than the budget of {budget}; it names "
            f"{len(lists.include)}, and {str(lists.include[budget])!r} is the first too many. "
            f"Raise the budget, or shorten the list."
        )
    ranges = [part.quality for part in parts if part.quality is not None]
    if column is not None:
        try:
            finalize_quality(merge_quality(ranges), column)
        except ValueError as error:
            raise DataError(str(error)) from error
    return num_excluded


def find_in_catalog(
    store: Store, shard: ShardRef, lists: TileLists, column: str | None
) -> ShardFinding:
    """Return what one shard has of the lists and of the quality column (runs on a worker)."""
    table = read_table(store, shard.catalog_uri, sha256=shard.sha256, columns=["tile_id"])
    ids = np.array(table["tile_id"].to_pylist(), dtype=np.str_)
    left = ids[~np.isin(ids, lists.exclude)]
    quality = None
    if column is not None:
        columns = read_columns(store, shard, left, [column])
        quality = local_quality(
            ShardRows(left, np.empty((len(left), 0), np.float32), columns), column
        )
    return ShardFinding(left[np.isin(left, lists.include)], len(ids) - len(left), quality)


def check_pool(context: RunContext, pool: RayPool, budget: int) -> None:
    """Refuse constraints that what could be embedded cannot meet.

    Raises:
        DataError: too few tiles for budget and outliers, or an included tile is not among them.
    """
    selection = context.config.selection
    if budget + selection.num_outliers > pool.num_rows:
        outliers = f" and {selection.num_outliers} outliers" if selection.num_outliers else ""
        excluded = " and are not excluded" if len(context.lists.exclude) else ""
        raise DataError(
            f"selection.budget must not exceed the tiles that could be embedded{excluded} "
            f"({pool.num_rows}); got {budget}{outliers}. Lower the budget, or mend the tiles that "
            f"the quarantine tables of the embed stage list."
        )
    try:
        included_picks(pool, context.lists.include)
        find_quality(pool, selection.quality_column)
    except ValueError as error:
        raise DataError(f"{error} The quarantine tables of the embed stage tell why.") from error
