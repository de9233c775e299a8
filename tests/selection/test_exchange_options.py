"""Every option over shards: the picks, distances and outliers of the plain scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.selection.bounds import Options
from balancer.selection.exchange import ExchangeShard
from balancer.selection.farthest_point import row_ids
from tests.selection.exactness import CHOICES, draw_case, solve, solve_plainly

FILTERS = ("blas", "torch", "torch-tf32", "torch-bfloat16")


@pytest.mark.parametrize("chosen", FILTERS)
@pytest.mark.parametrize("num_shards", [1, 2, 3, 8])
@given(
    seed=st.integers(0, 1_000_000),
    kind=st.sampled_from(CHOICES["rows"]),
    scale=st.sampled_from(CHOICES["scale"]),
    block=st.sampled_from(CHOICES["block"]),
    metric=st.sampled_from(CHOICES["metric"]),
    quality=st.booleans(),
    excluded=st.booleans(),
    rebuilt=st.booleans(),
    outliers=st.sampled_from(CHOICES["outliers"]),
    included=st.sampled_from(CHOICES["included"]),
    count=st.sampled_from([2, 9, 60, 150]),
)
@settings(max_examples=6, deadline=None)
def test_equals_the_plain_scan(
    chosen: str,
    num_shards: int,
    seed: int,
    kind: str,
    scale: float,
    block: str,
    metric: str,
    quality: bool,
    excluded: bool,
    rebuilt: bool,
    outliers: int,
    included: int,
    count: int,
) -> None:
    case = draw_case(
        seed,
        engine="shards",
        shards=num_shards,
        filter=chosen,
        rows=kind,
        scale=scale,
        block=block,
        metric=metric,
        quality=quality,
        excluded=excluded,
        rebuilt=rebuilt,
        outliers=outliers,
        included=included,
        N=count,
    )
    assert solve(case) == solve_plainly(case)


def test_a_shard_of_excluded_rows_offers_nothing() -> None:
    points = np.full((3, 2), np.nan, np.float32)
    shard = ExchangeShard(points, row_ids(3), 4, Options(excluded=np.ones(3, np.bool_)))
    shard.apply(np.array(["elsewhere"]), np.zeros((1, 2), np.float32))
    offer = shard.offer(2)
    assert len(offer.ids) == 0
    assert offer.held_key == -1


def test_vectors_of_an_offer_are_normalised() -> None:
    points = np.array([[3, 4], [0, 2]], np.float32)
    shard = ExchangeShard(points, row_ids(2), 4, Options(cosine=True))
    shard.apply(np.array(["elsewhere"]), np.array([[1, 0]], np.float32))
    offer = shard.offer(2)
    np.testing.assert_array_equal(offer.vectors, np.array([[0, 1], [0.6, 0.8]], np.float32))
