"""The classes of the demo archive: how each is drawn, and how many tiles of each there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from balancer.demo.city import urban
from balancer.demo.color import develop
from balancer.demo.farmland import field
from balancer.demo.ground import canopy
from balancer.demo.land import burn_scar, coast, desert, river, snow_mountain
from balancer.demo.mine import mine
from balancer.demo.noise import Canvas, new_canvas
from balancer.demo.sky import cloud, ocean, storm
from balancer.types import ByteArray, FloatArray

TILE_SIZE = 64
"""Pixels along a side of a tile."""
MIN_TILES_PER_CLASS = 8
"""Tiles of the rarest class, however small the archive."""
MIN_ARCHIVE_TILES = 240
"""Below this the rare classes, at their minimum, would not be rare."""


@dataclass(frozen=True, slots=True)
class SceneClass:
    """One class of the archive.

    Attributes:
        draw: draws it on a canvas.
        oversampling: canvas pixels per tile pixel; more where edges are sharp.
        share: of the archive's tiles.
    """

    draw: Callable[[Canvas], FloatArray]
    oversampling: int
    share: float


CLASSES: Mapping[str, SceneClass] = MappingProxyType(
    {
        "ocean": SceneClass(ocean, 1, 0.340),
        "cloud": SceneClass(cloud, 1, 0.200),
        "forest": SceneClass(canopy, 1, 0.170),
        "field": SceneClass(field, 2, 0.105),
        "desert": SceneClass(desert, 1, 0.070),
        "river": SceneClass(river, 2, 0.035),
        "urban": SceneClass(urban, 3, 0.030),
        "coast": SceneClass(coast, 2, 0.020),
        "snow_mountain": SceneClass(snow_mountain, 2, 0.014),
        "burn_scar": SceneClass(burn_scar, 2, 0.007),
        "mine": SceneClass(mine, 2, 0.005),
        "storm": SceneClass(storm, 2, 0.004),
    }
)
"""The long tail, most frequent first; the shares sum to 1."""


def class_counts(total: int) -> dict[str, int]:
    """Return how many tiles of each class an archive of `total` tiles holds.

    Each class gets `round(share * total)`, and at least `MIN_TILES_PER_CLASS`; the most frequent
    class takes what rounding leaves or lacks.

    Args:
        total: tiles in the archive.

    Returns:
        Counts by class name, most frequent first, summing to `total`.

    Raises:
        ValueError: the archive is too small for its long tail.

    >>> class_counts(4500)["ocean"], class_counts(4500)["storm"]
    (1530, 18)
    """
    if total < MIN_ARCHIVE_TILES:
        raise ValueError(
            f"total must be at least {MIN_ARCHIVE_TILES}, so that the rare classes are rare; "
            f"got {total}."
        )
    counts = {
        name: max(MIN_TILES_PER_CLASS, round(kind.share * total)) for name, kind in CLASSES.items()
    }
    first = next(iter(counts))
    counts[first] += total - sum(counts.values())
    return counts


def render_tile(kind: str, rng: np.random.Generator) -> ByteArray:
    """Draw one tile.

    Args:
        kind: a name in `CLASSES`.
        rng: the generator that decides everything about the tile.

    Returns:
        (64, 64, 3) uint8.

    Raises:
        ValueError: there is no such class.

    >>> render_tile("ocean", np.random.default_rng(0)).shape
    (64, 64, 3)
    """
    scene = CLASSES.get(kind)
    if scene is None:
        raise ValueError(f"kind must be one of {', '.join(CLASSES)}; got {kind!r}.")
    canvas = new_canvas(rng, TILE_SIZE * scene.oversampling)
    return develop(canvas, scene.draw(canvas), size=TILE_SIZE)
