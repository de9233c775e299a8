"""Scenes of nature on land: desert, river, coast, snow mountains, burn scars."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from balancer.demo.color import Rgb, lit, mix, mottle, per_channel, pick, ramp, solid
from balancer.demo.ground import ROCK, bare_rock, canopy, open_country, quilt, water
from balancer.demo.noise import Canvas, fbm, hillshade, ramp_up, ridged, waves
from balancer.types import FloatArray

SANDS: list[list[Rgb]] = [
    [(132, 106, 78), (176, 148, 114), (206, 182, 150)],
    [(140, 98, 72), (180, 132, 98), (206, 164, 128)],
    [(146, 130, 108), (184, 170, 148), (214, 204, 186)],
    [(118, 88, 70), (154, 118, 94), (184, 150, 124)],
    [(150, 128, 96), (192, 170, 134), (218, 200, 168)],
]
BEACHES: list[list[Rgb]] = [
    [(176, 164, 138), (206, 196, 170), (228, 222, 204)],
    [(150, 136, 112), (184, 168, 140), (208, 196, 172)],
    [(112, 104, 94), (142, 134, 120), (172, 164, 150)],
]
RIVER_WATERS: list[list[Rgb]] = [
    [(112, 94, 68), (150, 128, 94)],
    [(72, 80, 62), (100, 104, 80)],
    [(24, 32, 34), (40, 50, 50)],
    [(36, 66, 72), (66, 98, 98)],
    [(84, 112, 110), (126, 150, 142)],
]


def desert(canvas: Canvas) -> FloatArray:
    """Draw a desert: linear or crescent dunes, eroded plains with dry channels, salt flats."""
    palette = pick(canvas, SANDS)
    sun = canvas.angle()
    forms = (_linear_dunes, _crescent_dunes, _wadis)
    form = forms[int(canvas.rng.choice(3, p=[0.36, 0.34, 0.30]))]
    height, strength = form(canvas)
    tone = 0.52 + 0.11 * fbm(canvas, slope=3.2, low=0.7) + 0.1 * np.clip(height, -1.5, 1.5)
    image = ramp(tone, palette)
    image = lit(image, np.clip(hillshade(height, azimuth=sun, strength=strength), 0.58, 1.3))
    if canvas.chance(0.18):
        pan = ramp_up(fbm(canvas, slope=3.6, low=0.8), 0.7, 1.1)
        image = mix(image, solid((222, 216, 204)) * per_channel(canvas, 0.02), 0.8 * pan)
    return mottle(canvas, image, 0.022, low=8.0)


def _linear_dunes(canvas: Canvas) -> tuple[FloatArray, float]:
    wind = canvas.angle()
    rows = waves(
        canvas, count=canvas.uniform(3.0, 8.0), angle=wind, spread=canvas.uniform(0.12, 0.26)
    )
    detail = waves(canvas, count=15.0, angle=wind + canvas.uniform(0.5, 1.2), spread=0.3)
    return ridged(0.6 * rows) * 1.6 + 0.02 * detail, canvas.uniform(0.22, 0.5)


def _crescent_dunes(canvas: Canvas) -> tuple[FloatArray, float]:
    field = fbm(
        canvas, slope=3.4, low=canvas.uniform(1.8, 4.0), high=9.0, stretch=1.7, angle=canvas.angle()
    )
    ripples = waves(canvas, count=canvas.uniform(16.0, 24.0), angle=canvas.angle(), spread=0.25)
    return ridged(0.7 * field) * 1.5 + 0.02 * ripples, canvas.uniform(0.22, 0.5)


def _wadis(canvas: Canvas) -> tuple[FloatArray, float]:
    valleys = ridged(1.6 * fbm(canvas, slope=3.7, low=canvas.uniform(1.0, 2.2)))
    rough = fbm(canvas, slope=3.2, low=1.0)
    return 0.6 * rough - 0.9 * valleys, canvas.uniform(0.12, 0.28)


def snow_mountain(canvas: Canvas) -> FloatArray:
    """Draw snowy ridges with blue shade, bare rock on the steep faces, valleys at times wooded."""
    broad = fbm(canvas, slope=4.0, low=0.9)
    crests = ridged(0.7 * fbm(canvas, slope=3.9, low=canvas.uniform(1.0, 1.8)))
    height = 0.7 * broad + 2.4 * crests + 0.05 * fbm(canvas, slope=2.6, low=5.0)
    sun = canvas.angle()
    light = np.clip(hillshade(height, azimuth=sun, strength=canvas.uniform(0.6, 1.0)), 0.25, 1.4)
    gy, gx = np.gradient(ndimage.gaussian_filter(height, canvas.size / 90))
    steep = np.hypot(gx, gy)
    steep = (steep / steep.mean()).astype(np.float32)
    snowline = canvas.uniform(-0.6, 0.9)
    snow = ramp_up(height + 0.4 * fbm(canvas, slope=2.6, low=3.0), snowline, snowline + 0.35)
    snow = snow * (1.0 - 0.8 * ramp_up(steep + 0.25 * broad, 1.9, 2.7))
    rock = ramp(0.45 + 0.15 * fbm(canvas, slope=2.2, low=2.0), pick(canvas, ROCK) * 0.75)
    if canvas.chance(0.55):
        wooded = solid((30, 44, 34)) * per_channel(canvas, 0.08)
        rock = mix(rock, wooded, ramp_up(height, snowline - 0.1, snowline - 0.6))
    ground = lit(rock, light)
    whites = np.array([[0.30, 0.37, 0.50], [0.62, 0.69, 0.79], [0.93, 0.94, 0.955]], np.float32)
    return mix(ground, ramp(0.62 * light + 0.08, whites), snow)


def coast(canvas: Canvas) -> FloatArray:
    """Draw a shore: open water, shoals, surf, beach, and the land behind; or a reef island."""
    u, _ = canvas.rotated(canvas.angle())
    bays = fbm(canvas, slope=canvas.uniform(3.4, 4.2), low=0.8)
    height = (
        u * canvas.uniform(3.0, 6.0) + canvas.uniform(0.35, 0.8) * bays + canvas.uniform(-0.6, 0.6)
    )
    if canvas.chance(0.2):
        radius = np.sqrt(canvas.x**2 + canvas.y**2)
        height = (canvas.uniform(0.12, 0.26) - radius) * 5.0 + 0.4 * bays
    dry = height > 0
    shore = (_distance(~dry) - _distance(dry)) / np.float32(canvas.size)
    tropical = canvas.chance(0.5)
    sea = water(canvas, chop=0.6)
    shoal = solid((72, 150, 150) if tropical else (74, 100, 92)) * per_channel(canvas, 0.05)
    reef = canvas.uniform(0.05, 0.2) if tropical else canvas.uniform(0.03, 0.09)
    bottom = shore + 0.25 * reef * fbm(canvas, slope=2.6, low=3.0)
    sea = mix(sea, shoal, 0.9 * ramp_up(bottom, 1.6 * reef, 0.1 * reef))
    surf_noise = fbm(canvas, slope=2.2, low=3.0)
    surf = ramp_up(shore - 0.006 * surf_noise, canvas.uniform(0.01, 0.028), 0.004)
    sea = mix(sea, solid((226, 232, 232)), surf * ramp_up(surf_noise, -0.9, 0.8))
    covers = (canopy, open_country, quilt, bare_rock)
    land = covers[int(canvas.rng.choice(4, p=[0.35, 0.3, 0.2, 0.15]))](canvas)
    beach = ramp(0.6 + 0.12 * surf_noise, pick(canvas, BEACHES))
    width = canvas.uniform(0.01, 0.05)
    inland = -shore + 0.3 * width * surf_noise
    land = mix(beach, land, ramp_up(inland, 0.7 * width, 1.3 * width))
    return mix(sea, land, ramp_up(shore, 0.004, -0.004))


def _distance(mask: np.ndarray) -> FloatArray:
    return np.asarray(ndimage.distance_transform_edt(mask), dtype=np.float32)


def river(canvas: Canvas) -> FloatArray:
    """Draw a river through vegetation: meanders with sand bars and old loops, or braids."""
    covers = (canopy, open_country, quilt, bare_rock)
    land = covers[int(canvas.rng.choice(4, p=[0.42, 0.25, 0.25, 0.08]))](canvas)
    heading = canvas.angle()
    palette = pick(canvas, RIVER_WATERS)
    flow = ramp(0.5 + 0.25 * fbm(canvas, slope=2.6, stretch=2.5, angle=heading), palette)
    sand = ramp(0.55 + 0.2 * fbm(canvas, slope=2.2, low=3.0), pick(canvas, BEACHES))
    ragged = 0.006 * fbm(canvas, slope=2.6, low=4.0)
    if canvas.chance(0.22):
        return _braids(canvas, land, (flow * 0.72, sand), heading)
    bend = canvas.uniform(0.5, 1.75)
    width = canvas.uniform(0.03, 0.09)
    line = _meander(canvas, heading, bend)
    away = _line_distance(canvas, line) + ragged
    if canvas.chance(0.6):
        scrolls = np.sin(away * np.float32(canvas.uniform(70, 130))) * ramp_up(away, 0.35, 0.05)
        land = land * (1.0 + 0.12 * scrolls)[..., None]
    if bend > 1.2 and canvas.chance(0.6):
        loops = _line_distance(canvas, _meander(canvas, heading, bend)) + ragged
        gaps = ramp_up(fbm(canvas, slope=3.0, low=1.5), 0.2, 0.5)
        land = mix(land, flow * 0.8, gaps * ramp_up(loops, 0.45 * width, 0.25 * width))
    bars = ramp_up(fbm(canvas, slope=3.2, low=2.5), 0.1, 0.7)
    edge = width * canvas.uniform(0.6, 1.0)
    land = mix(land, land * 0.75, ramp_up(away, 1.1 * width, 0.6 * width))
    image = mix(land, sand, bars * ramp_up(away, edge + 0.004, edge - 0.008))
    return mix(image, flow, ramp_up(away, 0.5 * width + 0.004, 0.5 * width - 0.004))


def _meander(canvas: Canvas, heading: float, bend: float) -> FloatArray:
    """Return points of a sine-generated curve (Langbein and Leopold 1966) through the tile."""
    steps = np.linspace(-4.0, 4.0, 640)
    wave = canvas.uniform(0.7, 1.3)
    wander = 0.35 * np.sin(steps * canvas.uniform(1.5, 3.0) + canvas.angle())
    turn = heading + bend * np.sin(2 * np.pi * steps / wave + canvas.angle() + wander) + wander
    step = steps[1] - steps[0]
    points = np.stack([np.cumsum(np.cos(turn)), np.cumsum(np.sin(turn))], axis=1) * step
    middle = points[int(canvas.rng.integers(300, 340))]
    offset = canvas.rng.uniform(-0.15, 0.15, size=2)
    return np.asarray(points - middle + offset, dtype=np.float32)


def _line_distance(canvas: Canvas, points: FloatArray) -> FloatArray:
    picture = Image.new("L", (canvas.size, canvas.size), 255)
    pixels = ((points + 0.5) * canvas.size).astype(float)
    ImageDraw.Draw(picture).line([tuple(p) for p in pixels.tolist()], fill=0, width=1)
    return _distance(np.asarray(picture) > 0) / np.float32(canvas.size)


def _braids(
    canvas: Canvas, land: FloatArray, materials: tuple[FloatArray, FloatArray], heading: float
) -> FloatArray:
    flow, sand = materials
    u, v = canvas.rotated(heading)
    drift = 0.12 * np.sin(u * np.float32(canvas.uniform(2, 6)) + np.float32(canvas.angle()))
    across = np.abs(v + drift + canvas.uniform(-0.1, 0.1))
    half = canvas.uniform(0.14, 0.3)
    rough = 0.02 * fbm(canvas, slope=2.4, low=3.0)
    image = mix(land, sand, ramp_up(across + rough, half + 0.01, half - 0.01))
    threads = fbm(canvas, slope=3.4, low=1.8, high=12.0, stretch=3.5, angle=heading)
    thin = ramp_up(np.abs(threads), canvas.uniform(0.55, 1.0), 0.35)
    return mix(image, flow, thin * ramp_up(across + rough, half, half - 0.05))


def burn_scar(canvas: Canvas) -> FloatArray:
    """Draw burnt ground in forest or savanna: sharp ragged edge, spared islands, at times smoke."""
    kinds = ("tropical", "temperate", "temperate", "dry")
    image = (
        open_country(canvas)
        if canvas.chance(0.3)
        else canopy(canvas, kinds[int(canvas.rng.integers(4))])
    )
    u, v = canvas.rotated(canvas.angle())
    reach = canvas.uniform(0.25, 0.42)
    shape = np.hypot(u, v * np.float32(canvas.uniform(1.0, 1.9))) / np.float32(reach)
    image = image * np.float32(canvas.uniform(1.05, 1.25))
    field = 1.08 - shape + 0.36 * fbm(canvas, slope=3.0, low=1.2)
    scar = ramp_up(field, -0.01, 0.035)
    spared = ramp_up(fbm(canvas, slope=2.6, low=3.0) - 0.8 * field, 0.9, 1.3)
    scar = scar * (1.0 - 0.9 * spared)
    chars: list[list[Rgb]] = [
        [(24, 20, 20), (48, 38, 36), (82, 64, 56)],
        [(40, 28, 24), (72, 50, 42), (106, 78, 64)],
        [(28, 26, 28), (54, 50, 52), (88, 82, 80)],
    ]
    tone = 0.42 + 0.2 * fbm(canvas, slope=2.0, low=1.2)
    grain = image.mean(axis=2)
    ash = ramp_up(fbm(canvas, slope=2.6, low=2.0), 0.8, 2.0) * canvas.uniform(0.0, 1.0)
    tone = tone + 0.35 * ash + 0.6 * (grain - ndimage.gaussian_filter(grain, canvas.size / 16))
    image = mix(image, ramp(tone, pick(canvas, chars)), 0.98 * scar)
    if canvas.chance(0.45):
        image = _fire_front(canvas, image, field)
    return image


def _fire_front(canvas: Canvas, image: FloatArray, field: FloatArray) -> FloatArray:
    """Light a stretch of the scar's edge and blow its smoke downwind."""
    wind = canvas.angle()
    rim = ramp_up(np.abs(field - 0.02), 0.09, 0.02)
    upwind, _ = canvas.rotated(wind)
    rim = rim * ramp_up(upwind, -0.05, 0.2)
    flames = rim * ramp_up(fbm(canvas, slope=1.5, low=5.0), 0.2, 1.2)
    image = mix(image, solid((236, 132, 52)), 0.85 * flames)
    source: FloatArray = ndimage.gaussian_filter(rim, canvas.size / 40)
    plume = np.zeros_like(source)
    for step in range(14):
        moved = ndimage.gaussian_filter(source, canvas.size * (0.012 + 0.006 * step))
        way = 0.045 * step
        moved = ndimage.shift(
            moved, (way * np.sin(wind) * canvas.size, way * np.cos(wind) * canvas.size), order=1
        )
        plume += moved * np.float32(0.5 * 0.94**step)
    billow = fbm(canvas, slope=2.8, low=3.0, stretch=1.8, angle=wind)
    plume = plume / np.float32(plume.max() + 0.05)
    smoke: FloatArray = np.clip(plume * (1.0 + 0.35 * billow), 0.0, 0.85).astype(np.float32)
    return mix(image, solid((186, 188, 192)), canvas.uniform(0.5, 1.0) * smoke)
