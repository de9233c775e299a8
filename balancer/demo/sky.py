"""Scenes made by the weather: open ocean, cloud, cyclones."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from balancer.demo.color import mix, per_channel, ramp, solid
from balancer.demo.ground import bare_rock, canopy, open_country, quilt, water
from balancer.demo.noise import (
    Canvas,
    cells,
    fbm,
    hillshade,
    ramp_up,
    ridged,
    shift,
    waves,
)
from balancer.types import FloatArray

CLOUD_PALETTE = np.array(
    [[0.56, 0.60, 0.65], [0.80, 0.825, 0.85], [0.96, 0.965, 0.965]], np.float32
)
"""From a cloud's shaded base to its sunlit top."""


def ocean(canvas: Canvas) -> FloatArray:
    """Draw open sea: swell, glint, whitecaps, slicks, blooms, at times a few small clouds."""
    image = water(canvas)
    if canvas.chance(0.34):
        image = _glint(canvas, image)
    if canvas.chance(0.22):
        image = _whitecaps(canvas, image)
    if canvas.chance(0.13):
        image = _bloom(canvas, image)
    if canvas.chance(0.16):
        slick = fbm(
            canvas, slope=3.0, low=1.5, stretch=canvas.uniform(3.0, 7.0), angle=canvas.angle()
        )
        image = mix(
            image, image * 1.0 + 0.07, canvas.uniform(0.3, 0.9) * ramp_up(ridged(slick), 0.7, 1)
        )
    if canvas.chance(0.12):
        density = fbm(canvas, slope=2.8, low=4.0) + 0.8 * fbm(canvas, slope=3.5)
        image = _lay_clouds(canvas, image, ramp_up(density, 1.5, 2.6))
    return image


def _glint(canvas: Canvas, image: FloatArray) -> FloatArray:
    u, _ = canvas.rotated(canvas.angle())
    centre, width = canvas.uniform(-0.7, 0.7), canvas.uniform(0.25, 0.7)
    sheet = np.exp(-(((u - np.float32(centre)) / np.float32(width)) ** 2))
    facets = waves(canvas, count=canvas.uniform(12.0, 24.0), angle=canvas.angle(), spread=0.7)
    patches = fbm(canvas, slope=3.2, low=0.8)
    bright = sheet * np.clip(0.5 + 0.22 * facets + 0.16 * patches, 0.0, 1.2)
    return mix(image, solid((196, 202, 200)), canvas.uniform(0.2, 0.75) * bright)


def _whitecaps(canvas: Canvas, image: FloatArray) -> FloatArray:
    crest = canvas.angle()
    streaks = fbm(canvas, slope=0.6, low=10.0, high=30.0, stretch=2.2, angle=crest)
    gusts = fbm(canvas, slope=3.0, low=1.0)
    caps = ramp_up(streaks + 0.35 * gusts, canvas.uniform(1.5, 2.2), 3.2)
    return mix(image, solid((214, 222, 226)), 0.85 * caps)


def _bloom(canvas: Canvas, image: FloatArray) -> FloatArray:
    size = canvas.size
    reach = np.float32(canvas.uniform(0.05, 0.13) * size)
    rows, columns = np.indices((size, size), dtype=np.float32)
    dy, dx = fbm(canvas, slope=4.0, low=1.2, high=9.0), fbm(canvas, slope=4.0, low=1.2, high=9.0)
    threads = fbm(canvas, slope=2.8, low=1.2, stretch=3.0, angle=canvas.angle())
    swirled = ndimage.map_coordinates(
        threads, [rows + reach * dy, columns + reach * dx], order=1, mode="reflect"
    )
    colors = [(44, 104, 98), (66, 128, 128), (52, 84, 68)]
    color = solid(colors[int(canvas.rng.integers(3))]) * per_channel(canvas, 0.06)
    return mix(image, color, canvas.uniform(0.4, 0.9) * ramp_up(swirled, -0.2, 2.0))


def cloud(canvas: Canvas) -> FloatArray:
    """Draw clouds over any ground: cumulus, stratus, cells, streets or cirrus."""
    grounds = (water, water, canopy, open_country, quilt, bare_rock)
    image = grounds[int(canvas.rng.integers(len(grounds)))](canvas)
    forms = (_cumulus, _stratus, _cellular, _streets, _cirrus)
    form = forms[int(canvas.rng.choice(len(forms), p=[0.38, 0.26, 0.14, 0.12, 0.10]))]
    return _lay_clouds(canvas, image, form(canvas))


def _cumulus(canvas: Canvas) -> FloatArray:
    puffs = canvas.uniform(10.0, 22.0)
    field = fbm(canvas, slope=canvas.uniform(2.8, 3.4), low=canvas.uniform(1.0, 3.6), high=puffs)
    start = canvas.uniform(-0.5, 0.7)
    return ramp_up(field, start, start + canvas.uniform(0.7, 2.0))


def _stratus(canvas: Canvas) -> FloatArray:
    field = fbm(canvas, slope=3.2, low=0.7, stretch=canvas.uniform(1.0, 3.0), angle=canvas.angle())
    start = canvas.uniform(-2.6, -0.9)
    return canvas.uniform(0.8, 1.0) * ramp_up(field, start, start + canvas.uniform(1.5, 3.0))


def _cellular(canvas: Canvas) -> FloatArray:
    warp = np.float32(canvas.uniform(0.06, 0.16))
    count = canvas.uniform(3.0, 6.0)
    u, v = canvas.rotated(canvas.angle())
    ragged = warp * fbm(canvas, slope=3.2, low=2.5, high=9.0)
    cell = cells(canvas, count * u + ragged, count * v - ragged, jitter=0.9)
    rough = 0.07 * fbm(canvas, slope=3.0, low=3.0, high=18.0)
    if canvas.chance(0.5):
        return ramp_up(cell.border + rough, -0.02, canvas.uniform(0.3, 0.6))
    return ramp_up(cell.border + rough, canvas.uniform(0.2, 0.4), 0.02)


def _streets(canvas: Canvas) -> FloatArray:
    heading = canvas.angle()
    rows = waves(canvas, count=canvas.uniform(4.0, 10.0), angle=heading, spread=0.14)
    lumps = fbm(canvas, slope=2.6, low=3.0, high=18.0, stretch=1.6, angle=heading + np.pi / 2)
    return ramp_up(rows + 0.9 * lumps, canvas.uniform(-0.2, 0.6), 2.2)


def _cirrus(canvas: Canvas) -> FloatArray:
    heading = canvas.angle()
    field = fbm(canvas, slope=2.5, low=1.2, stretch=canvas.uniform(5.0, 12.0), angle=heading)
    field = field + 0.7 * fbm(canvas, slope=3.5, low=0.8)
    return canvas.uniform(0.55, 0.85) * ramp_up(field, canvas.uniform(-0.8, 0.2), 2.4)


def _lay_clouds(canvas: Canvas, image: FloatArray, density: FloatArray) -> FloatArray:
    """Cast the clouds' shadow on the ground, then lay them over it, lit from one side."""
    sun = canvas.angle()
    reach = canvas.uniform(0.03, 0.1)
    shadow = shift(density, -reach * np.cos(sun), -reach * np.sin(sun))
    shadow = ndimage.gaussian_filter(shadow, 0.012 * canvas.size)
    image = image * (1.0 - 0.55 * np.clip(shadow, 0.0, 1.0))[..., None]
    billow = fbm(canvas, slope=2.6, low=3.0)
    height = density * (1.0 + 0.1 * billow)
    light = hillshade(height, azimuth=sun, strength=canvas.uniform(0.25, 0.7))
    tone = 0.74 + 0.5 * (light - 1.0) + 0.35 * (density - 0.8) + 0.03 * billow
    dim = np.float32(canvas.uniform(0.86, 1.0))
    return mix(image, dim * ramp(tone, CLOUD_PALETTE), np.clip(density, 0.0, 1.0))


def storm(canvas: Canvas) -> FloatArray:
    """Draw a cyclone over the sea: eye, central overcast, spiral bands, broken outer cells."""
    x0, y0 = canvas.uniform(-0.14, 0.14), canvas.uniform(-0.14, 0.14)
    squash, tilt = canvas.uniform(0.85, 1.15), canvas.angle()
    u, v = canvas.rotated(tilt)
    u = u - np.float32(np.cos(tilt) * x0 + np.sin(tilt) * y0)
    v = (v - np.float32(np.cos(tilt) * y0 - np.sin(tilt) * x0)) * np.float32(squash)
    radius = np.sqrt(u * u + v * v) + np.float32(1e-4)
    spin = 1.0 if canvas.chance(0.5) else -1.0
    twist = spin * canvas.uniform(1.3, 2.6)
    phase = np.arctan2(v, u) + np.float32(twist) * np.log(radius)
    scale = canvas.uniform(0.2, 0.44)
    bands = _polar_noise(canvas, radius, phase)
    arms = np.cos(int(canvas.rng.integers(1, 4)) * (phase - np.float32(canvas.angle())))
    far = radius / np.float32(scale)
    bands = bands * (0.5 + 0.5 * ramp_up(far, 0.1, 0.8))
    body = 1.5 * np.exp(-(far**2) * 1.1) - 0.45 + 0.55 * arms * ramp_up(far, 0.25, 0.9)
    density = ramp_up(body + 0.42 * bands + 0.12 * fbm(canvas, slope=2.4, low=5.0), -0.3, 1.0)
    outskirts = fbm(canvas, slope=2.4, low=6.0) + 0.7 * bands
    density = np.maximum(density, 0.8 * ramp_up(outskirts, 1.0, 2.4))
    eye = canvas.uniform(0.018, 0.05)
    wall = ramp_up(radius * (1.0 + 0.06 * bands), 0.6 * eye, 1.5 * eye)
    image = water(canvas, chop=0.15) * np.float32(0.85)
    height = density * (0.8 + 0.5 * np.exp(-(far**2))) * wall + 0.12 * bands * density
    light = hillshade(height, azimuth=canvas.angle(), strength=canvas.uniform(0.6, 1.1))
    tone = 0.5 + 0.8 * (light - 1.0) + 0.4 * (density - 0.6) + 0.1 * bands + 0.1 * arms
    cover = np.clip(density * (0.12 + 0.88 * wall), 0.0, 1.0)
    return mix(image, np.float32(0.96) * ramp(tone, CLOUD_PALETTE), cover**0.85)


def _polar_noise(canvas: Canvas, radius: FloatArray, phase: FloatArray) -> FloatArray:
    """Sample noise that is drawn out along the spiral and joins itself after a full turn."""
    side = 128
    cycles = np.abs(fft.fftfreq(side) * side).astype(np.float32)
    across, along = cycles[:, None], cycles[None, : side // 2 + 1]
    squared = (across / 3.2) ** 2 + along**2 + np.float32(1.0)
    white = canvas.rng.standard_normal((side, side // 2 + 1, 2), dtype=np.float32)
    spectrum = white.view(np.complex64)[..., 0] * squared ** np.float32(-0.62)
    field = fft.irfft2(spectrum, s=(side, side)).astype(np.float32)
    field = (field - field.mean()) / field.std()
    row = np.mod(np.log(radius) * np.float32(side / 3.5), side)
    column = np.mod(phase * np.float32(side / (2 * np.pi)), side)
    sampled = ndimage.map_coordinates(field, [row, column], order=1, mode="grid-wrap")
    return np.asarray(sampled, dtype=np.float32)
