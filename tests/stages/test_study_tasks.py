"""Parts of a study on Ray: resume, order, shared values, refusals."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ray import cloudpickle

from balancer.errors import DataError
from balancer.stages.progress import Reporter
from balancer.stages.study_tasks import StudyPart, run_study
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.types import FloatArray

pytestmark = pytest.mark.ray
QUIET = Reporter(quiet=True)


def total(numbers: FloatArray, factor: int, calls: str, bad: int) -> pa.Table:
    """Return factor * sum, leaving a trace of the call; fail for the factor `bad`."""
    if factor == bad:
        raise DataError(f"factor {factor} is refused")
    Path(calls, f"{factor}-{uuid.uuid4().hex}").touch()
    return pa.table({"factor": [factor], "total": [factor * float(numbers.sum())]})


@pytest.fixture(autouse=True)
def _travelling_module() -> Iterator[None]:
    """Send this module's functions to the workers by value: they cannot import tests."""
    module = sys.modules[__name__]
    travelling: Any = cloudpickle
    travelling.register_pickle_by_value(module)
    yield
    travelling.unregister_pickle_by_value(module)


def parts(factors: range, calls: Path, bad: int = -1) -> list[StudyPart]:
    return [StudyPart(f"part-{n}", ("numbers",), (n, str(calls), bad)) for n in factors]


def test_started_again_it_computes_what_is_missing(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    calls = tmp_path / "calls"
    calls.mkdir()
    ledger = Ledger(Store(), str(tmp_path / "study"))
    shared = {"numbers": np.arange(4, dtype=np.float32)}
    with pytest.raises(DataError, match="factor 5 is refused"):
        run_study(ledger, "cells", total, parts(range(6), calls, 5), shared=shared, reporter=QUIET)
    before = {path.name for path in calls.iterdir()}
    assert before  # what was done before the failure stays done
    found = run_study(ledger, "cells", total, parts(range(8), calls), shared=shared, reporter=QUIET)
    assert found["factor"].to_pylist() == list(range(8))
    assert found["total"].to_pylist() == [6.0 * n for n in range(8)]
    done = sorted(ledger.stage("cells").completed_all({f"part-{n}": f"part-{n}" for n in range(8)}))
    assert len(done) == 8
    after = [path.name.partition("-")[0] for path in calls.iterdir()]
    kept = {name.partition("-")[0] for name in before}
    # A part that was recorded is not computed again; one in flight when it failed may be.
    assert all(after.count(str(n)) == 1 for n in range(8) if str(n) not in kept)
    count = len(after)
    again = run_study(ledger, "cells", total, parts(range(8), calls), shared=shared, reporter=QUIET)
    assert again.equals(found)
    assert len(list(calls.iterdir())) == count


def test_a_lost_record_is_made_again(ray_cluster: str, tmp_path: Path) -> None:
    """Killed between data and record: the data are an orphan that nobody reads."""
    assert ray_cluster
    calls = tmp_path / "calls"
    calls.mkdir()
    ledger = Ledger(Store(), str(tmp_path / "study"))
    shared = {"numbers": np.ones(2, np.float32)}
    first = run_study(ledger, "cells", total, parts(range(3), calls), shared=shared, reporter=QUIET)
    (tmp_path / "study" / "cells" / "done" / "part-1.json").unlink()
    again = run_study(ledger, "cells", total, parts(range(3), calls), shared=shared, reporter=QUIET)
    assert again.equals(first)
    assert len(list(calls.iterdir())) == 4


def test_refusals(tmp_path: Path) -> None:
    ledger = Ledger(Store(), str(tmp_path / "study"))
    twice = parts(range(1), tmp_path) * 2
    with pytest.raises(ValueError, match="must have different keys"):
        run_study(ledger, "cells", total, twice, shared={"numbers": 0}, reporter=QUIET)
    with pytest.raises(ValueError, match=r"must be given for \['numbers'\]; got \['other'\]"):
        run_study(
            ledger, "cells", total, parts(range(1), tmp_path), shared={"other": 0}, reporter=QUIET
        )
