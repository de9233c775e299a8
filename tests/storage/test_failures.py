from __future__ import annotations

import pytest

from balancer.errors import ConfigError, StorageError
from balancer.storage.failures import storage_errors


class Reply(Exception):
    """Looks like botocore's ClientError."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


def raise_with_cause(error: Exception, cause: Exception, uri: str) -> None:
    with storage_errors(uri):
        raise error from cause


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDenied", r"Bucket 'b' must allow access; got AccessDenied .* s3:GetObject"),
        ("ExpiredToken", r"Bucket 'b' must be reached with valid credentials; got ExpiredToken"),
        ("SlowDown", r"Bucket 'b' must answer within storage\.max_attempts tries"),
        ("NoSuchBucket", r"Bucket 'b' must exist; .* for s3://b/key\. Create the bucket"),
        ("Strange", r"Bucket 'b' must be usable; got Strange for s3://b/key \(refused\)"),
    ],
)
def test_replies_have_a_remedy(code: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        raise_with_cause(OSError("refused"), Reply(code), "s3://b/key")


def test_local_failures_name_the_path() -> None:
    with pytest.raises(StorageError, match=r"/data/x must allow access; got PermissionError\. Ch"):
        raise_with_cause(PermissionError(13, "no"), ValueError(), "/data/x")
    with pytest.raises(StorageError, match=r"/data/x must be usable; .*No space left"):
        raise_with_cause(OSError(28, "No space left"), ValueError(), "/data/x")


def test_secrets_in_messages_are_taken_out() -> None:
    error = OSError("GET http://user:geheim@host/key?X-Amz-Signature=geheim failed")
    with pytest.raises(StorageError) as caught:
        raise_with_cause(error, ValueError(), "s3://b/key")
    assert "geheim" not in str(caught.value)
    assert "failed" in str(caught.value)


@pytest.mark.parametrize("error", [ConfigError("x"), FileNotFoundError("x"), KeyError("x")])
def test_what_is_not_storage_passes_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        raise_with_cause(error, ValueError(), "s3://b/key")
    assert caught.value is error
