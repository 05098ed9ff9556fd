"""What `frontdesk top` reads and does: a feed as tenant or operator, and stopping a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from frontdesk.cli.remote import SessionName
from frontdesk.cli.row_listing import RowChoice
from frontdesk.client import AsyncClient, FeedEvent, UnauthorizedError


class TopFeed:
    """A gateway's sessions, followed."""

    def __init__(self, client: AsyncClient, choice: RowChoice) -> None:
        self._client, self._choice = client, choice
        self.of_operator: bool = choice.as_operator
        """Whether an operator reads it; known once something has come."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, choice: RowChoice, *, url: str | None, key_file: Path | None
    ) -> AsyncIterator[TopFeed]:
        """Yield the feed of a gateway."""
        async with AsyncClient(url, key_file=key_file) as client:
            yield cls(client, choice)

    @property
    def url(self) -> str:
        """Return where the gateway is."""
        return self._client.url

    async def events(self) -> AsyncIterator[FeedEvent]:
        """Give what the feed says; raises where it cannot go on."""
        filters = self._choice.filters
        if not self.of_operator:
            try:
                async for event in self._client.feed(**filters):
                    yield event
            except UnauthorizedError as error:
                refused = error
            else:
                return
            try:
                async for event in self._client.operator.feed(**filters):
                    self.of_operator = True
                    yield event
            except UnauthorizedError:
                raise refused from None
            return
        async for event in self._client.operator.feed(**filters):
            yield event

    async def stop(self, name: SessionName) -> None:
        """End a session; `NotFoundError` where it has ended already."""
        if name.tenant_id is None:
            await self._client.stop(name.session_id)
        else:
            await self._client.operator.stop(name.tenant_id, name.session_id)
