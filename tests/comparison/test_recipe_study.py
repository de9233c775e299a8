"""The recipe study: statistics by hand, scores on made pools, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.comparison.balance_study import ORACLE, RANDOM, LabeledRows
from balancer.comparison.recipe_study import (
    Case,
    RecipeScore,
    best_recipe,
    half_width,
    score_baseline,
    score_recipe,
    summarize_scores,
)
from balancer.comparison.recipes import known_recipes, make_recipe
from balancer.errors import ConfigError
from balancer.selection.farthest_point import row_ids


def made_scores(gains: dict[str, list[float]]) -> list[RecipeScore]:
    """Return scores over pools 0, 1, ...: random at 50 %, oracle at 60 %, recipes at 50 + gain."""
    plans = {RANDOM: [0.0] * 3, ORACLE: [10.0] * 3, **gains}
    return [
        RecipeScore(
            "v", pool, 0.15, name, 50 + gain, 50 + gain / 2, 4.0 if name == RANDOM else 2, 0
        )
        for name, values in plans.items()
        for pool, gain in enumerate(values)
    ]


def made_case(share: float = 0.2) -> Case:
    """Return three blobs of 60, 30 and 10 rows, and ten test rows of each."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], [60, 30, 10])
    centers = {"a": [4, 0, 0], "b": [0, 4, 0], "c": [0, 0, 4]}
    features = np.array([centers[name] for name in labels]) + rng.normal(size=(100, 3))
    tests = np.repeat(["a", "b", "c"], 10)
    held = np.array([centers[name] for name in tests]) + rng.normal(size=(30, 3))
    pool = LabeledRows(row_ids(100), features.astype(np.float32), labels)
    return Case("blobs", 3, share, pool, LabeledRows(row_ids(30), held.astype(np.float32), tests))


def test_the_table_by_hand() -> None:
    lines = summarize_scores(
        made_scores({"medoid": [4.0, 5.0, 6.0], "other": [1.0, 2.0, 3.0]}),
        [0, 1, 2],
        against="medoid",
    )
    assert lines[0] == "**v, budget 15%, 3 pools.** Random 50.0 %, oracle +10.0 ± 0.0."
    # Student's t with 2 degrees of freedom: 4.303 / sqrt(3) = 2.48 for a deviation of 1.
    assert lines[4].startswith("| medoid | +5.0 ± 2.5 | 50% (40% to 60%) |  | 0.50 (0.50) | +2.5 ±")
    assert lines[5].startswith("| other | +2.0 ± 2.5 | 20% (10% to 30%) | -3.0 ± 0.0 |")


def test_only_the_pools_to_report_count() -> None:
    scores = made_scores({"medoid": [4.0, 5.0, 60.0]})
    assert "| medoid | +4.5 ±" in summarize_scores(scores, [0, 1], against="medoid")[4]


def test_the_best_is_chosen_on_the_pools_to_tune_on() -> None:
    scores = made_scores({"steady": [4.0, 4.0, 4.0], "lucky": [0.0, 1.0, 90.0]})
    assert best_recipe(scores, [0, 1]) == "steady"
    assert best_recipe(scores, [2]) == "lucky"
    with pytest.raises(ValueError, match=r"none of \[7\] was"):
        best_recipe(scores, [7])


def test_a_recipe_that_misses_a_pool_is_refused() -> None:
    scores = made_scores({"medoid": [4.0, 5.0]})
    with pytest.raises(ValueError, match="scored once on the same pools"):
        summarize_scores(scores, [0, 1, 2], against="medoid")


def test_one_pool_has_no_interval() -> None:
    assert np.isnan(half_width(np.array([1.0])))


def test_scores_of_a_made_pool() -> None:
    case = made_case()
    random, oracle = score_baseline(case, RANDOM), score_baseline(case, ORACLE)
    medoid = score_recipe(case, make_recipe("medoid", {"strategy": "medoid"}), 2)
    assert oracle.class_std == pytest.approx(np.std([7, 7, 6]))  # 20 picks of three classes
    assert oracle.class_std < medoid.class_std < random.class_std
    assert (medoid.variant, medoid.pool, medoid.recipe) == ("blobs", 3, "medoid")
    assert score_recipe(case, make_recipe("medoid", {"strategy": "medoid"}), 2) == medoid
    with pytest.raises(ValueError, match="must be random or oracle; got 'medoid'"):
        score_baseline(case, "medoid")


def test_every_known_recipe_picks_the_budget() -> None:
    case = made_case(0.3)
    recipes = known_recipes(3)
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    for recipe in recipes:
        picked = recipe.pick(case.pool.features, case.pool.ids, case.budget, 0)
        assert len(set(picked.tolist())) == 30


@pytest.mark.parametrize(
    "settings", [{"strategy": "unheard"}, {"strateggy": "medoid"}, {"num_clusters": 0}]
)
def test_wrong_settings_are_named(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"keys of selection and clustering .*; mine has"):
        make_recipe("mine", settings)
