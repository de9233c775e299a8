"""Reading a configuration: one YAML file, `--set` overrides, and messages that name the line.

Unknown keys and wrong values are refused with the line of the file and the nearest valid key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from balancer.config import Config
from balancer.errors import ConfigError

Lines = dict[tuple[str, ...], int | str]
Model = TypeVar("Model", bound=BaseModel)


def load_config(
    path: str | Path, overrides: Sequence[str] = (), values: Mapping[str, str] | None = None
) -> Config:
    """Read a YAML file, apply `a.b=c` overrides, validate.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` strings; values are parsed as YAML.
        values: texts by dotted key, taken as they are and applied last; a message names the key
            `ray.address` as the option `--ray-address`.

    Raises:
        ConfigError: with the line of the file and the nearest valid key.
    """
    return load_model(Config, path, overrides, values)


def load_model(
    model: type[Model],
    path: str | Path,
    overrides: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> Model:
    """Read a YAML file as `load_config` does, into any tree of sections.

    Args:
        model: the tree's root.
        path: the YAML file.
        overrides: as for `load_config`.
        values: as for `load_config`.

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
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} must be UTF-8 text; got {error}. Save it as UTF-8, or check the path."
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = _line_numbers(node, str(path))
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        raise ConfigError(f"{path} must be valid YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply. Write fewer levels.") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path} must hold a mapping of sections, got a {type(tree).__name__}. "
            f"See configs/ for examples."
        )
    apply_overrides(tree, overrides, lines)
    for name, text in (values or {}).items():
        _set_key(tree, lines, tuple(name.split(".")), text, f"--{name.replace('.', '-')} {text}")
    return build_model(model, tree, origin=str(path), lines=lines)


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str], lines: Lines) -> None:
    """Set keys of a nested mapping, in place.

    Args:
        tree: sections and values.
        overrides: `dotted.key=value` strings; values are parsed as YAML.
        lines: who is to blame for which key; an override takes its keys over.

    Raises:
        ConfigError: an override that is none, or a section in the place of a value.

    >>> tree = {"selection": {"budget": 9}}
    >>> apply_overrides(tree, ["selection.quotas.cap=4"], {})
    >>> tree
    {'selection': {'budget': 9, 'quotas': {'cap': 4}}}
    """
    for override in overrides:
        key, value = _parse_override(override)
        _set_key(tree, lines, key, value, f"--set {override}")


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
    return build_model(Config, tree, origin=origin, lines=lines)


def build_model(
    model: type[Model],
    tree: Mapping[str, Any],
    *,
    origin: str = "configuration",
    lines: Mapping[tuple[str, ...], int | str] | None = None,
) -> Model:
    """Validate a nested mapping as `build_config` does, into any tree of sections.

    Args:
        model: the tree's root.
        tree: sections and values.
        origin: name used in messages.
        lines: as for `build_config`.

    Raises:
        ConfigError: listing every problem.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems = [_describe(problem, model, origin, lines or {}) for problem in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def _line_numbers(
    node: yaml.Node | None,
    origin: str,
    prefix: tuple[str, ...] = (),
    parents: tuple[yaml.Node, ...] = (),
) -> Lines:
    """Return the line of each key path; refuse a repeated key and a node that holds itself."""
    lines: Lines = {}
    if any(node is parent for parent in parents):
        raise ConfigError(
            f"{origin}:{parents[-1].start_mark.line + 1}: a section must not contain itself; an "
            f"alias (*) stands inside its own anchor (&). Write the values out."
        )
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _line_numbers(item, origin, prefix, (*parents, node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path, line = (*prefix, str(key.value)), key.start_mark.line + 1
            if path in lines:
                raise ConfigError(
                    f"{origin}:{line}: the key {'.'.join(path)!r} must be given once; it is also "
                    f"on line {lines[path]}. Remove one of the two."
                )
            lines[path] = line
            lines.update(_line_numbers(value, origin, path, (*parents, node)))
    return lines


def _parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    key, separator, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not separator or not all(path):
        raise ConfigError(f"--set takes dotted.key=value, such as seed=1; got {override!r}")
    try:
        _line_numbers(yaml.compose(text, Loader=yaml.SafeLoader), f"--set {override}")
        return path, yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override}: the value must be valid YAML ({error})") from error


def _set_key(
    tree: dict[str, Any], lines: Lines, path: tuple[str, ...], value: object, place: str
) -> None:
    """Set a leaf of the tree; from now on `place` is to blame for it."""
    branch = tree
    for depth, name in enumerate(path[:-1], start=1):
        child = branch.get(name)
        if child is None:
            child = branch[name] = {}
            lines[path[:depth]] = place
        if not isinstance(child, dict):
            raise ConfigError(
                f"{place}: {name} must be a section, but the configuration gives it the value "
                f"{child!r}. Set the section's keys one by one."
            )
        branch = child
    branch[path[-1]] = value
    for replaced in [key for key in lines if key[: len(path)] == path]:
        del lines[replaced]
    lines[path] = place


def describe_fields(error: ValidationError) -> str:
    """Return what is wrong with values that no file holds, in one line."""
    parts = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        what = problem["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts)


def _describe(
    problem: ErrorDetails,
    root: type[BaseModel],
    origin: str,
    lines: Mapping[tuple[str, ...], int | str],
) -> str:
    path = tuple(str(part) for part in problem["loc"])
    where = _find_place(path, problem, lines)
    place = origin if where is None else where if isinstance(where, str) else f"{origin}:{where}"
    name = ".".join(path)
    if problem["type"] == "extra_forbidden":
        valid = _valid_keys(root, path[:-1])
        close = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}?" if close else f"Valid keys: {', '.join(valid)}."
        return f"{place}: unknown key {name!r}. {hint}"
    if problem["type"] == "missing":
        return f"{place}: {name!r} must be given. Add it to the file, or use --set {name}=VALUE."
    message = problem["msg"].removeprefix("Value error, ")
    got = problem.get("input")
    shown = "" if isinstance(got, dict) else f"; got {got!r}"
    return f"{place}: {name}: {message}{shown}."


def _find_place(
    path: tuple[str, ...], problem: ErrorDetails, lines: Mapping[tuple[str, ...], int | str]
) -> int | str | None:
    if problem["type"] == "value_error":
        # A rule of a whole section names its keys; one of them given by an option is to blame.
        words = set(re.findall(r"\w+", problem["msg"]))
        for key, place in reversed(list(lines.items())):
            if key[:-1] == path and key[-1] in words and isinstance(place, str):
                return place
    found = (lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines)
    return next(found, None)


def _valid_keys(root: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    model: Any = root
    for name in path:
        if name.isdecimal():  # a place in a list, whose items `_section` found already
            continue
        model = _section(model.model_fields[name].annotation)
        if model is None:
            return []
    return sorted(model.model_fields)


def _section(annotation: object) -> type[BaseModel] | None:
    """Return the section that a field holds, plain, optional, or as the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)
