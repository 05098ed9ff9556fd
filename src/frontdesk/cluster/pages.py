"""Reads all pages of a list, which the engine gives out a thousand entries at a time."""

from __future__ import annotations

from frontdesk.cluster.engine import Engine
from frontdesk.cluster.records import EntryPage, Selection

__all__ = ["all_pages"]


async def all_pages(engine: Engine, selection: Selection) -> list[EntryPage]:
    """Return every page, each as of its own revision: an entry may have ended since."""
    pages = [await engine.list(selection)]
    while pages[-1].more:
        pages.append(await engine.list(selection, after=pages[-1].entries[-1].fence))
    return pages
