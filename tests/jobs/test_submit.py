"""The main job as a cluster's user starts it: `ray job submit` to a head of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from balancer.stages.resources import QUIET
from balancer.storage.filesystem import Store
from tests.data.tiny_runs import frozen_tree, read_json, tile_folder

pytestmark = pytest.mark.ray

REPOSITORY = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
START_TIMEOUT_S, JOB_TIMEOUT_S, STOP_TIMEOUT_S = 120.0, 400.0, 5.0
PORT_OPTIONS = (
    "--port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--runtime-env-agent-port",
    "--metrics-export-port",
    "--node-manager-port",
    "--object-manager-port",
    "--ray-client-server-port",
)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def environment() -> dict[str, str]:
    """Return the environment of head and client: no token, and no other cluster to fall into."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | QUIET | {"RAY_AUTH_MODE": "disabled"}


@dataclass(frozen=True, slots=True)
class Head:
    """Addresses of a head: for `ray job submit`, and for Ray Client."""

    dashboard: str
    client: str


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Start a head in a process group of its own."""
    dashboard, *ports = free_ports(1 + len(PORT_OPTIONS))
    # A short path, because the sockets in it may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    command = [
        *(str(RAY), "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1"),
        *(f"--dashboard-port={dashboard}", f"--temp-dir={folder}", "--disable-usage-stats"),
        f"--object-store-memory={200 * 2**20}",
        *(f"{option}={port}" for option, port in zip(PORT_OPTIONS, ports, strict=True)),
    ]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        wait_until_up(f"{address}/api/version", process, folder / "head.log")
        client = ports[PORT_OPTIONS.index("--ray-client-server-port")]
        yield Head(address, f"ray://127.0.0.1:{client}")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):  # the head was quick and left nothing of its group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT_S)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"ray start ended with {process.returncode}: {log.read_text()}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"The dashboard did not answer at {url} within {START_TIMEOUT_S} s")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write tiles and a configuration with a frozen encoder."""
    tile_folder(tmp_path / "tiles")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(frozen_tree(tmp_path / "tiles", "elsewhere")))
    return path


def submit(head: Head, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Submit `jobs/balance.py` from the repository and wait for its end."""
    return subprocess.run(
        [
            *(str(RAY), "job", "submit", "--address", head.dashboard, "--working-dir", "."),
            *("--", sys.executable, "-m", "jobs.balance", *arguments),
        ],
        env=environment(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOB_TIMEOUT_S,
        check=False,
    )  # fmt: skip


def test_a_submitted_job_writes_the_manifest(head: Head, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = submit(head, "--config", str(config), "--out", str(out), "--set", "selection.budget=5")
    assert done.returncode == 0, done.stdout
    assert "succeeded" in done.stdout
    assert f"manifest  {out}/manifest.parquet" in done.stdout
    assert pq.read_table(out / "manifest.parquet").num_rows == 5
    assert (out / "report.html").exists()
    assert read_json(Store(), str(out), "final", "COMMIT.json")["rounds"] == 1


def test_a_client_runs_the_driver_on_the_cluster(head: Head, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run_as_client(head, config, "--out", str(out), "--set", "selection.budget=5")
    assert done.returncode == 0, done.stdout
    assert "embed round 0: " in done.stdout
    assert pq.read_table(out / "manifest.parquet").num_rows == 5

    refused = run_as_client(head, config, "--out", "relative/run")
    assert refused.returncode == 2
    assert "out must be a URI or an absolute path that all nodes share" in refused.stdout


def run_as_client(head: Head, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the main job through Ray Client."""
    command = [sys.executable, "-m", "jobs.balance", "--config", str(config)]
    return subprocess.run(
        [*command, "--ray-address", head.client, *arguments],
        env=environment(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOB_TIMEOUT_S,
        check=False,
    )
