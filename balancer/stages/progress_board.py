"""The actor that carries news of a training from its workers to the driver.

It computes nothing, so this module imports nothing: an actor's process loads what its module loads.
"""

from __future__ import annotations

from balancer.errors import BalancerError


class ProgressBoard:
    """An actor that carries epoch results from the training worker to the driver."""

    def __init__(self) -> None:
        self._news: list[dict[str, float]] = []
        self._error: BalancerError | None = None

    def post(self, news: dict[str, float]) -> None:
        """Add one epoch's figures."""
        self._news.append(news)

    def fail(self, error: BalancerError) -> None:
        """Keep the first error that the training's input or configuration caused."""
        self._error = self._error or error

    def error(self) -> BalancerError | None:
        """Return the kept error."""
        return self._error

    def take(self) -> list[dict[str, float]]:
        """Return and forget what was posted."""
        news, self._news = self._news, []
        return news
