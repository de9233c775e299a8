"""Scenes made by people: farmland, cities, mines."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from balancer.demo.color import Rgb, lit, mix, mottle, per_channel, pick, ramp, solid
from balancer.demo.ground import bare_rock, canopy, open_country, quilt
from balancer.demo.noise import Canvas, cells, fbm, hillshade, per_cell, ramp_up
from balancer.types import FloatArray

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom."""

CROPS: list[list[Rgb]] = [
    [(46, 74, 36), (72, 100, 48), (104, 122, 62), (150, 138, 88), (178, 160, 116), (120, 96, 70)],
    [(60, 84, 44), (88, 112, 58), (132, 138, 76), (170, 150, 96), (192, 172, 126), (140, 116, 84)],
    [(92, 74, 54), (122, 100, 72), (150, 128, 94), (172, 152, 116), (110, 112, 66), (74, 94, 48)],
    [(38, 70, 38), (58, 92, 46), (84, 112, 54), (96, 120, 62), (128, 132, 78), (66, 84, 52)],
]
ROOFS: list[list[Rgb]] = [
    [(112, 76, 62), (150, 100, 80), (170, 128, 104), (136, 124, 114), (188, 180, 170)],
    [(98, 98, 100), (128, 128, 128), (158, 156, 152), (196, 194, 190), (84, 88, 96)],
    [(150, 134, 112), (176, 160, 136), (196, 182, 158), (132, 116, 98), (210, 202, 188)],
]


def split(
    canvas: Canvas, box: Rectangle, *, smallest: float, gap: float = 0.0, ratio: float = 1.8
) -> list[Rectangle]:
    """Cut a rectangle again and again across its longer side.

    Args:
        canvas: source of randomness.
        box: what to cut.
        smallest: stop at about this side.
        gap: room left between the pieces.
        ratio: pieces longer than this are always cut across.

    Returns:
        The pieces.
    """
    pending, done = [box], []
    while pending:
        left, top, right, bottom = pending.pop()
        width, height = right - left, bottom - top
        across = (
            width > height
            if max(width, height) > ratio * min(width, height)
            else canvas.chance(0.5)
        )
        side = width if across else height
        if side < 2.0 * smallest or (max(width, height) < 3.0 * smallest and canvas.chance(0.25)):
            done.append((left, top, right, bottom))
            continue
        cut = side * canvas.uniform(0.36, 0.64)
        if across:
            pending.append((left, top, left + cut - gap / 2, bottom))
            pending.append((left + cut + gap / 2, top, right, bottom))
        else:
            pending.append((left, top, right, top + cut - gap / 2))
            pending.append((left, top + cut + gap / 2, right, bottom))
    return done


class _Plan:
    """Rectangles in a turned and gently bent frame, painted onto the pixel grid."""

    def __init__(self, canvas: Canvas, angle: float, bend: float = 0.0) -> None:
        self.size = canvas.size
        self.cosine, self.sine = np.cos(angle), np.sin(angle)
        self.bend = bend
        self.waves = canvas.rng.uniform(2.0, 5.0, size=2)
        self.phases = canvas.rng.uniform(0.0, 2 * np.pi, size=2)

    def corners(self, box: Rectangle, inset: float = 0.0) -> list[tuple[float, float]]:
        left, top, right, bottom = box
        left, top, right, bottom = left + inset, top + inset, right - inset, bottom - inset
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        return [self._place(u, v) for u, v in corners]

    def _place(self, u: float, v: float) -> tuple[float, float]:
        du = self.bend * np.sin(self.waves[0] * v + self.phases[0])
        dv = self.bend * np.sin(self.waves[1] * u + self.phases[1])
        u, v = u + du, v + dv
        x = self.cosine * u - self.sine * v + 0.5
        y = self.sine * u + self.cosine * v + 0.5
        return float(x * self.size), float(y * self.size)


def field(canvas: Canvas) -> FloatArray:
    """Draw farmland: parcels, strips, pivots or a patchwork of smallholdings."""
    styles = (_parcels, _parcels, _pivots, _patchwork)
    image = styles[int(canvas.rng.choice(4, p=[0.3, 0.28, 0.2, 0.22]))](canvas)
    if canvas.chance(0.3):
        grove = ramp_up(fbm(canvas, slope=3.0, low=1.5), 1.3, 1.5)
        image = mix(image, canopy(canvas, "temperate") * 0.85, grove)
    return mottle(canvas, image, 0.04, low=1.5)


def _parcels(canvas: Canvas) -> FloatArray:
    angle = canvas.angle()
    plan = _Plan(canvas, angle, canvas.uniform(0.0, 0.03))
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


def _furrows(canvas: Canvas, image: FloatArray, index: np.ndarray, angle: float) -> FloatArray:
    """Plough each parcel along one of its sides, some more visibly than others."""
    u, v = canvas.rotated(angle)
    count = np.float32(2 * np.pi * canvas.uniform(16.0, 26.0))
    rows = np.where(per_cell(canvas, index) < 0.5, np.sin(count * u), np.sin(count * v))
    depth = 0.09 * np.clip(per_cell(canvas, index) * 2.0 - 0.8, 0.0, 1.0)
    rough = fbm(canvas, slope=2.0, low=2.0) * per_cell(canvas, index) * 0.07
    return (image * (1.0 + depth * rows + rough)[..., None]).astype(np.float32)


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


def urban(canvas: Canvas) -> FloatArray:
    """Draw a city: blocks between streets, roofs with shadows, trees, parks, a highway at times."""
    dense = canvas.uniform(0.0, 1.0)
    plan = _Plan(canvas, canvas.angle(), canvas.chance(0.5) * canvas.uniform(0.01, 0.06))
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


def mine(canvas: Canvas) -> FloatArray:
    """Draw an open pit in forest or desert: terraces, haul roads, waste heaps, tailings ponds."""
    covers = (canopy, open_country, bare_rock, quilt)
    land = covers[int(canvas.rng.choice(4, p=[0.5, 0.2, 0.22, 0.08]))](canvas)
    soils: list[list[Rgb]] = [
        [(112, 82, 60), (164, 130, 98), (206, 178, 142)],
        [(122, 112, 100), (166, 156, 142), (208, 202, 190)],
        [(126, 76, 54), (170, 110, 80), (204, 154, 118)],
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
    canvas: Canvas, centre: np.ndarray, reach: float, ragged: FloatArray
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
