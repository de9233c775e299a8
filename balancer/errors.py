"""The errors that a user can meet, each with the exit code the command line gives it.

Wrong arguments to a function raise the standard `ValueError` / `TypeError`. These classes are for
the world outside the program: a configuration file, an archive, an object store, an interruption.
Every message says what must hold, what was got, and what to do.
"""

from __future__ import annotations


class BalancerError(Exception):
    """Base of the errors below. `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(BalancerError):
    """A configuration that cannot be used, or that differs from the one a run was started with."""

    exit_code = 2


class DataError(BalancerError):
    """Input data that break a promise: unreadable, duplicated, empty or not finite."""

    exit_code = 3


class UnreadableTileError(DataError):
    """One tile that cannot be decoded. Callers quarantine it; `reason` is a short stable code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[UnreadableTileError], tuple[str, str]]:
        return (UnreadableTileError, (self.reason, self.detail))


class StorageError(BalancerError):
    """A file system or object store that refuses or fails: no bucket, no permission, timeout."""

    exit_code = 4


class InterruptedRunError(BalancerError):
    """A run that was stopped and can be continued by the same command."""

    exit_code = 5


class VerificationError(BalancerError):
    """A manifest that does not hold what it says."""

    exit_code = 6
