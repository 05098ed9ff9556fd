"""Callback tools: asks a client's own server to run a tool, signed and within bounds.

The session service calls it (it is its `ToolCaller`). Each call goes to the address that the guard
has just judged (`ssrf.py`), follows no redirect, and reads no more than it may. What went
wrong is told to the agent in a short sentence that shows nothing of the inside of the network.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec

from frontdesk.agents.errors import ToolFailed
from frontdesk.agents.records import CallbackTool
from frontdesk.agents.values import MAX_VALUES, TooManyValues, read_json
from frontdesk.clock import Clock
from frontdesk.gateway.errors import AddressRefused
from frontdesk.gateway.keys import signing_secret_of
from frontdesk.gateway.settings import CallbackSettings
from frontdesk.gateway.ssrf import AddressGuard, guarded_client
from frontdesk.gateway.state_dir import StateDir

MAX_SHOWN_ERROR = 2000


def signature(secret: str, *, timestamp: str, body: bytes) -> str:
    """Return the value of `X-Frontdesk-Signature`: HMAC-SHA256 over `timestamp.body`, in hex."""
    signed = timestamp.encode() + b"." + body
    return "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


class Callbacks:
    """Call the callback tools of all sessions. An async context manager."""

    def __init__(
        self,
        *,
        guard: AddressGuard,
        master_secret: bytes,
        answer_bytes: int,
        clock: Clock,
    ) -> None:
        self.guard = guard
        self._master_secret, self._answer_bytes, self._clock = master_secret, answer_bytes, clock
        self._client = guarded_client(guard)
        self.carrier: Callable[[str, str, str], dict[str, str]] = lambda *_: {}
        """Of a tenant's session and a call, the headers that name the trace it is part of."""

    @classmethod
    def of(cls, settings: CallbackSettings, state: StateDir, *, clock: Clock) -> Callbacks:
        """Make it as it is configured, with the server's own secret."""
        return cls(
            guard=AddressGuard(settings.allow_networks),
            master_secret=state.master_secret(),
            answer_bytes=settings.answer_bytes,
            clock=clock,
        )

    async def __aenter__(self) -> Callbacks:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def call(
        self,
        tool: CallbackTool,
        *,
        call_id: str,
        args: Any,
        session_id: str,
        tenant_id: str,
        api_key: str | None,
    ) -> Any:
        """Return the tool's result; `ToolFailed` with the tool's own error, or with ours."""
        body = msgspec.json.encode(
            {"callId": call_id, "toolName": tool.name, "args": args, "sessionId": session_id}
        )
        headers = self._headers(body, key_id=api_key or "")
        headers |= self.carrier(tenant_id, session_id, call_id)
        try:
            async with asyncio.timeout(tool.timeout_ms / 1000):
                content = await self._post(tool.callback_url, body, headers, tenant_id=tenant_id)
            answer = read_json(content)
        except TimeoutError:
            problem = f"it did not answer within {tool.timeout_ms} ms"
        except AddressRefused as error:
            problem = error.problem
        except httpx2.HTTPError:
            problem = "it could not be reached"
        except _WrongAnswer as error:
            problem = str(error)
        except TooManyValues:
            problem = f"its answer has more than {MAX_VALUES} values"
        except (ValueError, RecursionError):
            problem = "its answer is not JSON"
        else:
            if isinstance(answer, dict) and "result" in answer:
                return answer["result"]
            problem = "its answer has neither result nor error"
            if isinstance(answer, dict) and "error" in answer:
                problem = str(answer["error"])[:MAX_SHOWN_ERROR]
        raise ToolFailed(tool.name, problem=problem)

    def _headers(self, body: bytes, *, key_id: str) -> dict[str, str]:
        timestamp = str(self._clock.wall_ms() // 1000)
        secret = signing_secret_of(self._master_secret, key_id)
        return {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "frontdesk",
            "X-Frontdesk-Timestamp": timestamp,
            "X-Frontdesk-Signature": signature(secret, timestamp=timestamp, body=body),
        }

    async def _post(
        self, url: str, body: bytes, headers: dict[str, str], *, tenant_id: str
    ) -> bytes:
        content = bytearray()
        async with self._client.stream(
            "POST",
            url,
            content=body,
            headers=headers,
            timeout=None,
            extensions={"tenant_id": tenant_id},
        ) as response:
            if response.status_code >= 300:
                # Redirects among them: where they lead was judged by nobody.
                raise _WrongAnswer(f"it answered with status {response.status_code}")
            async for piece in response.aiter_raw():
                content += piece
                if len(content) > self._answer_bytes:
                    raise _WrongAnswer(f"its answer is over {self._answer_bytes} bytes")
        return bytes(content)


class _WrongAnswer(Exception):
    """The tool answered, but not with what it should have."""
