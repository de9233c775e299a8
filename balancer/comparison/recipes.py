"""Recipes: strategies with settings, to be compared on the same embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from balancer.config import ClusteringConfig, SelectionConfig
from balancer.errors import ConfigError
from balancer.selection import select
from balancer.types import FloatArray, IdArray


@dataclass(frozen=True, slots=True)
class Recipe:
    """A strategy with its settings.

    Attributes:
        name: in the tables.
        selection: keys of `SelectionConfig` other than the budget.
        clustering: keys of `ClusteringConfig`.
    """

    name: str
    selection: Mapping[str, Any]
    clustering: Mapping[str, Any]

    def pick(self, features: FloatArray, ids: IdArray, budget: int, seed: int) -> IdArray:
        """Return the ids of the tiles it picks. It sees features and ids, and never a label."""
        return select(
            features,
            SelectionConfig(budget=budget, **self.selection),
            ids=ids,
            seed=seed,
            normalize=False,
            clustering=ClusteringConfig(**self.clustering),
        ).tile_ids


def make_recipe(name: str, settings: Mapping[str, Any]) -> Recipe:
    """Sort settings into those of the selection and those of the clustering, and check them.

    Raises:
        ConfigError: naming the recipe and what is wrong with it.

    >>> make_recipe("quotas", {"strategy": "per-cluster", "num_clusters": 21}).clustering
    {'num_clusters': 21}
    """
    clustering = {k: v for k, v in settings.items() if k in ClusteringConfig.model_fields}
    selection = {k: v for k, v in settings.items() if k not in clustering}
    try:
        SelectionConfig(budget=0.5, **selection)
        ClusteringConfig(**clustering)
    except (ValidationError, TypeError) as error:
        raise ConfigError(
            f"A recipe must have keys of selection and clustering with valid values; "
            f"{name} has {dict(settings)}: {error}"
        ) from error
    return Recipe(name, selection, clustering)


def known_recipes(num_classes: int) -> list[Recipe]:
    """Return the recipes of earlier measurements, and the named strategies at their defaults.

    Args:
        num_classes: C, for the rows `K=C`: a hint that real archives do not give.
    """
    settings: dict[str, dict[str, Any]] = {
        "farthest-point": {"strategy": "farthest-point"},
        "medoid": {"strategy": "medoid"},
        "hybrid": {"strategy": "hybrid"},
        "hybrid-medoid": {"strategy": "hybrid-medoid"},
        "hybrid-medoid, K=C": {"strategy": "hybrid-medoid", "num_clusters": num_classes},
        "facility-location": {"strategy": "facility-location"},
        "facility-location, power 8": {"strategy": "facility-location", "facility_power": 8},
        "facility-medoid": {"strategy": "facility-medoid"},
        "inverse-density": {"strategy": "inverse-density"},
        "per-cluster": {"strategy": "per-cluster"},
        "per-cluster, random inside": {"strategy": "per-cluster", "within": "random"},
        "per-cluster, nearest inside": {"strategy": "per-cluster", "within": "nearest"},
        "per-cluster, K=C": {"strategy": "per-cluster", "num_clusters": num_classes},
        "per-cluster, K=C, random inside": {
            "strategy": "per-cluster",
            "within": "random",
            "num_clusters": num_classes,
        },
    }
    return [make_recipe(name, keys) for name, keys in settings.items()]
