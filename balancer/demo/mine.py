"""Open-cast mines: terraced pits, waste heaps, tailings ponds, haul roads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balancer.demo.color import Rgb, lit, mix, per_channel, pick, ramp, solid
from balancer.demo.ground import bare_rock, canopy, open_country, quilt
from balancer.demo.noise import Canvas, fbm, hillshade, ramp_up
from balancer.types import FloatArray


def mine(canvas: Canvas) -> FloatArray:
    """Draw an open pit in forest or desert: terraces, haul roads, waste heaps, tailings ponds."""
    covers = (canopy, open_country, bare_rock, quilt)
    land = covers[int(canvas.rng.choice(4, p=[0.55, 0.25, 0.14, 0.06]))](canvas)
    soils: list[list[Rgb]] = [
        [(112, 90, 70), (162, 136, 108), (202, 180, 150)],
        [(122, 112, 100), (166, 156, 142), (208, 202, 190)],
        [(118, 84, 66), (158, 116, 92), (190, 154, 126)],
        [(84, 80, 78), (126, 122, 116), (176, 170, 160)],
    ]
    soil = pick(canvas, soils)
    ragged = fbm(canvas, slope=3.4, low=1.2)
    pit, turn = _bowl(
        canvas, canvas.rng.uniform(-0.14, 0.14, size=2), canvas.uniform(0.2, 0.32), ragged
    )
    rim = canvas.uniform(1.15, 1.5)
    worked = ramp_up(pit + 0.2 * fbm(canvas, slope=3.0, low=1.5), rim, rim - 0.12)
    steps = canvas.uniform(4.0, 8.0)
    level = np.clip(1.0 - pit, 0.0, 1.0) * steps
    bench = np.floor(level) + ramp_up(level - np.floor(level), 0.55, 1.0)
    height = -bench * np.float32(0.3) + 0.05 * fbm(canvas, slope=3.0, low=2.0)
    height = height + _heaps(canvas, worked)
    light = hillshade(height, azimuth=canvas.angle(), strength=canvas.uniform(0.45, 0.8))
    tone = 0.58 + 0.12 * fbm(canvas, slope=2.8, low=1.0) - 0.3 * level / steps
    ground = lit(ramp(tone, soil), np.clip(light, 0.45, 1.4))
    road = np.mod(level + turn / np.float32(2 * np.pi), steps)
    ramp_road = ramp_up(np.abs(road - 0.5 * steps), 0.3, 0.12) * (level > 0.1)
    ground = mix(ground, soil[2], 0.6 * ramp_road)
    image = mix(land, ground, worked)
    ponds: list[Rgb] = [
        (78, 132, 130),
        (104, 140, 124),
        (132, 98, 72),
        (56, 84, 90),
        (146, 156, 150),
    ]
    if canvas.chance(0.5):
        pool = solid(ponds[int(canvas.rng.integers(5))]) * per_channel(canvas, 0.06)
        image = mix(image, pool, ramp_up(pit, 0.3, 0.24))
    for _ in range(int(canvas.rng.integers(1, 4))):
        image = _pond(canvas, image, solid(ponds[int(canvas.rng.integers(5))]), soil)
    return _haul_road(canvas, image, soil)


def _bowl(
    canvas: Canvas, centre: NDArray[np.float64], reach: float, ragged: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return a distance from a centre, 1 at the rim of a bent ellipse, and the bearing."""
    u, v = canvas.rotated(canvas.angle())
    u, v = u - np.float32(centre[0]), (v - np.float32(centre[1])) * canvas.uniform(1.0, 1.7)
    radius = np.hypot(u, v) / np.float32(reach)
    return (radius * (1.0 + 0.1 * ragged)).astype(np.float32), np.arctan2(v, u)


def _heaps(canvas: Canvas, worked: FloatArray) -> FloatArray:
    total = np.zeros_like(worked)
    for _ in range(int(canvas.rng.integers(1, 4))):
        bearing, way = canvas.angle(), canvas.uniform(0.28, 0.42)
        centre = np.array([way * np.cos(bearing), way * np.sin(bearing)])
        heap, _ = _bowl(canvas, centre, canvas.uniform(0.08, 0.16), fbm(canvas, slope=3.2, low=2.0))
        total += ramp_up(heap, 1.1, 0.7) + 0.5 * ramp_up(heap, 0.6, 0.4)
    return total * worked


def _pond(canvas: Canvas, image: FloatArray, color: FloatArray, soil: FloatArray) -> FloatArray:
    bearing, way = canvas.angle(), canvas.uniform(0.28, 0.45)
    centre = np.array([way * np.cos(bearing), way * np.sin(bearing)])
    basin, _ = _bowl(canvas, centre, canvas.uniform(0.06, 0.14), fbm(canvas, slope=3.6, low=1.5))
    basin = basin + 0.05 * fbm(canvas, slope=2.4, low=3.0)
    image = mix(image, soil[2], 0.8 * ramp_up(basin, 1.4, 1.2))
    fill = mix(np.broadcast_to(soil[1], image.shape), color, ramp_up(basin, 1.0, 0.55))
    return mix(image, fill, ramp_up(basin, 1.16, 1.08))


def _haul_road(canvas: Canvas, image: FloatArray, soil: FloatArray) -> FloatArray:
    u, v = canvas.rotated(canvas.angle())
    bend = canvas.uniform(0.05, 0.15) * np.sin(
        u * canvas.uniform(3, 8) + np.float32(canvas.angle())
    )
    away = np.abs(v - bend)
    track = ramp_up(away, 0.016, 0.008) * (u > 0.1)
    return mix(image, soil[2] * 0.95, 0.85 * track)
