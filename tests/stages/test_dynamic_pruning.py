"""Pruning in a training: the schedule, workers that agree, and a restart that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import safetensors.numpy
import torch
from ray.train import Checkpoint
from torch import distributed

import balancer.stages.train_worker as train_worker
from balancer.config import Config
from balancer.config_file import build_config
from balancer.embedding.backbones import build_backbone
from balancer.errors import ConfigError, DataError
from balancer.stages.collectives import Workers
from balancer.stages.dynamic_pruning import (
    Kept,
    choose_tiles,
    num_kept,
    prunes_at,
    steps_of_epochs,
)
from balancer.stages.tile_stream import TileGroup, TileStream
from balancer.stages.training_job import KEPT, MODEL, TrainingJob
from balancer.storage.filesystem import Store
from tests.data.tiny_runs import finish, trained
from tests.stages.test_tile_stream import PER_SHARD, SHARDS, make_groups

PRUNING = {"warmup_epochs": 2, "every_epochs": 2, "keep": 0.4, "num_clusters": 3}


def config(**training: object) -> Config:
    return build_config(
        {
            "archive": {"uri": "tiles"},
            "selection": {"budget": 4},
            "encoder": {"image_size": 8, "width": 4},
            "training": {"epochs": 7, "batch_size": 8, "pruning": PRUNING} | training,
        }
    )


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[TileGroup]:
    return make_groups(tmp_path_factory.mktemp("groups"), [PER_SHARD] * SHARDS)


def stream(groups: list[TileGroup], rank: int = 0, world_size: int = 1) -> TileStream:
    return TileStream(
        Store(),
        groups,
        image_size=8,
        batch_size=8,
        pool_tiles=1000,
        seed=0,
        rank=rank,
        world_size=world_size,
    )


class TestSchedule:
    def test_prunes_after_the_warm_up_and_then_every_so_often(self) -> None:
        assert [epoch for epoch in range(9) if prunes_at(config(), epoch)] == [2, 4, 6, 8]
        assert not any(prunes_at(config(pruning=None), epoch) for epoch in range(9))

    def test_epochs_are_shorter_from_then_on(self, groups: list[TileGroup]) -> None:
        # 48 tiles in batches of 8; 40 % of them are 19.
        assert num_kept(config(), 48) == 19
        assert steps_of_epochs(config(), stream(groups), 4) == (6, 6, 2, 2)
        assert steps_of_epochs(config(pruning=None), stream(groups), 2) == (6, 6)

    @pytest.mark.parametrize("lengths", [{"epochs": 2}, {"epochs": 9, "later_epochs": 1}])
    def test_a_warm_up_as_long_as_the_training_is_refused(self, lengths: dict[str, int]) -> None:
        with pytest.raises(ConfigError, match="must be below the epochs of every round"):
            config(**lengths)


def choose(groups: list[TileGroup], rank: int, world_size: int) -> Kept:
    device = torch.device("cpu")
    backbone = build_backbone(config().encoder, seed=1)
    if rank > 0:  # data-parallel training leaves each worker its own running means
        for buffer in backbone.buffers():
            buffer.add_(1)
    return choose_tiles(
        stream(groups, rank, world_size),
        backbone,
        Workers(rank, world_size, device),
        config(),
        seed=5,
    )


def choose_together(groups: list[TileGroup], rank: int, world_size: int, meeting: str) -> Kept:
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size
    )
    try:
        return choose(groups, rank, world_size)
    finally:
        distributed.destroy_process_group()


class TestChoosing:
    def test_the_share_is_kept(self, groups: list[TileGroup]) -> None:
        kept = choose(groups, 0, 1)
        assert len(kept) == SHARDS
        assert sum(map(len, kept)) == 19
        for rows in kept:
            assert np.isin(rows, np.arange(PER_SHARD)).all()
            assert (np.diff(rows) > 0).all()

    def test_tiles_without_a_vector_cannot_be_kept(self, groups: list[TileGroup]) -> None:
        backbone = build_backbone(config().encoder, seed=1)
        with torch.no_grad():
            next(backbone.parameters()).fill_(float("nan"))
        workers = Workers(0, 1, torch.device("cpu"))
        with pytest.raises(DataError, match="needs a training tile with a finite embedding"):
            choose_tiles(stream(groups), backbone, workers, config(), seed=5)

    @pytest.mark.ray
    def test_two_workers_agree_with_each_other_and_with_one(
        self, ray_cluster: str, groups: list[TileGroup], tmp_path: Path
    ) -> None:
        assert ray_cluster
        together = ray.remote(choose_together).options(num_cpus=1)
        meeting = str(tmp_path / "meeting")
        first, second = ray.get([together.remote(groups, r, 2, meeting) for r in range(2)])
        alone = choose(groups, 0, 1)
        for rows, same, again in zip(first, second, alone, strict=True):
            assert rows.tolist() == same.tolist() == again.tolist()


class _Board:
    """Stands in for the actor that is told the news."""

    def __init__(self) -> None:
        self.news: list[dict[str, float]] = []
        self.post = SimpleNamespace(remote=self.news.append)
        self.fail = SimpleNamespace(remote=self._fail)

    def _fail(self, error: Exception) -> None:
        raise error


class _Died(Exception):
    """The machine went away."""


class _Session:
    """Stands in for Ray Train's session of a single worker, which keeps the last checkpoint."""

    def __init__(self, folder: Path, dies_after: int | None) -> None:
        self._folder, self._dies_after = folder, dies_after
        self.last: Checkpoint | None = None

    def get_context(self) -> Any:  # noqa: ANN401 - Ray's
        return SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)

    def get_checkpoint(self) -> Checkpoint | None:
        return self.last

    def report(self, figures: dict[str, float], checkpoint: Checkpoint) -> None:
        kept = self._folder / f"epoch-{figures['epoch']}"
        self.last = Checkpoint.from_directory(checkpoint.to_directory(str(kept)))
        if figures["epoch"] == self._dies_after:
            raise _Died


Train = Callable[[Path, list[int]], tuple[dict[str, Any], list[dict[str, float]], Path]]


@pytest.fixture
def train(groups: list[TileGroup], monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """Return a function that trains, dying after the given epochs and going on after each."""
    num_threads = torch.get_num_threads()  # a worker sets them for its process, which is ours

    def run(
        folder: Path, dies_after: list[int]
    ) -> tuple[dict[str, Any], list[dict[str, float]], Path]:
        checkpoint: Checkpoint | None = None
        wanted = config(checkpoint_every=1)
        for death in [*dies_after, None]:
            session, board = _Session(folder, death), _Board()
            session.last = checkpoint
            stand_in = SimpleNamespace(get=lambda value: value, train=session)
            stand_in.train.Checkpoint = Checkpoint
            monkeypatch.setattr(train_worker, "ray", stand_in)
            job = TrainingJob(Store(), wanted, tuple(groups), 7, 11, None, board)
            try:
                train_worker.train_worker(job)
            except _Died:
                assert death is not None
            checkpoint = session.last
        last = folder / "epoch-6"
        return safetensors.numpy.load_file(last / MODEL), board.news, last

    yield run
    torch.set_num_threads(num_threads)


class TestRestart:
    @pytest.mark.parametrize("dies_after", [[1], [2], [4, 5]])
    def test_the_encoder_has_the_same_bytes(
        self, train: Train, tmp_path: Path, dies_after: list[int]
    ) -> None:
        """Prunings are before the epochs 2, 4 and 6; deaths come before, after and between."""
        whole, _, _ = train(tmp_path / "whole", [])
        parts, _, _ = train(tmp_path / "parts", dies_after)
        assert whole.keys() == parts.keys()
        assert all(np.array_equal(whole[name], parts[name]) for name in whole)

    def test_history_and_checkpoint_say_what_was_read(self, train: Train, tmp_path: Path) -> None:
        _, news, last = train(tmp_path / "whole", [])
        assert [epoch["tiles"] for epoch in news] == [48, 48, 16, 16, 16, 16, 16]  # batches of 8
        kept = safetensors.numpy.load_file(last / KEPT)
        assert kept["counts"].sum() == len(kept["rows"]) == 19


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_with_pruning_under_ray(
    ray_cluster: str, demo_archive: Path, tmp_path: Path
) -> None:
    assert ray_cluster
    pruning = {"warmup_epochs": 1, "every_epochs": 1, "keep": 0.5}
    together = {"epochs": 3, "batch_size": 16, "num_workers": 2, "pruning": pruning}
    done = finish(trained(demo_archive, tmp_path / "run", rounds=1, training=together))
    history = done.record("round-000", "train", "done", "encoder.json")["history"]
    assert [epoch["tiles"] for epoch in history] == [112, 48, 48]  # of each worker
    assert [epoch["pruning_seconds"] > 0.01 for epoch in history] == [False, True, True]
