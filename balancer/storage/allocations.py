"""What each stratum gave, as a table of a round; and the weight of every tile, as another."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from balancer.types import Allocation, DoubleArray, IdArray, IntArray, Strata

_FIXED = ("cluster", "size", "count", "rate")
_AXIS = "axis:"
"""Before the names of metadata columns, so that none is taken for one of `_FIXED`."""
_REPORT, _REPEATS = "report", "repeats"


def allocation_table(allocation: Allocation) -> tuple[pa.Table, dict[str, str]]:
    """Return `cluster, axis:<column>..., size, count, rate`, one row per stratum, and the footer.

    The footer holds the sentences about what was not reached.
    """
    strata = allocation.strata
    columns = {
        f"{_AXIS}{name}": pa.array(strata.values[:, place].tolist(), pa.string())
        for place, name in enumerate(strata.columns)
    }
    table = pa.table(
        {
            "cluster": strata.cluster,
            **columns,
            "size": strata.sizes,
            "count": allocation.counts,
            "rate": allocation.rates,
        }
    )
    return table, {_REPORT: json.dumps(allocation.report), _REPEATS: str(allocation.repeats)}


def read_allocation(table: pa.Table) -> Allocation:
    """Return the allocation that `allocation_table` wrote."""
    names = [name for name in table.column_names if name not in _FIXED]
    values = [np.array(table[name].to_pylist(), np.str_) for name in names]
    strata = Strata(
        tuple(name.removeprefix(_AXIS) for name in names),
        table["cluster"].to_numpy(),
        np.stack(values, axis=1) if values else np.empty((table.num_rows, 0), np.str_),
        table["size"].to_numpy(),
    )
    facts = {key.decode(): value for key, value in table.schema.metadata.items()}
    return Allocation(
        strata,
        table["count"].to_numpy(),
        table["rate"].to_numpy(),
        int(facts[_REPEATS]),
        tuple(json.loads(facts[_REPORT])),
    )


def weight_table(ids: IdArray, cluster: IntArray, weight: DoubleArray) -> pa.Table:
    """Return `tile_id, cluster, weight`: how often each tile is shown on average.

    The weights of all tiles of an archive add up to the budget.
    """
    return pa.table(
        {
            "tile_id": pa.array(ids.tolist(), pa.string()),
            "cluster": cluster,
            "weight": pa.array(weight, pa.float64()),
        }
    )
