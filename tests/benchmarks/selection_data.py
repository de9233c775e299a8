"""Embeddings to select from: imbalanced clusters, no structure at all, and real tiles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import open_memmap
from PIL import Image

from balancer.distances import l2_normalize
from balancer.types import ByteArray, FloatArray

DATA = Path(__file__).parents[3] / "shared" / "data"
EUROSAT = DATA / "eurosat_rgb_original_jpg64.zip"
PRETRAINED = DATA / "pretrained"
CACHE = Path(__file__).parent / ".cache"

DIM = 128
NUM_CLUSTERS = 1000
ROWS_PER_CHUNK = 1 << 16
JITTER = 0.05
IMAGE_SIZE = 64
NAMES = ("zipf clusters", "gaussian", "eurosat")


def zipf_clusters(count: int, dim: int = DIM, *, seed: int = 0) -> FloatArray:
    """Return (count, dim) L2-normalised rows in 1,000 clusters of very unequal sizes.

    Sizes follow k^-1.2; a cluster spans 10 dimensions around its centre, with a spread that is
    log-uniform in [0.02, 0.6] and at most 0.15 in the 20 largest, as ocean and forest tiles are:
    many and alike. A thin noise fills the other dimensions. Rows come in random order.
    """
    rng = np.random.default_rng(seed)
    share = np.arange(1, NUM_CLUSTERS + 1) ** -1.2
    labels = rng.choice(NUM_CLUSTERS, count, p=share / share.sum())
    centres = rng.standard_normal((NUM_CLUSTERS, dim), dtype=np.float32) / np.float32(dim**0.5)
    spread = np.exp(rng.uniform(np.log(0.02), np.log(0.6), NUM_CLUSTERS)).astype(np.float32)
    spread[:20] = np.minimum(spread[:20], 0.15)
    bases = rng.standard_normal((NUM_CLUSTERS, 10, dim), dtype=np.float32)
    bases *= (spread / np.float32((10 * dim) ** 0.5))[:, None, None]
    points = np.empty((count, dim), np.float32)
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(NUM_CLUSTERS + 1))
    for cluster in range(NUM_CLUSTERS):
        for start in range(ends[cluster], ends[cluster + 1], ROWS_PER_CHUNK):
            rows = order[start : min(start + ROWS_PER_CHUNK, ends[cluster + 1])]
            inside = rng.standard_normal((len(rows), 10), dtype=np.float32)
            noise = rng.standard_normal((len(rows), dim), dtype=np.float32)
            noise *= np.float32(0.02 / dim**0.5)
            points[rows] = l2_normalize(centres[cluster] + inside @ bases[cluster] + noise)
    return points


def gaussian(count: int, dim: int = DIM, *, seed: int = 0) -> FloatArray:
    """Return (count, dim) standard normal rows, not normalised: nothing to exploit."""
    return np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)


def eurosat(count: int, dim: int = DIM, *, seed: int = 0) -> FloatArray:
    """Return (count, dim) L2-normalised embeddings of EuroSAT tiles.

    The tiles are the 27,000 RGB tiles of EuroSAT at their own 64 pixels; the encoder is ImageNet
    MobileNet V2, frozen; its 1,280 features are reduced to `dim` by principal components (centred,
    not whitened). Above 27,000 rows every tile is repeated, each copy with its own
    Gaussian noise of expected length 0.05, and normalised again: near-duplicates, as overlapping
    or revisited tiles are. The embeddings are kept in a cache that git ignores.
    """
    if not (EUROSAT.exists() and PRETRAINED.exists()):
        pytest.skip("the EuroSAT tiles or the MobileNet weights are not here")
    rng = np.random.default_rng(seed)
    originals = _embedded(count, dim)
    rows = rng.permutation(np.resize(np.arange(len(originals)), count))
    points = originals[rows]
    if count > len(originals):
        points += rng.standard_normal(points.shape, dtype=np.float32) * np.float32(
            JITTER / dim**0.5
        )
    return l2_normalize(points)


def make(name: str, count: int) -> FloatArray:
    """Return `count` rows of one of `NAMES`."""
    return {"zipf clusters": zipf_clusters, "gaussian": gaussian, "eurosat": eurosat}[name](count)


def write_gaussian(path: Path, count: int, dim: int = DIM) -> int:
    """Write standard normal rows to an .npy file, a chunk at a time; return their bytes."""
    rng = np.random.default_rng(0)
    rows = open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dim))
    for start in range(0, count, ROWS_PER_CHUNK):
        end = min(start + ROWS_PER_CHUNK, count)
        rows[start:end] = rng.standard_normal((end - start, dim), dtype=np.float32)
    rows.flush()
    return int(rows.nbytes)


def _embedded(count: int, dim: int) -> FloatArray:
    """Return the L2-normalised embeddings of the first tiles in random order, from the cache."""
    with zipfile.ZipFile(EUROSAT) as tiles:
        names = sorted(name for name in tiles.namelist() if name.endswith(".jpg"))
        # Fewer than dim tiles have no dim principal components.
        wanted = min(len(names), max(count, 2 * dim))
        cached = CACHE / f"eurosat-mobilenet-v2-{IMAGE_SIZE}px-{wanted}x{dim}.npy"
        if cached.exists():
            found: FloatArray = np.load(cached)
            return found
        chosen = np.random.default_rng(0).permutation(len(names))[:wanted]
        pixels = np.empty((wanted, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for number, place in enumerate(chosen):
            with tiles.open(names[place]) as file, Image.open(file) as image:
                pixels[number] = np.asarray(image.convert("RGB"))
    points = l2_normalize(_principal(_features(pixels), dim))
    CACHE.mkdir(exist_ok=True)
    np.save(cached, points)
    return points


def _features(pixels: ByteArray) -> FloatArray:
    from balancer.config import EncoderConfig
    from balancer.embedding.backbones import build_backbone
    from balancer.embedding.inference import embed_tiles

    config = EncoderConfig(
        kind="frozen",
        backbone="factory",
        factory=f"{PRETRAINED / 'load_mobilenet_npz.py'}:MobileNetNPZ",
        factory_kwargs={"path": str(PRETRAINED / "mobilenet_v2_1.0_imagenet_dequant_fp16.npz")},
        image_size=IMAGE_SIZE,
    )
    return embed_tiles(
        build_backbone(config), pixels, batch_size=64, mean=config.mean, std=config.std
    )


def _principal(features: FloatArray, dim: int) -> FloatArray:
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    reduced: FloatArray = (centred @ vectors[:, ::-1][:, :dim]).astype(np.float32)
    return reduced
