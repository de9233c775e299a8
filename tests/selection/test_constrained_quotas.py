"""Included and excluded tiles and quality together with quotas over several axes."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.config import (
    AxisRule,
    ClusteringConfig,
    QuotasConfig,
    SelectionConfig,
    Strategy,
    Within,
)
from balancer.selection import Constraints, select
from balancer.selection.arrays import TileWeights, select_weighted
from balancer.selection.farthest_point import row_ids
from balancer.selection.quota_plan import share_strata
from balancer.selection.strata import cluster_strata
from balancer.types import Selection, Strata
from tests.selection.test_select import long_tailed

POINTS = long_tailed()[0]
IDS = row_ids(len(POINTS))
BIOME = np.array(["ice", "sand", "sea"], dtype=object)[np.arange(len(IDS)) % 7 % 3]
SEASON = np.array(["dry", "wet"], dtype=object)[np.arange(len(IDS)) // 5 % 2]
COLUMNS = {"biome": BIOME, "season": SEASON}
QUALITY = np.random.default_rng(4).uniform(0.3, 2, len(IDS))
INCLUDE = IDS[[7, 480, 3, 499, 15, 21]]
EXCLUDE = IDS[5::9]
BUDGET = 40
AXES: dict[str, AxisRule] = {"biome": "uniform", "season": {"dry": 0.7}}
CASES: list[tuple[Strategy, Within]] = [
    ("per-cluster", "random"),
    ("per-cluster", "nearest"),
    ("per-cluster", "farthest-point"),
    ("per-cluster", "medoid"),
    ("hybrid", "farthest-point"),
]


def run(
    strategy: Strategy, within: Within, quotas: QuotasConfig, limits: Constraints
) -> tuple[Selection, TileWeights]:
    config = SelectionConfig(budget=BUDGET, strategy=strategy, within=within, quotas=quotas)
    picked, _, weights = select_weighted(
        POINTS,
        config,
        ids=IDS,
        seed=3,
        clustering=ClusteringConfig(num_clusters=8),
        constraints=limits,
        columns=COLUMNS,
    )
    assert weights is not None
    return picked, weights


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(("strategy", "within"), CASES)
def test_quotas_hold_with_included_and_excluded_tiles(
    strategy: Strategy, within: Within, repeats: int
) -> None:
    quotas = QuotasConfig(axes=AXES, repeats=repeats)
    picked, weights = run(strategy, within, quotas, Constraints(INCLUDE, EXCLUDE))
    assert picked.tile_ids[:6].tolist() == INCLUDE.tolist()
    assert (picked.reason == "include").sum() == picked.num_included == 6
    assert len(set(picked.tile_ids.tolist())) == len(picked)
    assert not np.isin(picked.tile_ids, EXCLUDE).any()
    shown = np.ones(len(picked), np.int64) if picked.repeats is None else picked.repeats
    assert shown.sum() == BUDGET
    assert (picked.repeats is None) == (repeats == 1)
    rows = picked.tile_ids.astype(int)
    if strategy == "per-cluster":
        of_biome = [int(shown[BIOME[rows] == biome].sum()) for biome in ("ice", "sand", "sea")]
        assert sorted(of_biome) == [13, 13, 14]
        assert shown[SEASON[rows] == "dry"].sum() == 28
    # Every tile that is left has a weight, and they add up to the budget.
    assert sorted(weights.ids.tolist()) == sorted(set(IDS.tolist()) - set(EXCLUDE.tolist()))
    assert weights.weight.sum() == pytest.approx(BUDGET)
    assert (weights.weight >= 0).all()


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("within", ["random", "farthest-point"])
@pytest.mark.parametrize("axes", [{}, AXES], ids=["clusters", "axes"])
def test_a_tile_weighs_one_over_its_weight_in_the_archive(
    axes: dict[str, AxisRule], within: Within, repeats: int
) -> None:
    quotas = QuotasConfig(axes=axes, repeats=repeats)
    picked, weights = run("per-cluster", within, quotas, Constraints(INCLUDE, EXCLUDE))
    rate = dict(zip(weights.ids.tolist(), weights.weight.tolist(), strict=True))
    shown = np.ones(len(picked)) if picked.repeats is None else picked.repeats
    for place, tile in enumerate(picked.tile_ids.tolist()):
        given = picked.reason[place] == "include"
        assert rate[tile] == pytest.approx(shown[place] if given else 1 / picked.weight[place])
    # Showings stand for the rows of the strata that give any.
    assert picked.allocation is not None
    strata, counts = picked.allocation.strata, picked.allocation.counts
    assert (picked.weight * shown).sum() == pytest.approx(strata.sizes[counts > 0].sum())


@pytest.mark.parametrize("strategy", ["per-cluster", "hybrid"])
def test_quality_and_quotas(strategy: Strategy) -> None:
    quotas = QuotasConfig(alpha=0.5, cap=9, axes=AXES)
    limits = Constraints(INCLUDE, EXCLUDE, QUALITY)
    weighted, _ = run(strategy, "farthest-point", quotas, limits)
    plain, _ = run(strategy, "farthest-point", quotas, Constraints(INCLUDE, EXCLUDE))
    assert weighted.allocation is not None
    assert plain.allocation is not None
    # Quality decides which tiles of a stratum are picked, not how many.
    assert weighted.allocation.counts.tolist() == plain.allocation.counts.tolist()
    mean = [QUALITY[picked.tile_ids.astype(int)].mean() for picked in (weighted, plain)]
    assert mean[0] > mean[1]


def test_hybrid_with_repeats_weighs_all_rows() -> None:
    quotas = QuotasConfig(repeats=2)
    picked, weights = run("hybrid", "farthest-point", quotas, Constraints(INCLUDE, EXCLUDE))
    assert picked.repeats is not None
    assert picked.repeats.sum() == BUDGET
    assert (picked.weight * picked.repeats).sum() == pytest.approx(len(weights.ids))
    assert weights.weight.sum() == pytest.approx(BUDGET)


def test_a_stratum_of_included_tiles_alone_shares_its_rows() -> None:
    """Two clusters of 4 with 2 picks each; the two of the first are given."""
    points = np.array([[0], [1], [2], [3], [100], [101], [102], [103]], np.float32)
    ids = np.array(list("abcdefgh"))
    picked, _, weights = select_weighted(
        points,
        SelectionConfig(budget=4, strategy="per-cluster"),
        ids=ids,
        normalize=False,
        clustering=ClusteringConfig(num_clusters=2),
        constraints=Constraints(np.array(["b", "a"])),
    )
    assert weights is not None
    assert picked.tile_ids[:2].tolist() == ["b", "a"]
    assert picked.weight.tolist() == [2, 2, 2, 2]
    # In the archive the given tiles are certain, and nothing of their stratum's count is left.
    assert weights.weight.tolist() == [1, 1, 0, 0, 0.5, 0.5, 0.5, 0.5]


def test_more_included_tiles_than_the_cap() -> None:
    strata, floors = cluster_strata(np.array([30, 30, 30])), np.array([9, 1, 0])
    found = share_strata(strata, 17, QuotasConfig(cap=4), 3, seed=0, floors=floors)
    assert found.counts.tolist() == [9, 4, 4]
    assert found.report[0] == (
        "cap: 1 of 3 clusters give more than the cap of 4, because more of their tiles must be "
        "included."
    )


def test_cells_give_at_least_their_included_tiles() -> None:
    """One cluster; biome by season, ten rows in each cell, budget 8: two each without floors."""
    values = np.array([[b, s] for b in ("ice", "sea") for s in ("dry", "wet")])
    strata = Strata(("biome", "season"), np.zeros(4, np.int64), values, np.full(4, 10))
    quotas = QuotasConfig(axes={"biome": "uniform", "season": "uniform"})
    plain = share_strata(strata, 8, quotas, 1, seed=0)
    assert plain.counts.tolist() == [2, 2, 2, 2]
    within = share_strata(strata, 8, quotas, 1, seed=0, floors=np.array([4, 0, 0, 0]))
    assert within.counts.tolist() == [4, 0, 0, 4]  # both axes still give four and four
    assert within.report == ()
    beyond = share_strata(strata, 8, quotas, 1, seed=0, floors=np.array([6, 0, 0, 0]))
    assert beyond.counts.tolist() == [6, 0, 0, 2]
    assert beyond.report == (
        "biome=ice: 6 tiles must be included, more than its share of 4.",
        "season=dry: 6 tiles must be included, more than its share of 4.",
    )
    with pytest.raises(ValueError, match="nor the budget of 8 together"):
        share_strata(strata, 8, quotas, 1, seed=0, floors=np.array([6, 3, 0, 0]))


def test_a_column_of_quotas_with_the_name_of_the_quality() -> None:
    config = SelectionConfig(
        budget=5, strategy="per-cluster", quotas=QuotasConfig(axes={"quality": "uniform"})
    )
    stars = np.arange(len(IDS)) % 3 + 1.0
    both = select(
        POINTS, config, ids=IDS, constraints=Constraints(quality=stars), columns={"quality": stars}
    )
    assert len(both) == 5
    with pytest.raises(ValueError, match="must hold the quality that is given"):
        select(
            POINTS,
            config,
            ids=IDS,
            constraints=Constraints(quality=QUALITY),
            columns={"quality": stars},
        )
