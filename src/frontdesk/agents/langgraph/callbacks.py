"""What LangChain's callbacks tell of a turn: usage, how tools failed, and what runs inside a tool.

Text and tool events come by the graph's own stream, in order; callbacks come from whatever thread a
node runs in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from frontdesk.agents.errors import TooManyModelCalls
from frontdesk.agents.turn import Turn

INSIDE_A_TOOL = "frontdesk_inside_a_tool"
"""Marks, in the metadata of a message, a model that a tool called for itself."""


class TurnCallbacks(BaseCallbackHandler):
    """Count what the models of one turn use; `scope` is cancelled by a call too many."""

    run_inline = True
    """In the thread of what it tells of: in order, and without a thread of its own."""

    def __init__(self, turn: Turn, *, max_calls: int | None) -> None:
        self._turn, self._max_calls, self._calls = turn, max_calls, 0
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._inside: set[UUID] = set()
        self._tool_calls: dict[UUID, str] = {}
        self.failures: dict[str, str] = {}
        """The types of the exceptions of tools, by the id of the call."""

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Run the turn inside; `TooManyModelCalls` ends it with the call that is one too many."""
        try:
            async with self._scope:
                yield
        except TimeoutError as error:
            if not self._scope.expired():
                raise
            raise TooManyModelCalls(self._max_calls or 0) from error

    # -- models ------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **__: Any,
    ) -> None:
        """Count the call, unless a tool makes it."""
        if self._is_inside(run_id, parent_run_id, metadata):
            return
        self._calls += 1
        if self._calls - 1 == self._max_calls:
            # Not raised here: LangChain would leave the calls of its other handlers unawaited.
            self._loop.call_soon_threadsafe(self._scope.reschedule, 0)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Report what a call used."""
        self._inside.discard(run_id)
        self._report(response)

    def on_llm_error(self, *_: Any, run_id: UUID, **rest: Any) -> None:
        """Report what a call used until it was cut short."""
        self._inside.discard(run_id)
        if isinstance(response := rest.get("response"), LLMResult):
            self._report(response)

    def _report(self, response: LLMResult) -> None:
        for generations in response.generations:
            for each in generations[:1]:
                if not (isinstance(each, ChatGeneration) and isinstance(each.message, AIMessage)):
                    continue
                report: Callable[[], None] = self._turn.usage_unknown
                if (used := each.message.usage_metadata) is not None:
                    cached = used.get("input_token_details", {}).get("cache_read") or 0
                    prompt, completion = used["input_tokens"], used["output_tokens"]
                    report = partial(
                        self._turn.usage, prompt=prompt, completion=completion, cached=cached
                    )
                # The turn belongs to its loop, a node may run in a thread.
                self._loop.call_soon_threadsafe(report)

    # -- tools -------------------------------------------------------------------------------------

    def on_tool_start(self, *_: Any, run_id: UUID, **rest: Any) -> None:
        """Remember which call it is, and that what it starts is inside of it."""
        self._inside.add(run_id)
        self._tool_calls[run_id] = str(rest.get("tool_call_id") or run_id)

    def on_tool_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Forget the call."""
        self._inside.discard(run_id)
        self._tool_calls.pop(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Remember how it failed: the stream tells the text, which is not for clients."""
        self._inside.discard(run_id)
        if (call_id := self._tool_calls.pop(run_id, None)) is not None:
            self.failures[call_id] = type(error).__name__

    # -- what runs inside of what ------------------------------------------------------------------

    def on_chain_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **__: Any,
    ) -> None:
        """Remember what a tool starts."""
        self._is_inside(run_id, parent_run_id, metadata)

    def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Forget it."""
        self._inside.discard(run_id)

    def on_chain_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Forget it."""
        self._inside.discard(run_id)

    def _is_inside(
        self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any] | None
    ) -> bool:
        inside = parent_run_id in self._inside
        if inside:
            self._inside.add(run_id)
            if metadata is not None:
                # The same dict that the stream gives along with each message of this run.
                metadata[INSIDE_A_TOOL] = True
        return inside
