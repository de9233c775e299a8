from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from balancer.config import EncoderConfig
from balancer.embedding.backbones import build_backbone
from balancer.embedding.inference import embed_tiles
from balancer.embedding.weights import state_from_numpy, state_to_numpy
from balancer.errors import ConfigError

FACTORIES = "tests.embedding.factories"
PRETRAINED = Path(__file__).parents[3] / "shared" / "data" / "pretrained"


def _factory(location: str, **factory_kwargs: object) -> EncoderConfig:
    return EncoderConfig(
        kind="frozen",
        backbone="factory",
        factory=location,
        factory_kwargs=factory_kwargs,
        image_size=16,
    )


@pytest.mark.parametrize(
    ("name", "dim"), [("resnet18", 512), ("resnet50", 2048), ("timm:resnet10t", 512)]
)
def test_named_backbones_give_pooled_features(name: str, dim: int) -> None:
    backbone = build_backbone(EncoderConfig(backbone=name, image_size=32))
    assert backbone.dim == dim
    assert backbone.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, dim)


@pytest.mark.parametrize("size", [8, 33, 64])
def test_small_conv_takes_any_size(size: int) -> None:
    backbone = build_backbone(EncoderConfig(width=4, image_size=size))
    assert backbone.eval()(torch.zeros(3, 3, size, size)).shape == (3, backbone.dim)


def test_initial_weights_come_from_the_seed_and_leave_the_global_generator() -> None:
    before = torch.get_rng_state()
    config = EncoderConfig(width=4)
    first, again, other = (state_to_numpy(build_backbone(config, seed=s)) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first)


def test_state_goes_through_arrays_and_back() -> None:
    config = EncoderConfig(width=4)
    one = build_backbone(config, seed=1)
    two = build_backbone(config, seed=2, load_state=state_from_numpy(state_to_numpy(one)))
    three = build_backbone(config, seed=2, load_state=state_from_numpy(state_to_numpy(one.network)))
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(one.eval()(images), two.eval()(images))
    assert torch.equal(one(images), three.eval()(images))


def test_torchvision_weights_with_classifier_fit() -> None:
    published = torchvision.models.resnet18(weights=None).state_dict()
    config = EncoderConfig(backbone="resnet18", weights="resnet18.pth", image_size=32)
    backbone = build_backbone(config, load_state=published)
    loaded = backbone.network.state_dict()
    assert torch.equal(loaded["conv1.weight"], published["conv1.weight"])


def test_weights_named_but_not_given_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match=r"must hold the weights read from a/b\.pth"):
        build_backbone(EncoderConfig(weights="a/b.pth"))


def test_factory_by_module_and_by_file_agree() -> None:
    path = Path(__file__).with_name("factories.py")
    images = torch.rand(2, 3, 16, 16)
    by_module = build_backbone(_factory(f"{FACTORIES}:flat_linear", dim=5))
    by_file = build_backbone(_factory(f"{path}:flat_linear", dim=5))
    assert by_module.dim == by_file.dim == 5
    assert torch.equal(by_module(images), by_file(images))


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("no_colon", "must be 'package.module:function'"),
        ("no.such.module:f", "importable module or Python file; got 'no.such.module'"),
        ("/no/such/file.py:f", "got '/no/such/file.py'"),
        (f"{FACTORIES}:absent", "has no callable 'absent'"),
        (f"{FACTORIES}:not_a_module", "must return a torch.nn.Module; got a str"),
        (f"{FACTORIES}:unpooled", r"must return \(B, D\) features; got \(2, 4, 14, 14\)"),
        (f"{FACTORIES}:Pair", r"must return \(B, D\) features; got tuple"),
        (f"{FACTORIES}:failing", "it raised FileNotFoundError: weights.bin"),
    ],
)
def test_a_factory_that_breaks_its_contract_is_named(location: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build_backbone(_factory(location))


def test_a_size_the_network_refuses_is_named() -> None:
    config = _factory(f"{FACTORIES}:flat_linear", size=8)
    with pytest.raises(ConfigError, match=r"must accept \(B, 3, 16, 16\) images; it raised"):
        build_backbone(config)


def test_unknown_timm_model_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"got 'resnet18x'\. Did you mean .*resnet18"):
        build_backbone(EncoderConfig(backbone="timm:resnet18x"))


@pytest.mark.parametrize("name", ["small-conv", "factory"])
def test_pretrained_needs_published_weights(name: str) -> None:
    factory = f"{FACTORIES}:flat_linear" if name == "factory" else None
    config = EncoderConfig(backbone=name, factory=factory, weights="pretrained", image_size=16)
    with pytest.raises(ConfigError, match="must name a torchvision or timm backbone"):
        build_backbone(config)


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", refuse)
    with pytest.raises(ConfigError, match=r"OSError: no route to host\. Check the network"):
        build_backbone(EncoderConfig(backbone="resnet18", weights="pretrained"))


@pytest.mark.skipif(not PRETRAINED.exists(), reason="the MobileNet weights are not here")
def test_bring_your_own_mobilenet() -> None:
    config = EncoderConfig(
        kind="frozen",
        backbone="factory",
        factory=f"{PRETRAINED / 'load_mobilenet_npz.py'}:MobileNetNPZ",
        factory_kwargs={"path": str(PRETRAINED / "mobilenet_v2_1.0_imagenet_dequant_fp16.npz")},
        image_size=224,
    )
    backbone = build_backbone(config)
    assert backbone.dim == 1280
    tiles = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    features = embed_tiles(backbone, tiles, batch_size=2, mean=config.mean, std=config.std)
    assert features.shape == (3, 1280)
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == 3
