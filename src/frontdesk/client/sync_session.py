"""One session, and its turns, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Unpack

from frontdesk.agents.events import ApprovalRequired, AskUser, Event, Gap
from frontdesk.agents.records import Approval, Message
from frontdesk.client import gateway_calls as calls
from frontdesk.client.both_clients import AnySession, AnyTurn
from frontdesk.client.call_options import (
    FileToAttach,
    ForkOptions,
    OnApproval,
    OnQuestion,
    ToolOptions,
)
from frontdesk.client.errors import BadRequestError, SessionDeadError
from frontdesk.client.event_stream import SessionFollowing, StreamEvent
from frontdesk.client.sync_transport import SyncTransport
from frontdesk.client.turn_progress import approval_call, is_pending, question_call
from frontdesk.schemas.answer_schemas import (
    NamedCheckpoint,
    SessionStats,
    SessionStatus,
    SessionSummary,
    SessionToken,
)


class ClientSession(AnySession[SyncTransport]):
    """One session. Each method may raise `NotFoundError` and `SessionDeadError`."""

    # -- reading ---------------------------------------------------------------------------------

    def get(self) -> SessionSummary:
        """Say how the session is doing."""
        return self._transport.send(calls.session_summary(self.session_id))

    def status(self) -> SessionStatus:
        """Return what it does and waits for: running tools, approvals, questions, queues."""
        return self._transport.send(calls.session_status(self.session_id))

    def stats(self) -> SessionStats:
        """Return turns, tokens and cost."""
        return self._transport.send(calls.session_stats(self.session_id))

    def messages(self) -> Iterator[Message]:
        """Give the history that is kept, oldest first, asking page after page."""
        after: str | None = ""
        while after is not None:
            page = self._transport.send(calls.session_messages(self.session_id, after=after))
            yield from page.messages
            after = page.next

    def events(
        self, *, since: str | None = None, types: Iterable[str] = ()
    ) -> Generator[StreamEvent | Gap]:
        """Follow the session's events until it ends.

        Begins after `since` (an event's id, or an index: "0" for all that is kept); without it, at
        the prompt that was accepted last. A stream that is cut goes on after its last event, with
        nothing lost or given twice; what the gateway no more holds is a `Gap`. `types` are the
        names of the events that are wanted.
        """
        path = calls.events_path(self.session_id)
        return self._transport.follow(SessionFollowing(path, since=since, types=types))

    # -- turns -----------------------------------------------------------------------------------

    def prompt(
        self,
        text: str,
        *,
        attachments: Sequence[FileToAttach] = (),
        on_approval: OnApproval | None = None,
        on_question: OnQuestion | None = None,
    ) -> ClientTurn:
        """Send a prompt, and return its turn once the gateway has accepted it.

        `on_approval` is asked where a tool needs an approval, `on_question` where the agent asks;
        both while the turn is iterated, or its text is waited for. Without them, or where they give
        None, others may answer; the gateway gives up after a while. An error of theirs comes out of
        the iteration, and the turn goes on.

        `PromptQueueFullError`, `BudgetExceededError`, `GuardrailError`, `AttachmentRefusedError`.
        """
        accepted = self._transport.send(calls.send_prompt(self.session_id, text, attachments))
        return ClientTurn(
            self, self._transport, accepted, on_approval=on_approval, on_question=on_question
        )

    def approve(
        self, approval_id: str, *, reason: str | None = None, option_id: str | None = None
    ) -> None:
        """Let a tool run. `BadRequestError` where nothing waits under that id (any more)."""
        answer = Approval("approved", reason, option_id)
        self._transport.send(calls.answer_approval(self.session_id, approval_id, answer))

    def reject(
        self, approval_id: str, *, reason: str | None = None, option_id: str | None = None
    ) -> None:
        """Refuse a tool; the turn goes on without it. `BadRequestError` as for `approve`."""
        answer = Approval("rejected", reason, option_id)
        self._transport.send(calls.answer_approval(self.session_id, approval_id, answer))

    def respond(self, ref: str, response: Any) -> None:
        """Answer a question. `BadRequestError` where none waits under that reference (any more)."""
        self._transport.send(calls.answer_question(self.session_id, ref, response))

    def steer(self, text: str) -> None:
        """Give the turn under way a text for its next step. `QueueFullError`."""
        self._transport.send(calls.steer_turn(self.session_id, text))

    def abort(self, *, reason: str | None = None, kill_tools: bool = False) -> None:
        """End the turn under way; the session lives on."""
        self._transport.send(calls.abort_turn(self.session_id, reason, kill_tools=kill_tools))

    def switch_model(self, model: str) -> None:
        """Have another model answer, from the next model call on. `CreateFailedError`."""
        self._transport.send(calls.switch_model(self.session_id, model))

    # -- where it is stored ----------------------------------------------------------------------

    def resume(self) -> SessionSummary:
        """Have an agent started now, where it has none; of one that has ended, too. Twice is once.

        `NotResumableError`, `SessionLimitError`.
        """
        return self._transport.send(calls.resume_session(self.session_id))

    def close(self) -> SessionSummary:
        """End its agent, with the turn under way; the session is dormant. `NotStoredError`."""
        return self._transport.send(calls.close_session(self.session_id))

    def fork(self, *, after: str | None = None, **options: Unpack[ForkOptions]) -> ClientSession:
        """Open a session that begins as a copy of this one, up to the end of a turn.

        `after` is the turn's request id, or a checkpoint's name; without it, it is the last turn
        that has ended. `BadRequestError` where there is no such end, `NotStoredError`.
        """
        call = calls.fork_session(self.session_id, after, options)
        created = self._transport.send(call)
        return ClientSession(self._transport, created.session_id)

    def make_checkpoint(self, name: str) -> NamedCheckpoint:
        """Name the end of the last turn that has ended. `CheckpointRefusedError`."""
        return self._transport.send(calls.make_checkpoint(self.session_id, name))

    def checkpoints(self) -> tuple[NamedCheckpoint, ...]:
        """Return the checkpoints, oldest first."""
        found = self._transport.send(calls.list_checkpoints(self.session_id))
        return found.checkpoints

    def delete_checkpoint(self, name: str) -> None:
        """Take a name back; what was forked there stays. `NotFoundError`."""
        self._transport.send(calls.delete_checkpoint(self.session_id, name))

    def export(self) -> bytes:
        """Return the session as JSON lines: all that has come to an end. `NotStoredError`."""
        return self._transport.send(calls.export_session(self.session_id))

    # -- tools, tokens, its end ------------------------------------------------------------------

    def attach_tool(self, name: str, callback_url: str, **options: Unpack[ToolOptions]) -> None:
        """Attach a tool that the gateway runs by posting to its URL. `RegistrationFailedError`."""
        call = calls.attach_tool(self.session_id, name, callback_url, options)
        self._transport.send(call)

    def detach_tool(self, name: str) -> None:
        """Take a callback tool from the session. `NotFoundError`."""
        self._transport.send(calls.detach_tool(self.session_id, name))

    def token(self, scopes: Iterable[str], *, ttl_s: int | None = None) -> SessionToken:
        """Make a token that opens this session only, for a browser for instance."""
        return self._transport.send(calls.session_token(self.session_id, scopes, ttl_s=ttl_s))

    def stop(self) -> None:
        """End the session, erase what is stored of it, and return when it is gone.

        `close` ends its agent alone.
        """
        self._transport.send(calls.stop_session(self.session_id))


class ClientTurn(AnyTurn[ClientSession, SyncTransport, OnApproval, OnQuestion]):
    """One prompt and what the agent does about it, from `prompt_received` to its one end.

    Iterate it for its events, or take its `text()`. Leaving an iteration changes nothing at the
    gateway: the turn goes on, and iterating again goes on where it was left. `abort` ends it.
    """

    def __iter__(self) -> Generator[Event | Gap]:
        """Give the turn's events, up to and with its `agent_end` or `agent_abort`.

        A stream that is cut goes on. `Gap` stands for what the gateway no more holds; where the end
        is among that, `TurnLostError` follows. `SessionDeadError` where the session ended before
        the turn began; `UnreachableError` where the gateway stays away.
        """
        for item in self._transport.follow(self._progress.following):
            event = self._progress.own(item)
            if event is not None:
                yield event
                self._answer(event)
            if self._progress.doubtful:
                self._progress.on_status(self.session.status())
        self._progress.on_stream_end()

    def _answer(self, event: Event | Gap) -> None:
        """Ask the callback that an event is for, and send what it gives."""
        if isinstance(event, ApprovalRequired) and self._on_approval is not None:
            call = approval_call(self.session.session_id, event, self._on_approval(event))
        elif isinstance(event, AskUser) and self._on_question is not None:
            call = question_call(self.session.session_id, event, self._on_question(event))
        else:
            return
        if call is None:
            return
        try:
            self._transport.send(call)
        except SessionDeadError:
            pass  # the stream says how
        except BadRequestError:
            # Somebody else was faster, or it came too late: what came of it is an event.
            if is_pending(event, self.session.status()):
                raise

    def text(self) -> str:
        """Wait for the turn's end, and return its last message. `TurnAbortedError`."""
        for _ in self:
            pass
        return self._progress.text

    def abort(self, *, reason: str | None = None) -> None:
        """End the turn; iterate on to see it end. Nothing happens where it was seen to end.

        What is aborted is the session's turn under way: where this one still waits in the queue,
        that is another one.
        """
        if self.end is None:
            self.session.abort(reason=reason)
