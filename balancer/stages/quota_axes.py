"""The metadata columns that quotas are kept over."""

from __future__ import annotations

from balancer.config import Config
from balancer.errors import ConfigError
from balancer.stages.catalog import Catalog


def check_axes(config: Config, catalog: Catalog) -> tuple[str, ...]:
    """Return the columns of `selection.quotas.axes`, before anything is trained.

    Raises:
        ConfigError: a column that no tile has, listing those there are.
    """
    columns = tuple(config.selection.quotas.axes)
    present = catalog.facts["metadata_columns"]
    absent = [name for name in columns if name not in present]
    if absent:
        there = f"There are: {', '.join(present)}." if present else "The archive has no metadata."
        raise ConfigError(
            f"selection.quotas.axes must name metadata columns of the archive; got {absent[0]!r}. "
            f"{there}"
        )
    return columns
