"""Write the report of a run: `balancer report RUN`."""

from __future__ import annotations

from balancer.report.collect import collect
from balancer.report.page import render_page
from balancer.storage.filesystem import Store

FILE_NAME = "report.html"


def write_report(store: Store, run_uri: str, out_uri: str | None = None) -> str:
    """Collect, render and write the report, replacing an earlier one.

    Args:
        store: where to read and write.
        run_uri: the `--out` of the run.
        out_uri: the page; `<run>/report.html` when absent.

    Returns:
        Where the page is.

    Raises:
        DataError: no run there, no catalog yet, or damaged artefacts.
        StorageError: the store refuses or fails.
    """
    page = render_page(collect(store, run_uri))
    uri = store.join(run_uri, FILE_NAME) if out_uri is None else out_uri
    store.write_bytes(uri, page.encode())
    return uri
