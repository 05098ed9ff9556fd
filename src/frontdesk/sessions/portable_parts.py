"""What was read of a conversation from JSON lines so far: each line is held against those before.

Nothing is stored here. Events are made anew from what was read, so that nothing is stored that the
gateway would not have written itself.
"""

from __future__ import annotations

import re

import msgspec

from frontdesk.agents.events import encode, event_class
from frontdesk.agents.ids import NAME
from frontdesk.agents.records import CreateSession
from frontdesk.persistence.frames import EventFrame, encode_frame
from frontdesk.sessions.portable_lines import (
    VERSION,
    PortableCheckpoint,
    PortableConversation,
    PortableEnd,
    PortableEvent,
    PortableMessage,
    PortableTurn,
)

MAX_ID_CHARACTERS = 256
_NAME = re.compile(NAME)


class PortableParts:
    """The parts of one conversation. Each `add_…` returns what is wrong with its line, or None."""

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self.first: PortableConversation | None = None
        self.messages: list[PortableMessage] = []
        self.turns: dict[str, PortableTurn] = {}
        self.checkpoints: dict[str, PortableCheckpoint] = {}
        self.frames: list[bytes] = []
        self.first_index: int = 1
        self.over: bool = False

    @property
    def last_position(self) -> int:
        """Return the number of the last message, 0 without any."""
        return self.messages[-1].position if self.messages else 0

    @property
    def last_index(self) -> int:
        """Return the index of the last event, 0 without any."""
        return self.first_index + len(self.frames) - 1 if self.frames else 0

    def add_conversation(self, read: PortableConversation) -> str | None:
        self.first = read
        return None if read.version == VERSION else f"version is {read.version}, not {VERSION}"

    def add_message(self, read: PortableMessage) -> str | None:
        expected = self.last_position + 1 if self.messages else read.position
        self.messages.append(read)
        return None if read.position == expected else f"position is {read.position}, not {expected}"

    def add_turn(self, read: PortableTurn) -> str | None:
        if read.request_id in self.turns:
            return f"turn {read.request_id!r} is there already"
        self.turns[read.request_id] = read
        if read.end.request_id != read.request_id:
            return "end is another turn's"
        if not 0 <= read.end.last_position <= self.last_position:
            return f"end is after message {read.end.last_position}, which there is not"
        return None if read.first_index <= read.last_index else "firstIndex is after lastIndex"

    def add_checkpoint(self, read: PortableCheckpoint) -> str | None:
        if read.name in self.checkpoints or not _NAME.fullmatch(read.name):
            return f"name {read.name[:80]!r} is there already, or cannot be one"
        self.checkpoints[read.name] = read
        turn = self.turns.get(read.request_id)
        if turn is None or turn.state == "cancelled" or turn.end.last_position != read.position:
            return "is at no turn's end"
        return None

    def add_event(self, read: PortableEvent) -> str | None:
        if not self.frames:
            self.first_index = read.index
        if read.index != self.first_index + len(self.frames):
            return f"index is {read.index}, not {self.first_index + len(self.frames)}"
        try:
            frame = _frame_of(read)
        except KeyError:
            return f"there is no event type {read.type!r}"
        except (msgspec.DecodeError, RecursionError) as error:
            return f"data: {error}"
        self.frames.append(frame)
        if len(frame) > self._max_event_bytes:
            return f"data is longer than {self._max_event_bytes} bytes"
        return None

    def add_end(self, read: PortableEnd) -> str | None:
        self.over = True
        counted = PortableEnd(
            messages=len(self.messages),
            turns=len(self.turns),
            checkpoints=len(self.checkpoints),
            events=len(self.frames),
        )
        if read != counted:
            return "does not count what came before it: lines are missing, or wrong"
        for turn in self.turns.values():
            if turn.last_index > self.last_index:
                return f"turn {turn.request_id!r} ends at event {turn.last_index}: there is none"
        return None

    def wanted(self, first: PortableConversation, session_id: str | None) -> CreateSession:
        """Return what opens a session like this one, so that it is held against what may be."""
        return CreateSession(
            model=first.model,
            session_id=session_id or first.session_id,
            blueprint=first.blueprint,
            system_prompt=first.system_prompt,
            tools=first.tools,
            plugins=first.plugins,
            max_turns=first.max_turns,
            max_tokens=first.max_tokens,
            provider_opts=first.provider_opts,
            user_data=first.user_data,
            prompt_mode=first.prompt_mode,
        )


def _frame_of(read: PortableEvent) -> bytes:
    """Return an event as the gateway would have stored it itself."""
    kind = event_class(read.type)
    of_turn = msgspec.json.decode(read.data, type=dict[str, msgspec.Raw]).get("requestId")
    request_id = None if of_turn is None else msgspec.json.decode(of_turn, type=str)
    if kind.in_turn == ("always" if request_id is None else "never"):
        raise msgspec.DecodeError("requestId is missing, or does not belong there")
    if request_id and not (request_id.isprintable() and len(request_id) <= MAX_ID_CHARACTERS):
        raise msgspec.DecodeError("requestId cannot be one")
    event = msgspec.json.decode(read.data, type=kind)
    return encode_frame(EventFrame(kind.name, request_id, encode(event, request_id=request_id)))
