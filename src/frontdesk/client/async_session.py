"""One session, and its turns, for programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, Unpack

from frontdesk.agents.events import ApprovalRequired, AskUser, Event, Gap
from frontdesk.agents.records import Approval, Message
from frontdesk.client import gateway_calls as calls
from frontdesk.client.async_transport import AsyncStream, AsyncTransport
from frontdesk.client.both_clients import AnySession, AnyTurn
from frontdesk.client.call_options import (
    FileToAttach,
    ForkOptions,
    OnApprovalAsync,
    OnQuestionAsync,
    ToolOptions,
)
from frontdesk.client.errors import BadRequestError, SessionDeadError
from frontdesk.client.event_stream import SessionFollowing, StreamEvent
from frontdesk.client.turn_progress import approval_call, is_pending, question_call
from frontdesk.schemas.answer_schemas import (
    NamedCheckpoint,
    SessionStats,
    SessionStatus,
    SessionSummary,
    SessionToken,
)


class AsyncClientSession(AnySession[AsyncTransport]):
    """One session. Each method may raise `NotFoundError` and `SessionDeadError`."""

    # -- reading ---------------------------------------------------------------------------------

    async def get(self) -> SessionSummary:
        """Say how the session is doing."""
        return await self._transport.send(calls.session_summary(self.session_id))

    async def status(self) -> SessionStatus:
        """Return what it does and waits for: running tools, approvals, questions, queues."""
        return await self._transport.send(calls.session_status(self.session_id))

    async def stats(self) -> SessionStats:
        """Return turns, tokens and cost."""
        return await self._transport.send(calls.session_stats(self.session_id))

    async def messages(self) -> AsyncIterator[Message]:
        """Give the history that is kept, oldest first, asking page after page."""
        after: str | None = ""
        while after is not None:
            page = await self._transport.send(calls.session_messages(self.session_id, after=after))
            for each in page.messages:
                yield each
            after = page.next

    def events(
        self, *, since: str | None = None, types: Iterable[str] = ()
    ) -> AsyncStream[StreamEvent | Gap]:
        """Follow the session's events until it ends, as `ClientSession.events` does."""
        path = calls.events_path(self.session_id)
        return self._transport.follow(SessionFollowing(path, since=since, types=types))

    # -- turns -----------------------------------------------------------------------------------

    async def prompt(
        self,
        text: str,
        *,
        attachments: Sequence[FileToAttach] = (),
        on_approval: OnApprovalAsync | None = None,
        on_question: OnQuestionAsync | None = None,
    ) -> AsyncClientTurn:
        """Send a prompt, and return its turn once the gateway has accepted it.

        As `ClientSession.prompt`; the callbacks may be coroutines.
        """
        accepted = await self._transport.send(calls.send_prompt(self.session_id, text, attachments))
        return AsyncClientTurn(
            self, self._transport, accepted, on_approval=on_approval, on_question=on_question
        )

    async def approve(
        self, approval_id: str, *, reason: str | None = None, option_id: str | None = None
    ) -> None:
        """Let a tool run. `BadRequestError` where nothing waits under that id (any more)."""
        answer = Approval("approved", reason, option_id)
        await self._transport.send(calls.answer_approval(self.session_id, approval_id, answer))

    async def reject(
        self, approval_id: str, *, reason: str | None = None, option_id: str | None = None
    ) -> None:
        """Refuse a tool; the turn goes on without it. `BadRequestError` as for `approve`."""
        answer = Approval("rejected", reason, option_id)
        await self._transport.send(calls.answer_approval(self.session_id, approval_id, answer))

    async def respond(self, ref: str, response: Any) -> None:
        """Answer a question. `BadRequestError` where none waits under that reference (any more)."""
        await self._transport.send(calls.answer_question(self.session_id, ref, response))

    async def steer(self, text: str) -> None:
        """Give the turn under way a text for its next step. `QueueFullError`."""
        await self._transport.send(calls.steer_turn(self.session_id, text))

    async def abort(self, *, reason: str | None = None, kill_tools: bool = False) -> None:
        """End the turn under way; the session lives on."""
        await self._transport.send(calls.abort_turn(self.session_id, reason, kill_tools=kill_tools))

    async def switch_model(self, model: str) -> None:
        """Have another model answer, from the next model call on. `CreateFailedError`."""
        await self._transport.send(calls.switch_model(self.session_id, model))

    # -- where it is stored ----------------------------------------------------------------------

    async def resume(self) -> SessionSummary:
        """Have an agent started now, where it has none; of one that has ended, too. Twice is once.

        `NotResumableError`, `SessionLimitError`.
        """
        return await self._transport.send(calls.resume_session(self.session_id))

    async def close(self) -> SessionSummary:
        """End its agent, with the turn under way; the session is dormant. `NotStoredError`."""
        return await self._transport.send(calls.close_session(self.session_id))

    async def fork(
        self, *, after: str | None = None, **options: Unpack[ForkOptions]
    ) -> AsyncClientSession:
        """Open a session that begins as a copy of this one, up to the end of a turn.

        `after` is the turn's request id, or a checkpoint's name; without it, it is the last turn
        that has ended. `BadRequestError` where there is no such end, `NotStoredError`.
        """
        call = calls.fork_session(self.session_id, after, options)
        created = await self._transport.send(call)
        return AsyncClientSession(self._transport, created.session_id)

    async def make_checkpoint(self, name: str) -> NamedCheckpoint:
        """Name the end of the last turn that has ended. `CheckpointRefusedError`."""
        return await self._transport.send(calls.make_checkpoint(self.session_id, name))

    async def checkpoints(self) -> tuple[NamedCheckpoint, ...]:
        """Return the checkpoints, oldest first."""
        found = await self._transport.send(calls.list_checkpoints(self.session_id))
        return found.checkpoints

    async def delete_checkpoint(self, name: str) -> None:
        """Take a name back; what was forked there stays. `NotFoundError`."""
        await self._transport.send(calls.delete_checkpoint(self.session_id, name))

    async def export(self) -> bytes:
        """Return the session as JSON lines: all that has come to an end. `NotStoredError`."""
        return await self._transport.send(calls.export_session(self.session_id))

    # -- tools, tokens, its end ------------------------------------------------------------------

    async def attach_tool(
        self, name: str, callback_url: str, **options: Unpack[ToolOptions]
    ) -> None:
        """Attach a tool that the gateway runs by posting to its URL. `RegistrationFailedError`."""
        call = calls.attach_tool(self.session_id, name, callback_url, options)
        await self._transport.send(call)

    async def detach_tool(self, name: str) -> None:
        """Take a callback tool from the session. `NotFoundError`."""
        await self._transport.send(calls.detach_tool(self.session_id, name))

    async def token(self, scopes: Iterable[str], *, ttl_s: int | None = None) -> SessionToken:
        """Make a token that opens this session only, for a browser for instance."""
        return await self._transport.send(calls.session_token(self.session_id, scopes, ttl_s=ttl_s))

    async def stop(self) -> None:
        """End the session, erase what is stored of it, and return when it is gone.

        `close` ends its agent alone.
        """
        await self._transport.send(calls.stop_session(self.session_id))


class AsyncClientTurn(
    AnyTurn[AsyncClientSession, AsyncTransport, OnApprovalAsync, OnQuestionAsync]
):
    """One prompt and what the agent does about it: a `ClientTurn` for `async for`."""

    async def __aiter__(self) -> AsyncGenerator[Event | Gap]:
        """Give the turn's events, as iterating a `ClientTurn` does."""
        async with aclosing(self._transport.follow(self._progress.following)) as items:
            async for item in items:
                event = self._progress.own(item)
                if event is not None:
                    yield event
                    await self._answer(event)
                if self._progress.doubtful:
                    self._progress.on_status(await self.session.status())
        self._progress.on_stream_end()

    async def _answer(self, event: Event | Gap) -> None:
        """Ask the callback that an event is for, and send what it gives."""
        if isinstance(event, ApprovalRequired) and self._on_approval is not None:
            chosen = self._on_approval(event)
            if isawaitable(chosen):
                chosen = await chosen
            call = approval_call(self.session.session_id, event, chosen)
        elif isinstance(event, AskUser) and self._on_question is not None:
            response = self._on_question(event)
            if isawaitable(response):
                response = await response
            call = question_call(self.session.session_id, event, response)
        else:
            return
        if call is None:
            return
        try:
            await self._transport.send(call)
        except SessionDeadError:
            pass  # the stream says how
        except BadRequestError:
            # Somebody else was faster, or it came too late: what came of it is an event.
            if is_pending(event, await self.session.status()):
                raise

    async def text(self) -> str:
        """Wait for the turn's end, and return its last message. `TurnAbortedError`."""
        async for _ in self:
            pass
        return self._progress.text

    async def abort(self, *, reason: str | None = None) -> None:
        """End the turn, as `ClientTurn.abort` does."""
        if self.end is None:
            await self.session.abort(reason=reason)
