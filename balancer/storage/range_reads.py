"""Few large reads instead of many small ones: merge nearby byte ranges, fetch, cut apart again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from balancer.storage.filesystem import Store

MAX_GAP = 256 * 2**10
"""Unwanted bytes between two ranges that are cheaper to read than another request."""
MAX_READ = 8 * 2**20
"""Merging stops at reads of this size; a single larger range is still one read."""
MAX_WINDOW = 64 * 2**20
"""Bytes held at once."""

ByteRange = tuple[str, int, int]
"""(uri, offset, num_bytes)"""


def read_merged(store: Store, wanted: Sequence[ByteRange]) -> Iterator[tuple[int, bytes | None]]:
    """Read many byte ranges.

    Cost: about one request per `MAX_READ` bytes of a container; `MAX_WINDOW` bytes of memory.

    Args:
        store: where to read.
        wanted: byte ranges, in any order, overlapping or not.

    Yields:
        (position in `wanted`, bytes), ordered by uri and offset; None for the bytes if the object
        does not exist. Fewer bytes than wanted come where the object ends early.

    Raises:
        StorageError: the store refuses or fails.
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i][0], wanted[i][1]))
    window: list[tuple[ByteRange, list[int]]] = []
    held = 0
    for read, members in merge(wanted, order):
        if window and held + read[2] > MAX_WINDOW:
            yield from _fetch(store, wanted, window)
            window, held = [], 0
        window.append((read, members))
        held += read[2]
    yield from _fetch(store, wanted, window)


def merge(
    wanted: Sequence[ByteRange], order: Sequence[int]
) -> Iterator[tuple[ByteRange, list[int]]]:
    """Join ranges that follow each other closely in the same object.

    Args:
        wanted: byte ranges.
        order: their positions sorted by (uri, offset).

    Yields:
        (range to read, positions of the wanted ranges inside it).

    >>> ranges = [("a", 0, 10), ("a", 20, 10), ("b", 0, 5)]
    >>> list(merge(ranges, [0, 1, 2]))
    [(('a', 0, 30), [0, 1]), (('b', 0, 5), [2])]
    """
    members: list[int] = []
    uri, start, end = "", 0, 0
    for position in order:
        next_uri, offset, num_bytes = wanted[position]
        stop = offset + num_bytes
        joins = next_uri == uri and offset <= end + MAX_GAP and stop - start <= MAX_READ
        if members and not joins:
            yield (uri, start, end - start), members
            members = []
        if not members:
            uri, start, end = next_uri, offset, stop
        members.append(position)
        end = max(end, stop)
    if members:
        yield (uri, start, end - start), members


def _fetch(
    store: Store, wanted: Sequence[ByteRange], window: Sequence[tuple[ByteRange, list[int]]]
) -> Iterator[tuple[int, bytes | None]]:
    answers = store.read_ranges([read for read, _ in window])
    for ((_, start, _), members), data in zip(window, answers, strict=True):
        for position in members:
            _, offset, num_bytes = wanted[position]
            piece = None if data is None else data[offset - start : offset - start + num_bytes]
            yield position, piece
