"""The matrix of options against the plain scan; a few cases always, many where there is time."""

from __future__ import annotations

import pytest

from tests.selection.exactness_matrix import run_cases, table


@pytest.mark.parametrize("count", [25, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_case_is_equal(count: int) -> None:
    tried, different = run_cases(count, seed=10_000)
    assert different == []
    lines = table(tried, different).splitlines()
    assert lines[2].startswith("| engine | array: ")
    assert all(f"{value}" in lines[2] for value in ("shards", "device"))


def test_a_case_that_differs_is_counted() -> None:
    tried, _ = run_cases(3)
    assert " / 0" in table(tried, [0, 1, 2])
