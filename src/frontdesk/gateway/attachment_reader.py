"""Attachments as clients send them: decoded, or fetched from where they are, within bounds.

Between the bodies of prompts and the session service. What is to be fetched goes through the
address guard (`ssrf.py`), follows no redirect, and counts as held by its tenant before a byte of it
is read.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx2

from frontdesk.agents.attachments import Attachment, without_parameters
from frontdesk.gateway.body_schemas import AttachmentBody
from frontdesk.gateway.errors import (
    AddressRefused,
    AttachmentNotFetched,
    AttachmentUnreachable,
    MalformedRequest,
    TooLarge,
)
from frontdesk.gateway.settings import AttachmentSettings
from frontdesk.gateway.ssrf import AddressGuard, guarded_client
from frontdesk.sessions.attachment_room import AttachmentRoom

MAY_PASS = frozenset({408, 425, 429})
"""Statuses below 500 of a server that may answer otherwise later."""


def types_of(bodies: Sequence[AttachmentBody]) -> list[str]:
    """Return the types of attachments, as they are compared."""
    return [without_parameters(each.media_type) for each in bodies]


class AttachmentReader:
    """Read the attachments of prompts. An async context manager, for one event loop."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        room: AttachmentRoom,
        settings: Callable[[], AttachmentSettings],
    ) -> None:
        self._room, self._settings = room, settings
        self._client = guarded_client(guard)

    async def __aenter__(self) -> AttachmentReader:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def read(
        self, bodies: Sequence[AttachmentBody], *, tenant_id: str
    ) -> tuple[Attachment, ...]:
        """Return what came with a prompt, whole. URLs are fetched one after another.

        Raises `TooLarge`, `MalformedRequest`, `AttachmentNotFetched`, `AttachmentUnreachable`,
        `AttachmentsFull`.
        """
        settings = self._settings()
        if len(bodies) > settings.count:
            raise TooLarge("attachments", limit=settings.count, unit="files")
        found, left = [], settings.total_bytes
        is_any_away = any(each.url is not None for each in bodies)
        reserved = settings.total_bytes if is_any_away else 0
        deadline = asyncio.get_running_loop().time() + settings.fetch_s
        with self._room.reserved(tenant_id, reserved):
            for number, each in enumerate(bodies):
                limit = _Limit(min(settings.bytes, left), of_all=left < settings.bytes)
                if each.data is not None:
                    content = _decoded(each.data, number, limit)
                else:
                    content = await self._fetched(each, tenant_id, limit, deadline)
                left -= len(content)
                media_type = without_parameters(each.media_type)
                found.append(Attachment(name=each.name, media_type=media_type, content=content))
        return tuple(found)

    async def _fetched(
        self, body: AttachmentBody, tenant_id: str, limit: _Limit, deadline: float
    ) -> bytes:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._get(body, tenant_id, limit)
        except AddressRefused as error:
            raise AttachmentNotFetched(body.name, problem=f"it {error.problem}") from None
        except TimeoutError:
            problem = f"not within {self._settings().fetch_s:g} s"
            raise AttachmentUnreachable(body.name, problem=problem) from None
        except httpx2.HTTPError:
            raise AttachmentUnreachable(body.name, problem="it cannot be reached") from None

    async def _get(self, body: AttachmentBody, tenant_id: str, limit: _Limit) -> bytes:
        content = bytearray()
        async with self._client.stream(
            "GET",
            str(body.url),
            headers={"Accept-Encoding": "identity", "User-Agent": "frontdesk"},
            timeout=None,
            extensions={"tenant_id": tenant_id},
        ) as response:
            if (status := response.status_code) != 200:
                # Redirects among them: where they lead was judged by nobody.
                passing = status >= 500 or status in MAY_PASS
                refused = AttachmentUnreachable if passing else AttachmentNotFetched
                raise refused(body.name, problem=f"the answer has status {status}")
            async for piece in response.aiter_raw():
                content += piece
                limit.check(len(content))
        return bytes(content)


@dataclass(frozen=True, slots=True)
class _Limit:
    """How long an attachment may be; `of_all` where those before it have left no more."""

    size: int
    of_all: bool

    def check(self, size: int) -> None:
        if size > self.size:
            raise TooLarge("attachments" if self.of_all else "attachment", limit=self.size)


def _decoded(data: str, number: int, limit: _Limit) -> bytes:
    limit.check(len(data) // 4 * 3 - 2)
    try:
        content = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        raise MalformedRequest("must be base64", field=f"attachments.{number}.data") from None
    limit.check(len(content))
    return content
