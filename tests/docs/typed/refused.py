"""What type checkers are to refuse: each marked line, by both, and no other line."""

import asyncio
import threading
from typing import assert_never

from frontdesk import (
    Change,
    Created,
    Ended,
    ExitCallback,
    Session,
    SessionStore,
    Snapshot,
    monitor,
)


class Room:
    """A kind that no monitor knows."""


class RoomMonitor:
    alive = True

    def __init__(self, room: Room, on_exit: ExitCallback) -> None: ...

    def cancel(self) -> None: ...


class NoMonitor:
    """It has no `alive`, and cannot be cancelled."""

    def __init__(self, room: Room, on_exit: ExitCallback) -> None: ...


async def work() -> None: ...


async def agents_that_no_monitor_knows(store: SessionStore) -> None:
    store.create("s", "an agent")  # refused: arg-type / reportArgumentType
    store.create("s", Room())  # refused: arg-type / reportArgumentType
    store.create("s", None)  # refused: arg-type / reportArgumentType
    store.create("s", threading.Thread)  # refused: arg-type / reportArgumentType
    store.get_or_create("s", Room)  # refused: arg-type / reportArgumentType
    store.get_or_create("s", work)  # refused: arg-type / reportArgumentType
    monitor(Room(), print)  # refused: call-overload / reportArgumentType


async def agents_of_another_type(task: asyncio.Task[int]) -> None:
    tasks = SessionStore[asyncio.Task[int]]()
    tasks.create("s", threading.Thread())  # refused: arg-type / reportArgumentType
    tasks.create("s", asyncio.create_task(work()))  # refused: arg-type / reportArgumentType
    rooms = SessionStore(monitors={Room: RoomMonitor})
    rooms.create("s", task)  # refused: arg-type / reportArgumentType
    tasks.get("s").agent.is_alive()  # refused: attr-defined / reportAttributeAccessIssue
    threads: SessionStore[threading.Thread] = tasks  # refused: assignment / reportAssignmentType
    del threads


def monitors_that_are_none() -> None:
    SessionStore(monitors={Room: NoMonitor})  # refused: dict-item / reportArgumentType
    SessionStore(monitors={"Room": RoomMonitor})  # refused: dict-item / reportArgumentType


def sessions_are_frozen(session: Session[asyncio.Task[None]], of_any: Session) -> None:
    session.model = "another"  # refused: misc / reportAttributeAccessIssue
    of_any.fence = 1  # refused: misc / reportAttributeAccessIssue


def only_an_end_has_a_reason(change: Change, item: Snapshot | Change) -> None:
    assert change.reason  # refused: union-attr / reportAttributeAccessIssue
    assert item.session  # refused: union-attr / reportAttributeAccessIssue


def a_change_that_was_forgotten(change: Change) -> str:
    match change:
        case Created():
            return "created"
        case Ended():
            return str(change.reason)
        case _:
            assert_never(change)  # refused: arg-type / reportArgumentType


def what_is_asked_for_by_name_only(store: SessionStore, task: asyncio.Task[None]) -> None:
    store.create("s", task, "acme")  # refused: call-arg / reportCallIssue
    store.create("s", task, tenant="acme")  # refused: call-arg / reportCallIssue
    store.create(1, task)  # refused: arg-type / reportArgumentType
