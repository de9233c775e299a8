"""Certificates against the optimum found by trying every choice, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.selection.certificate import Certificate, budget_curve, certify, prefix_sizes
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.selection.k_center import (
    NO_PACKING,
    Packing,
    Problem,
    lower_bound,
    picks_packing,
    table_packing,
)
from balancer.types import FloatArray, IntArray
from tests.oracles.brute_force_k_center import optimum, trimmed_radius

ROUNDING = 1 + 1e-6


def radii_of(points: FloatArray, picks: IntArray) -> dict[str, float]:
    radius = trimmed_radius(points, picks.tolist())
    return {"100": radius, "99": radius, "95": radius}


def tiny_points(seed: int, count: int) -> FloatArray:
    """Alternate between a coarse grid with ties and duplicates, and points in general position."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        return rng.integers(0, 3, (count, 2)).astype(np.float32)
    return rng.standard_normal((count, 2)).astype(np.float32)


def certified_run(points: FloatArray, count: int, first: int = 0) -> tuple[Certificate, IntArray]:
    """Farthest-point selection with its certificate, as a caller makes it."""
    problem = Problem(len(points), count)
    run = farthest_point(points, min(count + 1, len(points)), first=first)
    whole = count == len(points)
    radius = 0.0 if whole else float(run.distances[count])
    packing = picks_packing(problem, radius, None if whole else str(run.indices[count]))
    picks = run.indices[:count]
    curve = budget_curve(run.distances[:count], radius)
    radii = {"100": radius, "99": radius, "95": radius}
    return certify(problem, radii, packing, factor=2.0, curve=curve), picks


class TestByHand:
    """Rows at 0, 1, 2, 10 and 4 on a line; the first pick is 0, then 10, 4, 2, 1."""

    points = np.array([[0.0], [1.0], [2.0], [10.0], [4.0]], dtype=np.float32)

    def test_three_picks(self) -> None:
        certificate, picks = certified_run(self.points, 3)
        assert picks.tolist() == [0, 3, 4]
        # 2 is as far from 0 as from 4. The best three are 1, 4, 10 or 2, 4, 10... radius 1 or 2:
        # {1, 10, 4} leaves 0 and 2 at distance 1.
        assert optimum(self.points, 3) == 1.0
        assert (certificate.radius, certificate.lower_bound, certificate.ratio) == (2.0, 1.0, 2.0)
        assert certificate.packing == Packing(2.0, 4, "picks", "2")
        assert [(p.num_picks, p.radius, p.lower_bound) for p in certificate.curve] == [
            (1, 10.0, 5.0),
            (2, 4.0, 2.0),
            (3, 2.0, 1.0),
        ]

    def test_every_row(self) -> None:
        certificate, _ = certified_run(self.points, 5)
        assert (certificate.radius, certificate.lower_bound, certificate.ratio) == (0.0, 0.0, 1.0)
        assert certificate.packing == NO_PACKING

    def test_an_included_row(self) -> None:
        """Given 10, one free pick. Farthest-point takes 0; then 4 is the farthest, at 4."""
        problem = Problem(5, 2, num_included=1)
        run = farthest_point(self.points, 2, selected=self.points[3:4])
        assert run.indices.tolist() == [0, 4]
        radii = radii_of(self.points, np.array([3, 0]))
        packing = picks_packing(problem, float(run.distances[1]), "4")
        found = certify(problem, radii, packing)
        assert (found.radius, found.lower_bound, found.packing.num_points) == (4.0, 2.0, 2)
        assert optimum(self.points, 2, included=[3]) == 2.0  # 10 and 2

    def test_nothing_but_included_rows(self) -> None:
        """No free pick: the included rows are the only choice, so their radius is the optimum."""
        problem = Problem(5, 2, num_included=2)
        radii = radii_of(self.points, np.array([0, 3]))
        found = certify(problem, radii, picks_packing(problem, 4.0, "4"))
        assert (found.lower_bound, found.ratio, found.packing.num_points) == (4.0, 1.0, 1)
        curve = budget_curve(np.array([0, 0], np.float32), 4.0, num_included=2)
        assert [(p.num_picks, p.lower_bound) for p in curve] == [(2, 4.0)]

    def test_an_outlier(self) -> None:
        """Leaving 10 out, one pick: 2 has radius 2. Three rows 0, 10, 4 are 4 apart."""
        problem = Problem(5, 1, num_outliers=1)
        run = farthest_point(self.points, problem.packing_size, first=0)
        packing = table_packing(float(run.distances[-1]), row_ids(5)[run.indices])
        radii = radii_of(self.points, np.array([2]))
        found = certify(problem, radii, packing, radius=trimmed_radius(self.points, [2], 1))
        assert (found.covering_radius["100"], found.radius) == (8.0, 2.0)
        assert (found.lower_bound, found.ratio) == (2.0, 1.0)
        assert optimum(self.points, 1, num_outliers=1) == 2.0


class TestAgainstTheOptimum:
    @given(seed=st.integers(0, 10_000), count=st.integers(2, 8), first=st.integers(0, 7))
    @settings(max_examples=60, deadline=None)
    def test_farthest_point_and_every_prefix(self, seed: int, count: int, first: int) -> None:
        points = tiny_points(seed, count)
        certificate, picks = certified_run(points, count, first % count)
        for point in certificate.curve:
            best = optimum(points, point.num_picks)
            radius = trimmed_radius(points, picks[: point.num_picks].tolist())
            assert point.radius == pytest.approx(radius, rel=1e-6)
            assert point.lower_bound <= best * ROUNDING
            assert point.radius <= 2 * best * ROUNDING

    @given(
        seed=st.integers(0, 10_000),
        count=st.integers(3, 8),
        num_picks=st.integers(1, 3),
        num_included=st.integers(0, 3),
        num_outliers=st.integers(0, 2),
    )
    @settings(max_examples=120, deadline=None)
    def test_any_selection_by_a_packing(
        self, seed: int, count: int, num_picks: int, num_included: int, num_outliers: int
    ) -> None:
        """A random selection, some of whose rows were given, with rows left out."""
        points = tiny_points(seed, count)
        num_included = min(num_included, num_picks)
        problem = Problem(count, num_picks, num_outliers, num_included)
        picks = np.random.default_rng(seed).permutation(count)[:num_picks]
        included = picks[:num_included].tolist()
        packing = None
        if not problem.is_trivial:
            taken = np.zeros(count, dtype=np.bool_)
            taken[included] = True
            run = farthest_point(
                points,
                problem.packing_size,
                selected=points[included] if included else None,
                excluded=taken,
            )
            packing = table_packing(float(run.distances[-1]), row_ids(count)[run.indices])
        radius = trimmed_radius(points, picks.tolist(), num_outliers)
        best = optimum(points, num_picks, included=included, num_outliers=num_outliers)
        bound = lower_bound(problem, packing, radius)
        assert bound <= best * ROUNDING
        assert best <= radius * ROUNDING
        found = certify(
            problem,
            radii_of(points, picks),
            packing,
            radius=radius if num_outliers else None,
        )
        assert found.lower_bound == bound
        if found.ratio is not None:
            assert found.radius <= found.ratio * best * ROUNDING

    @given(
        seed=st.integers(0, 10_000),
        count=st.integers(3, 8),
        num_included=st.integers(1, 3),
        num_free=st.integers(0, 2),
    )
    @settings(max_examples=60, deadline=None)
    def test_farthest_point_from_included_rows(
        self, seed: int, count: int, num_included: int, num_free: int
    ) -> None:
        points = tiny_points(seed, count)
        num_included = min(num_included, count - 1)
        num_picks = min(num_included + num_free, count - 1)
        problem = Problem(count, num_picks, num_included=num_included)
        included = np.random.default_rng(seed).permutation(count)[:num_included]
        taken = np.zeros(count, dtype=np.bool_)
        taken[included] = True
        run = farthest_point(
            points, problem.packing_size, selected=points[included], excluded=taken
        )
        picks = np.concatenate([included, run.indices[:-1]])
        radius = float(run.distances[-1])
        assert radius == pytest.approx(trimmed_radius(points, picks.tolist()), rel=1e-6)
        packing = picks_packing(problem, radius, str(run.indices[-1]))
        found = certify(problem, radii_of(points, picks), packing, factor=2.0)
        best = optimum(points, num_picks, included=included.tolist())
        assert found.lower_bound <= best * ROUNDING
        assert found.radius <= 2 * best * ROUNDING
        distances = np.concatenate([np.zeros(num_included, np.float32), run.distances[:-1]])
        for point in budget_curve(distances, radius, num_included=num_included):
            prefix = optimum(points, point.num_picks, included=included.tolist())
            assert point.lower_bound <= prefix * ROUNDING
            assert prefix <= point.radius * ROUNDING


class TestValues:
    def test_round_trip_through_json(self) -> None:
        certificate, _ = certified_run(tiny_points(0, 8), 3)
        facts = json.loads(json.dumps(certificate.to_json(), allow_nan=False))
        assert Certificate.from_json(facts) == certificate
        assert facts["given"] == "least radius of any 3 of 8 rows"
        del facts["factor"]
        with pytest.raises(ValueError, match="must have the key 'factor'"):
            Certificate.from_json(facts)

    def test_a_bound_of_zero_has_no_ratio(self) -> None:
        """Two picks of the same place: two places, so two picks could cover all."""
        radii = {"100": 3.0, "99": 3.0, "95": 0.0}
        packing = table_packing(0.0, row_ids(3))
        found = certify(Problem(9, 2), radii, packing)
        assert (found.lower_bound, found.ratio) == (0.0, None)
        assert json.loads(json.dumps(found.to_json()))["ratio"] is None

    def test_what_the_optimum_is_taken_over(self) -> None:
        assert Problem(9, 3, 2, 1).given == (
            "least radius of any 3 of 9 rows that contain the 1 included ones, the 2 farthest rows "
            "left out"
        )

    @pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000, 2**20])
    def test_prefix_sizes(self, count: int) -> None:
        sizes = prefix_sizes(count)
        assert sizes[0] == 1
        assert sizes[-1] == count
        assert sizes[:64] == list(range(1, min(count, 64) + 1))
        assert len(sizes) < 64 + 8 * 15

    def test_refusals(self) -> None:
        radii = {"100": 3.0, "99": 2.0, "95": 1.0}
        with pytest.raises(ValueError, match="num_picks <= num_rows"):
            Problem(3, 4)
        with pytest.raises(ValueError, match="must be finite, >= 0 and not increase"):
            certify(Problem(9, 2), {"100": 1.0, "99": 2.0, "95": 1.0}, None)
        with pytest.raises(ValueError, match="A packing must be given"):
            certify(Problem(9, 2), radii, None)
        with pytest.raises(ValueError, match="must have 3 rows; got 2"):
            certify(Problem(9, 2), radii, table_packing(1.0, row_ids(2)))
        with pytest.raises(ValueError, match="cannot exceed the radius of a selection; got"):
            certify(Problem(9, 2), radii, table_packing(7.0, row_ids(3)))
        with pytest.raises(ValueError, match="radius must be given if, and only if"):
            certify(Problem(9, 2), radii, table_packing(1.0, row_ids(3)), radius=2.0)
        with pytest.raises(ValueError, match="Give the ids of a longer run to table_packing"):
            picks_packing(Problem(9, 2, num_outliers=1), 1.0, "a")
