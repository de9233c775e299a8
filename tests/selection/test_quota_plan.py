"""Quotas over several axes: exact where they can be, and in words where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from balancer.config import (
    AxisRule,
    ClusteringConfig,
    QuotasConfig,
    SelectionConfig,
    Strategy,
    Within,
)
from balancer.errors import ConfigError
from balancer.selection import select
from balancer.selection.arrays import select_weighted
from balancer.selection.controlled_rounding import round_to_margins
from balancer.selection.margin_moves import diffuse, missed, settle
from balancer.selection.proportional_fitting import Margin, fit_margins
from balancer.selection.quota_plan import plan_quotas
from balancer.selection.quotas import Box
from balancer.selection.strata import NONE, count_strata, label_rows, merge_strata
from balancer.types import Allocation, Clustering, IntArray, ShardRows, Strata
from tests.oracles.slow_allocation import least_miss

T = TypeVar("T")


class Counted:
    """A pool whose rows are counted already."""

    def __init__(self, strata: Strata) -> None:
        self.strata = strata

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        assert local is count_strata
        assert arguments
        return [self.strata]  # type: ignore[list-item]


def plan(
    cells: dict[tuple[Any, ...], int],
    budget: int,
    columns: tuple[str, ...],
    **quotas: Any,  # noqa: ANN401 - passed on
) -> Allocation:
    """Plan over cells {(cluster, value, ...): size}."""
    keys = sorted(cells)
    strata = Strata(
        columns,
        np.array([key[0] for key in keys]),
        np.array([key[1:] for key in keys], np.str_).reshape(len(keys), len(columns)),
        np.array([cells[key] for key in keys]),
    )
    sizes = np.bincount(strata.cluster, strata.sizes).astype(np.int64)
    clustering = Clustering(np.zeros((len(sizes), 2), np.float32), sizes, 0.0)
    quotas.setdefault("axes", dict.fromkeys(columns, "uniform"))
    return plan_quotas(Counted(strata), clustering, budget, QuotasConfig(**quotas), seed=0)


def totals(found: Allocation, column: str) -> dict[str, int]:
    values = found.strata.values[:, found.strata.columns.index(column)]
    return {v: int(found.counts[values == v].sum()) for v in np.unique(values).tolist()}


def per_cluster(found: Allocation) -> list[int]:
    return [int(total) for total in np.bincount(found.strata.cluster, found.counts)]


class TestTwoAxes:
    CELLS: ClassVar[dict[tuple[Any, ...], int]] = {
        (0, "ice"): 60,
        (0, "sand"): 900,
        (1, "ice"): 50,
        (1, "sand"): 300,
        (2, "sand"): 80,
    }

    def test_all_sums_are_met_exactly(self) -> None:
        found = plan(self.CELLS, 90, ("biome",))
        assert per_cluster(found) == [30, 30, 30]
        assert totals(found, "biome") == {"ice": 45, "sand": 45}
        assert found.report == ()
        assert (found.rates * found.strata.sizes).sum() == pytest.approx(90)

    def test_too_few_tiles_are_said(self) -> None:
        found = plan(self.CELLS, 300, ("biome",))
        assert totals(found, "biome") == {"ice": 110, "sand": 190}
        assert "biome=ice: 110 of 150 reached, because only 110 tiles exist." in found.report
        assert "clusters: 1 of 3 lack 20 of their share, because they have no more tiles." in (
            found.report
        )

    def test_repeats_reach_further_and_are_said(self) -> None:
        found = plan(self.CELLS, 500, ("biome",), repeats=2)
        assert totals(found, "biome")["ice"] == 220
        assert (
            "biome=ice: 220 of 250 reached, because only 110 tiles exist, each counted at most"
            " 2 times." in found.report
        )
        assert (found.counts <= 2 * found.strata.sizes).all()

    def test_axes_that_contradict_each_other(self) -> None:
        # All ice lies in cluster 0, which may give 10 of 20.
        cells = {(0, "ice"): 50, (0, "sand"): 50, (1, "sand"): 100}
        found = plan(cells, 20, ("biome",), axes={"biome": {"ice": 0.8, "sand": 0.2}}, cap=10)
        assert found.counts.sum() == 20
        assert per_cluster(found) == [10, 10]
        assert totals(found, "biome") == {"ice": 10, "sand": 10}
        assert found.report == (
            "biome=ice: 10 of 16 reached, because its other 40 tiles lie in 1 cluster, which has "
            "its share.",
        )

    def test_shares_leave_the_rest_to_values_without_one(self) -> None:
        cells = {(0, "ice"): 500, (0, "sand"): 500, (0, "sea"): 500}
        found = plan(cells, 100, ("biome",), axes={"biome": {"ice": 0.2}})
        assert totals(found, "biome") == {"ice": 20, "sand": 40, "sea": 40}

    def test_a_share_of_a_value_that_no_tile_has(self) -> None:
        found = plan({(0, "sea"): 500}, 100, ("biome",), axes={"biome": {"ice": 0.3, "sea": 0.7}})
        assert totals(found, "biome") == {"sea": 100}
        assert found.report == ("biome=ice: 0 of 30 reached, because no tile has it.",)

    def test_exponent_of_an_axis(self) -> None:
        cells = {(0, "ice"): 100, (0, "sea"): 900}
        assert totals(plan(cells, 80, ("b",), axes={"b": 0.5}), "b") == {"ice": 20, "sea": 60}
        assert totals(plan(cells, 80, ("b",), axes={"b": 1.0}), "b") == {"ice": 8, "sea": 72}

    def test_floors_beyond_the_budget_are_said(self) -> None:
        found = plan({(k,): 50 for k in range(10)}, 20, (), axes={}, floor=5)
        assert found.counts.tolist() == [2] * 10
        assert found.report == ("floor: 20 of 50 reached, because the budget is 20.",)

    def test_a_cap_leaves_budget(self) -> None:
        found = plan({(0,): 50, (1,): 3}, 20, (), axes={}, cap=8)
        assert found.counts.tolist() == [8, 3]
        assert found.report[0] == (
            "budget: 11 of 20 reached, because no cluster may give more than the cap of 8."
        )


def test_three_axes_are_met_exactly_where_there_is_room() -> None:
    cells = {(k, b, s): 40 for k in range(4) for b in "xyz" for s in "uv"}
    found = plan(cells, 120, ("biome", "season"))
    assert per_cluster(found) == [30] * 4
    assert totals(found, "biome") == {"x": 40, "y": 40, "z": 40}
    assert totals(found, "season") == {"u": 60, "v": 60}
    assert found.report == ()


cells_of_two_axes = st.lists(st.integers(0, 3), min_size=6, max_size=6)


@settings(max_examples=40, deadline=None)
@given(limits=cells_of_two_axes, split=st.integers(0, 100), data=st.data())
def test_rounding_is_as_exact_as_trying_everything(
    limits: list[int], split: int, data: st.DataObject
) -> None:
    rows, columns = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    total = data.draw(st.integers(0, sum(limits)))
    first = min(total, round(total * split / 100))
    low = max(0, total - sum(limits[3:]))
    first = min(max(first, low), sum(limits[:3]))
    second = np.bincount(np.arange(total) % 3, minlength=3)
    targets = [np.array([first, total - first]), second.astype(np.int64)]
    margins = [Margin(rows, targets[0]), Margin(columns, targets[1])]
    most = np.array(limits)
    fitted = fit_margins(np.ones(6), most, margins)
    box = Box(np.zeros(2, np.int64), np.array([sum(limits[:3]), sum(limits[3:])]))
    counts = round_to_margins(fitted.shares, most, margins, box)
    assert ((counts >= 0) & (counts <= most)).all()
    assert counts.sum() == total
    miss = sum(int(np.abs(m.sums(counts) - m.targets).sum()) for m in margins)
    if least_miss(most, [rows, columns], targets) == 0:
        assert miss == 0


@pytest.mark.parametrize("shape", [(9, 4), (6, 4, 3), (20, 5, 4), (8, 3, 3, 2)])
def test_sums_that_can_be_met_are_met(shape: tuple[int, ...]) -> None:
    """Sparse cells under low limits, sums taken from some whole numbers within them."""
    rng = np.random.default_rng(len(shape))
    for share in (0.3, 0.3, 0.3, 0.6, 0.6, 0.6, 1.0, 1.0):
        cells = np.argwhere(rng.random(shape) < share)
        most = rng.integers(1, 6, len(cells))
        some = rng.integers(0, most + 1)
        margins = [
            Margin(codes, np.bincount(codes, some, minlength=count).astype(np.int64))
            for codes, count in zip(cells.T, shape, strict=True)
        ]
        fitted = fit_margins(rng.random(len(cells)) + 0.05, most, margins)
        first = np.bincount(cells[:, 0], most, minlength=shape[0]).astype(np.int64)
        counts = round_to_margins(
            fitted.shares, most, margins, Box(np.zeros(shape[0], np.int64), first)
        )
        assert ((counts >= 0) & (counts <= most)).all()
        assert missed(counts, margins) == 0


def test_whole_numbers_that_moves_along_one_axis_do_not_find() -> None:
    # 1,000 such problems have a few; these two cells change only together with two others.
    cells = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    some = np.array([2, 1, 1, 2])
    margins = [
        Margin(codes, np.bincount(codes, some, minlength=2).astype(np.int64)) for codes in cells.T
    ]
    start = np.array([1.5, 1.5, 1.5, 1.5])
    most = np.full(4, 3)
    box = Box(np.zeros(2, np.int64), np.full(2, 6))
    assert missed(settle(np.array([1, 2, 2, 1]), start, most, margins), margins) == 4
    assert round_to_margins(start, most, margins, box).tolist() == some.tolist()


def test_diffusion_leaves_at_most_a_few_tiles_to_move() -> None:
    """Each share is rounded down or up, whatever the number of cells."""
    rng = np.random.default_rng(0)
    for clusters in (30, 300, 3000):
        cells = np.argwhere(np.ones((clusters, 5, 4)))
        weights = rng.random(len(cells)) + 0.01
        shares = 10.0 * weights / np.bincount(cells[:, 0], weights)[cells[:, 0]]
        margins = [
            Margin(codes, np.rint(np.bincount(codes, shares)).astype(np.int64)) for codes in cells.T
        ]
        counts = diffuse(shares, np.full(len(cells), 99), margins)
        assert counts is not None
        assert (np.abs(counts - shares) < 1).all()
        assert np.bincount(cells[:, 0], counts).tolist() == [10] * clusters
        for margin in margins[1:]:
            assert np.abs(margin.sums(counts) - margin.targets).max() <= 3


def test_limits_too_low_for_the_first_axis() -> None:
    margins = [Margin(np.zeros(2, np.int64), np.array([5])), Margin(np.arange(2), np.array([3, 2]))]
    assert diffuse(np.array([2.0, 2.0]), np.array([2, 2]), margins) is None


@given(
    sizes=st.lists(st.integers(1, 30), min_size=12, max_size=12),
    budget=st.integers(1, 60),
)
@settings(max_examples=30, deadline=None)
def test_cells_keep_limits_and_the_budget(sizes: list[int], budget: int) -> None:
    keys = [(k, b) for k in range(4) for b in "xyz"]
    budget = min(budget, sum(sizes))
    found = plan(dict(zip(keys, sizes, strict=True)), budget, ("biome",))
    assert found.counts.sum() == budget
    assert (found.counts <= found.strata.sizes).all()


class TestStrata:
    def rows(self) -> ShardRows:
        points = np.array([[0.0], [0.1], [5.0], [5.1], [0.2]], np.float32)
        ids = np.array(list("abcde"))
        biome = np.array(["sea", None, "sea", "ice", "sea"], dtype=object)
        year = np.array([2020.0, 2021.0, np.nan, 2020.0, 2020.0])
        return ShardRows(ids, points, {"biome": biome, "year": year})

    CENTROIDS = np.array([[0.0], [5.0]], np.float32)

    def test_by_hand(self) -> None:
        found = count_strata(self.rows(), self.CENTROIDS, ("biome", "year"))
        assert found.cluster.tolist() == [0, 0, 1, 1]
        assert found.values.tolist() == [
            [NONE, "2021"],
            ["sea", "2020"],
            ["ice", "2020"],
            ["sea", NONE],
        ]
        assert found.sizes.tolist() == [1, 2, 1, 1]
        labels = label_rows(self.rows(), np.array([0, 0, 1, 1, 0]), found)
        assert labels.tolist() == [1, 0, 3, 2, 1]

    def test_any_split_counts_alike(self) -> None:
        rows = self.rows()
        whole = count_strata(rows, self.CENTROIDS, ("biome",))
        for cut in range(6):
            parts = [
                ShardRows(rows.ids[part], rows.points[part], {"biome": rows.columns["biome"][part]})
                for part in (slice(0, cut), slice(cut, 5))
            ]
            merged = merge_strata([count_strata(p, self.CENTROIDS, ("biome",)) for p in parts])
            assert merged.cluster.tolist() == whole.cluster.tolist()
            assert merged.values.tolist() == whole.values.tolist()
            assert merged.sizes.tolist() == whole.sizes.tolist()

    def test_a_row_of_no_stratum(self) -> None:
        found = count_strata(self.rows(), self.CENTROIDS, ("biome",))
        rows = ShardRows(
            np.array(["z"]),
            np.zeros((1, 1), np.float32),
            {"biome": np.array(["sand"], dtype=object)},
        )
        assert label_rows(rows, np.array([0]), found).tolist() == [-1]

    def test_a_column_that_names_tiles(self) -> None:
        count = 10_001
        part = Strata(
            ("id",),
            np.zeros(count, np.int64),
            np.arange(count).astype(np.str_)[:, None],
            np.ones(count, np.int64),
        )
        with pytest.raises(ConfigError, match="at most 10000 values; id has 10001"):
            merge_strata([part])


def made(count: int = 400) -> tuple[Any, dict[str, Any], IntArray]:
    rng = np.random.default_rng(0)
    group = rng.choice(3, count, p=[0.8, 0.15, 0.05])
    points = rng.standard_normal((3, 5))[group] * 3 + 0.3 * rng.standard_normal((count, 5))
    biome = np.array(["ice", "sand", None], dtype=object)[rng.choice(3, count, p=[0.1, 0.8, 0.1])]
    return points.astype(np.float32), {"biome": biome}, group


class TestSelect:
    def config(
        self, strategy: Strategy = "per-cluster", within: Within = "random", share: float = 0.5
    ) -> SelectionConfig:
        axes: dict[str, AxisRule] = {"biome": "uniform"}
        return SelectionConfig(
            budget=60,
            strategy=strategy,
            within=within,
            global_share=share,
            quotas=QuotasConfig(axes=axes),
        )

    @pytest.mark.parametrize("within", ["random", "nearest", "farthest-point", "medoid"])
    def test_values_get_their_shares(self, within: Within) -> None:
        points, columns, _ = made()
        picked = select(
            points,
            self.config(within=within),
            columns=columns,
            clustering=ClusteringConfig(num_clusters=3),
        )
        biomes = columns["biome"][picked.tile_ids.astype(int)].tolist()
        assert [biomes.count(v) for v in ("ice", "sand", None)] == [20, 20, 20]
        assert picked.weight.sum() == pytest.approx(400)

    def test_hybrid_keeps_quotas_in_its_first_part(self) -> None:
        points, columns, _ = made()
        picked = select(points, self.config(strategy="hybrid"), columns=columns)
        base = picked.reason == "hybrid:per-cluster"
        biomes = columns["biome"][picked.tile_ids[base].astype(int)].tolist()
        assert [biomes.count(v) for v in ("ice", "sand", None)] == [10, 10, 10]
        assert len(picked) == 60

    def test_repeats_add_up_to_the_budget(self) -> None:
        points, _, _ = made()
        config = SelectionConfig(budget=300, strategy="per-cluster", quotas=QuotasConfig(repeats=5))
        picked, _, weights = select_weighted(
            points, config, clustering=ClusteringConfig(num_clusters=6)
        )
        assert picked.repeats is not None
        assert weights is not None
        assert picked.repeats.sum() == 300
        assert 1 <= picked.repeats.min() <= picked.repeats.max() <= 5
        assert len(set(picked.tile_ids.tolist())) == len(picked) < 300
        assert (picked.weight * picked.repeats).sum() == pytest.approx(400)
        assert weights.weight.sum() == pytest.approx(300)
        # A picked tile stands for the archive's tiles of its cluster, as its weight does.
        rate = dict(zip(weights.ids.tolist(), weights.weight.tolist(), strict=True))
        for tile, weight in zip(picked.tile_ids.tolist(), picked.weight.tolist(), strict=True):
            assert rate[tile] == pytest.approx(1 / weight)

    def test_weights_of_hybrid_add_up(self) -> None:
        points, columns, _ = made()
        _, _, weights = select_weighted(points, self.config(strategy="hybrid"), columns=columns)
        assert weights is not None
        assert weights.weight.sum() == pytest.approx(60)

    def test_no_weights_without_quotas(self) -> None:
        points, _, _ = made()
        config = SelectionConfig(budget=9, strategy="random")
        assert select_weighted(points, config)[2] is None

    def test_a_column_that_is_not_given(self) -> None:
        points, columns, _ = made()
        with pytest.raises(ValueError, match="got 'biome', and there are: none"):
            select(points, self.config())
        with pytest.raises(ValueError, match=r"one value per row \(400\); got \(3,\)"):
            select(points, self.config(), columns={"biome": columns["biome"][:3]})


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ({"cap": 1, "floor": 2}, "cap must be at least floor"),
        ({"axes": {"b": {"x": 0.7, "y": 0.7}}}, "add up to more than 0 and at most 1; got 1.4"),
        ({"alpha": 2.0}, "less than or equal to 1"),
        ({"axes": {"b": "even"}}, "uniform"),
    ],
)
def test_refused_quotas(quotas: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuotasConfig(**quotas)


def test_quotas_belong_to_strategies_that_keep_them() -> None:
    with pytest.raises(ValidationError, match="per-cluster and hybrid; got random"):
        SelectionConfig(budget=5, strategy="random", quotas=QuotasConfig(alpha=0.5))
