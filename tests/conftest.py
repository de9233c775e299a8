"""Fixtures for all tests: an S3 server on loopback, storage roots on disk and in S3, local Ray."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.storage.filesystem import Store

_START_TIMEOUT_S = 60.0
_BUCKET = "tiles"
_OBJECT_STORE_BYTES = 200 * 2**20


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Start moto's S3 server for the session; set credentials and endpoint in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_up(endpoint, process)
            yield endpoint
        finally:
            process.terminate()
            process.wait(timeout=10)


@pytest.fixture(scope="session")
def s3_bucket(s3_server: str) -> str:
    """Return the URI of an empty bucket."""
    import s3fs

    filesystem = s3fs.S3FileSystem(endpoint_url=s3_server, skip_instance_cache=True)
    filesystem.mkdir(_BUCKET)
    return f"s3://{_BUCKET}"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URI of an empty folder: on the disk, then in S3."""
    if request.param == "local":
        return str(tmp_path / "root")
    bucket: str = request.getfixturevalue("s3_bucket")
    return f"{bucket}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def ray_cluster(s3_server: str) -> Iterator[str]:
    """Start one 2-CPU Ray for the session; return its address.

    It starts behind the S3 server, so that its workers inherit the server's address and credentials
    (`s3_server` put them into the environment).
    """
    assert s3_server
    import ray

    from balancer.stages.resources import QUIET

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (QUIET | {"RAY_AUTH_MODE": "disabled"}).items():
            patch.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_OBJECT_STORE_BYTES,
        )
        yield str(ray.get_runtime_context().gcs_address)
        ray.shutdown()


@pytest.fixture(scope="session")
def demo_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small demo archive: 240 tiles of 10 classes in three tar shards."""
    from balancer.demo.archive import write_archive

    folder = tmp_path_factory.mktemp("archives") / "demo"
    write_archive(folder, total=240, tiles_per_shard=80)
    return folder


@pytest.fixture
def store() -> Store:
    """Return a store with the default configuration."""
    return Store()


def _wait_until_up(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"moto's server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"moto's server did not answer at {endpoint} within {_START_TIMEOUT_S} s")
