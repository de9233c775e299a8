"""The section `training.pruning` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from balancer.config_fields import Number, PositiveInt, Section

PruningRule = Literal["near", "far", "balanced"]


class PruningConfig(Section):
    """Dynamic pruning during training: see `balancer.selection.pruning`."""

    warmup_epochs: PositiveInt = 5
    """Epochs on all training tiles, in every round, before the first pruning."""
    every_epochs: PositiveInt = 5
    """Epochs between prunings; each starts from all training tiles again."""
    keep: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Share of the training tiles that the epochs after a pruning see."""
    rule: PruningRule = "balanced"
    """`near` or `far` from the cluster's centroid, or `balanced` over the clusters."""
    num_clusters: PositiveInt | None = None
    """From the tiles kept when absent: see `balancer.clustering.kmeans.default_num_clusters`."""
