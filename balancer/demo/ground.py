"""Ground covers that several scenes share: open water, canopy, open country, bare rock."""

from __future__ import annotations

import numpy as np

from balancer.demo.color import Rgb, lit, mix, mottle, per_channel, pick, ramp, solid
from balancer.demo.noise import (
    Canvas,
    cells,
    fbm,
    hillshade,
    per_cell,
    ramp_up,
    ridged,
    waves,
)
from balancer.types import FloatArray

DEEP_WATER: list[list[Rgb]] = [
    [(7, 20, 42), (15, 38, 68)],
    [(9, 28, 52), (19, 50, 80)],
    [(10, 38, 60), (22, 64, 88)],
    [(16, 46, 58), (33, 74, 82)],
    [(20, 34, 46), (40, 58, 70)],
]
CANOPIES: dict[str, list[list[Rgb]]] = {
    "tropical": [
        [(18, 32, 20), (40, 60, 36), (72, 90, 54)],
        [(26, 38, 24), (48, 64, 40), (82, 96, 60)],
        [(18, 34, 26), (36, 58, 42), (60, 84, 56)],
    ],
    "temperate": [
        [(26, 40, 22), (52, 70, 36), (86, 100, 54)],
        [(30, 42, 26), (62, 76, 42), (100, 108, 64)],
    ],
    "boreal": [
        [(14, 24, 20), (30, 46, 36), (52, 66, 50)],
        [(18, 30, 26), (36, 54, 44), (64, 78, 62)],
    ],
    "autumn": [
        [(46, 48, 28), (92, 82, 46), (132, 104, 60)],
        [(40, 46, 28), (76, 74, 42), (118, 82, 50)],
    ],
    "dry": [
        [(48, 50, 30), (84, 80, 50), (120, 110, 72)],
    ],
}
SAVANNA: list[list[Rgb]] = [
    [(82, 86, 50), (124, 118, 76), (160, 146, 100)],
    [(62, 80, 42), (98, 110, 60), (134, 134, 80)],
    [(104, 90, 60), (144, 124, 84), (176, 154, 112)],
]
ROCK: list[list[Rgb]] = [
    [(78, 70, 62), (126, 114, 100), (170, 158, 142)],
    [(92, 74, 58), (140, 112, 88), (180, 150, 120)],
    [(64, 62, 62), (104, 102, 100), (146, 144, 140)],
]


def water(canvas: Canvas, *, chop: float = 1.0) -> FloatArray:
    """Draw deep water with one or two swells on it.

    Args:
        canvas: where to draw.
        chop: strength of the waves; 0 is glassy.

    Returns:
        (size, size, 3) float32.
    """
    palette = pick(canvas, DEEP_WATER)
    tone = 0.5 + 0.16 * fbm(canvas, slope=3.2, low=0.7)
    heading = canvas.angle()
    crests = canvas.uniform(6.0, 20.0)
    strength = chop * canvas.uniform(0.02, 0.2)
    tone += strength * waves(canvas, count=crests, angle=heading, spread=canvas.uniform(0.12, 0.4))
    if canvas.chance(0.5):
        second = heading + canvas.uniform(0.4, 1.4)
        tone += 0.5 * strength * waves(canvas, count=crests * 1.4, angle=second)
    return ramp(tone, palette)


def canopy(canvas: Canvas, kind: str | None = None) -> FloatArray:
    """Draw closed forest: crowns lit from one side, on rolling ground.

    Args:
        canvas: where to draw.
        kind: a key of `CANOPIES`; any of them when absent.

    Returns:
        (size, size, 3) float32.
    """
    names = ["tropical", "temperate", "boreal", "autumn", "dry"]
    if kind is None:
        kind = names[int(canvas.rng.choice(len(names), p=[0.42, 0.24, 0.24, 0.05, 0.05]))]
    palette = pick(canvas, CANOPIES[kind])
    sun = canvas.angle()
    crowns = canvas.uniform(14.0, 30.0)
    u, v = canvas.rotated(canvas.angle())
    tree = cells(canvas, crowns * u, crowns * v, jitter=0.95)
    tint = per_cell(canvas, tree.index)
    dome = np.sqrt(np.clip(1.0 - (tree.nearest / 0.85) ** 2, 0.0, 1.0)) * (0.7 + 0.6 * tint)
    stand = fbm(canvas, slope=2.8, low=canvas.uniform(0.6, 2.5))
    tone = 0.2 + 0.26 * dome + 0.2 * tint + canvas.uniform(0.04, 0.12) * stand
    image = ramp(tone, palette)
    crown_light = hillshade(dome, azimuth=sun, strength=canvas.uniform(0.12, 0.34))
    image = lit(image, np.clip(crown_light, 0.55, 1.4))
    relief = canvas.uniform(0.0, 0.8) ** 2
    height = fbm(canvas, slope=4.0, low=canvas.uniform(0.8, 2.2), high=10.0)
    return lit(image, np.clip(hillshade(height, azimuth=sun, strength=relief), 0.5, 1.35))


def open_country(canvas: Canvas) -> FloatArray:
    """Draw grassland or savanna: pale ground, shrubs, faint drainage."""
    palette = pick(canvas, SAVANNA)
    tone = 0.5 + 0.16 * fbm(canvas, slope=2.4, low=0.8)
    image = ramp(tone, palette)
    shrubs = fbm(canvas, slope=0.8, low=8.0, high=40.0) + 0.6 * fbm(canvas, slope=3.0)
    dark = solid((44, 54, 30)) * per_channel(canvas, 0.08)
    return mix(image, dark, canvas.uniform(0.3, 0.8) * ramp_up(shrubs, 0.6, 1.8))


def bare_rock(canvas: Canvas, *, strength: float = 0.28) -> FloatArray:
    """Draw bare, eroded hills."""
    palette = pick(canvas, ROCK)
    height = fbm(canvas, slope=3.5, low=1.0) - ridged(1.5 * fbm(canvas, slope=3.8, low=1.4))
    image = ramp(0.5 + 0.18 * fbm(canvas, slope=2.0, low=1.5), palette)
    light = hillshade(height, azimuth=canvas.angle(), strength=strength)
    return mottle(canvas, lit(image, np.clip(light, 0.45, 1.4)), 0.03, low=10.0)


def quilt(canvas: Canvas) -> FloatArray:
    """Draw distant farmland, for what lies under clouds and around rivers."""
    angle = canvas.angle()
    u, v = canvas.rotated(angle)
    count = canvas.uniform(4.0, 11.0)
    field = cells(canvas, count * u, count * v * canvas.uniform(1.0, 2.0), jitter=0.4)
    palette = pick(
        canvas,
        [
            [(58, 84, 44), (96, 112, 62), (148, 134, 88), (176, 158, 116)],
            [(44, 76, 40), (76, 104, 54), (112, 122, 70), (150, 142, 96)],
            [(96, 80, 58), (132, 112, 80), (150, 138, 92), (90, 106, 58)],
        ],
    )
    image = ramp(per_cell(canvas, field.index), palette)
    image = mix(image, palette[0] * 0.8, 0.35 * ramp_up(field.border, 0.12, 0.02))
    return mottle(canvas, image, 0.05)
