"""Colours, palettes, and what lies between the ground and the file: haze, light, lens, sensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from balancer.demo.noise import Canvas, fbm
from balancer.types import ByteArray, FloatArray

Rgb = tuple[float, float, float]
"""Red, green, blue in 0..255, as an image editor shows them."""
RAMP_SHADES = 1024


def solid(color: Rgb) -> FloatArray:
    """Return a colour as (3,) float32 in 0..1."""
    return np.array(color, dtype=np.float32) / np.float32(255.0)


def pick(canvas: Canvas, palettes: Sequence[Sequence[Rgb]], jitter: float = 0.03) -> FloatArray:
    """Choose a palette and change its brightness and hue a little.

    Returns:
        (K, 3) float32 in 0..1.
    """
    palette = np.array(palettes[int(canvas.rng.integers(len(palettes)))], dtype=np.float32) / 255.0
    hue = 1.0 + 0.6 * jitter * canvas.rng.standard_normal(3)
    light = 1.0 + 2.5 * jitter * canvas.rng.standard_normal()
    return np.clip(palette * (hue * light), 0.0, 1.0).astype(np.float32)


def ramp(field: FloatArray, palette: FloatArray) -> FloatArray:
    """Colour a field: 0 gets the first colour of the palette, 1 the last, linear between.

    Args:
        field: (size, size) float32, clipped to 0..1.
        palette: (K, 3) float32 with K >= 2.

    Returns:
        (size, size, 3) float32.
    """
    stops = np.linspace(0.0, 1.0, len(palette))
    shades = np.linspace(0.0, 1.0, RAMP_SHADES)
    table = np.stack([np.interp(shades, stops, channel) for channel in palette.T], axis=1)
    place = np.clip(field, 0.0, 1.0) * np.float32(RAMP_SHADES - 1)
    return table.astype(np.float32).take(place.astype(np.int32), axis=0)


def mix(below: FloatArray, above: FloatArray, cover: FloatArray) -> FloatArray:
    """Lay `above` (an image or one colour) over an image where `cover` is 1."""
    blended: FloatArray = below + (above - below) * cover[..., None]
    return blended


def lit(image: FloatArray, light: FloatArray) -> FloatArray:
    """Multiply an image by light; the shade is a little bluer than the sun, as skylight is."""
    tint = np.array([1.0, 1.0, 0.88], dtype=np.float32)
    shaded: FloatArray = image * light[..., None] ** tint
    return shaded


def desaturate(image: FloatArray, amount: float) -> FloatArray:
    """Move colours towards their grey by a share."""
    grey = image @ np.array([0.3, 0.59, 0.11], dtype=np.float32)
    return mix(image, grey[..., None], np.full(grey.shape, amount, dtype=np.float32))


def develop(canvas: Canvas, image: FloatArray, *, size: int) -> ByteArray:
    """Turn a scene into the picture that a satellite sends: air, lens, exposure, sensor.

    Args:
        canvas: source of randomness.
        image: (n * size, n * size, 3) float32 with a whole n.
        size: pixels along a side of the result.

    Returns:
        (size, size, 3) uint8.
    """
    factor = image.shape[0] // size
    if factor > 1:
        image = image.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
    image = np.clip(image, 0.0, 1.0)
    blur = canvas.uniform(0.15, 0.55)
    image = ndimage.gaussian_filter(image, (blur, blur, 0.0), truncate=3.0)
    image = desaturate(image, canvas.uniform(0.0, 0.25))
    haze = canvas.rng.beta(1.2, 9.0) * 0.6
    if haze > 0.02:
        tilt = canvas.angle()
        line = (np.arange(size) + 0.5) / size - 0.5
        veil = np.cos(tilt) * line[:, None] + np.sin(tilt) * line[None, :]
        cover = (haze * (1.0 + 0.6 * veil)).astype(np.float32)
        image = mix(image, solid((176, 188, 200)), cover)
    exposure = canvas.uniform(0.88, 1.12)
    gamma = canvas.uniform(0.9, 1.1)
    balance = per_channel(canvas, 0.01)
    exposed = np.clip(image, 0.0, 1.0) ** np.float32(gamma)
    image = (exposed * (balance * np.float32(exposure))).astype(np.float32)
    grain = canvas.uniform(0.004, 0.013)
    noise = canvas.rng.standard_normal((size, size, 3), dtype=np.float32)
    grainy = image + noise * (np.float32(grain) * (0.5 + np.sqrt(np.clip(image, 0.0, 1.0))))
    counts: ByteArray = np.clip(np.round(grainy * 255.0), 0, 255).astype(np.uint8)
    return counts


def mottle(canvas: Canvas, image: FloatArray, amount: float, *, low: float = 1.0) -> FloatArray:
    """Vary an image's brightness by fractal noise of this relative strength."""
    field = fbm(canvas, slope=2.2, low=low)
    return (image * (1.0 + np.float32(amount) * field)[..., None]).astype(np.float32)


def per_channel(canvas: Canvas, spread: float) -> FloatArray:
    """Return (3,) float32 factors near 1 that move a colour a little."""
    return (1.0 + spread * canvas.rng.standard_normal(3)).astype(np.float32)
