"""The section of the configuration that says which tiles are near-duplicates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from balancer.config_fields import Number, PositiveInt, Section

NearRule = Literal["greedy", "semdedup"]
NearOrder = Literal["random", "hard", "easy"]
Borders = Literal["exact", "ignore"]


class DeduplicateConfig(Section):
    """Near-duplicates: tiles that a kept tile is near to are dropped before clustering.

    Give `threshold` or `distance`. Tiles at exactly that similarity or distance are near.
    """

    threshold: Annotated[Number, Field(gt=-1, le=1)] | None = None
    """Cosine similarity from which two tiles are near; for L2-normalised embeddings."""
    distance: Annotated[Number, Field(ge=0)] | None = None
    """Euclidean distance up to which two tiles are near; sqrt(2 - 2 threshold) is the same."""
    floor: Annotated[Number, Field(ge=-1)] | None = None
    """Also list all pairs down to this similarity (or up to this distance), so that another
    threshold down to it can be applied later without recomputing."""
    rule: NearRule = "greedy"
    """`greedy` covers every dropped tile by a kept one; `semdedup` (inside clusters, near to an
    earlier tile, even a dropped one) does not, and is there for comparison."""
    borders: Borders | None = None
    """`exact` finds pairs across the borders of the cells too, `ignore` does not and says how many
    it loses; when absent `exact`, for `semdedup` `ignore`, as it was published."""
    order: NearOrder = "random"
    """Who comes first, for `semdedup`: `random`, or in each cluster the tiles far from its centroid
    (`hard`) or near to it (`easy`)."""
    priority: str | None = None
    """Metadata column of numbers: tiles with greater values are kept before others."""
    num_cells: PositiveInt | None = None
    """Cells in which pairs are looked for; from the number of tiles when absent. Only the speed
    depends on it while borders are exact."""
    max_pairs: PositiveInt = 100_000_000
    """With `floor`: stop when there are more pairs to list than this."""

    @model_validator(mode="after")
    def _check(self) -> DeduplicateConfig:
        if (self.threshold is None) == (self.distance is None):
            raise ValueError(
                f"give either threshold (a cosine similarity) or distance; got "
                f"threshold={self.threshold} and distance={self.distance}"
            )
        if self.floor is not None and self.floor_limit < self.limit:
            raise ValueError(
                f"floor must be at most threshold (or, with distance, at least distance), because "
                f"it asks for more pairs than are dropped; got {self.floor}"
            )
        if self.order != "random" and (self.rule != "semdedup" or self.priority is not None):
            raise ValueError(
                f"order: {self.order} is for rule: semdedup without a priority, because it looks "
                f"at the clusters. Drop it, or rank the tiles by priority"
            )
        return self

    @property
    def limit(self) -> float:
        """Greatest squared distance at which two tiles are near."""
        return _squared(self.threshold, self.distance)

    @property
    def floor_limit(self) -> float:
        """Greatest squared distance of the pairs to list; `limit` without a floor."""
        if self.floor is None:
            return self.limit
        by_distance = self.threshold is None
        return _squared(None if by_distance else self.floor, self.floor if by_distance else None)

    @property
    def ignores_borders(self) -> bool:
        """Whether only pairs inside cells count."""
        return (self.borders or ("exact" if self.rule == "greedy" else "ignore")) == "ignore"


def _squared(similarity: float | None, distance: float | None) -> float:
    if similarity is not None:
        return 2.0 - 2.0 * similarity
    assert distance is not None
    return distance * distance
