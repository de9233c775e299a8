"""Translation of what file systems and object stores raise into errors that say what to do.

A missing object stays a `FileNotFoundError`: only the caller knows whether that is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from balancer.errors import BalancerError, StorageError

_CREDENTIALS = (
    "Give valid credentials in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "AWS_PROFILE, or the machine's role); they are never taken from the configuration."
)
_ENDPOINT = (
    "Check the network and storage.endpoint_url or AWS_ENDPOINT_URL. Away from AWS also set "
    "AWS_EC2_METADATA_DISABLED=true, or looking for a machine role stalls."
)
_PERMISSION = (
    "Allow these credentials s3:ListBucket, s3:GetObject and s3:PutObject on it, or use others."
)
_BUSY = "Run the same command again later to go on, or use fewer workers."

# name of the exception, or code of the S3 reply -> (what must hold, what to do)
_CASES: dict[str, tuple[str, str]] = {
    "NoSuchBucket": ("must exist", "Create the bucket or correct the URI."),
    "AccessDenied": ("must allow access", _PERMISSION),
    "AllAccessDisabled": ("must allow access", _PERMISSION),
    "403": ("must allow access", _PERMISSION),
    "PermissionError": ("must allow access", _PERMISSION),
    "InvalidAccessKeyId": ("must be reached with valid credentials", _CREDENTIALS),
    "SignatureDoesNotMatch": ("must be reached with valid credentials", _CREDENTIALS),
    "ExpiredToken": ("must be reached with valid credentials", _CREDENTIALS),
    "InvalidToken": ("must be reached with valid credentials", _CREDENTIALS),
    "RequestTimeTooSkewed": ("must be reached with a correct clock", "Set this machine's clock."),
    "NoCredentialsError": ("must be reached with credentials", _CREDENTIALS),
    "PartialCredentialsError": ("must be reached with complete credentials", _CREDENTIALS),
    "EndpointConnectionError": ("must be reachable", _ENDPOINT),
    "ConnectTimeoutError": ("must be reachable", _ENDPOINT),
    "ProxyConnectionError": ("must be reachable", _ENDPOINT),
    "InvalidEndpoint": ("must be reachable", _ENDPOINT),
    "ReadTimeoutError": ("must answer within storage.read_timeout_s", _BUSY),
    "RequestTimeout": ("must answer within storage.read_timeout_s", _BUSY),
    "FSTimeoutError": ("must answer within storage.read_timeout_s", _BUSY),
    "TimeoutError": ("must answer within storage.read_timeout_s", _BUSY),
    "IsADirectoryError": ("must be a file", "It is a folder; use another path."),
    "NotADirectoryError": ("must lie in a folder", "A file is on its way; use another path."),
    "SlowDown": ("must answer within storage.max_attempts tries", _BUSY),
    "ServiceUnavailable": ("must answer within storage.max_attempts tries", _BUSY),
    "503": ("must answer within storage.max_attempts tries", _BUSY),
}
_SECRETS = re.compile(r"//[^/@\s\"']*@|\?[^\s\"']*")


@contextmanager
def storage_errors(uri: str) -> Iterator[None]:
    """Turn whatever an access to `uri` raises into `StorageError`.

    `FileNotFoundError` and `FileExistsError` about the object itself pass through, and so do
    balancer's own errors.

    Args:
        uri: a URI already known to carry no credentials.

    Raises:
        StorageError: naming the URI and, where there is one, the bucket.
    """
    try:
        yield
    except BalancerError:
        raise
    except (FileNotFoundError, FileExistsError) as error:
        if _reply_code(error) == "NoSuchBucket":
            raise StorageError(describe(error, uri)) from error
        raise
    except OSError as error:
        raise StorageError(describe(error, uri)) from error
    except Exception as error:
        # botocore and aiohttp have no common base; anything else is a defect and passes unchanged.
        if type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        raise StorageError(describe(error, uri)) from error


_LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "fsspec", "s3fs", "urllib3"}


def describe(error: BaseException, uri: str) -> str:
    """Return a message: what must hold, what was got, what to do. Secrets are taken out."""
    scheme, separator, rest = uri.partition("://")
    bucket = rest.partition("/")[0] if separator and scheme == "s3" else ""
    subject = f"Bucket {bucket!r}" if bucket else uri
    code = _reply_code(error)
    for name in (code, *(type(link).__name__ for link in _chain(error))):
        if name in _CASES:
            must, remedy = _CASES[name]
            if not bucket and name == "PermissionError":
                remedy = "Change its permissions or use another path."
            where = f" for {uri}" if bucket else ""
            return f"{subject} {must}; got {name}{where}. {remedy}"
    text = _SECRETS.sub("", str(error)) or type(error).__name__
    where = f" for {uri}" if bucket else ""
    return (
        f"{subject} must be usable; got {code or type(error).__name__}{where} ({text}). "
        f"Check the URI and the storage behind it, then run the same command again."
    )


def starts_beyond_end(error: BaseException) -> bool:
    """Whether the store refused a range because the object ends before it."""
    return _reply_code(error) in {"InvalidRange", "416"}


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _reply_code(error: BaseException) -> str:
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
