"""What can go wrong with the place where conversations are kept."""

from __future__ import annotations

from frontdesk.errors import FrontdeskError

__all__ = [
    "ConversationUnreadable",
    "StorageBroken",
    "StorageRefused",
    "StorageUnavailable",
]


class StorageUnavailable(FrontdeskError):
    """Nothing can be stored now: the disk is full, or the database cannot be asked. It may pass."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"conversations cannot be stored now: {problem}")


class StorageBroken(FrontdeskError):
    """A sync, a write or a read failed: what is on the disk is not known any more.

    Only a new process can find out, by reading it: a sync that failed is never tried again.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the storage of conversations failed: {problem}")


class StorageRefused(FrontdeskError):
    """What lies at a place cannot be used: it is newer, damaged, locked, or must not be there."""

    def __init__(self, place: str, *, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"conversations cannot be kept in {place}: {problem}")


class ConversationUnreadable(FrontdeskError):
    """What is asked for was stored encrypted, and cannot be decrypted."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the conversation cannot be decrypted: {problem}")
