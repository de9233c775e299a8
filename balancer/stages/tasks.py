"""Many independent tasks on Ray, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from balancer.stages.resources import available_cpus, plain_errors

IN_FLIGHT_PER_CPU = 2


def run_tasks(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, num_gpus: float = 0
) -> Iterator[tuple[int, Any]]:
    """Call `function(*arguments[i])` for every i as Ray tasks of one CPU.

    Ray retries a task whose worker died; an error of the function itself is raised here.

    Yields:
        (i, result) in the order of completion.
    """
    remote = ray.remote(function).options(num_cpus=1, num_gpus=num_gpus)
    limit = max(2, IN_FLIGHT_PER_CPU * available_cpus())
    waiting = iter(enumerate(arguments))
    running: dict[Any, int] = {}
    with plain_errors():
        while True:
            while len(running) < limit and (following := next(waiting, None)) is not None:
                number, values = following
                running[remote.remote(*values)] = number
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done[0]), ray.get(done[0])
