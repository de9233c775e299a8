"""The deployment files: they parse, fit this code, ask for GPUs and hold no credential."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from balancer.config import Config
from balancer.config_file import build_config, load_config

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = sorted(DEPLOY.glob("*.yaml"))
# AWS key ids, long random literals, private keys, and secrets given as a value.
CREDENTIAL = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b[A-Za-z0-9+/]{40,}={0,2}(?![A-Za-z0-9/])"
    r"|(?i:secret_access_key|session_token|auth_token|password)\s*[:=]\s*['\"]?[^\s'\"$`|]+"
)


def _documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _one(kind: str) -> dict[str, Any]:
    [document] = [d for path in MANIFESTS for d in _documents(path) if d["kind"] == kind]
    return document


def _cluster_specs() -> list[dict[str, Any]]:
    return [_one("RayJob")["spec"]["rayClusterSpec"], _one("RayCluster")["spec"]]


def _groups(cluster: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield cluster["headGroupSpec"]
    yield from cluster["workerGroupSpecs"]


def _container(group: dict[str, Any]) -> dict[str, Any]:
    [container] = group["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def _entrypoint() -> list[str]:
    return shlex.split(_one("RayJob")["spec"]["entrypoint"])


def _options(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_document_is_a_kubernetes_object(path: Path) -> None:
    for document in _documents(path):
        assert {"apiVersion", "kind", "metadata"} <= document.keys()
        assert document["metadata"]["name"]
        if document["kind"].startswith("Ray"):
            assert document["apiVersion"] == "ray.io/v1"


def test_entrypoint_runs_a_module_of_this_code() -> None:
    words = _entrypoint()
    assert words[:2] == ["python", "-m"]
    assert importlib.util.find_spec(words[2]) is not None
    assert _options(words[3:]).keys() == {"--config", "--set", "--out", "--ray-address"}


def test_configuration_is_valid_with_the_entrypoint_s_overrides(tmp_path: Path) -> None:
    [(name, text)] = _one("ConfigMap")["data"].items()
    build_config(yaml.safe_load(text), origin=name)
    options = _options(_entrypoint()[3:])
    file = tmp_path / name
    file.write_text(text)
    config = load_config(file, [options["--set"], f"out={options['--out']}"])
    assert isinstance(config, Config)
    assert config.archive.uri.startswith("s3://")
    assert config.out.startswith("s3://")
    assert config.ray.use_gpu


def test_the_configuration_is_mounted_where_the_entrypoint_reads_it() -> None:
    head = _one("RayJob")["spec"]["rayClusterSpec"]["headGroupSpec"]
    [mount] = _container(head)["volumeMounts"]
    [volume] = head["template"]["spec"]["volumes"]
    assert mount["name"] == volume["name"]
    assert volume["configMap"]["name"] == _one("ConfigMap")["metadata"]["name"]
    [file] = _one("ConfigMap")["data"]
    assert _options(_entrypoint()[3:])["--config"] == f"{mount['mountPath']}/{file}"


def test_workers_ask_for_one_gpu_and_the_head_for_none() -> None:
    for cluster in _cluster_specs():
        assert cluster["rayVersion"] == ray.__version__
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert "nvidia.com/gpu" not in _container(cluster["headGroupSpec"])["resources"]["limits"]
        for group in cluster["workerGroupSpecs"]:
            assert _container(group)["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_workers_can_hold_what_the_configuration_asks_for() -> None:
    [text] = _one("ConfigMap")["data"].values()
    config = build_config(yaml.safe_load(text))
    [group] = _one("RayJob")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    cpus = group["replicas"] * int(_container(group)["resources"]["limits"]["cpu"])
    assert config.training.num_workers <= group["replicas"]
    assert config.training.num_workers * config.training.cpus_per_worker <= cpus
    assert config.embedding.num_workers is not None
    assert config.embedding.num_workers <= group["replicas"]


def test_containers_are_one_image_bounded_and_not_root() -> None:
    images = set()
    for cluster in _cluster_specs():
        for group in _groups(cluster):
            container = _container(group)
            images.add(container["image"])
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert group["template"]["spec"]["securityContext"]["runAsNonRoot"]
            assert container["envFrom"] == [{"secretRef": {"name": "balancer-s3"}}]
            assert "env" not in container
    [image] = images
    assert re.fullmatch(r"REGISTRY/balancer:\d+\.\d+\.\d+", image)


def test_resuming_is_left_to_the_storage() -> None:
    spec = _one("RayJob")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] == 0


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_no_credential_stands_in_a_file(path: Path) -> None:
    assert CREDENTIAL.search(path.read_text()) is None


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "ABCDEFGH12345678",
        "AWS_SECRET_ACCESS_KEY=" + "hunter2",
        "auth_token: " + "abc",
        "x" * 40,
    ],
)
def test_the_credential_pattern_finds_credentials(text: str) -> None:
    assert CREDENTIAL.search(text) is not None


def test_dockerfile_has_both_targets_and_an_ordinary_user() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    stages = [line.split(" AS ")[1] for line in lines if line.startswith("FROM ")]
    assert stages[-2:] == ["cpu", "cuda"]
    assert "USER balancer" in lines
    for stage in ("COPY pyproject.toml", "COPY balancer", "COPY jobs"):
        assert any(line.startswith(stage) for line in lines)
    assert sum("-c constraints.txt" in line for line in lines) == 3
