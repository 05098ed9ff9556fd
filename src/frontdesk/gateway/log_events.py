"""The one list of events that the log has lines of, and what writes one.

A line is an event of this list with its facts: never a secret, never a text of anybody's (prompts,
messages, tool arguments). Whatever else a module says through `logging` is the event `message`.
Modules below the gateway name an event by its word, as `extra={"event": "engine_changed"}`; a test
looks that each such word is of the list. `logs.py` makes lines of all of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Any

logger: logging.Logger = logging.getLogger("frontdesk.events")

FIRST_FIELDS = ("ts", "level", "event", "node", "tenant", "session_id", "request_id", "trace_id")
"""What each line begins with, in this order, as far as there is something to say."""


@dataclass(frozen=True, slots=True)
class EventLine:
    """The message of a line that is nothing but an event and its facts.

    Hosts with logging of their own see it as a text; what is whose, the record's attributes say.
    """

    event: str
    values: dict[str, Any]

    def __str__(self) -> str:
        facts = (f"{name}={value!r}" for name, value in self.values.items())
        return " ".join((self.event, *facts))


@dataclass(frozen=True, slots=True)
class EventDescription:
    """What an event of the log means, and the facts that a line of it has."""

    level: int
    meaning: str
    fields: tuple[str, ...] = ()


class LogEvent(Enum):
    """An event of the log. Its word is what `event` says in the line."""

    SESSION_STARTED = "session_started"
    SESSION_RESTARTED = "session_restarted"
    SESSION_DORMANT = "session_dormant"
    SESSION_RESUMED = "session_resumed"
    SESSION_ENDED = "session_ended"
    TURN_FAILED = "turn_failed"
    REQUEST = "request"
    NODE_CHANGED = "node_changed"
    ENGINE_CHANGED = "engine_changed"
    WORKER_CHANGED = "worker_changed"
    STORAGE_CHANGED = "storage_changed"
    STORAGE_RECOVERED = "storage_recovered"
    OPERATOR_ACTION = "operator_action"
    REPEATED = "repeated"
    MESSAGE = "message"


DESCRIPTIONS: dict[LogEvent, EventDescription] = {
    LogEvent.SESSION_STARTED: EventDescription(
        logging.INFO,
        "a session lives from now on",
        ("tenant", "session_id", "blueprint", "model", "key_id"),
    ),
    LogEvent.SESSION_RESTARTED: EventDescription(
        logging.INFO,
        "a new agent has taken over its conversation; `memory` as below, where that is stored",
        ("tenant", "session_id", "blueprint", "reason", "restarts", "memory"),
    ),
    LogEvent.SESSION_DORMANT: EventDescription(
        logging.INFO,
        "a session's agent has ended, and why; its conversation is stored and goes on when asked",
        ("tenant", "session_id", "blueprint", "reason", "turns"),
    ),
    LogEvent.SESSION_RESUMED: EventDescription(
        logging.INFO,
        "a session that was dormant has an agent again; `memory` says what that knows of before",
        ("tenant", "session_id", "blueprint", "reason", "restarts", "memory"),
    ),
    LogEvent.SESSION_ENDED: EventDescription(
        logging.INFO,
        "a session has ended, and why; `log_id` is the one that the lists of ends show",
        (
            "tenant",
            "session_id",
            "blueprint",
            "reason",
            "log_id",
            "age_ms",
            "turns",
            "tokens",
        ),
    ),
    LogEvent.TURN_FAILED: EventDescription(
        logging.ERROR,
        "an agent failed in a turn; `exception` says where and what",
        ("tenant", "session_id", "request_id"),
    ),
    LogEvent.REQUEST: EventDescription(
        logging.INFO,
        "a request has been answered, or a stream has ended; the path is without its query",
        (
            "tenant",
            "session_id",
            "request_id",
            "method",
            "path",
            "status",
            "duration_ms",
            "client",
            "key_id",
        ),
    ),
    LogEvent.NODE_CHANGED: EventDescription(
        logging.WARNING,
        "this node, or one that it knows, has another state; `which` says the node",
        ("which", "incarnation", "state"),
    ),
    LogEvent.ENGINE_CHANGED: EventDescription(
        logging.WARNING, "the engine of the cluster is lost, or answers again", ("state",)
    ),
    LogEvent.WORKER_CHANGED: EventDescription(
        logging.INFO, "a worker serves, or has ended", ("worker", "pid", "state")
    ),
    LogEvent.STORAGE_CHANGED: EventDescription(
        logging.WARNING,
        "conversations cannot be stored now (`unavailable`), or can again (`available`)",
        ("state", "message"),
    ),
    LogEvent.STORAGE_RECOVERED: EventDescription(
        logging.INFO,
        "what an earlier process had left was brought to rest; so many turns were cut off",
        ("conversations", "turns"),
    ),
    LogEvent.OPERATOR_ACTION: EventDescription(
        logging.INFO,
        "an operator did something, or was refused",
        ("key_id", "action", "target", "result"),
    ),
    LogEvent.REPEATED: EventDescription(
        logging.WARNING,
        "an error came more than 10 times in a minute; `count` of them have no line",
        ("error", "count", "source"),
    ),
    LogEvent.MESSAGE: EventDescription(
        logging.INFO, "anything else, in words", ("message", "logger", "exception")
    ),
}

ONE_BY_ONE: frozenset[str] = frozenset(
    each.value for each in LogEvent if each not in (LogEvent.MESSAGE, LogEvent.TURN_FAILED)
)
"""Events that each have their line, however many there are."""


def log_event(event: LogEvent, *, level: int | None = None, **values: Any) -> None:
    """Write a line of an event. Costs a comparison where the level is not logged.

    Facts are of those that the list names for it. What is None is left out.
    """
    level = DESCRIPTIONS[event].level if level is None else level
    if logger.isEnabledFor(level):
        known = {name: value for name, value in values.items() if value is not None}
        line = EventLine(event.value, known)
        logger.log(level, line, extra={"event": event.value, **known})


def log_operator_action(*, key_id: str | None, action: str, target: str, result: str) -> None:
    """Write what an operator did, with which key, to what, and what came of it.

    `action` is a word ("stop", "drain", "read_messages"); `target` names a session as
    `tenant/session`, or a node; `result` is a word, or the code of the error that refused it.
    """
    log_event(LogEvent.OPERATOR_ACTION, key_id=key_id, action=action, target=target, result=result)
