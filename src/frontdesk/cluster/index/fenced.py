"""Ids by fence, oldest first: what a sorted set is to the other engine."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import islice

from frontdesk.records import Fence

__all__ = ["FencedIds"]

_Item = tuple[Fence, str]


class FencedIds:
    """Hold ids in the order of their fences, those of one fence by the id.

    In chunks, so that adding, removing and finding a place cost the same for a hundred thousand
    ids as for a thousand, wherever they stand. A page costs what it returns.
    """

    __slots__ = ("_chunk", "_chunks", "_lasts", "_length")

    def __init__(self, *, chunk: int = 1024) -> None:
        self._chunk = chunk
        self._chunks: list[list[_Item]] = []
        self._lasts: list[_Item] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return (session_id for chunk in self._chunks for _, session_id in chunk)

    def add(self, fence: Fence, session_id: str) -> None:
        """Add what is not there."""
        item = (fence, session_id)
        self._length += 1
        if not self._chunks:
            self._chunks.append([item])
            self._lasts.append(item)
            return
        place = min(bisect_left(self._lasts, item), len(self._lasts) - 1)
        chunk = self._chunks[place]
        if item > chunk[-1]:
            chunk.append(item)
        else:
            insort(chunk, item)
        if len(chunk) > self._chunk:
            # Ids come oldest first as a rule: a full chunk stays full, and the next one fills.
            half = self._chunk if chunk[-1] == item else self._chunk // 2
            self._chunks[place : place + 1] = [chunk[:half], chunk[half:]]
            self._lasts[place : place + 1] = [chunk[half - 1], chunk[-1]]
        else:
            self._lasts[place] = chunk[-1]

    def remove(self, fence: Fence, session_id: str) -> bool:
        """Remove what is there; tell whether nothing is left."""
        item = (fence, session_id)
        # The oldest goes first as a rule, when a node is buried.
        place = 0 if self._chunks[0][0] == item else bisect_left(self._lasts, item)
        chunk = self._chunks[place]
        del chunk[0 if chunk[0] == item else bisect_left(chunk, item)]
        self._length -= 1
        if chunk:
            self._lasts[place] = chunk[-1]
        else:
            del self._chunks[place], self._lasts[place]
        return self._length == 0

    def remove_run(self, items: Sequence[_Item]) -> bool:
        """Remove what is there, in its order; tell whether nothing is left.

        Neighbours go together: the entries of a node that dies are each other's as a rule.
        """
        done = 0
        while done < len(items):
            place = bisect_left(self._lasts, items[done])
            chunk = self._chunks[place]
            first = bisect_left(chunk, items[done])
            length = _common(chunk[first : first + len(items) - done], items[done:])
            del chunk[first : first + length]
            done += length
            if chunk:
                self._lasts[place] = chunk[-1]
            else:
                del self._chunks[place], self._lasts[place]
        self._length -= len(items)
        return self._length == 0

    def page(self, after: Fence, limit: int) -> list[_Item]:
        """Return up to `limit` fences above one, with their ids."""
        return list(islice(self.above(after), limit))

    def above(self, fence: Fence) -> Iterator[_Item]:
        """Go through all fences above one, with their ids."""
        first = (fence + 1, "")
        for place in range(bisect_left(self._lasts, first), len(self._chunks)):
            chunk = self._chunks[place]
            yield from islice(chunk, bisect_left(chunk, first), None)


def _common(there: Sequence[_Item], wanted: Sequence[_Item]) -> int:
    """Return how many are the same from the beginning, one at least."""
    wanted = wanted[: len(there)]
    if there == wanted:
        return len(there)
    return next(n for n, (one, other) in enumerate(zip(there, wanted, strict=True)) if one != other)
