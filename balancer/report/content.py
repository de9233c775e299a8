"""Everything the report shows, as plain data.

`balancer.report.collect` fills it from a run directory and `balancer.report.page` renders it, so
the page can be built and tested without a run. There is no clock in it: a page of the same content
has the same bytes. Parts that a run does not have (labels, coordinates, a second round) are `None`
or empty, and the page leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from balancer.types import BoolArray, DoubleArray, IntArray

ColumnRole = Literal["archive", "compared", "selected"]


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, and of which archive.

    Attributes:
        archive_uri: where the tiles are.
        num_tiles: readable tiles, candidates of the selection.
        num_shards: shards they lie in.
        num_bytes: bytes of those tiles.
        budget: tiles to pick.
        strategy: as configured, with the rule inside a cluster where there is one.
        encoder: kind and backbone, in words.
        rounds: rounds asked for, at most.
        seed: root seed.
    """

    archive_uri: str
    num_tiles: int
    num_shards: int
    num_bytes: int
    budget: int
    strategy: str
    encoder: str
    rounds: int
    seed: int


@dataclass(frozen=True, slots=True)
class OutcomeColumn:
    """The measures of one set of tiles: the archive, a compared strategy, or the selection.

    Attributes:
        name: column heading, such as `Random`.
        role: what the column is; the selection is judged against the first `compared` column.
        values: measure (a key of `balancer.report.vocabulary.MEASURES`) -> value.
        spread: measure -> standard deviation over repeats, where there were repeats.
    """

    name: str
    role: ColumnRole
    values: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One finished round: its training losses, one per epoch, and what was measured after it."""

    index: int
    num_picked: int
    losses: tuple[float, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG of one tile; `note` is shown with the id, such as its class."""

    tile_id: str
    jpeg: bytes
    note: str = ""


@dataclass(frozen=True, slots=True)
class ClusterSheet:
    """Samples of the picked and of the dropped tiles of one cluster."""

    cluster: int
    archive_size: int
    picked_count: int
    picked: tuple[Thumbnail, ...]
    dropped: tuple[Thumbnail, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Projection:
    """A sample of the embeddings on two axes.

    Attributes:
        points: (N, 2) float64.
        picked: (N,) whether the tile is in the selection.
        group: (N,) int64 class or cluster of each tile, an index into `group_names`.
        group_names: name of each group.
        group_kind: what a group is, `class` or `cluster`.
        explained: share of the variance on each axis, 0 to 1.
        num_total: embeddings that the sample was drawn from.
    """

    points: DoubleArray
    picked: BoolArray
    group: IntArray
    group_names: tuple[str, ...]
    group_kind: str
    explained: tuple[float, float]
    num_total: int


@dataclass(frozen=True, slots=True)
class GroupSizes:
    """Tiles per cluster or class, before and after.

    Attributes:
        names: (G,) names.
        archive: (G,) int64 tiles in the archive.
        selected: (G,) int64 tiles in the selection.
        random: (G,) float64 tiles in a random selection of the same size, where known.
    """

    names: tuple[str, ...]
    archive: IntArray
    selected: IntArray
    random: DoubleArray | None = None


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where the tiles are, in degrees; `num_total` tiles have coordinates, N are drawn."""

    lon: DoubleArray
    lat: DoubleArray
    picked: BoolArray
    num_total: int


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is proved of the last selection: its certificate.

    Attributes:
        strategy: as configured.
        problem: what the optimum is over, in words.
        covering_radius: by "100", "99" and "95".
        radius: the one that the bound is about; differs from "100" where outliers are left out.
        lower_bound: of the best possible radius.
        ratio: radius over lower bound; None where the bound is 0 and the radius is not.
        factor: what the strategy guarantees, if it does.
        num_included: picks that were given.
        num_outliers: tiles left out.
        curve: (picks, radius, lower bound) of prefixes, for farthest-point.
    """

    strategy: str
    problem: str
    covering_radius: Mapping[str, float]
    radius: float
    lower_bound: float
    ratio: float | None
    factor: float | None
    num_included: int = 0
    num_outliers: int = 0
    curve: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class QuarantinedTile:
    """One tile that could not be used, and why."""

    tile_id: str
    uri: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """Where every input tile went. `adds_up` says whether none is lost.

    `num_left_out` counts tiles that a configured recipe, such as a long-tailed pool, sets aside.
    """

    num_input: int
    num_kept: int
    num_duplicates: int
    num_quarantined: int
    num_left_out: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    sample: tuple[QuarantinedTile, ...] = ()

    @property
    def adds_up(self) -> bool:
        """Whether input = kept + duplicates + quarantined + left out."""
        used = self.num_kept + self.num_left_out
        return self.num_input == used + self.num_duplicates + self.num_quarantined


@dataclass(frozen=True, slots=True)
class Provenance:
    """How to repeat the run: configuration, fingerprints, versions, command, artefacts."""

    config: Mapping[str, Any]
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    artefacts: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True, slots=True)
class ReportContent:
    """The whole page.

    Attributes:
        title: heading, such as the run's name.
        request: what was asked.
        num_picked: tiles in the last manifest; 0 while no round is finished.
        outcome: columns of the result table, in order.
        stopped: why the run ended, in words, such as `converged after round 1`.
        warnings: things the reader must know before trusting the selection.
        rounds: finished rounds, in order.
        loss_name: what the training loss is.
        clusters: contact sheets, in order of size in the archive.
        num_clusters: clusters in all, of which `clusters` are shown.
        created: a date to print, when the caller wants one.
    """

    title: str
    request: Request
    num_picked: int
    audit: Audit
    provenance: Provenance
    outcome: tuple[OutcomeColumn, ...] = ()
    stopped: str = ""
    warnings: tuple[str, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    loss_name: str = "training loss"
    clusters: tuple[ClusterSheet, ...] = ()
    num_clusters: int = 0
    cluster_sizes: GroupSizes | None = None
    class_sizes: GroupSizes | None = None
    projection: Projection | None = None
    coordinates: Coordinates | None = None
    guarantee: Guarantee | None = None
    created: str = ""
