from __future__ import annotations

import io

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from balancer.embedding.weights import load_weights, parse_weights
from balancer.errors import ConfigError

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def _saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _same(state: dict[str, Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("content", [STATE, {"epoch": 3, "state_dict": STATE}, {"model": STATE}])
def test_torch_files_plain_and_nested(content: object) -> None:
    assert _same(parse_weights(_saved(content), "w.pth"))


def test_safetensors() -> None:
    assert _same(parse_weights(safetensors.torch.save(STATE), "w.safetensors"))


@pytest.mark.parametrize(
    ("data", "name", "match"),
    [
        (b"not weights", "w.safetensors", "whole safetensors file; got w.safetensors"),
        (b"not weights", "w.pth", "torch file of plain tensors"),
        (b"", "w.pt", "torch file of plain tensors"),
        (safetensors.torch.save(STATE)[:-4], "w.safetensors", "Copy or export the file again"),
        (_saved(nn.Linear(3, 2)), "module.pt", "Save the state dict"),
        (_saved([1, 2]), "list.pt", "holds a list without tensors"),
    ],
)
def test_other_files_are_refused_without_running_code(data: bytes, name: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        parse_weights(data, name)


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
def test_wrapper_prefixes_are_dropped(prefix: str) -> None:
    module = nn.Linear(3, 2)
    load_weights(module, {prefix + key: value for key, value in STATE.items()})
    assert torch.equal(module.weight, STATE["weight"])


def test_a_classifier_is_let_pass() -> None:
    module = nn.Linear(3, 2)
    load_weights(module, {**STATE, "fc.weight": torch.ones(1), "head.bias": torch.ones(1)})
    assert torch.equal(module.bias, STATE["bias"])


def test_every_misfit_is_listed() -> None:
    with pytest.raises(
        ConfigError,
        match=r"missing: bias; unexpected: extra; of the wrong shape: weight \(1,\) instead of "
        r"\(2, 3\)\. Check",
    ):
        load_weights(nn.Linear(3, 2), {"weight": torch.ones(1), "extra": torch.ones(1)})
