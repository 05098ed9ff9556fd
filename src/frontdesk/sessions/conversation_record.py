"""What one conversation says to the storage, in the order in which it happened.

A conversation that is stored has one, else none. Everything that is said in one stretch of code,
without an `await`, is committed together or not at all (`CommitQueue`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.events import ApprovalRequired, AskUser, MessageDelta, ThinkingDelta
from frontdesk.agents.records import CallbackTool, Memory, Message, SessionContext
from frontdesk.clock import Clock
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.frames import EventFrame, encode_frame
from frontdesk.persistence.operations import (
    AnswerStored,
    AnyOperation,
    ConversationEnded,
    ConversationErased,
    ConversationLeft,
    ConversationOpened,
    EpochBegun,
    FramesAppended,
    FramesDropped,
    MemoryAdded,
    MessageAdded,
    OptionsChanged,
    RequestAnswered,
    RequestAsked,
    TurnBegun,
    TurnCounted,
    TurnFinished,
    TurnQueued,
    TurnResumed,
    TurnState,
    TurnSuspended,
)
from frontdesk.records import ExitReason
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.event_log import EventLog, LoggedEvent
from frontdesk.sessions.history import History
from frontdesk.sessions.pending import NO_ANSWER
from frontdesk.sessions.queue import Prompt
from frontdesk.sessions.session_snapshot import SessionSnapshot
from frontdesk.sessions.turn_ends import TurnEnd

MAX_REPEATABLE = 32
"""Answers of a session that may be given again, as they were not stored in time."""

_DELTAS = (MessageDelta.name, ThinkingDelta.name)


GROWN_BYTES: int = 4 * 1024 * 1024
"""After so much of events it is looked whether a conversation takes too much."""


class StoredOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a session was opened with, and what was set since: as the storage has it, encrypted.

    Where it is a fork, it began with `inherited` messages.
    """

    context: SessionContext
    tools: tuple[CallbackTool, ...] = ()
    tool_keys: dict[str, str | None] = {}
    restarts: int = 0
    """How often another agent took over."""
    left_for: str | None = None
    """Why it has no agent now; None where it has one, or had when its process went down."""
    inherited: int = 0


class StoredEvent(msgspec.Struct, frozen=True):
    """An event by which somebody is asked, as it is stored; whether its turn can wait for it."""

    event: msgspec.Raw
    outlives: bool


class ConversationRecord:
    """Write down what happens in one conversation. On one event loop; nothing here waits.

    Its log's readers see an event once it is committed, and what the session does is `public` as it
    was with the last commit; the pieces of messages change nothing of that. The messages of a turn
    are written with the turn's end: what a turn that is cut off had said is made out from its
    events.
    """

    __slots__ = (
        "_began",
        "_changes",
        "_clock",
        "_commits",
        "_committed_changes",
        "_early",
        "_given",
        "_grown",
        "_handed_over",
        "_log",
        "_messages",
        "_on_published",
        "_public",
        "_repeatable",
        "_snapshot",
        "least_bytes",
        "number",
        "on_grown",
        "stored_bytes",
    )

    def __init__(
        self,
        commits: CommitQueue,
        *,
        number: int,
        log: EventLog,
        history: History,
        clock: Clock,
        opened: bool,
    ) -> None:
        self.number: int = number
        self._early: list[AnyOperation] | None = None if opened else []
        """What was said before it was opened: nothing is written where that fails."""
        self._commits, self._log, self._clock = commits, log, clock
        self._messages: list[MessageAdded] | None = None
        self._began = False
        self._snapshot: Callable[[], SessionSnapshot] | None = None
        self._on_published: Callable[[], None] | None = None
        self._changes = self._committed_changes = 0
        self._public: SessionSnapshot | None = None
        self._handed_over: tuple[int, SessionSnapshot] | None = None
        self._given: dict[str, tuple[int, bytes]] = {}
        self._repeatable: dict[str, bytes] = {}
        self.stored_bytes: int = 0
        """About how much it takes, or will; never less."""
        self.on_grown: Callable[[], None] | None = None
        """Called now and then while events come: a turn may be too large by itself."""
        self._grown = 0
        self.least_bytes: int = 0
        """How much it takes without all events that can go; 0 while that is not known."""
        log.on_store = self._on_event
        history.on_add = self._on_message
        self.follow()

    async def committed(self, *, wait_s: float | None = 5.0) -> None:
        """Wait until all that was said is committed; `StorageUnavailable` after `wait_s`.

        The answers that are not committed then may be given again (`repeats`).
        """
        try:
            await self._commits.committed(self.number, wait_s=wait_s)
        except StorageUnavailable:
            for reference, (_, digest) in self._not_committed().items():
                self._repeatable[reference] = digest
            while len(self._repeatable) > MAX_REPEATABLE:
                del self._repeatable[next(iter(self._repeatable))]
            raise

    def follow(self) -> None:
        """Show readers what is committed, from now on."""
        self._commits.follow(self.number, self._on_committed, on_handed_over=self._on_handed_over)

    def close(self) -> None:
        """Follow what is committed no longer: the conversation is not held here any more."""
        self._commits.unfollow(self.number)

    def publish(
        self, snapshot: Callable[[], SessionSnapshot], on_published: Callable[[], None]
    ) -> None:
        """Have `public` be made by `snapshot`, and a function called when a commit changes it."""
        self._snapshot, self._on_published = snapshot, on_published
        if self._early is None:
            self._public = snapshot()

    @property
    def public(self) -> SessionSnapshot | None:
        """Return what the session did with the last commit; None before it was opened."""
        committed = self._early is None and self._changes == self._committed_changes
        return self._snapshot() if committed and self._snapshot is not None else self._public

    def require_storage(self) -> None:
        """Raise `StorageUnavailable` where nothing can be stored now."""
        if (problem := self._commits.unavailable) is not None:
            raise StorageUnavailable(problem)
        if self._commits.overfull(self.number):
            raise StorageUnavailable(f"{self.backlog} bytes of the session wait to be stored")

    @property
    def backlog(self) -> int:
        """Return how many bytes are said and not committed."""
        return self._commits.backlog(self.number)

    # -- the conversation ------------------------------------------------------------------------

    def open(
        self,
        options: StoredOptions,
        *,
        api_key: str | None,
        created_at_ms: int,
        label: str | None,
        forked_from: str | None,
    ) -> None:
        """Say that the conversation begins; what was said before comes after that."""
        context, early = options.context, self._early or []
        self._early = None
        self._add(
            ConversationOpened(
                number=self.number,
                tenant_id=context.tenant_id,
                session_id=context.session_id,
                blueprint=context.blueprint,
                model=context.model,
                api_key=api_key,
                label=label,
                created_at_ms=created_at_ms,
                fence=self._log.fence,
                options=msgspec.json.encode(options),
                forked_from=forked_from,
            ),
            *early,
        )

    def begin_epoch(self) -> None:
        """Say that another agent's entry begins, under the fence that the log has now."""
        self._add(
            EpochBegun(
                number=self.number,
                fence=self._log.fence,
                first_index=self._log.last_index + 1,
                at_ms=self._clock.wall_ms(),
            )
        )

    def change(self, *, model: str | None = None, options: StoredOptions | None = None) -> None:
        """Say that the model or an option is another from now on."""
        encoded = None if options is None else msgspec.json.encode(options)
        self._add(OptionsChanged(number=self.number, model=model, options=encoded))

    def leave(self) -> None:
        """Say that no agent answers now."""
        self._add(ConversationLeft(number=self.number, at_ms=self._clock.wall_ms()))

    def end(self, reason: ExitReason) -> None:
        """Say that the session has ended."""
        encoded = msgspec.json.encode(reason)
        self._add(
            ConversationEnded(number=self.number, reason=encoded, at_ms=self._clock.wall_ms())
        )

    def erase(self) -> None:
        """Say that all of it goes."""
        self._add(ConversationErased(number=self.number))

    def drop(self, before: int) -> None:
        """Say that the events before an index are held no longer; readers learn of it at once."""
        self._add(FramesDropped(number=self.number, before_index=before))
        if self._log.stored is not None:
            self._log.stored = self._log.stored._replace(oldest=before)

    def store_answer(self, slot: str, *, digest: bytes, answer: bytes, until_ms: int) -> None:
        """Say what a request was answered, for its repetition until then."""
        self._add(
            AnswerStored(
                number=self.number, slot=slot, digest=digest, answer=answer, until_ms=until_ms
            )
        )

    # -- turns -----------------------------------------------------------------------------------

    def queue(self, prompt: Prompt) -> None:
        """Say that a prompt was accepted."""
        files = msgspec.msgpack.encode(prompt.attachments) if prompt.attachments else b""
        self.stored_bytes += len(prompt.text) + len(files)
        self._add(
            TurnQueued(
                number=self.number,
                request_id=prompt.request_id,
                text=prompt.text,
                api_key=prompt.api_key,
                attachments=files,
                at_ms=self._clock.wall_ms(),
            )
        )

    def begin(self, request_id: str) -> None:
        """Say that a turn begins with the next event; its first message is written at once."""
        self._add(
            TurnBegun(
                number=self.number,
                request_id=request_id,
                first_index=self._log.last_index + 1,
                at_ms=self._clock.wall_ms(),
            )
        )

    def begun(self) -> None:
        """Hold the messages from now on for the end of the turn."""
        self._began = True
        if self._messages is None:  # those of a turn that waited here are held already
            self._messages = []

    @property
    def held_messages(self) -> int:
        """Return how many messages are held for the end of the turn."""
        return len(self._messages or ())

    def finish(
        self,
        end: TurnEnd,
        *,
        usage: Counters,
        totals: Counters,
        state: TurnState,
        attachments: Sequence[Attachment],
    ) -> None:
        """Say that a turn has ended, with the messages that it added; its files go."""
        messages, self._messages = self._messages or [], None
        self.stored_bytes += sum(len(each.message) for each in messages)
        self.stored_bytes -= sum(each.size for each in attachments)
        self._add(
            *messages,
            TurnFinished(
                number=self.number,
                request_id=end.request_id,
                state=state,
                last_index=end.last_index,
                end=msgspec.json.encode(end),
                usage=msgspec.json.encode(usage),
                totals=msgspec.json.encode(totals),
                at_ms=self._clock.wall_ms(),
            ),
        )

    def count(self, request_id: str, *, usage: Counters, totals: Counters) -> None:
        """Say what a turn under way has used so far, and the conversation with it."""
        self._add(
            TurnCounted(
                number=self.number,
                request_id=request_id,
                usage=msgspec.json.encode(usage),
                totals=msgspec.json.encode(totals),
            )
        )

    def remember(self, request_id: str, memory: Memory, *, position: int) -> None:
        """Say what the agent wants the next one to have, which knows messages up to a number."""
        self.stored_bytes += len(memory.content)
        self._add(
            MemoryAdded(
                number=self.number,
                position=position,
                request_id=request_id,
                kind=memory.kind,
                version=memory.version,
                content=memory.content,
                replaces=memory.replaces,
            )
        )

    def suspend(self, request_id: str, memory: Memory) -> None:
        """Say what another agent can go on from, while this turn waits."""
        self._add(
            TurnSuspended(
                number=self.number,
                request_id=request_id,
                kind=memory.kind,
                version=memory.version,
                content=memory.content,
            )
        )

    def resume(self, request_id: str) -> None:
        """Say that a suspended turn goes on: from here on it is cut off like any other."""
        self._add(TurnResumed(number=self.number, request_id=request_id))

    def ask(
        self, request_id: str, event: ApprovalRequired | AskUser, *, outlives: bool = False
    ) -> None:
        """Say that somebody's answer is waited for, and whether it `outlives` the agent."""
        approval = isinstance(event, ApprovalRequired)
        stored = StoredEvent(msgspec.Raw(msgspec.json.encode(event)), outlives)
        self._add(
            RequestAsked(
                number=self.number,
                request_id=request_id,
                reference=event.approval_id if isinstance(event, ApprovalRequired) else event.ref,
                kind="approval" if approval else "question",
                event=msgspec.json.encode(stored),
            )
        )

    def answer(self, reference: str, answer: object) -> None:
        """Say how it was answered; `NO_ANSWER` where it waits no longer."""
        encoded = None if answer is NO_ANSWER else msgspec.json.encode(answer)
        self._add(RequestAnswered(number=self.number, reference=reference, answer=encoded))
        if encoded is not None:
            self._given = self._not_committed()
            self._given[reference] = self._changes, sha256(encoded).digest()

    def repeats(self, reference: str, answer: object) -> bool:
        """Say whether an answer counts already, and whoever gave it was not told so."""
        return self._repeatable.get(reference) == sha256(msgspec.json.encode(answer)).digest()

    # -- within ----------------------------------------------------------------------------------

    def _not_committed(self) -> dict[str, tuple[int, bytes]]:
        return {key: each for key, each in self._given.items() if each[0] > self._committed_changes}

    def _add(self, *operations: AnyOperation, changes: bool = True) -> None:
        if changes:
            self._changes += 1
        if self._early is None:
            self._commits.add(*operations)
        else:
            self._early += operations

    def _on_handed_over(self) -> None:
        if self._changes != self._committed_changes and self._snapshot is not None:
            self._handed_over = self._changes, self._snapshot()

    def _on_committed(self, index: int) -> None:
        self._log.show(index)
        if self._handed_over is not None:
            (self._committed_changes, self._public), self._handed_over = self._handed_over, None
            if self._on_published is not None:
                self._on_published()
        if self._log.ended:
            self.close()

    def _on_event(self, logged: LoggedEvent) -> None:
        frame = encode_frame(EventFrame(logged.name, logged.request_id, logged.json))
        self.stored_bytes += len(frame)
        self._grown += len(frame)
        if self._grown > GROWN_BYTES and self.on_grown is not None:
            self._grown = 0
            self.on_grown()
        self._add(
            FramesAppended(
                number=self.number, fence=logged.fence, first_index=logged.index, frames=(frame,)
            ),
            changes=logged.name not in _DELTAS,
        )
        if self._began and logged.name == MessageDelta.name:
            # Somebody waits for the first word.
            self._began = False
            self._commits.hasten()

    def _on_message(self, position: int, message: Message) -> None:
        added = MessageAdded(
            number=self.number, position=position, message=msgspec.json.encode(message)
        )
        if self._messages is None:
            self._add(added)
        else:
            self._messages.append(added)


def attachments_in(stored: bytes) -> tuple[Attachment, ...]:
    """Return the attachments of a prompt as it was stored."""
    return msgspec.msgpack.decode(stored, type=tuple[Attachment, ...]) if stored else ()
