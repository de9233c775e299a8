"""Starting or joining Ray, and what it offers."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import ray
from ray.exceptions import RayError

from balancer.config import RayConfig
from balancer.errors import BalancerError, ConfigError

QUIET = {
    # Ray's own chatter; the run prints its progress itself.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Ray's C++ side prints a misleading error about Ray Data's own actors (ray#53727).
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Several workers share the cores: threads that wait for others should sleep, not spin.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Ray 2.60 otherwise prints a FutureWarning about devices of zero-GPU workers.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

CONNECT_TIMEOUT_S = 10.0
"""How long a cluster's address may take to answer."""


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Start an embedded Ray or join a cluster for the time of the block.

    A process that is already connected (a submitted job's driver, a test) stays connected.

    Raises:
        ConfigError: the cluster cannot be reached.
    """
    if ray.is_initialized():
        _quiet_data()
        yield
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    embedded = config.address == "local"
    try:
        _require_listener(config.address)
        with _silent_descriptor(sys.stderr):
            ray.init(
                address=config.address,
                num_cpus=config.num_cpus if embedded else None,
                object_store_memory=config.object_store_bytes if embedded else None,
                include_dashboard=False if embedded else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise ConfigError(
            f"Ray must be reachable at ray.address={config.address!r}; got: {error}. "
            f"Start a head with `ray start --head`, or use ray.address=local. With an address, "
            f"both sides must agree on RAY_AUTH_MODE."
        ) from error
    _quiet_data()
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Fail in seconds where nothing listens; Ray itself keeps trying for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()


def available_cpus() -> int:
    """Return the CPUs that the cluster offers, at least 1."""
    return max(1, int(_resources().get("CPU", 1)))


def available_gpus() -> int:
    """Return the GPUs that the cluster offers."""
    return int(_resources().get("GPU", 0))


def gpus_per_worker(config: RayConfig) -> int:
    """Return 1 when workers should ask for a GPU, else 0.

    Raises:
        ConfigError: a GPU is demanded and Ray offers none.
    """
    offered = available_gpus() >= 1
    if config.use_gpu and not offered:
        raise ConfigError(
            "ray.use_gpu is true, but this Ray cluster offers no GPU. "
            "Add a GPU worker, or drop use_gpu to run on CPUs."
        )
    return int(offered if config.use_gpu is None else config.use_gpu)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise a worker's own `BalancerError` instead of Ray's wrapper around it."""
    try:
        yield
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BalancerError):
                raise _unwrapped(cause) from None
            cause = getattr(cause, "cause", None) or cause.__cause__
        raise


def _unwrapped(error: BalancerError) -> BalancerError:
    # Ray raises an object that is both RayTaskError and the cause's class; make it the plain class.
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BalancerError) else error


@contextmanager
def _silent_descriptor(stream: TextIO) -> Iterator[None]:
    """Drop what C++ code writes to the descriptor behind a stream; errors come as exceptions."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a captured stream has none
        yield
        return
    stream.flush()
    kept = os.dup(descriptor)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
            yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def _resources() -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()
    return found


def _quiet_data() -> None:
    from ray.data import DataContext  # 0.1 GiB, which the workers' tasks that end here do not need

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\..*")
