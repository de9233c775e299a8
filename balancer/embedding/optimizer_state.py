"""Optimizer state as plain tensors, so that checkpoints need no pickle."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def optimizer_state_to_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's moments and step counts as `index.name` tensors on the CPU.

    The hyper-parameters are left out: they come from the configuration.
    """
    return {
        f"{index}.{name}": value.detach().cpu().contiguous().clone()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def optimizer_state_from_tensors(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put `optimizer_state_to_tensors`'s result into a fresh optimizer of the same parameters.

    Raises:
        ValueError: the tensors belong to other parameters.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor.clone()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entries in state.items():
        fits = index < len(parameters) and all(
            value.ndim == 0 or value.shape == parameters[index].shape for value in entries.values()
        )
        if not fits:
            raise ValueError(
                f"The 'tensors' parameter must be the state of an optimizer of the same "
                f"{len(parameters)} parameters. Parameter {index} does not fit."
            )
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
