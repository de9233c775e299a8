"""Run a driver on the cluster for a `ray://` client.

Ray Data does not work through Ray Client, and a driver on a laptop dies with its connection. So the
client sends the whole driver to the cluster as one task, and prints what it says.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, TextIO, TypeVar, cast

import ray

from balancer.config import Config
from balancer.errors import ConfigError
from balancer.stages.progress import Reporter
from balancer.stages.resources import plain_errors

CLIENT_SCHEME = "ray://"
POLL_S = 0.5
Settings = TypeVar("Settings")
"""A tree of sections."""


class TextRelay:
    """An actor that carries text from the driver task to the client."""

    def __init__(self) -> None:
        self._text: list[str] = []

    def write(self, text: str) -> None:
        """Add text."""
        self._text.append(text)

    def take(self) -> str:
        """Return and forget what was written."""
        text, self._text = "".join(self._text), []
        return text


class RelayStream(io.TextIOBase):
    """A text stream that writes to a `TextRelay` actor."""

    def __init__(self, relay: Any) -> None:  # noqa: ANN401 - an actor handle
        self._relay = relay

    def write(self, text: str) -> int:
        """Send text to the client."""
        ray.get(self._relay.write.remote(text))
        return len(text)


def is_client(address: str) -> bool:
    """Tell whether an address is that of Ray Client."""
    return address.startswith(CLIENT_SCHEME)


def require_shared_paths(config: Config) -> None:
    """Refuse relative paths for a run on a cluster.

    A submitted job works in a copy of the working directory that is thrown away, and other nodes
    have other directories.

    Raises:
        ConfigError: naming the key.
    """
    if config.ray.address == "local":
        return
    uris = {
        "archive.uri": config.archive.uri,
        "out": config.out,
        "selection.include": config.selection.include,
        "selection.exclude": config.selection.exclude,
    }
    for name, uri in uris.items():
        if uri is not None and "://" not in uri and not PurePosixPath(uri).is_absolute():
            raise ConfigError(
                f"With ray.address={config.ray.address} the run works on a cluster, so {name} "
                f"must be a URI or an absolute path that all nodes share; got {uri!r}."
            )


def run_on_cluster(driver: Callable[[Settings, Reporter], Any], config: Settings) -> Any:  # noqa: ANN401 - the driver's result
    """Run `driver(config, reporter)` as a task of the connected cluster and return its result."""
    relay: Any = ray.remote(TextRelay).options(num_cpus=0).remote()
    drive: Any = ray.remote(_drive).options(num_cpus=0, max_retries=0)
    task = drive.remote(driver, config, relay)
    done: list[Any] = []
    with plain_errors():
        while not done:
            done, _ = ray.wait([task], timeout=POLL_S)
            sys.stderr.write(ray.get(relay.take.remote()))
        return ray.get(task)


def _drive(driver: Callable[[Settings, Reporter], Any], config: Settings, relay: Any) -> Any:  # noqa: ANN401 - see run_on_cluster
    return driver(config, Reporter(cast(TextIO, RelayStream(relay))))
