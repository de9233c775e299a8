"""Noise fields, coordinates and cells that the scenes are made of.

A `Canvas` is a square of pixels with a generator; lengths are in tiles (the tile is 1 wide) and
frequencies in cycles per tile, so a scene looks the same whatever size it is drawn at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from balancer.types import FloatArray

CELL_TABLE = 64
"""Cells repeat after this many, far beyond the edge of a tile; a power of two."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A square to draw on.

    Attributes:
        rng: all randomness of the scene.
        size: pixels along a side.
        x: (size, size) float32, -0.5 at the left edge to 0.5 at the right.
        y: (size, size) float32, -0.5 at the top to 0.5 at the bottom.
    """

    rng: np.random.Generator
    size: int
    x: FloatArray
    y: FloatArray

    def uniform(self, low: float, high: float) -> float:
        """Draw a number from [low, high)."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Draw a yes with this probability."""
        return bool(self.rng.random() < probability)

    def angle(self) -> float:
        """Draw a direction in radians."""
        return self.uniform(0.0, 2 * np.pi)

    def rotated(self, angle: float) -> tuple[FloatArray, FloatArray]:
        """Return the coordinates along and across a direction."""
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return cosine * self.x + sine * self.y, cosine * self.y - sine * self.x


def new_canvas(rng: np.random.Generator, size: int) -> Canvas:
    """Return an empty square of `size` pixels."""
    x, y = _grid(size)
    return Canvas(rng=rng, size=size, x=x, y=y)


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[FloatArray, FloatArray]:
    line = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    return x, y


@lru_cache(maxsize=8)
def _frequencies(side: int, size: int) -> tuple[FloatArray, FloatArray]:
    vertical = (fft.fftfreq(side) * size).astype(np.float32)[:, None]
    horizontal = (fft.rfftfreq(side) * size).astype(np.float32)[None, :]
    return vertical, horizontal


def fbm(
    canvas: Canvas,
    *,
    slope: float = 3.0,
    low: float = 1.0,
    high: float = 1e4,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> FloatArray:
    """Draw fractal noise by spectral synthesis: power ~ frequency ** -slope between two cut-offs.

    Saupe, "Algorithms for random fractals" (in The Science of Fractal Images, 1988), section 2.4;
    drawn on a square 5/4 as wide and cropped, so that opposite edges do not match.

    Args:
        canvas: where to draw.
        slope: 0 is white, 2 is rough, 3 is cloud-like, 4 is smooth.
        low: cycles per tile below which power falls away.
        high: cycles per tile above which power falls away.
        stretch: features are this many times longer along `angle` than across it.
        angle: radians.

    Returns:
        (size, size) float32 with mean 0 and standard deviation 1.
    """
    side = canvas.size * 5 // 4
    vertical, horizontal = _frequencies(side, canvas.size)
    if stretch == 1.0:
        squared = vertical**2 + horizontal**2
    else:
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        root = np.float32(stretch**0.5)
        along = (cosine * horizontal + sine * vertical) * root
        across = (cosine * vertical - sine * horizontal) / root
        squared = along**2 + across**2
    squared[0, 0] = 1.0
    power = squared ** np.float32(-slope / 2)
    power /= 1.0 + (np.float32(low**2) / squared) ** 3
    power *= np.exp(-squared / np.float32(high**2))
    power[0, 0] = 0.0
    return _synthesise(canvas, side, np.sqrt(power))


def waves(canvas: Canvas, *, count: float, angle: float, spread: float = 0.3) -> FloatArray:
    """Draw wave trains: `count` crests per tile, travelling along `angle`.

    Args:
        canvas: where to draw.
        count: cycles per tile.
        angle: direction of travel in radians.
        spread: relative width of the spectrum; small is regular, large is choppy.

    Returns:
        (size, size) float32 with mean 0 and standard deviation 1.
    """
    side = canvas.size * 5 // 4
    vertical, horizontal = _frequencies(side, canvas.size)
    wide = np.float32(spread * count)
    along = np.cos(angle) * horizontal + np.sin(angle) * vertical
    across = (np.cos(angle) * vertical - np.sin(angle) * horizontal) / wide
    power = np.exp(-(((np.abs(along) - np.float32(count)) / wide) ** 2) - across**2)
    return _synthesise(canvas, side, power.astype(np.float32))


def _synthesise(canvas: Canvas, side: int, amplitude: FloatArray) -> FloatArray:
    # Uniform coefficients cost a third of normal ones, and their many sums are as good as normal.
    white = canvas.rng.random((*amplitude.shape, 2), dtype=np.float32) - np.float32(0.5)
    spectrum = white.view(np.complex64)[..., 0] * amplitude
    field: FloatArray = fft.irfft2(spectrum, s=(side, side))[: canvas.size, : canvas.size]
    field = field - field.mean()
    scaled: FloatArray = (field / (field.std() + np.float32(1e-9))).astype(np.float32)
    return scaled


def ridged(field: FloatArray) -> FloatArray:
    """Fold noise: its zero lines become sharp crests at 1, its extremes valleys near 0."""
    folded: FloatArray = np.exp(-1.6 * np.abs(field)).astype(np.float32)
    return folded


def ramp_up(field: FloatArray, start: float, end: float) -> FloatArray:
    """Return the smooth step from 0 at `start` to 1 at `end` (which may be the smaller)."""
    t = np.clip((field - np.float32(start)) / np.float32(end - start), 0.0, 1.0)
    step: FloatArray = (t * t * (3.0 - 2.0 * t)).astype(np.float32)
    return step


def hillshade(height: FloatArray, *, azimuth: float, strength: float) -> FloatArray:
    """Return the light on a surface, about 1 where it is flat.

    Args:
        height: (size, size) float32.
        azimuth: direction that the light comes from, in radians.
        strength: contrast; slopes are measured in height per tile.
    """
    across = np.float32(height.shape[0]) * np.float32(0.1 * strength)
    gy, gx = np.gradient(height)
    fall = np.cos(azimuth) * gx + np.sin(azimuth) * gy
    # One-sided differences at the edge see ripples that the central ones smooth away: a frame.
    slope = np.pad(fall[1:-1, 1:-1], 1, mode="edge") * across
    light: FloatArray = (1.0 - slope / np.sqrt(1.0 + slope * slope) * 0.85).astype(np.float32)
    return light


def shift(field: FloatArray, dx: float, dy: float) -> FloatArray:
    """Return the field moved by a fraction of a tile, the edge repeated."""
    size = field.shape[0]
    moved: FloatArray = ndimage.shift(field, (dy * size, dx * size), order=1, mode="nearest")
    return moved


@dataclass(frozen=True, slots=True)
class Cells:
    """Voronoi cells of jittered grid points (Worley noise).

    Attributes:
        nearest: distance to the cell's point, in cell widths.
        border: distance difference to the second nearest point; 0 on the border.
        index: (size, size) number of the cell, below `CELL_TABLE ** 2`.
    """

    nearest: FloatArray
    border: FloatArray
    index: NDArray[np.integer]


def cells(canvas: Canvas, u: FloatArray, v: FloatArray, *, jitter: float = 1.0) -> Cells:
    """Draw Voronoi cells with one point in each unit square of the coordinates `u`, `v`.

    Worley, "A cellular texture basis function" (SIGGRAPH 1996), with one point per square.
    """
    last = CELL_TABLE - 1
    points = canvas.rng.random((2, CELL_TABLE**2), dtype=np.float32)
    points = np.float32(0.5) + np.float32(jitter) * (points - np.float32(0.5))
    column, row = np.floor(u), np.floor(v)
    u, v = u - column, v - row
    columns, rows = column.astype(np.int32), row.astype(np.int32)
    first = np.full(u.shape, 9.0, dtype=np.float32)
    second = first.copy()
    index = np.zeros(u.shape, dtype=np.int32)
    for dy in (-1, 0, 1):
        base = ((rows + dy) & last) * CELL_TABLE
        away_y = np.float32(dy) - v
        for dx in (-1, 0, 1):
            cell = base + ((columns + dx) & last)
            distance = (points[0].take(cell) + (np.float32(dx) - u)) ** 2
            distance += (points[1].take(cell) + away_y) ** 2
            np.minimum(second, np.maximum(first, distance), out=second)
            np.copyto(index, cell, where=distance < first)
            np.minimum(first, distance, out=first)
    first = np.sqrt(first)
    return Cells(nearest=first, border=np.sqrt(second) - first, index=index)


def per_cell(canvas: Canvas, index: NDArray[np.integer]) -> FloatArray:
    """Return one uniform number in [0, 1) for each cell, spread over its pixels."""
    size = max(CELL_TABLE**2, int(index.max()) + 1)
    numbers: FloatArray = canvas.rng.random(size, dtype=np.float32)[index]
    return numbers
