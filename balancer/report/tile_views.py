"""Two pictures of the tiles: their embeddings on two axes, and where they are on the globe."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from balancer.distances import l2_normalize
from balancer.report.content import Coordinates, Projection
from balancer.report.run_files import LAT_NAMES, LON_NAMES, RunFiles, first_present
from balancer.report.samples import project, sample_rows
from balancer.report.tile_table import TileTable, positions
from balancer.storage.ledger import Record

PROJECTED = 4000
PROJECTED_PICKS = 1000
"""Picked tiles in the projection at least, where there are so many."""
MAPPED = 200_000
MAPPED_PICKS = 20_000


def projection(run: RunFiles, tiles: TileTable, last: Record) -> Projection | None:
    """Project a sample of the last round's embeddings; the axes are fitted to a plain sample.

    Picked tiles are drawn more often, because few of a large archive would be in a plain sample.
    """
    embedded = np.flatnonzero(tiles.cluster >= 0)
    rows = sample_rows(tiles, embedded, PROJECTED, PROJECTED_PICKS)
    plain = sample_rows(tiles, embedded, PROJECTED, 0)
    ids, vectors = run.read_embeddings(last, tiles.ids[rows])
    if len(ids) < 2:
        return None
    if run.config["embedding"]["normalize"]:
        # Stored as the encoder gave them; clusters and picks were made with unit vectors.
        vectors = l2_normalize(vectors)
    where = positions(tiles.ids, ids)
    points, explained = project(vectors, np.isin(where, plain))
    if tiles.labels is not None:
        names, group = np.unique(tiles.labels[where], return_inverse=True)
    else:
        names, group = np.unique(tiles.cluster[where], return_inverse=True)
    return Projection(
        points=points,
        picked=tiles.picked[where],
        group=group.astype(np.int64),
        group_names=tuple(map(str, names)),
        group_kind="cluster" if tiles.labels is None else "class",
        explained=explained,
        num_total=len(embedded),
    )


def coordinates(tiles: TileTable) -> Coordinates | None:
    """Sample the tiles that have coordinates; `None` where there are none."""
    lon_name = first_present(LON_NAMES, tiles.places.column_names)
    lat_name = first_present(LAT_NAMES, tiles.places.column_names)
    if lon_name is None or lat_name is None:
        return None
    try:
        lon, lat = (
            tiles.places[name].cast(pa.float64()).to_numpy().astype(np.float64)
            for name in (lon_name, lat_name)
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None  # a column of that name which holds no numbers
    on_globe = np.flatnonzero((np.abs(lon) <= 180) & (np.abs(lat) <= 90))
    if len(on_globe) == 0:
        return None
    rows = sample_rows(tiles, on_globe, MAPPED, MAPPED_PICKS)
    return Coordinates(lon[rows], lat[rows], tiles.picked[rows], len(on_globe))
