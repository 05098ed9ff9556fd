"""Attachments of prompts on their way to an agent: what may come, and how much is held at once.

Between the conversation, which asks this before it accepts a prompt, and its turns, with whose end
the room for the bytes is given back. All on one event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from frontdesk.agents.attachments import Attachment, matches
from frontdesk.agents.blueprints import Blueprint
from frontdesk.errors import InvalidArgument
from frontdesk.sessions.errors import AttachmentRefused, AttachmentsFull

MAX_PROMPT_BYTES = 16 * 1024 * 1024
"""Bytes of one prompt's attachments: they go to an agent's process in one message."""

TakesType = Callable[[str], bool]
"""Says whether an agent that runs takes a type: it may take less than its blueprint says."""


class AttachmentRoom:
    """Count the bytes of attachments that prompts of each tenant hold: those that wait, or run."""

    __slots__ = ("_by_tenant", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes: int = max_bytes
        self._by_tenant: Counter[str] = Counter()

    def take(self, tenant_id: str, attachments: Sequence[Attachment]) -> None:
        """Take room for attachments; `AttachmentsFull`. `give` it back for the same."""
        size = _size_of(attachments)
        if size > MAX_PROMPT_BYTES:
            expected = f"at most {MAX_PROMPT_BYTES} bytes together"
            raise InvalidArgument("attachments", expected=expected, got=str(size))
        self._reserve(tenant_id, size)

    def readmit(self, tenant_id: str, attachments: Sequence[Attachment]) -> None:
        """Take room for those of a prompt that was accepted before, however much there is."""
        if size := _size_of(attachments):
            self._by_tenant[tenant_id] += size

    def give(self, tenant_id: str, attachments: Sequence[Attachment]) -> None:
        """Give room back."""
        self._release(tenant_id, _size_of(attachments))

    @contextmanager
    def reserved(self, tenant_id: str, size: int) -> Iterator[None]:
        """Hold room for what is still to come; `AttachmentsFull`."""
        self._reserve(tenant_id, size)
        try:
            yield
        finally:
            self._release(tenant_id, size)

    def _reserve(self, tenant_id: str, size: int) -> None:
        if size and self.held(tenant_id) + size > self.max_bytes:
            raise AttachmentsFull(limit=self.max_bytes)
        self._by_tenant[tenant_id] += size

    def _release(self, tenant_id: str, size: int) -> None:
        self._by_tenant[tenant_id] -= size
        if not self._by_tenant[tenant_id]:
            del self._by_tenant[tenant_id]

    def held(self, tenant_id: str) -> int:
        """Return how many bytes a tenant's attachments take now."""
        return self._by_tenant.get(tenant_id, 0)


def require_types(
    media_types: Sequence[str], *, rules: Blueprint, takes: TakesType | None = None
) -> None:
    """Raise `AttachmentRefused` for a type that the blueprint, or its agent, does not take."""
    for media_type in media_types:
        if not rules.attachments:
            raise AttachmentRefused(
                media_type, problem=f"blueprint {rules.name!r} takes no attachments"
            )
        if not matches(media_type, rules.attachments):
            taken = ", ".join(rules.attachments)
            raise AttachmentRefused(media_type, problem=f"blueprint {rules.name!r} takes {taken}")
        if takes is not None and not takes(media_type):
            raise AttachmentRefused(media_type, problem="this agent does not take it")


def _size_of(attachments: Sequence[Attachment]) -> int:
    """Return the bytes of attachments together."""
    return sum(each.size for each in attachments)
