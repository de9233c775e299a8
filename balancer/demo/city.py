"""Cities: blocks between streets, roofs with shadows, trees, parks, highways."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from balancer.demo.color import Rgb, mix, mottle, per_channel, pick, solid
from balancer.demo.noise import Canvas, fbm, ramp_up
from balancer.demo.plans import Plan, split
from balancer.types import FloatArray

ROOFS: list[list[Rgb]] = [
    [(112, 76, 62), (150, 100, 80), (170, 128, 104), (136, 124, 114), (188, 180, 170)],
    [(98, 98, 100), (128, 128, 128), (158, 156, 152), (196, 194, 190), (84, 88, 96)],
    [(150, 134, 112), (176, 160, 136), (196, 182, 158), (132, 116, 98), (210, 202, 188)],
]


def urban(canvas: Canvas) -> FloatArray:
    """Draw a city: blocks between streets, roofs with shadows, trees, parks, a highway at times."""
    dense = canvas.uniform(0.0, 1.0)
    plan = Plan(canvas, canvas.angle(), canvas.chance(0.5) * canvas.uniform(0.01, 0.06))
    street = canvas.uniform(0.013, 0.024)
    block = canvas.uniform(0.08, 0.16)
    blocks = split(canvas, (-0.85, -0.85, 0.85, 0.85), smallest=block, gap=street, ratio=1.7)
    asphalt = solid((108, 106, 104)) * per_channel(canvas, 0.03)
    yards = pick(canvas, [[(88, 92, 66), (120, 116, 94)], [(128, 120, 104), (150, 142, 126)]])
    roofs = pick(canvas, ROOFS)
    base = Image.new("RGB", (canvas.size, canvas.size), _ink(asphalt))
    draw = ImageDraw.Draw(base)
    sun = canvas.angle()
    for box in blocks:
        if not plan.visible(box):
            continue
        kind = canvas.rng.random()
        shade = 1.0 + 0.08 * canvas.rng.standard_normal()
        if kind < 0.07:
            draw.polygon(plan.corners(box), fill=_ink(solid((62, 82, 44)) * shade))
            continue
        draw.polygon(plan.corners(box), fill=_ink(yards[int(canvas.rng.integers(2))] * shade))
        lot = block if kind > 0.92 else canvas.uniform(0.028, 0.045) + 0.02 * dense
        houses = split(canvas, box, smallest=lot, ratio=1.6)
        tall = canvas.uniform(0.006, 0.014) * (1.0 + 2.0 * dense * canvas.rng.random())
        shadow = (tall * np.cos(sun) * canvas.size, tall * np.sin(sun) * canvas.size)
        for house in houses:
            if canvas.chance(0.1 + 0.15 * (1.0 - dense)):
                continue
            corners = plan.corners(house, canvas.uniform(0.003, 0.012))
            draw.polygon([(x + shadow[0], y + shadow[1]) for x, y in corners], fill=(44, 44, 46))
            roof = roofs[int(canvas.rng.integers(len(roofs)))]
            draw.polygon(corners, fill=_ink(roof * (1.0 + 0.1 * canvas.rng.standard_normal())))
    if canvas.chance(0.35):
        _highway(canvas, draw)
    image = np.asarray(base, dtype=np.float32) / np.float32(255.0)
    trees = fbm(canvas, slope=1.0, low=8.0, high=44.0) + 0.8 * fbm(canvas, slope=3.0)
    start = 0.9 + 1.3 * dense
    green = solid((46, 62, 36)) * per_channel(canvas, 0.06)
    image = mix(image, green, 0.85 * ramp_up(trees, start, start + 0.4))
    return mottle(canvas, image, 0.03, low=6.0)


def _ink(color: FloatArray) -> tuple[int, int, int]:
    red, green, blue = np.clip(color * 255.0, 0, 255).astype(int).tolist()
    return red, green, blue


def _highway(canvas: Canvas, draw: ImageDraw.ImageDraw) -> None:
    size, angle = canvas.size, canvas.angle()
    steps = np.linspace(-0.9, 0.9, 40)
    offset = canvas.uniform(-0.25, 0.25) + 0.08 * np.sin(steps * 2.5 + canvas.angle())
    x = (np.cos(angle) * steps - np.sin(angle) * offset + 0.5) * size
    y = (np.sin(angle) * steps + np.cos(angle) * offset + 0.5) * size
    line = list(zip(x.tolist(), y.tolist(), strict=True))
    wide = int(size * canvas.uniform(0.035, 0.055))
    draw.line(line, fill=(84, 90, 70), width=wide + 4, joint="curve")
    draw.line(line, fill=(140, 138, 134), width=wide, joint="curve")
    draw.line(line, fill=(96, 98, 82), width=max(1, wide // 5), joint="curve")
