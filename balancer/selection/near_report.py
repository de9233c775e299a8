"""What a deduplication came to: facts for records and footers, and the same in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from balancer.config_deduplicate import DeduplicateConfig
from balancer.selection.greedy_net import Net
from balancer.selection.near_duplicates import Effort
from balancer.types import FloatArray, IntArray


def facts_of(config: DeduplicateConfig, net: Net, effort: Effort) -> dict[str, Any]:
    """Return the facts as JSON values: input = kept + near_duplicates."""
    kept = int(net.kept.sum())
    misses = effort.misses
    return {
        "rule": config.rule,
        "threshold": config.threshold,
        "distance": config.distance,
        "floor": config.floor,
        "borders": "ignore" if config.ignores_borders else "exact",
        "input": len(net.kept),
        "kept": kept,
        "near_duplicates": len(net.kept) - kept,
        "num_pairs": None if net.pairs is None else len(net.pairs),
        "num_cells": effort.num_cells,
        "replication": effort.replication,
        "misses": None
        if misses is None
        else {"pairs": misses.num_pairs, "missed": misses.num_missed, "share": misses.rate},
    }


def describe(facts: Mapping[str, Any]) -> list[str]:
    """Return the facts in words, one line each.

    >>> facts = {"rule": "greedy", "threshold": 0.95, "distance": None, "floor": None,
    ...          "input": 5, "kept": 3, "near_duplicates": 2, "num_pairs": None, "num_cells": 2,
    ...          "replication": 1.4, "misses": None}
    >>> describe(facts)[0]
    '5 tiles = 3 kept + 2 near-duplicates (cosine similarity of at least 0.95)'
    """
    measure = (
        f"cosine similarity of at least {facts['threshold']:g}"
        if facts["threshold"] is not None
        else f"distance of at most {facts['distance']:g}"
    )
    lines = [
        f"{facts['input']} tiles = {facts['kept']} kept + {facts['near_duplicates']} "
        f"near-duplicates ({measure})"
    ]
    misses, cells = facts["misses"], facts["num_cells"]
    if misses is None and cells == 1:
        lines.append("exact: all tiles were compared in one block")
    elif misses is None:
        lines.append(
            f"exact across the borders of {cells} cells: each tile was compared in "
            f"{facts['replication']:.2f} cells on average"
        )
    else:
        lines.append(
            f"approximate: pairs across the borders of {cells} cells are not found, "
            f"{misses['share']:.1%} of the near pairs ({misses['missed']} of the "
            f"{misses['pairs']} of a sample of tiles)"
        )
    if facts["rule"] == "semdedup":
        lines.append("rule semdedup: a dropped tile need not have a kept one near it")
    if facts["num_pairs"] is not None:
        lines.append(f"{facts['num_pairs']} pairs down to the floor {facts['floor']:g} are listed")
    return lines


def nearest_in(net: Net) -> tuple[IntArray, FloatArray]:
    """Return each row's nearest other row, as far as it is known.

    Args:
        net: with pairs: the nearest of all within the floor, ties to the earliest in the order;
            without: the row for which it was dropped.

    Returns:
        (N,) int64 ranks, -1 where there is none, and (N,) float32 squared distances, NaN there.
    """
    if net.pairs is None:
        return net.by, net.squared
    one = np.concatenate([net.pairs.first, net.pairs.second])
    other = np.concatenate([net.pairs.second, net.pairs.first])
    squared = np.concatenate([net.pairs.squared, net.pairs.squared])
    order = np.lexsort((other, squared, one))
    one, other, squared = one[order], other[order], squared[order]
    best = np.ones(len(one), np.bool_)
    best[1:] = one[1:] != one[:-1]
    nearest = np.full(len(net.kept), -1, np.int64)
    distances = np.full(len(net.kept), np.nan, np.float32)
    nearest[one[best]] = other[best]
    distances[one[best]] = squared[best]
    return nearest, distances
