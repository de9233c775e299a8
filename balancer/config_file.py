"""Reading a configuration: one YAML file, `--set` overrides, and messages that name the line.

Unknown keys and wrong values are refused with the line of the file and the nearest valid key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from balancer.config import Config
from balancer.errors import ConfigError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides, validate.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` strings; values are parsed as YAML.

    Raises:
        ConfigError: with the line of the file and the nearest valid key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The configuration must be a readable YAML file; got {path} ({error.strerror}). "
            f"Check the path."
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} must be valid YAML: {error}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path} must hold a mapping of sections, got a {type(tree).__name__}. "
            f"See configs/ for examples."
        )
    lines = _line_numbers(node)
    for override in overrides:
        lines[_apply_override(tree, override)] = f"--set {override}"
    return build_config(tree, origin=str(path), lines=lines)


def build_config(
    tree: Mapping[str, Any],
    *,
    origin: str = "configuration",
    lines: Mapping[tuple[str, ...], int | str] | None = None,
) -> Config:
    """Validate a nested mapping into a `Config`.

    Args:
        tree: sections and values.
        origin: name used in messages, such as the file's path.
        lines: line number, or a text such as `--set a.b=c`, of each key path.

    Raises:
        ConfigError: listing every problem.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems = [_describe(problem, origin, lines or {}) for problem in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def _line_numbers(
    node: yaml.Node | None, prefix: tuple[str, ...] = ()
) -> dict[tuple[str, ...], int | str]:
    lines: dict[tuple[str, ...], int | str] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            lines[path] = key.start_mark.line + 1
            lines.update(_line_numbers(value, path))
    return lines


def _apply_override(tree: dict[str, Any], override: str) -> tuple[str, ...]:
    key, separator, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not separator or not all(path):
        raise ConfigError(f"--set takes dotted.key=value, such as seed=1; got {override!r}")
    branch = tree
    for name in path[:-1]:
        child = branch.get(name)
        if child is None:
            child = branch[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(
                f"--set {override}: {name} must be a section, but the configuration gives it the "
                f"value {child!r}. Set the section's keys one by one."
            )
        branch = child
    try:
        branch[path[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value must be valid YAML ({error})") from error
    return path


def _describe(
    problem: ErrorDetails, origin: str, lines: Mapping[tuple[str, ...], int | str]
) -> str:
    path = tuple(str(part) for part in problem["loc"])
    where: int | str | None = None
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            where = lines[path[:length]]
            break
    place = origin if where is None else where if isinstance(where, str) else f"{origin}:{where}"
    name = ".".join(path)
    if problem["type"] == "extra_forbidden":
        valid = _valid_keys(path[:-1])
        close = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}?" if close else f"Valid keys: {', '.join(valid)}."
        return f"{place}: unknown key {name!r}. {hint}"
    if problem["type"] == "missing":
        return f"{place}: {name!r} must be given. Add it to the file, or use --set {name}=VALUE."
    message = problem["msg"].removeprefix("Value error, ")
    got = problem.get("input")
    shown = "" if isinstance(got, dict) else f"; got {got!r}"
    return f"{place}: {name}: {message}{shown}."


def _valid_keys(path: tuple[str, ...]) -> list[str]:
    model: Any = Config
    for name in path:
        annotation = model.model_fields[name].annotation
        options = [annotation, *get_args(annotation)]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if model is None:
            return []
    return sorted(model.model_fields)
