"""What a URI may look like, and where it points: a plain path, `file://` or `s3://`."""

from __future__ import annotations

import os
import re

from balancer.errors import ConfigError

_SIGNED = re.compile(r"[?&][^/]*(signature|credential|token|secret|accesskey|password)", re.I)


def resolve(uri: str) -> tuple[bool, str]:
    """Return (remote, path for that file system); refuse what cannot or must not be opened.

    >>> resolve("s3://bucket/runs/")
    (True, 'bucket/runs')

    Raises:
        ConfigError: the URI cannot be used.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if uri.startswith("s3:"):
            raise ConfigError(
                f"An S3 URI has two slashes, s3://bucket/key; got {uri!r}. Correct it; a local "
                f"file of that name is ./{uri}."
            )
        return False, os.path.abspath(os.path.expanduser(uri))
    if "@" in rest.partition("/")[0] or _SIGNED.search(rest):
        raise ConfigError(
            f"A URI must not carry credentials, but a {scheme}:// URI does (it is not repeated "
            f"here). Put them into the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            f"or AWS_PROFILE."
        )
    if scheme == "file":
        return False, os.path.abspath("/" + rest.removeprefix("localhost").lstrip("/"))
    if scheme != "s3":
        raise ConfigError(
            f"A URI must be a local path, file:// or s3://; got {scheme}://. Use one of these; "
            f"other S3 servers are reached by storage.endpoint_url."
        )
    path = rest.rstrip("/")
    if not path or path.startswith("/"):
        raise ConfigError(
            f"An S3 URI must name a bucket, s3://bucket/key; got {uri!r}. Correct it."
        )
    return True, path


def lies_inside(uri: str, folder: str) -> bool:
    """Whether `uri` is `folder`, or something in it, links on the local disk followed.

    >>> lies_inside("s3://bucket/tiles/run", "s3://bucket/tiles/")
    True
    >>> lies_inside("s3://bucket/tiles-run", "s3://bucket/tiles")
    False

    Raises:
        ConfigError: a URI cannot be used.
    """
    (inner_remote, inner), (outer_remote, outer) = resolve(uri), resolve(folder)
    if inner_remote != outer_remote:
        return False
    if not inner_remote:
        inner, outer = os.path.realpath(inner), os.path.realpath(outer)
    return f"{inner}/".startswith(f"{outer.rstrip('/')}/")
