"""The plots of balance, embedding space and geography. Rounds are in `round_figures`."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, MaxNLocator

from balancer.report.content import Coordinates, GroupSizes, Projection
from balancer.report.style import (
    ARCHIVE,
    COMPARED,
    CYCLE,
    INK,
    MARKERS,
    SELECTED,
    Canvas,
    Picture,
    safe_text,
    shorten,
)
from balancer.types import DoubleArray

MAX_CLASSES = 30
"""Classes drawn at most; with more, those between the largest and the rarest half are left out."""

WHOLE_WORLD_DEGREES = 180.0
"""Archives wider than this are drawn on the whole globe."""

_DENSITY = LinearSegmentedColormap.from_list("density", ["#e4e8ec", "#87929d"])


def cluster_sizes(sizes: GroupSizes) -> Picture:
    """Draw the share of each cluster, from the largest of the archive to the smallest."""
    order = np.argsort(-sizes.archive, kind="stable")
    archive, selected = _percent(sizes.archive[order]), _percent(sizes.selected[order])
    rank = np.arange(1, len(order) + 1)
    canvas = Canvas("Cluster shares before and after")
    axes = canvas.axes
    axes.bar(rank, archive, width=0.9, color=ARCHIVE, alpha=0.75, label="archive")
    if sizes.random is not None:
        random = _percent(sizes.random[order])
        axes.plot(rank, random, ".", color=COMPARED, markersize=5, label="random")
    style = "o-" if len(order) <= 60 else "-"
    axes.plot(rank, selected, style, color=SELECTED, markersize=3.5, label="selection")
    axes.axhline(100 / len(order), color=INK, linewidth=1, linestyle=":", label="equal shares")
    canvas.label("cluster, by size in the archive (rank)", "share of the tiles (%)")
    axes.set_xlim(0.3, len(order) + 0.7)
    canvas.whole_numbers(x=True)
    canvas.legend_below(4)
    return canvas.picture(
        f"Bar and line chart of {len(order)} clusters. Largest cluster: {archive.max():.1f} % of "
        f"the archive, {selected[0]:.1f} % of the selection; equal shares would be "
        f"{100 / len(order):.1f} %."
    )


def class_sizes(sizes: GroupSizes) -> Picture:
    """Draw the share of each class in archive, random selection and selection."""
    order = np.argsort(-sizes.archive, kind="stable")
    half = MAX_CLASSES // 2
    kept = order if len(order) <= MAX_CLASSES else np.r_[order[:half], order[-half:]]
    archive, selected = _percent(sizes.archive)[kept], _percent(sizes.selected)[kept]
    place = np.arange(len(kept))
    canvas = Canvas("Class shares before and after", height=max(3.3, 1.2 + 0.28 * len(kept)))
    axes = canvas.axes
    bar = 0.27
    axes.barh(place - bar, archive, bar, color=ARCHIVE, label="archive")
    if sizes.random is not None:
        random = _percent(sizes.random)[kept]
        axes.barh(place, random, bar, color=COMPARED, label="random")
    axes.barh(place + bar, selected, bar, color=SELECTED, label="selection")
    equal = 100 / len(order)
    axes.axvline(equal, color=INK, linewidth=1, linestyle=":", label="equal shares")
    axes.set_yticks(place, [safe_text(shorten(sizes.names[i], 22)) for i in kept])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    left_out = len(order) - len(kept)
    note = f"class ({left_out} of middling size not drawn)" if left_out else "class"
    canvas.label("share of the tiles (%)", note)
    canvas.legend_below(4)
    rarest = order[-1]
    return canvas.picture(
        f"Bar chart of {len(kept)} classes. The rarest, {sizes.names[rarest]}, goes from "
        f"{_percent(sizes.archive)[rarest]:.1f} % of the archive to "
        f"{_percent(sizes.selected)[rarest]:.1f} % of the selection; equal shares would be "
        f"{equal:.1f} %."
    )


def projection_picks(projection: Projection) -> Picture:
    """Draw the picked tiles over all tiles of the sample."""
    canvas = Canvas("Picks in the embedding space", height=4.2)
    picked = projection.picked
    for mask, color, size, name in (
        (~picked, "#b9c1c9", 4, "not picked"),
        (picked, SELECTED, 7, "picked"),
    ):
        x, y = projection.points[mask].T
        canvas.axes.scatter(
            x, y, s=size, c=color, linewidths=0, alpha=0.8, label=name, rasterized=True
        )
    _label_components(canvas, projection)
    canvas.legend_below(2)
    return canvas.picture(
        f"Scatter plot of {len(picked):,} embeddings on their first two principal components; "
        f"{int(picked.sum()):,} of them are picked."
    )


def projection_groups(projection: Projection) -> Picture:
    """Draw the sample by class or cluster; the largest groups have their own colour and marker."""
    counts = np.bincount(projection.group, minlength=len(projection.group_names))
    largest = np.argsort(-counts, kind="stable")[: len(CYCLE)]
    largest = largest[counts[largest] > 0]
    canvas = Canvas(f"The same tiles by {projection.group_kind}", height=4.2)
    others = ~np.isin(projection.group, largest)
    if others.any():
        x, y = projection.points[others].T
        name = f"other {projection.group_kind}" + (
            "es" if projection.group_kind[-1] == "s" else "s"
        )
        canvas.axes.scatter(x, y, s=4, c="#c9d0d6", linewidths=0, label=name, rasterized=True)
    for place, group in enumerate(largest):
        x, y = projection.points[projection.group == group].T
        canvas.axes.scatter(
            x,
            y,
            s=7,
            c=CYCLE[place],
            marker=MARKERS[place],
            linewidths=0,
            alpha=0.75,
            label=safe_text(shorten(projection.group_names[group], 15)),
            rasterized=True,
        )
    _label_components(canvas, projection)
    canvas.legend_below(3)
    return canvas.picture(
        f"The same scatter plot, coloured by the {len(largest)} largest groups of "
        f"{len(projection.group_names)} by {projection.group_kind}."
    )


def coordinates_map(coordinates: Coordinates) -> Picture:
    """Draw the picks over the density of the archive, equirectangular, with a graticule.

    One degree of longitude is drawn cos(middle latitude) as wide as one of latitude, so shapes are
    true near the middle of the map.
    """
    west, east, south, north = _extent(coordinates)
    aspect = 1 / max(0.2, math.cos(math.radians((south + north) / 2)))
    ratio = (north - south) * aspect / (east - west)
    canvas = Canvas(
        "Where the archive and the picks lie", width=6.2, height=min(6.0, 1.3 + 4.7 * ratio)
    )
    axes = canvas.axes
    columns = 72
    rows = max(8, min(72, round(columns * ratio)))
    density, x_edges, y_edges = np.histogram2d(
        coordinates.lon,
        coordinates.lat,
        bins=(columns, rows),
        range=((west, east), (south, north)),
    )
    mesh = axes.pcolormesh(
        x_edges,
        y_edges,
        np.ma.masked_equal(density.T, 0),
        cmap=_DENSITY,
        vmin=0,
        vmax=max(1.0, float(density.max())),
        linewidth=0,
        rasterized=True,
    )
    canvas.color_scale(mesh, "archive tiles per cell")
    picked = coordinates.picked
    axes.scatter(
        coordinates.lon[picked],
        coordinates.lat[picked],
        s=9,
        c=SELECTED,
        linewidths=0.4,
        edgecolors="white",
        label="picked tile",
        rasterized=True,
    )
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(aspect)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 3, 6, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 3, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _degrees(value, "E", "W")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _degrees(value, "N", "S")))
    canvas.label("longitude (degrees)", "latitude (degrees)")
    canvas.legend_below(1)
    return canvas.picture(
        f"Map of {len(picked):,} tiles between {_degrees(west, 'E', 'W')} and "
        f"{_degrees(east, 'E', 'W')}, {_degrees(south, 'N', 'S')} and "
        f"{_degrees(north, 'N', 'S')}; {int(picked.sum()):,} of them are picked."
    )


def _percent(counts: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> DoubleArray:
    values = counts.astype(np.float64)
    total = float(values.sum())
    return 100 * values / total if total else values


def _label_components(canvas: Canvas, projection: Projection) -> None:
    first, second = (f"{100 * share:.0f} % of the variance" for share in projection.explained)
    canvas.label(f"principal component 1 ({first})", f"principal component 2 ({second})")


def _extent(coordinates: Coordinates) -> tuple[float, float, float, float]:
    """Return west, east, south, north: the data's box with a margin, or the whole globe."""
    west, east = float(coordinates.lon.min()), float(coordinates.lon.max())
    south, north = float(coordinates.lat.min()), float(coordinates.lat.max())
    if east - west > WHOLE_WORLD_DEGREES:
        return -180.0, 180.0, -90.0, 90.0
    margin = max(0.05 * max(east - west, north - south), 0.01)
    # A box flatter than 1:5 is widened, so that the map stays a map.
    width, height = east - west + 2 * margin, north - south + 2 * margin
    extra_x, extra_y = max(0.0, height / 3 - width) / 2, max(0.0, width / 5 - height) / 2
    return (
        max(-180.0, west - margin - extra_x),
        min(180.0, east + margin + extra_x),
        max(-90.0, south - margin - extra_y),
        min(90.0, north + margin + extra_y),
    )


def _degrees(value: float, positive: str, negative: str) -> str:
    side = positive if value > 0 else negative if value < 0 else ""
    return f"{abs(value):g}\N{DEGREE SIGN}{side}"
