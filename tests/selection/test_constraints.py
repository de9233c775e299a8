"""Included and excluded tiles, quality and outliers, for every strategy on plain arrays."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from balancer.config import (
    ClusteringConfig,
    SelectionConfig,
    Strategy,
    can_trim,
    can_weigh,
)
from balancer.selection import STRATEGIES, Constraints, farthest_point, select, select_certified
from balancer.selection.certified import Certified
from balancer.selection.farthest_point import row_ids
from balancer.selection.k_center import Problem
from balancer.selection.quality import local_quality, merge_quality
from balancer.types import FloatArray, IdArray, Selection, ShardRows
from tests.oracles.brute_force_k_center import optimum
from tests.selection.test_select import long_tailed

POINTS = long_tailed()[0]
IDS = row_ids(len(POINTS))
KMEANS = ClusteringConfig(num_clusters=8)
INCLUDE = IDS[[7, 480, 3, 499]]
EXCLUDE = IDS[::9]
BUDGET = 40


def run(
    strategy: Strategy,
    constraints: Constraints,
    points: FloatArray = POINTS,
    ids: IdArray = IDS,
    **changes: Any,  # noqa: ANN401 - fields of the configuration
) -> tuple[Selection, Certified]:
    config = SelectionConfig.model_validate({"budget": BUDGET, "strategy": strategy} | changes)
    picked, certify = select_certified(
        points, config, ids=ids, seed=3, clustering=KMEANS, constraints=constraints
    )
    return picked, certify()


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestEveryStrategy:
    def test_included_come_first_and_count(self, strategy: Strategy) -> None:
        picked, found = run(strategy, Constraints(include=INCLUDE))
        assert picked.tile_ids[:4].tolist() == INCLUDE.tolist()
        assert (picked.reason == "include").tolist() == [True] * 4 + [False] * 36
        assert len(set(picked.tile_ids.tolist())) == BUDGET
        assert np.isnan(picked.distance[:4]).all()
        assert found.certificate.problem == Problem(500, BUDGET, 0, 4)
        assert "that contain the 4 included ones" in found.certificate.problem.given
        if found.certificate.factor is not None:
            assert found.certificate.ratio is not None
            assert found.certificate.ratio <= found.certificate.factor * (1 + 1e-6)

    def test_nothing_but_included(self, strategy: Strategy) -> None:
        picked, found = run(strategy, Constraints(include=IDS[:6]), budget=6)
        assert picked.tile_ids.tolist() == IDS[:6].tolist()
        assert set(picked.reason.tolist()) == {"include"}
        assert found.certificate.ratio == pytest.approx(1)  # there is no other choice

    def test_excluded_rows_are_as_if_absent(self, strategy: Strategy) -> None:
        kept = ~np.isin(IDS, EXCLUDE)
        points = POINTS.copy()
        points[~kept] = np.nan
        picked, found = run(strategy, Constraints(exclude=EXCLUDE), points)
        alone, certified = run(strategy, Constraints(), POINTS[kept], IDS[kept])
        assert picked.tile_ids.tolist() == alone.tile_ids.tolist()
        assert found.certificate == certified.certificate

    def test_row_order_does_not_matter(self, strategy: Strategy) -> None:
        order = np.random.default_rng(1).permutation(len(IDS))
        limits = Constraints(include=INCLUDE, exclude=IDS[100:120])
        straight, _ = run(strategy, limits)
        shuffled, _ = run(strategy, limits, POINTS[order], IDS[order])
        assert straight.tile_ids.tolist() == shuffled.tile_ids.tolist()
        assert straight.weight.tobytes() == shuffled.weight.tobytes()

    def test_impossible_inclusions(self, strategy: Strategy) -> None:
        with pytest.raises(ValueError, match=r"among the rows to pick from; none is not"):
            run(strategy, Constraints(include=np.array(["none"])))
        with pytest.raises(ValueError, match="both included and excluded; '003' is"):
            run(strategy, Constraints(include=INCLUDE, exclude=IDS[:9]))
        with pytest.raises(ValueError, match=r"budget of 3; got 4, and '499' is the first too"):
            run(strategy, Constraints(include=INCLUDE), budget=3)
        with pytest.raises(ValueError, match="named once; '007' repeats"):
            run(strategy, Constraints(include=IDS[[7, 7]]))

    def test_quality_and_outliers_apply_or_are_refused(self, strategy: Strategy) -> None:
        quality = Constraints(quality=np.linspace(0.5, 1, len(IDS)))
        if can_weigh(strategy, "farthest-point"):
            picked, found = run(strategy, quality)
            assert len(picked) == BUDGET
            assert found.certificate.factor is None
        else:
            with pytest.raises(ValueError, match=f"must not be given for {strategy}"):
                run(strategy, quality)
        if not can_trim(strategy):
            with pytest.raises(ValidationError, match=f"must be 0 for the strategy {strategy}"):
                run(strategy, Constraints(), num_outliers=3)


@pytest.mark.parametrize("strategy", ["random", "per-cluster", "hybrid"])
@pytest.mark.parametrize("num_included", [4, 12])
def test_weights_add_up_to_the_rows(strategy: Strategy, num_included: int) -> None:
    include = IDS[np.random.default_rng(0).permutation(len(IDS))[:num_included]]
    picked, _ = run(strategy, Constraints(include=include))
    assert picked.weight.sum() == pytest.approx(len(IDS))


def test_included_count_against_their_clusters_quota() -> None:
    points = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    points += 0.01 * np.random.default_rng(0).standard_normal(points.shape).astype(np.float32)
    ids = row_ids(40)
    config = SelectionConfig(budget=12)
    picked = select(
        points,
        config,
        ids=ids,
        clustering=ClusteringConfig(num_clusters=4),
        constraints=Constraints(include=ids[:3]),
    )
    assert np.bincount(picked.tile_ids.astype(int) // 10).tolist() == [3, 3, 3, 3]


class TestFarthestPoint:
    def test_includes_quality_and_outliers_are_those_of_the_function(self) -> None:
        quality = np.random.default_rng(2).uniform(0.2, 4, len(IDS))
        picked, _ = run(
            "farthest-point",
            Constraints(include=INCLUDE, quality=quality),
            num_outliers=5,
        )
        expected = farthest_point(
            POINTS,
            BUDGET,
            ids=IDS,
            include=INCLUDE.astype(int),
            quality=quality / quality.max(),
            num_outliers=5,
            metric="cosine",
        )
        assert picked.tile_ids.tolist() == IDS[expected.indices].tolist()
        assert picked.outliers is not None
        assert picked.outliers.tolist() == IDS[expected.outliers].tolist()
        np.testing.assert_array_equal(picked.distance[4:], expected.distances[4:])

    def test_outliers_are_named_and_not_covered(self) -> None:
        points = np.concatenate([POINTS, [[50, 0, 0, 0, 0, 0], [0, -50, 0, 0, 0, 0]]])
        ids = row_ids(len(points))
        config = SelectionConfig(budget=9, strategy="farthest-point", num_outliers=2)
        picked, certify = select_certified(points, config, ids=ids, normalize=False)
        found = certify().certificate
        assert picked.outliers is not None
        assert set(picked.outliers.tolist()) == {"500", "501"}
        assert found.radius < 10 < found.covering_radius["100"]
        assert found.problem.num_outliers == 2

    def test_certificates_bound_the_optimum(self) -> None:
        rng = np.random.default_rng(5)
        for _ in range(20):
            points = rng.standard_normal((9, 2)).astype(np.float32)
            ids = row_ids(9)
            outliers = int(rng.integers(0, 3))
            include = ids[rng.permutation(9)[: rng.integers(0, 3)]]
            config = SelectionConfig(budget=4, strategy="farthest-point", num_outliers=outliers)
            _, certify = select_certified(
                points, config, ids=ids, normalize=False, constraints=Constraints(include=include)
            )
            found = certify().certificate
            best = optimum(points, 4, included=include.astype(int).tolist(), num_outliers=outliers)
            assert found.lower_bound <= best * (1 + 1e-6)
            assert best <= found.radius * (1 + 1e-6)

    def test_budget_and_outliers_must_fit(self) -> None:
        with pytest.raises(ValueError, match="not exceed the 500 rows together; got 499 and 2"):
            run("farthest-point", Constraints(), budget=499, num_outliers=2)


class TestQuality:
    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            (3, np.nan, "tile '003' has nan"),
            (4, 0.0, "tile '004' has 0.0"),
            (5, -1.0, "tile '005' has -1.0"),
            (6, 1e-9, "must not fall below 1e-06 of its greatest value, 1.0; tile '006' has 1e-09"),
        ],
    )
    def test_values_are_numbers_above_zero(self, place: int, value: float, message: str) -> None:
        quality = np.ones(len(IDS))
        quality[place] = value
        with pytest.raises(ValueError, match=message):
            run("farthest-point", Constraints(quality=quality))

    def test_text_is_no_number(self) -> None:
        rows = ShardRows(IDS[:2], POINTS[:2], {"q": np.array(["x", 2.0], dtype=object)})
        assert local_quality(rows, "q").bad_id == "000"

    def test_ranges_merge_in_any_order(self) -> None:
        values = np.random.default_rng(0).uniform(0.1, 9, 30).round(1)
        parts = [
            local_quality(ShardRows(IDS[r], POINTS[r], {"q": values[r]}), "q")
            for r in np.array_split(np.arange(30), 4)
        ]
        whole = local_quality(ShardRows(IDS[:30], POINTS[:30], {"q": values}), "q")
        assert merge_quality(parts) == merge_quality(parts[::-1]) == whole
        assert merge_quality([merge_quality(parts[:2]), merge_quality(parts[2:])]) == whole

    def test_scale_does_not_matter(self) -> None:
        quality = 2.0 ** np.random.default_rng(0).integers(-4, 1, len(IDS))
        one, _ = run("farthest-point", Constraints(quality=quality))
        other, _ = run("farthest-point", Constraints(quality=1024 * quality))
        assert one.tile_ids.tolist() == other.tile_ids.tolist()


@pytest.mark.parametrize("key", ["include", "exclude", "quality_column"])
def test_a_name_alone_is_refused_on_arrays(key: str) -> None:
    with pytest.raises(ValueError, match=f"what {key} names must be given as Constraints"):
        select(
            POINTS,
            SelectionConfig.model_validate({"budget": 5, "strategy": "farthest-point", key: "a"}),
        )


def test_every_strategy_is_in_the_configuration() -> None:
    assert set(STRATEGIES) == set(get_args(Strategy))
