"""Farmland: parcels, strips, centre pivots, smallholdings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from balancer.demo.color import Rgb, mix, mottle, per_channel, pick, ramp, solid
from balancer.demo.ground import canopy
from balancer.demo.noise import Canvas, cells, fbm, per_cell, ramp_up
from balancer.demo.plans import Plan, split
from balancer.types import FloatArray

CROPS: list[list[Rgb]] = [
    [(46, 74, 36), (72, 100, 48), (104, 122, 62), (150, 138, 88), (178, 160, 116), (120, 96, 70)],
    [(60, 84, 44), (88, 112, 58), (132, 138, 76), (170, 150, 96), (192, 172, 126), (140, 116, 84)],
    [(92, 74, 54), (122, 100, 72), (150, 128, 94), (172, 152, 116), (110, 112, 66), (74, 94, 48)],
    [(38, 70, 38), (58, 92, 46), (84, 112, 54), (96, 120, 62), (128, 132, 78), (66, 84, 52)],
]


def field(canvas: Canvas) -> FloatArray:
    """Draw farmland: parcels, strips, pivots or a patchwork of smallholdings."""
    styles = (_parcels, _parcels, _pivots, _patchwork)
    image = styles[int(canvas.rng.choice(4, p=[0.3, 0.26, 0.26, 0.18]))](canvas)
    if canvas.chance(0.3):
        grove = ramp_up(fbm(canvas, slope=3.0, low=1.5), 1.3, 1.5)
        image = mix(image, canopy(canvas, "temperate") * 0.85, grove)
    return mottle(canvas, image, 0.04, low=1.5)


def _parcels(canvas: Canvas) -> FloatArray:
    angle = canvas.angle()
    plan = Plan(canvas, angle, canvas.uniform(0.0, 0.03))
    strips = canvas.chance(0.35)
    smallest = canvas.uniform(0.04, 0.07) if strips else canvas.uniform(0.07, 0.17)
    boxes = split(
        canvas, (-0.85, -0.85, 0.85, 0.85), smallest=smallest, ratio=5.0 if strips else 2.2
    )
    numbers = Image.new("I", (canvas.size, canvas.size), 0)
    hedges = Image.new("L", (canvas.size, canvas.size), 0)
    draw, hedge = ImageDraw.Draw(numbers), ImageDraw.Draw(hedges)
    for number, box in enumerate(boxes):
        corners = plan.corners(box)
        draw.polygon(corners, fill=number)
        if canvas.chance(0.75):
            hedge.line([*corners, corners[0]], fill=255, width=int(canvas.rng.integers(1, 3)))
    index = np.asarray(numbers).astype(np.int64)
    image = ramp(per_cell(canvas, index), pick(canvas, CROPS, 0.03))
    image = _furrows(canvas, image, index, angle)
    line = ndimage.gaussian_filter(np.asarray(hedges, dtype=np.float32) / 255.0, 0.5)
    edges = [(44, 58, 32), (158, 140, 108), (84, 88, 54)]
    edge = solid(edges[int(canvas.rng.integers(3))]) * per_channel(canvas, 0.05)
    return mix(image, edge, canvas.uniform(0.3, 0.8) * line)


def _furrows(
    canvas: Canvas, image: FloatArray, index: NDArray[np.integer], angle: float
) -> FloatArray:
    """Plough each parcel along one of its sides, some more visibly than others."""
    u, v = canvas.rotated(angle)
    count = np.float32(2 * np.pi * canvas.uniform(16.0, 26.0))
    rows = np.where(per_cell(canvas, index) < 0.5, np.sin(count * u), np.sin(count * v))
    depth = 0.09 * np.clip(per_cell(canvas, index) * 2.0 - 0.8, 0.0, 1.0)
    rough = fbm(canvas, slope=2.0, low=2.0) * per_cell(canvas, index) * 0.07
    furrowed: FloatArray = image * (1.0 + depth * rows + rough)[..., None]
    return furrowed.astype(np.float32)


def _pivots(canvas: Canvas) -> FloatArray:
    """Draw centre-pivot irrigation: circles on a square grid, some cut into sectors."""
    u, v = canvas.rotated(canvas.angle())
    count = canvas.uniform(2.2, 4.6)
    u, v = u * count + canvas.uniform(0, 1) + 20.0, v * count + canvas.uniform(0, 1) + 20.0
    index = (np.floor(u) * 64 + np.floor(v)).astype(np.int64)
    du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    radius, turn = np.hypot(du, dv), np.arctan2(dv, du) + np.pi
    grounds: list[list[Rgb]] = [
        [(150, 132, 100), (190, 170, 134)],
        [(126, 116, 80), (168, 154, 112)],
        [(108, 112, 72), (146, 142, 98)],
    ]
    image = ramp(per_cell(canvas, index), pick(canvas, grounds, 0.03))
    sector = (turn / (2 * np.pi) * 4 + 4 * per_cell(canvas, index)).astype(np.int64)
    plain = per_cell(canvas, index) < 0.55
    parts = np.where(plain, index, (index * 7 + sector * 131) % 4096)
    crops = ramp(per_cell(canvas, parts), pick(canvas, CROPS, 0.03))
    rings = np.sin(radius * np.float32(2 * np.pi * 12))
    crops = crops * (1.0 + 0.04 * rings)[..., None]
    tilled = np.where(per_cell(canvas, index) < 0.9, ramp_up(radius, 0.485, 0.46), 0.0)
    image = mix(image, crops, tilled)
    track = ramp_up(np.minimum(0.5 - np.abs(du), 0.5 - np.abs(dv)), 0.03, 0.008)
    return mix(image, solid((176, 160, 128)), 0.5 * track)


def _patchwork(canvas: Canvas) -> FloatArray:
    """Draw smallholdings: irregular polygons with hedges."""
    angle = canvas.angle()
    u, v = canvas.rotated(angle)
    count = canvas.uniform(5.0, 11.0)
    bent = 0.12 * fbm(canvas, slope=4.0, low=1.0, high=6.0)
    tall = canvas.uniform(1.0, 2.2)
    plot = cells(
        canvas, count * u + bent, count * tall * v - bent, jitter=canvas.uniform(0.3, 0.65)
    )
    image = ramp(per_cell(canvas, plot.index), pick(canvas, CROPS, 0.03))
    image = _furrows(canvas, image, plot.index, angle)
    hedge = ramp_up(plot.border + 0.03 * bent, 0.11, 0.03)
    return mix(image, solid((52, 62, 38)), canvas.uniform(0.1, 0.55) * hedge)
