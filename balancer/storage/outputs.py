"""Refuse to write over what is read."""

from __future__ import annotations

from collections.abc import Mapping

from balancer.errors import ConfigError
from balancer.storage.uris import lies_inside


def require_apart(outputs: Mapping[str, str], inputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that are one of the inputs, lie in the folder of one, or are the same file.

    Everything in a folder of embeddings is read as embeddings, and that again and again: by the
    next selection, and by `balancer verify`.

    Args:
        outputs: URI by the name of the option; files to be written.
        inputs: URI by what it is, None where there is none; files or folders.

    Raises:
        ConfigError: naming both.

    >>> require_apart({"out": "s3://b/picks.parquet"}, {"the embeddings": "s3://b/tiles"})
    """
    written: dict[str, str] = {}
    for option, uri in outputs.items():
        for what, other in inputs.items():
            if other is not None and lies_inside(uri, other):
                raise ConfigError(
                    f"--{option} must lie outside of {what}, which it would overwrite or mix with; "
                    f"got {uri}, and {what} is {other}. Name a file elsewhere."
                )
        for earlier, taken in written.items():
            if lies_inside(uri, taken) or lies_inside(taken, uri):
                raise ConfigError(
                    f"--{option} and --{earlier} must be two files; got {uri} for --{option} and "
                    f"{taken} for --{earlier}. Name another file for one of them."
                )
        written[option] = uri
