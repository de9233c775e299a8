"""Network weights as plain tensors and arrays: read, check, load. No pickled code is ever run."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 -- only the name of the error that torch.load raises
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from balancer.errors import ConfigError

Arrays = dict[str, NDArray[np.generic]]

NESTED_KEYS = ("state_dict", "model", "model_state", "teacher", "student")
"""Names under which training programs put the weights inside a checkpoint."""
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "network.")
"""Prefixes that wrappers add to every key."""
CLASSIFIER_PREFIXES = ("fc.", "head.", "classifier.")
"""Surplus keys of a classification head, which an embedder does not have."""
LISTED_KEYS = 5


def parse_weights(data: bytes, name: str) -> dict[str, Tensor]:
    """Read the bytes of a weights file.

    Args:
        data: the whole file.
        name: its name, which says the format: `.safetensors`, else a torch file.

    Returns:
        Weights by name, on the CPU.

    Raises:
        ConfigError: not such a file, or one that would need to run code to be read.
    """
    if name.endswith(".safetensors"):
        try:
            return dict(safetensors.torch.load(data))
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise ConfigError(
                f"encoder.weights must be a whole safetensors file; got {name} ({error}). "
                f"Copy or export the file again."
            ) from error
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(
            f"encoder.weights must be a torch file of plain tensors, or .safetensors; got {name} "
            f"({type(error).__name__}). Save the state dict with torch.save or safetensors."
        ) from error
    return _find_state(content, name)


def _find_state(content: object, name: str) -> dict[str, Tensor]:
    for key in NESTED_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if isinstance(content, Mapping):
        state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if state:
            return state
    raise ConfigError(
        f"encoder.weights must hold a mapping of names to tensors, plain or under one of "
        f"{', '.join(NESTED_KEYS)}; {name} holds a {type(content).__name__} without tensors. "
        f"Save module.state_dict()."
    )


def load_weights(module: nn.Module, state: Mapping[str, Tensor], *, what: str = "weights") -> None:
    """Load `state` into `module`, strictly.

    A prefix that every key has (`module.`, `backbone.`, ...) is dropped; the surplus keys of a
    classification head, and missing batch counters of batch normalisation, are let pass.

    Args:
        module: changed in place.
        state: weights by name.
        what: where the weights come from, for messages.

    Raises:
        ConfigError: listing the missing, unexpected and misshapen weights.
    """
    own = module.state_dict()
    given = _without_prefix(state, own)
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [
        key for key in given if key not in own and not key.startswith(CLASSIFIER_PREFIXES)
    ]
    misshapen = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in given and own[key].shape != given[key].shape
    ]
    problems = [
        f"{kind}: {_shorten(keys)}"
        for kind, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", misshapen),
        )
        if keys
    ]
    if problems:
        raise ConfigError(
            f"The {what} must fit the backbone; got keys {'; '.join(problems)}. Check that "
            f"encoder.backbone and encoder.width are those the weights were made with."
        )
    module.load_state_dict({key: given[key] for key in own if key in given}, strict=False)


def _without_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    given = dict(state)
    while given and not own.keys() & given.keys():
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in given)), None)
        if prefix is None:
            break
        given = {key.removeprefix(prefix): value for key, value in given.items()}
    return given


def _shorten(keys: list[str]) -> str:
    rest = len(keys) - LISTED_KEYS
    return ", ".join(keys[:LISTED_KEYS]) + (f" and {rest} more" if rest > 0 else "")


def state_to_numpy(module: nn.Module) -> Arrays:
    """Return every parameter and buffer of `module` as an array of its own, for safetensors."""
    return {
        key: np.array(value.detach().cpu().numpy(), order="C")
        for key, value in module.state_dict().items()
    }


def state_from_numpy(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """Return `arrays`, made by `state_to_numpy`, as tensors for `build_backbone(load_state=...)`.

    >>> state_from_numpy({"bias": np.zeros(2, np.float32)})
    {'bias': tensor([0., 0.])}
    """
    return {key: torch.from_numpy(np.array(value, order="C")) for key, value in arrays.items()}
