"""Ground plans: rectangles cut into pieces, in a frame that is turned and gently bent."""

from __future__ import annotations

import math

from balancer.demo.noise import Canvas

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom."""


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


class Plan:
    """Rectangles in a turned and gently bent frame, painted onto the pixel grid."""

    def __init__(self, canvas: Canvas, angle: float, bend: float = 0.0) -> None:
        self.size = canvas.size
        self.cosine, self.sine = math.cos(angle), math.sin(angle)
        self.bend = bend
        self.waves: list[float] = canvas.rng.uniform(2.0, 5.0, size=2).tolist()
        self.phases: list[float] = canvas.rng.uniform(0.0, 2 * math.pi, size=2).tolist()

    def corners(self, box: Rectangle, inset: float = 0.0) -> list[tuple[float, float]]:
        """Return the corners of a rectangle, made smaller by `inset`, in pixels."""
        left, top, right, bottom = box
        left, top, right, bottom = left + inset, top + inset, right - inset, bottom - inset
        return [
            self._place(left, top),
            self._place(right, top),
            self._place(right, bottom),
            self._place(left, bottom),
        ]

    def visible(self, box: Rectangle) -> bool:
        """Return whether the bounds of a rectangle meet the tile."""
        corners = self.corners(box)
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        return max(min(xs), min(ys)) < self.size and min(max(xs), max(ys)) > 0

    def _place(self, u: float, v: float) -> tuple[float, float]:
        u, v = (
            u + self.bend * math.sin(self.waves[0] * v + self.phases[0]),
            v + self.bend * math.sin(self.waves[1] * u + self.phases[1]),
        )
        x = self.cosine * u - self.sine * v + 0.5
        y = self.sine * u + self.cosine * v + 0.5
        return x * self.size, y * self.size
