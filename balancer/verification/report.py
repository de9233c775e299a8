"""Checks and their outcomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

RECOMPUTED = "covering radii"
"""The check that only the embeddings can answer; without it a certificate is but a claim."""
QUALITY = "quality"
"""The check that is skipped if, and only if, a selection is weighted by a column not at hand."""
IN_EMBEDDINGS = "tiles in the embeddings"
"""The check that is skipped if, and only if, there are no embeddings."""


class Status(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One named check: its outcome, and what was found or why it was skipped."""

    name: str
    status: Status
    message: str


def passed(name: str, message: str) -> Check:
    """Return a check that held."""
    return Check(name, Status.PASSED, message)


def failed(name: str, message: str) -> Check:
    """Return a check that did not hold; the message says what must hold and what was found."""
    return Check(name, Status.FAILED, message)


def skipped(name: str, message: str) -> Check:
    """Return a check that could not be made; the message says what it needs."""
    return Check(name, Status.SKIPPED, message)


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """All checks of one manifest, in the order they were made.

    Attributes:
        manifest_uri: what was verified.
        checks: one per name.
    """

    manifest_uri: str
    checks: tuple[Check, ...]

    @property
    def verified(self) -> bool:
        """Whether no check failed, and what the right inputs can show was recomputed.

        So not where the quality that distances were multiplied by is not at hand: then neither the
        distances nor the order of the picks are known to hold, and other embeddings would tell.
        """
        whole = self.recomputed and not self.lacks_quality
        return whole and not self.named(Status.FAILED)

    @property
    def lacks_quality(self) -> bool:
        """Whether the quality column of a weighted selection was not to be found."""
        return QUALITY in self.named(Status.SKIPPED)

    @property
    def recomputed(self) -> bool:
        """Whether the certificate's radii were recomputed from the embeddings, and hold."""
        return RECOMPUTED in self.named(Status.PASSED)

    @property
    def lacks_embeddings(self) -> bool:
        """Whether there were no embeddings to check against."""
        return IN_EMBEDDINGS in self.named(Status.SKIPPED)

    def named(self, status: Status) -> list[str]:
        """Return the names of the checks with this outcome."""
        return [check.name for check in self.checks if check.status is status]

    def summary(self) -> str:
        """Return the counts in words.

        >>> VerificationReport("m", (passed("a", ""), skipped("b", ""))).summary()
        '1 passed, 0 failed, 1 skipped'
        """
        counts = Counter(check.status for check in self.checks)
        return ", ".join(f"{counts[status]} {status}" for status in Status)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "manifest": self.manifest_uri,
            "verified": self.verified,
            "certificate_recomputed": self.recomputed,
            "checks": [
                {"name": check.name, "status": str(check.status), "message": check.message}
                for check in self.checks
            ],
        }
