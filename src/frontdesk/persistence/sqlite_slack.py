"""What SQLite leaves of deleted rows in its pages, and how it is overwritten.

`PRAGMA secure_delete` zeroes a row where it lies when it is deleted. It does not where the row lay
before: when a page is split or merged its rows are laid out anew, and copies of them stay behind in
the space between the page's pointers and its rows. That space means nothing to SQLite, and is
zeroed here, in the file itself, while its log is empty and no connection has a page in mind that it
may write again. The format is https://www.sqlite.org/fileformat2.html: pointer maps (the file has
them by `auto_vacuum`) say which pages are of trees.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator

HEADER = 100
"""Bytes of the file's own header, on its first page."""

TREE_PAGES = frozenset({1, 5})
"""Kinds of pages in pointer maps: a tree's root, and its other pages."""

INTERIOR = frozenset({2, 5})
LEAVES = frozenset({10, 13})
ENTRY = 5
"""Bytes of an entry of a pointer map: its kind, and the parent."""

_header = struct.Struct(">B2xHH")
_page_size = struct.Struct(">H")


def pages_with_slack(descriptor: int) -> Iterator[int]:
    """Return the numbers of pages that have something in the space that means nothing.

    Reads the whole file, a few megabytes at a time. While it is written meanwhile, some are named
    that have nothing; what was there before is not missed.
    """
    size = page_size(descriptor)
    mapped = size // ENTRY
    pages = os.fstat(descriptor).st_size // size
    if slack_of(os.pread(descriptor, size, 0), first=True) is not None:
        yield 1
    for pointer_map in range(2, pages + 1, mapped + 1):
        content = os.pread(descriptor, (mapped + 1) * size, (pointer_map - 1) * size)
        for place in range(1, len(content) // size):
            if content[(place - 1) * ENTRY] in TREE_PAGES:
                page = content[place * size : (place + 1) * size]
                if slack_of(page) is not None:
                    yield pointer_map + place


def overwrite_slack(descriptor: int, pages: Iterable[int]) -> None:
    """Zero the space that means nothing, on pages of trees; nobody else writes the file now."""
    size = page_size(descriptor)
    for number in pages:
        start = (number - 1) * size
        slack = slack_of(os.pread(descriptor, size, start), first=number == 1)
        if slack is not None:
            begin, end = slack
            os.pwrite(descriptor, bytes(end - begin), start + begin)


def page_size(descriptor: int) -> int:
    """Return the size of the file's pages."""
    (size,) = _page_size.unpack(os.pread(descriptor, 2, 16))
    return 65536 if size == 1 else int(size)


def slack_of(page: bytes, *, first: bool = False) -> tuple[int, int] | None:
    """Return where a page has something between its pointers and its rows, None where nothing."""
    offset = HEADER if first else 0
    kind, cells, content = _header.unpack_from(page, offset)
    if kind not in INTERIOR and kind not in LEAVES:
        return None
    begin = offset + (12 if kind in INTERIOR else 8) + 2 * cells
    end = content or 65536
    slack = page[begin:end]
    if end > len(page) or slack.count(0) == len(slack):
        return None
    return begin, end
