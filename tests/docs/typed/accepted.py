"""What type checkers are to accept, and what they are to make of it."""

import asyncio
import concurrent.futures
import multiprocessing
import subprocess
import threading
from collections.abc import Callable
from typing import assert_never, assert_type

from frontdesk import (
    Change,
    Created,
    Ended,
    ExitCallback,
    ExitReason,
    KnownAgent,
    Limits,
    Monitor,
    ProcessRef,
    Session,
    SessionStore,
    Snapshot,
    Updated,
    monitor,
)


class Connection:
    """An agent that says itself when it ends."""

    def add_exit_callback(self, callback: ExitCallback) -> Callable[[], None] | None: ...


class Room:
    """An agent of a kind that only a monitor of the user's own knows."""


class RoomMonitor:
    alive = True

    def __init__(self, room: Room, on_exit: ExitCallback) -> None: ...

    def cancel(self) -> None: ...


async def every_built_in_kind(store: SessionStore, task: asyncio.Task[str]) -> None:
    store.create("task", task)
    store.create("future", asyncio.get_running_loop().create_future())
    store.create("concurrent", concurrent.futures.Future[int]())
    store.create("thread", threading.Thread())
    store.create("asyncio process", await asyncio.create_subprocess_exec("true"))
    store.create("process", subprocess.Popen(["true"]))
    store.create("multiprocessing", multiprocessing.Process())
    store.create("spawned", multiprocessing.get_context("spawn").Process())
    store.create("ref", ProcessRef.of(1))
    store.create("connection", Connection())


async def a_store_of_one_type_returns_it(task: asyncio.Task[str]) -> str:
    store = SessionStore[asyncio.Task[str]](limits=Limits(total=1))
    assert_type(store.create("s", task), Session[asyncio.Task[str]])
    assert_type(store.get("s").agent, asyncio.Task[str])
    assert_type(store.list(), list[Session[asyncio.Task[str]]])
    assert_type([each.agent for each in store], list[asyncio.Task[str]])
    assert_type(store.update("s", model="m").agent, asyncio.Task[str])
    assert_type(store.get_or_create("s", lambda: task).agent, asyncio.Task[str])
    async with store as entered:
        assert_type(entered, SessionStore[asyncio.Task[str]])
    return await store.get("s").agent


def a_store_without_a_type_takes_what_has_a_monitor() -> None:
    store = SessionStore()
    assert_type(store, SessionStore[KnownAgent])
    assert_type(store.get("s").agent, KnownAgent)
    typed: SessionStore[threading.Thread] = SessionStore()
    assert_type(typed.get("s").agent, threading.Thread)


def kinds_of_the_users_own() -> None:
    rooms = SessionStore(monitors={Room: RoomMonitor})
    assert_type(rooms.create("s", Room()), Session[Room])
    both = SessionStore[Room | threading.Thread](monitors={Room: RoomMonitor})
    both.create("room", Room())
    both.create("thread", threading.Thread())
    monitor(Room(), print, kinds={Room: RoomMonitor})


def a_session_of_any_agent(session: Session[Room], threads: Session[threading.Thread]) -> None:
    for each in (session, threads):
        any_of_them: Session = each
        assert any_of_them.session_id
    known: Session[KnownAgent] = threads
    assert known.session_id


def every_change_and_the_reason_of_an_end(item: Snapshot | Change) -> ExitReason | None:
    match item:
        case Snapshot():
            return None
        case Created() | Updated():
            return None
        case Ended():
            return item.reason
        case _:
            assert_never(item)


def the_kind_tells_which_it_is(change: Change) -> str:
    if change.kind == "ended":
        assert_type(change, Ended)
        return change.reason.kind
    return change.session.session_id


def a_monitor_of_the_users_own_is_one(room: Room) -> Monitor:
    return RoomMonitor(room, print)
