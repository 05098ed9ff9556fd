"""A watch over all nodes: one snapshot, then every later change, in the order of revisions."""

from __future__ import annotations

from typing import Self

from frontdesk.records import Change, Snapshot

__all__ = ["ClusterWatch"]


class ClusterWatch:
    """Follow the changes of all nodes; made by `Node.watch`. Iterate it with `async for`.

    The law is the embedded store's: the first item is a `Snapshot` at some revision, every later
    one a `Change`, without gap or repetition, or a `Snapshot` marked `resync` where the watch was
    too slow, the log did not reach back, or a new era began. It ends when the node leaves. One
    reader at a time.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Snapshot | Change:
        raise NotImplementedError

    def close(self) -> None:
        """End the watch; a reader that waits stops. Idempotent."""
        raise NotImplementedError
