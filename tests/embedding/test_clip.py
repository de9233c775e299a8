"""CLIP's image encoder: a plain message without open_clip, and what is asked of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from balancer.config import EncoderConfig
from balancer.embedding.backbones import build_backbone
from balancer.embedding.clip import image_encoder
from balancer.errors import ConfigError


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ConfigError, match=r"pip install 'balancer\[clip\]'"):
        image_encoder()


def test_the_image_half_becomes_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def create_model(model: str, pretrained: str) -> SimpleNamespace:
        asked.append((model, pretrained))
        visual = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 512))
        return SimpleNamespace(visual=visual, transformer=nn.Linear(1, 1))

    monkeypatch.setitem(sys.modules, "open_clip", SimpleNamespace(create_model=create_model))
    config = EncoderConfig(
        kind="frozen", backbone="factory", factory="balancer.embedding.clip:image_encoder",
        image_size=8,
    )  # fmt: skip
    backbone = build_backbone(config)
    assert asked == [("ViT-B-32-quickgelu", "openai")]
    assert backbone.dim == 512
    assert all(name.startswith("visual.") for name in backbone.network.state_dict())
    assert backbone(torch.zeros(2, 3, 8, 8)).shape == (2, 512)


def test_an_unknown_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(model: str, pretrained: str) -> None:
        raise RuntimeError(f"Unknown model {model} {pretrained}")

    monkeypatch.setitem(sys.modules, "open_clip", SimpleNamespace(create_model=create_model))
    with pytest.raises(ConfigError, match="open_clip must build ViT-X with the weights openai"):
        image_encoder("ViT-X")
