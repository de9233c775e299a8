"""A figure of a comparison as files, and what its plots share."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

from balancer.report.comparison_content import Interval
from balancer.report.style import Picture


@dataclass(frozen=True, slots=True)
class ComparisonFigure:
    """A figure as files.

    Attributes:
        slug: of the file names.
        title: with the paper's number.
        section: of the page.
        picture: SVG with its text alternative.
        png: the same.
    """

    slug: str
    title: str
    section: str
    picture: Picture
    png: bytes

    @property
    def svg(self) -> bytes:
        """Bytes of the SVG file."""
        return base64.b64decode(self.picture.uri.partition(",")[2])


def error_bars(values: Sequence[Interval], scale: float = 1.0) -> list[list[float]]:
    """Return distances to both ends; 0 where there is no interval."""
    down = [value.mean - value.low for value in values]
    up = [value.high - value.mean for value in values]
    return [[scale * max(0.0, x) if math.isfinite(x) else 0.0 for x in side] for side in (down, up)]


def plain_name(text: str) -> str:
    """Return text as part of a file name.

    >>> plain_name("v1 12a")
    'v1-12a'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in text).split()).lower()
