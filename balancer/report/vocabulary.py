"""The words of the report: each measure's name, unit, direction and meaning; number formats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Format = Literal["number", "percent"]
Better = Literal["lower", "higher", ""]
Part = Literal["classes", "clusters", "coverage", "change", "health"]

MISSING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Measure:
    """How one measure is called, written and judged.

    Attributes:
        label: name in tables and titles.
        unit: unit on an axis.
        better: which direction is good; empty where neither is.
        meaning: one sentence for the reader.
        part: which part of the page it belongs to.
        style: plain number, or a share written in percent.
        of_archive: whether the value of the whole archive can be compared with a selection's.
    """

    label: str
    unit: str
    better: Better
    meaning: str
    part: Part
    style: Format = "number"
    of_archive: bool = True


MEASURES: dict[str, Measure] = {
    "class_size_std": Measure(
        "Class-size std",
        "tiles",
        "lower",
        "Spread of the class sizes; the archive's is scaled to the size of the selection.",
        "classes",
    ),
    "effective_classes": Measure(
        "Effective classes",
        "classes",
        "higher",
        "exp(entropy) of the class shares: how many equal classes would be as diverse.",
        "classes",
    ),
    "rare_class_coverage": Measure(
        "Rare-class coverage",
        "share",
        "higher",
        "Share of the archive's tiles of rare classes that are picked, averaged over the classes.",
        "classes",
        "percent",
        of_archive=False,
    ),
    "rare_class_share": Measure(
        "Rare-class share",
        "share",
        "higher",
        "Share of the set's tiles that belong to the archive's rare classes.",
        "classes",
        "percent",
    ),
    "effective_clusters": Measure(
        "Effective clusters",
        "clusters",
        "higher",
        "exp(entropy) of the shares over a frozen reference clustering.",
        "clusters",
    ),
    "gini": Measure(
        "Gini coefficient",
        "0 to 1",
        "lower",
        "Inequality of the cluster sizes: 0 when all are equal.",
        "clusters",
    ),
    "kl_to_uniform": Measure(
        "KL to uniform",
        "nats",
        "lower",
        "Divergence of the cluster shares from equal shares: 0 when all are equal.",
        "clusters",
    ),
    "covering_radius_100": Measure(
        "Covering radius, 100 %",
        "embedding distance",
        "lower",
        "Distance from the farthest archive tile to its nearest pick, in round 0's embedding.",
        "coverage",
        of_archive=False,
    ),
    "covering_radius_99": Measure(
        "Covering radius, 99 %",
        "embedding distance",
        "lower",
        "The same distance, for all but the farthest 1 % of the archive.",
        "coverage",
        of_archive=False,
    ),
    "covering_radius_95": Measure(
        "Covering radius, 95 %",
        "embedding distance",
        "lower",
        "The same distance, for all but the farthest 5 % of the archive.",
        "coverage",
        of_archive=False,
    ),
    "churn": Measure(
        "Churn",
        "share",
        "",
        "1 \N{MINUS SIGN} Jaccard similarity with the previous round's selection.",
        "change",
        "percent",
    ),
    "effective_rank": Measure(
        "Effective rank",
        "dimensions",
        "higher",
        "exp(entropy) of the embeddings' singular values (RankMe): dimensions really in use.",
        "health",
    ),
    "retrieval_at_1": Measure(
        "Augmentation retrieval",
        "share",
        "higher",
        "How often the view nearest to a tile's augmented view is its own second view.",
        "health",
        "percent",
    ),
    "alignment": Measure(
        "Alignment",
        "squared distance",
        "lower",
        "Mean squared distance between two views of one tile.",
        "health",
    ),
    "uniformity": Measure(
        "Uniformity",
        "log potential",
        "lower",
        "Log mean Gaussian potential of pairs: lower is more evenly spread on the sphere.",
        "health",
    ),
    "spread": Measure(
        "Feature spread",
        "0 to 1",
        "higher",
        "Collapse indicator: 0 when all tiles have one embedding, near 1 when they fill the space.",
        "health",
    ),
    "dead_share": Measure(
        "Dead dimensions",
        "share",
        "lower",
        "Share of the embedding's dimensions that never change.",
        "health",
        "percent",
    ),
    "retrieval_at_10": Measure(
        "Retrieval among 10",
        "share",
        "higher",
        "How often a tile's second view is among the 10 nearest of its augmented view.",
        "health",
        "percent",
    ),
    "neighbor_agreement": Measure(
        "Neighbour agreement",
        "share",
        "higher",
        "Share of the 10 nearest other tiles that two views of a tile agree on.",
        "health",
        "percent",
    ),
    "cluster_agreement": Measure(
        "Cluster agreement",
        "adjusted Rand index",
        "higher",
        "Whether two views of a tile fall into one cluster: 1 always, 0 as by chance.",
        "health",
    ),
    "lidar": Measure(
        "LiDAR",
        "dimensions",
        "higher",
        "Directions in which tiles differ more than two views of one tile do.",
        "health",
    ),
    "intrinsic_dimension": Measure(
        "Intrinsic dimension",
        "dimensions",
        "",
        "Dimension of the surface that the embeddings lie on, near any of them (TwoNN).",
        "health",
    ),
    "hubness": Measure(
        "Hubness",
        "skewness",
        "lower",
        "Whether a few tiles are near neighbours of very many others: 0 when none are.",
        "health",
    ),
    "outlier_ratio": Measure(
        "Outlier ratio",
        "ratio",
        "lower",
        "Distance to the 10th neighbour, 99th percentile over median: how far odd tiles lie out.",
        "health",
    ),
    "leading_variance": Measure(
        "Leading variance",
        "share",
        "",
        "Share of the variance along the 8 leading directions.",
        "health",
        "percent",
    ),
    "spectral_decay": Measure(
        "Spectral decay",
        "exponent",
        "",
        "How fast the variance falls from direction to direction (alpha-ReQ).",
        "health",
    ),
    "cluster_variance": Measure(
        "Clustered variance",
        "share",
        "higher",
        "Share of the variance that 32 clusters explain.",
        "health",
        "percent",
    ),
}


def format_value(value: float | None, style: Format = "number") -> str:
    """Write a measured value with about three digits, or a dash where there is none.

    >>> format_value(0.2134, "percent"), format_value(1234.5), format_value(0.0700)
    ('21.3 %', '1,234', '0.070')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if style == "percent":
        percent = 100 * value
        return f"{percent:.{1 if abs(percent) >= 1 or percent == 0 else 2}f} %"
    return _digits(value, 3)


def format_spread(value: float, style: Format = "number") -> str:
    """Write a standard deviation with two digits, in the unit of its value.

    >>> format_spread(0.0061, "percent"), format_spread(1.84), format_spread(0.011)
    ('0.6', '1.8', '0.011')
    """
    return f"{100 * value:.1f}" if style == "percent" else _digits(value, 2)


def format_bytes(num_bytes: float) -> str:
    """Write a size in binary units.

    >>> format_bytes(512), format_bytes(1536), format_bytes(3 * 2**30)
    ('512 B', '1.50 KiB', '3.00 GiB')
    """
    size = float(num_bytes)
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    step = 0
    while size >= 1024 and step < len(units) - 1:
        size /= 1024
        step += 1
    return f"{size:.0f} B" if step == 0 else f"{_digits(size, 3)} {units[step]}"


def format_count(count: int, noun: str) -> str:
    """Write a count with its noun.

    >>> format_count(1, "tile"), format_count(4500, "tile")
    ('1 tile', '4,500 tiles')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _digits(value: float, digits: int) -> str:
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    # Balance measures are not known to the fourth decimal; smaller values keep their digits.
    text = f"{size:,.{min(decimals, 3) if size >= 0.01 else decimals}f}"
    return text if value >= 0 else f"\N{MINUS SIGN}{text}"
