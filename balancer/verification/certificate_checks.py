"""A certificate's numbers against each other, against the table, and against the embeddings.

The argument for the lower bound, in the verifier's words. Say the selection has k picks, m of them
given; f = k - m were free to choose. Let f + z + 1 rows be pairwise >= r apart and >= r from the
given picks. However the free picks are chosen, and whichever z rows are left out, f + 1 of these
rows remain: one of them is nearest to a given pick, at >= r, or two share a free pick, and one of
these is >= r / 2 from it. So no choice has a radius below r / 2 (below r where f = 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from balancer.types import DoubleArray, FloatArray
from balancer.verification.claims import PERCENTAGES, Claims
from balancer.verification.geometry import agree, at_least, nearest_previous
from balancer.verification.report import RECOMPUTED, Check, failed, passed, skipped

FACTORS = {
    "farthest-point": (2.0, 2.0),
    "composable": (2.0, 4.0),
    "composable-epsilon": (2.0, math.inf),
    "medoid": (4.0, 4.0),
}
"""Least and greatest factor that each strategy with a guarantee can state."""


def check_problem(claims: Claims) -> Check:
    """Check the certificate's words for what the optimum is over against its numbers."""
    name = "problem"
    words = f"least radius of any {claims.num_picks} of {claims.num_rows} rows"
    if claims.num_included:
        words += f" that contain the {claims.num_included} included ones"
    if claims.num_outliers:
        words += f", the {claims.num_outliers} farthest rows left out"
    if claims.given != words:
        return failed(
            name, f"given must be {words!r}, as the numbers say; the certificate has "
                  f"{claims.given!r}"
        )  # fmt: skip
    return passed(name, words)


def check_ratio(claims: Claims, strategy: str | None) -> Check:
    """Check lower bound and ratio against packing and radius.

    Farthest-point's own picks and its farthest row are a packing of its radius, so it cannot claim
    less.
    """
    name, packing = "lower bound and ratio", claims.packing
    if strategy == "farthest-point" and not at_least(packing.radius, claims.radius):
        return failed(
            name,
            f"picks and farthest row of farthest-point are {claims.radius} apart, its radius; the "
            f"certificate claims a packing of {packing.radius}",
        )
    bound = 0.0
    if packing.witness != "none":
        bound = packing.radius if claims.num_free == 0 else packing.radius / 2
    bound = min(bound, claims.radius)
    if not agree(claims.lower_bound, bound):
        return failed(
            name,
            f"a packing of radius {packing.radius} bounds the optimum by {bound}; the certificate "
            f"claims {claims.lower_bound}",
        )
    ratio = None if claims.radius else 1.0
    if claims.lower_bound > 0:
        ratio = claims.radius / claims.lower_bound
    same = ratio == claims.ratio or (
        ratio is not None and claims.ratio is not None and agree(ratio, claims.ratio)
    )
    if not same:
        return failed(
            name,
            f"radius {claims.radius} over lower bound {claims.lower_bound} is {ratio}; the "
            f"certificate claims {claims.ratio}",
        )
    said = "no ratio: the bound is 0" if ratio is None else f"within {ratio:.4g} of the optimum"
    return passed(name, f"optimum >= {claims.lower_bound:.6g}, {said}")


def check_factor(claims: Claims, strategy: str | None) -> Check:
    """Check that the factor is one that the strategy can guarantee.

    That the radius is within it is certain where the ratio is. Otherwise it cannot be decided,
    since the optimum is known from below only.

    Args:
        claims: the certificate.
        strategy: None where the manifest does not name it.
    """
    name, factor = "factor", claims.factor
    if factor is not None and factor < 1:
        return failed(name, f"must be at least 1, as no radius is below the optimum; got {factor}")
    if strategy in FACTORS:
        least, greatest = FACTORS[strategy]
        if factor is None or not least <= factor <= greatest:
            span = f"{least:g}" if least == greatest else f"from {least:g} to {greatest:g}"
            span = f"at least {least:g}" if math.isinf(greatest) else span
            return failed(name, f"must be {span} for {strategy}; the certificate claims {factor}")
    elif strategy is not None and factor is not None:
        return failed(
            name, f"must be null, as {strategy} guarantees none; the certificate claims {factor}"
        )
    if factor is None:
        return skipped(name, "the strategy has no guarantee")
    if claims.ratio is not None and at_least(factor, claims.ratio):
        return passed(name, f"the ratio is within the guaranteed {factor:.4g}")
    undecided = "whether the radius keeps it is not decidable from a lower bound, so not checked"
    if strategy is None:
        return skipped(name, f"{factor:.4g}, of an unnamed strategy; {undecided}")
    return passed(name, f"{factor:.4g} is in the range of {strategy}; {undecided}")


def curve_sizes(smallest: int, count: int) -> list[int]:
    """Return the prefix sizes that a budget curve must have.

    Every size up to 64, from there 64 times each power of the eighth root of 2, rounded, and all.

    >>> curve_sizes(62, 100)
    [62, 63, 64, 70, 76, 83, 91, 99, 100]
    """
    sizes = set(range(smallest, min(count, 64) + 1)) | {count}
    step = 0
    while (size := round(64 * 2 ** (step / 8))) <= count:
        sizes |= {size} if size >= smallest else set()
        step += 1
    return sorted(sizes)


def check_picked_distances(
    claims: Claims, distances: Sequence[float | None], strategy: str | None
) -> Check:
    """Check the distance column of a farthest-point selection against the budget curve."""
    name = "picked distances"
    if not claims.curve and strategy == "farthest-point":
        return failed(name, "a farthest-point selection must have a budget curve; it is empty")
    if not claims.curve:
        return skipped(name, "no budget curve: not a farthest-point selection")
    if claims.num_outliers:
        return failed(name, "a budget curve must not be claimed where rows are left out")
    first = max(1, claims.num_included)
    column = np.array([np.nan if d is None else d for d in distances], dtype=np.float64)
    steps = column[first:]
    rises = np.flatnonzero(~(steps[1:] <= steps[:-1]))
    if len(steps) and not np.isfinite(steps[0]):
        return failed(name, f"must be finite from rank {first} on; got {steps[0]}")
    if len(rises):
        rank = first + int(rises[0]) + 1
        return failed(
            name, f"must never increase; rank {rank} has {column[rank]} after {column[rank - 1]}"
        )
    sizes = [size for size, _, _ in claims.curve]
    wanted = curve_sizes(first, claims.num_picks)
    if sizes != wanted:
        absent = sorted(set(wanted) ^ set(sizes))
        return failed(
            name,
            f"a budget curve must have the {len(wanted)} sizes from {first} to {claims.num_picks} "
            f"that are documented; got {len(sizes)}, and {absent[0]} is in one of them only",
        )
    for size, radius, _ in claims.curve:
        stated = claims.radius if size == claims.num_picks else float(column[size])
        if not agree(radius, stated):
            return failed(
                name,
                f"{size} picks must have the radius {stated} of the table; the budget curve has "
                f"{radius}",
            )
    return passed(name, "never increase, and equal the budget curve")


def check_radii(claims: Claims, squared: DoubleArray) -> Check:
    """Check the covering radii against the distances of all rows to their nearest pick."""
    name, count = RECOMPUTED, len(squared)
    if claims.num_rows != count:
        return failed(name, f"must be over the {count} rows of the embeddings; the certificate's "
                            f"are over {claims.num_rows}")  # fmt: skip
    # The rank-th smallest, rank = ceil(share N) in whole numbers; the last but num_outliers.
    ranks = {f"{p} %": (-(-p * count // 100), claims.covering_radius[p]) for p in PERCENTAGES}
    ranks["optimised"] = (count - claims.num_outliers, claims.radius)
    places = sorted({rank - 1 for rank, _ in ranks.values()})
    ordered = np.partition(squared, places)
    for label, (rank, stated) in ranks.items():
        found = float(np.sqrt(ordered[rank - 1]))
        if not agree(stated, found):
            return failed(
                name, f"the {label} radius must be {found}; the certificate claims {stated}"
            )
    said = ", ".join(f"{claims.covering_radius[p]:.6g} at {p} %" for p in PERCENTAGES)
    return passed(name, f"{said} of {count} rows")


def check_packing(claims: Claims, witness: Sequence[str], points: FloatArray) -> Check:
    """Check that the witness proves what is claimed of it.

    Args:
        claims: the certificate.
        witness: ids of the packing's rows.
        points: (m + P, D) float32: the given picks, then the packing's rows.

    Cost: O(P^2 D) in matrix products.
    """
    name, radius = "packing", claims.packing.radius
    wanted = claims.num_free + claims.num_outliers + 1
    if len(set(witness)) != len(witness):
        return failed(name, "must name distinct tiles; one repeats")
    if not len(witness) == claims.packing.num_points >= wanted:
        return failed(
            name,
            f"must have {wanted} rows; the certificate claims {claims.packing.num_points}, and "
            f"{len(witness)} are named",
        )
    # For the rows of the packing: the nearest of the given picks and of the packing's rows before.
    previous = np.sqrt(nearest_previous(points)[claims.num_included :])
    place = int(previous.argmin())
    if not at_least(float(previous[place]), radius):
        return failed(
            name,
            f"rows must be at least {radius} apart; {witness[place]!r} is {previous[place]} from "
            f"another",
        )
    return passed(name, f"{len(witness)} rows at least {radius:.6g} apart")


def check_curve(
    claims: Claims,
    distances: Sequence[float | None],
    greatest: DoubleArray,
    points: FloatArray,
) -> Check:
    """Check every point of the budget curve, and every pick's distance to those before it.

    Args:
        claims: the certificate.
        distances: of the table.
        greatest: squared covering radius of each prefix on the curve, recomputed.
        points: (k, D) float32, the picks in rank order.

    Cost: O(k^2 D) in matrix products.
    """
    name = "budget curve"
    if not claims.curve:
        return skipped(name, "no budget curve: not a farthest-point selection")
    for (size, radius, bound), square in zip(claims.curve, greatest.tolist(), strict=True):
        found = float(np.sqrt(square))
        if not agree(radius, found):
            return failed(
                name, f"{size} picks must have the radius {found}; the certificate claims {radius}"
            )
        expected = radius if size == claims.num_included else radius / 2
        if not agree(bound, expected):
            return failed(
                name, f"{size} picks must have the lower bound {expected}; claimed is {bound}"
            )
    previous = np.sqrt(nearest_previous(points))
    for rank in range(max(1, claims.num_included), len(points)):
        stated = distances[rank]
        if stated is None or not agree(stated, float(previous[rank])):
            return failed(
                name,
                f"rank {rank} must be {previous[rank]} from the picks before it; the table says "
                f"{stated}",
            )
    return passed(name, f"{len(claims.curve)} prefixes, {len(points)} picks")
