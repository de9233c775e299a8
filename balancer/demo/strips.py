"""The order of the archive: acquisition strips, which are runs of neighbouring tiles of one class.

Real archives grow this way, so their shards differ in what they hold. Here a satellite in a
sun-synchronous orbit crosses each place around half past ten, local solar time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from balancer.demo.geography import choose_box, choose_month

YEAR = 2024
LOCAL_HOUR = 10.5
SECONDS_BETWEEN_TILES = 4
STEP_DEGREES = 0.45
"""Degrees of latitude between the tiles of a strip: an archive that keeps some tiles of a pass."""
TILES_PER_STRIP = 11.0
"""Mean length of a strip of a frequent class; rare classes have shorter ones."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One tile to be: what, where (degrees) and when (UTC)."""

    kind: str
    lon: float
    lat: float
    time: datetime


def plan_strips(counts: Mapping[str, int], rng: np.random.Generator) -> list[Sighting]:
    """Place the tiles of every class on Earth and in time.

    Args:
        counts: tiles of each class.
        rng: decides all places and times.

    Returns:
        Every tile, in order of time.
    """
    strips: list[list[Sighting]] = []
    for kind, count in counts.items():
        left = count
        mean = min(TILES_PER_STRIP, max(1.5, count / 12))
        while left > 0:
            length = min(left, 1 + int(rng.exponential(mean)))
            strip = _strip(kind, length, rng)
            strips.append(strip)
            left -= len(strip)
    strips.sort(key=lambda strip: (strip[0].time, strip[0].kind, strip[0].lon))
    return [sighting for strip in strips for sighting in strip]


def _strip(kind: str, length: int, rng: np.random.Generator) -> list[Sighting]:
    """Follow a descending pass from inside a region until it leaves the region."""
    west, south, east, north = choose_box(kind, rng)
    lon, lat = float(rng.uniform(west, east)), float(rng.uniform(south, north))
    moment = _overpass(kind, lon, lat, rng)
    strip: list[Sighting] = []
    for _ in range(length):
        strip.append(Sighting(kind, round(lon, 5), round(lat, 5), moment))
        lat -= STEP_DEGREES * float(rng.uniform(0.6, 1.4))
        lon -= STEP_DEGREES * float(rng.uniform(0.0, 0.5))
        moment += timedelta(seconds=SECONDS_BETWEEN_TILES)
        if lat < south or lon < west:
            break
    return strip


def _overpass(kind: str, lon: float, lat: float, rng: np.random.Generator) -> datetime:
    month = choose_month(kind, lat, rng)
    day = datetime(YEAR, month, 1, tzinfo=UTC) + timedelta(days=int(rng.integers(28)))
    seconds = round((LOCAL_HOUR - lon / 15.0 + rng.normal(0.0, 0.2)) * 3600)
    return day + timedelta(seconds=seconds)
