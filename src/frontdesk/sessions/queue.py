"""The prompts that wait in one conversation: a queue with one taker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from frontdesk.agents.attachments import Attachment


class Prompt(msgspec.Struct, frozen=True):
    """An accepted prompt, under the request id that its events will carry.

    `api_key` is the key that it came with: what its turn uses counts for that one. `origin` is what
    the tracer keeps of where it came from, `accepted_s` when that was.
    """

    request_id: str
    text: str
    api_key: str | None
    attachments: tuple[Attachment, ...] = ()
    origin: object | None = None
    accepted_s: float = 0.0


class PromptQueue:
    """Hold prompts until the runner takes them, one at a time. All on one event loop.

    Its bound is the conversation's, which refuses a prompt that is too many. Costs an empty list
    while nothing waits. `pause` keeps what waits from being taken (drain), until `go_on`.
    """

    __slots__ = ("_paused", "_taker", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Prompt] = []
        self._taker: asyncio.Future[None] | None = None
        self._paused = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self._waiting)

    def put(self, prompt: Prompt) -> None:
        """Append a prompt."""
        self._waiting.append(prompt)
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    async def take(self) -> Prompt:
        """Wait for the next prompt and take it. Safe to cancel: a prompt is taken or stays."""
        while self._paused or not self._waiting:
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        return self._waiting.pop(0)

    def withdraw(self) -> Prompt:
        """Take the next prompt, which waits, out of the queue."""
        return self._waiting.pop(0)

    def pause(self) -> None:
        """Give out no more prompts."""
        self._paused = True

    def go_on(self) -> None:
        """Give out prompts again."""
        self._paused = False
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    def clear(self) -> list[Prompt]:
        """Forget what waits, and return it."""
        waiting, self._waiting = self._waiting, []
        return waiting
