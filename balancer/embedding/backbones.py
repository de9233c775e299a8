"""Backbones: the network that turns (B, 3, S, S) images into (B, dim) features."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from balancer.config import EncoderConfig
from balancer.embedding.small_conv import SmallConv
from balancer.embedding.weights import load_weights
from balancer.errors import ConfigError
from balancer.seeding import derive_seed

DRY_RUN_IMAGES = 2


class Backbone(nn.Module):
    """A network with a known feature dimension.

    Attributes:
        network: (B, 3, S, S) float32 -> (B, dim); its state dict is what weights files hold.
        dim: features per image.
    """

    def __init__(self, network: nn.Module, dim: int) -> None:
        super().__init__()
        self.network = network
        self.dim = dim

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, dim) features of (B, 3, S, S) normalised images."""
        features: Tensor = self.network(images)
        return features


def build_backbone(
    config: EncoderConfig, *, load_state: Mapping[str, Tensor] | None = None, seed: int = 0
) -> Backbone:
    """Build the backbone that `config` names, on the CPU.

    Args:
        config: `backbone`, `width`, `factory`, `weights` and `image_size` are read.
        load_state: weights by name; they take precedence over `config.weights`, so that a trained
            `pretrained` encoder is rebuilt without a download. Must be given when `config.weights`
            is a path or a URI: the caller reads files.
        seed: of the initial weights.

    Raises:
        ConfigError: an unknown name, a factory that breaks its contract, a failed download, or
            weights that do not fit.
    """
    download = config.weights == "pretrained" and load_state is None
    if config.weights not in (None, "pretrained") and load_state is None:
        raise ValueError(
            f"The 'load_state' parameter must hold the weights read from {config.weights}. "
            f"Got None instead."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "backbone"))
        network = _network(config, download=download)
    backbone = Backbone(network, _feature_dim(network, config))
    if load_state is not None:
        load_weights(network, load_state, what=f"weights {config.weights or ''}".strip())
    return backbone


def _network(config: EncoderConfig, *, download: bool) -> nn.Module:
    if config.backbone == "factory":
        if download:
            raise ConfigError(
                "encoder.weights: pretrained must name a torchvision or timm backbone; got "
                "backbone: factory. Let the factory load its weights, or give a weights file."
            )
        return _from_factory(config)
    if config.backbone == "small-conv":
        if download:
            raise ConfigError(
                "encoder.weights: pretrained must name a torchvision or timm backbone; got "
                "backbone: small-conv, which has no published weights. Use resnet18 or a file."
            )
        return SmallConv(config.width)
    if config.backbone.startswith("timm:"):
        return _timm(config.backbone.removeprefix("timm:"), download=download)
    return _torchvision(config.backbone, download=download)


def _torchvision(name: str, *, download: bool) -> nn.Module:
    import torchvision.models  # seconds to import; only these backbones need it

    network: nn.Module = _downloading(
        lambda: torchvision.models.get_model(name, weights="DEFAULT" if download else None), name
    )
    network.fc = nn.Identity()
    return network


def _timm(name: str, *, download: bool) -> nn.Module:
    import timm  # likewise

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise ConfigError(
            f"encoder.backbone must name a timm model after 'timm:'; got {name!r}.{hint} "
            f"timm.list_models() lists them."
        )
    network: nn.Module = _downloading(
        lambda: timm.create_model(name, pretrained=download, num_classes=0), name
    )
    return network


def _downloading(build: Callable[[], nn.Module], name: str) -> nn.Module:
    """Build, turning whatever a failed download raises into one message.

    The hubs raise errors of their HTTP libraries, which share no base class.
    """
    try:
        return build()
    except Exception as error:
        raise ConfigError(
            f"The backbone {name} must be built, and downloaded when encoder.weights is "
            f"pretrained; got {type(error).__name__}: {error}. Check the network connection, or "
            f"download the file elsewhere and give its path as encoder.weights."
        ) from error


def _from_factory(config: EncoderConfig) -> nn.Module:
    location = config.factory or ""
    source, separator, name = location.rpartition(":")
    if not separator or not source or not name:
        raise ConfigError(
            f"encoder.factory must be 'package.module:function' or '/path/file.py:function'; "
            f"got {location!r}."
        )
    factory = getattr(_import(source), name, None)
    if not callable(factory):
        raise ConfigError(
            f"encoder.factory must name a function (or class) of {source}; it has no callable "
            f"{name!r}. Check the spelling."
        )
    try:
        network = factory(**config.factory_kwargs)
    except Exception as error:
        raise ConfigError(
            f"encoder.factory {location} must return an nn.Module when called with "
            f"{config.factory_kwargs}; it raised {type(error).__name__}: {error}. "
            f"Check encoder.factory_kwargs."
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"encoder.factory {location} must return a torch.nn.Module; "
            f"got a {type(network).__name__}. Return the network itself."
        )
    return network


def _import(source: str) -> ModuleType:
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        loader = SourceFileLoader(Path(source).stem, source)
        module = ModuleType(loader.name)
        module.__file__ = source
        loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(
            f"encoder.factory must name an importable module or Python file; got {source!r} "
            f"({error}). Check the path, and that every worker can import it."
        ) from error
    return module


def _feature_dim(network: nn.Module, config: EncoderConfig) -> int:
    """Run zeros through the network once and return the number of features."""
    size = config.image_size
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            features: Any = network(torch.zeros((DRY_RUN_IMAGES, 3, size, size)))
    except Exception as error:
        default = getattr(network, "default_cfg", None) or {}
        wanted = (
            f" Its own input size is {default['input_size']}." if "input_size" in default else ""
        )
        raise ConfigError(
            f"The backbone {config.backbone} must accept (B, 3, {size}, {size}) images; it raised "
            f"{type(error).__name__}: {error}.{wanted} Set encoder.image_size to a size it takes."
        ) from error
    finally:
        network.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != DRY_RUN_IMAGES:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ConfigError(
            f"The backbone {config.factory or config.backbone} must return (B, D) features; got "
            f"{got} for {DRY_RUN_IMAGES} images. Pool and flatten in its forward."
        )
    return int(features.shape[1])
