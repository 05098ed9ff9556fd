"""The scenes of durable conversations: what being stored costs, beside bare syncs and memory.

Above: `durable` makes rows of the figures. Each scene is a session service with its storage in a
directory of its own, in one process, as the gateway has it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter_ns, process_time_ns

import msgspec

from bench.scene import Figures
from frontdesk import SessionStore
from frontdesk.agents import Blueprints, CreateSession, Turn, blueprint
from frontdesk.agents.records import SessionContext
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.frames import EventFrame, encode_frame
from frontdesk.persistence.operations import (
    AnyOperation,
    ConversationLeft,
    ConversationOpened,
    FramesAppended,
    TurnBegun,
    TurnQueued,
)
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from frontdesk.persistence.stored import ListQuery
from frontdesk.sessions import Conversation, SessionService
from frontdesk.sessions.conversation_record import StoredOptions

INTERVAL_S = 0.01
SYNC_BYTES = 16 * 1024
WORDS = "the storage has what a client saw before it is seen by anybody at all, in order "
"""A piece of a message, about as long as models send them."""


def _store(directory: Path) -> SqliteConversations:
    sealing = Sealing(b"b" * 32, directory / "keys")
    return SqliteConversations(directory / "conversations.sqlite3", owner="", sealing=sealing)


def bare_sync_ns(directory: Path, *, count: int = 200, pause_s: float = 0) -> float:
    """Return what it takes to append 16 KiB to a file and sync it, in the median.

    With a pause before each where what it is compared with comes after one: a processor that has
    just been idle is slower, and so is the first sync after that.
    """
    taken = []
    descriptor = os.open(directory / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            time.sleep(pause_s)
            began = perf_counter_ns()
            os.write(descriptor, b"x" * SYNC_BYTES)
            os.fdatasync(descriptor)
            taken.append(perf_counter_ns() - began)
    finally:
        os.close(descriptor)
    return median(taken)


@blueprint("quick")
async def quick(turn: Turn) -> AsyncIterator[str]:
    """Answer with one word."""
    yield turn.text


@blueprint("paced")
async def paced(turn: Turn) -> AsyncIterator[str]:
    """Emit so many pieces a second, each with the time at which it was emitted."""
    count, each_s = turn.text.split()
    for _ in range(int(count)):
        yield f"{perf_counter_ns()} {WORDS}"
        await asyncio.sleep(float(each_s))


@blueprint("eager")
async def eager(turn: Turn) -> AsyncIterator[str]:
    """Emit as fast as it goes, with a breath after each."""
    for _ in range(int(turn.text)):
        yield WORDS
        await asyncio.sleep(0)


@asynccontextmanager
async def _service(directory: Path | None) -> AsyncIterator[SessionService]:
    """Open a service, over a storage where there is a directory for one."""
    async with AsyncExitStack() as stack:
        commits = None
        if directory is not None:
            commits = CommitQueue(_store(directory), commit_interval_s=INTERVAL_S)
            await stack.enter_async_context(commits)
        store = stack.enter_context(SessionStore())
        service = SessionService(store, Blueprints([quick, paced, eager]), commits=commits)
        yield await stack.enter_async_context(service)


async def _open(service: SessionService, name: str) -> Conversation:
    return await service.tenant("bench", "key-1").create(CreateSession(model="m", blueprint=name))


# -- the first word ----------------------------------------------------------------------------


def first_words(*, count: int) -> Figures:
    """Time an idle session's prompt until it is accepted and its first word is seen."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        stored = asyncio.run(_first_words(Path(place), count))
        memory = asyncio.run(_first_words(None, count))
        sync = bare_sync_ns(Path(place), count=count, pause_s=2 * INTERVAL_S)
        return {"stored_ns": stored, "memory_ns": memory, "sync_ns": sync}


async def _first_words(directory: Path | None, count: int) -> float:
    taken = []
    async with _service(directory) as service:
        conversation = await _open(service, "quick")
        for _ in range(count):
            began = perf_counter_ns()
            conversation.prompt("word")
            await conversation.committed()
            reader = conversation.subscribe(types=frozenset({"message_delta", "agent_end"}))
            await reader.next()
            taken.append(perf_counter_ns() - began)
            while conversation.turn is not None or conversation.log.visible < _last(conversation):
                await asyncio.sleep(0.002)
            reader.close()
            await asyncio.sleep(2 * INTERVAL_S)
    return median(taken)


def _last(conversation: Conversation) -> int:
    return conversation.log.last_index


# -- many streams ------------------------------------------------------------------------------


def streams(*, conversations: int, events: int, each_s: float) -> Figures:
    """Let many conversations stream at once: delays, bytes, processor time, what is left."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        directory = Path(place)
        stored = asyncio.run(_streams(directory, conversations, events, each_s))
        kept = _segment_bytes(directory) / stored.pop("bytes")
        memory = asyncio.run(_streams(None, conversations, events, each_s))
        return {
            **{f"{name}_stored": figure for name, figure in stored.items()},
            **{f"{name}_memory": figure for name, figure in memory.items()},
            "kept": kept,
            "sync_ns": bare_sync_ns(directory),
        }


async def _streams(
    directory: Path | None, conversations: int, events: int, each_s: float
) -> dict[str, float]:
    delays: list[int] = []
    sizes: list[int] = []

    async def follow(conversation: Conversation) -> None:
        reader = conversation.subscribe(since="0")
        while (batch := await reader.next()) is not None:
            assert isinstance(batch, list)
            now = perf_counter_ns()
            for logged in batch:
                sizes.append(len(logged.json))
                if logged.name == "message_delta":
                    delta = msgspec.json.decode(logged.json)["delta"]
                    delays.append(now - int(delta.split(" ", 1)[0]))
            if batch[-1].name == "agent_end":
                break
        reader.close()

    async with _service(directory) as service:
        opened = [await _open(service, "paced") for _ in range(conversations)]
        written, spent = _written(), process_time_ns()
        for each in opened:
            each.prompt(f"{events} {each_s}")
        await asyncio.gather(*map(follow, opened))
        spent, written = process_time_ns() - spent, _written() - written
    return {
        "delay_ns": median(delays),
        "spent_ns": spent / len(sizes),
        "written": written / sum(sizes),
        "bytes": sum(sizes),
    }


def _written() -> int:
    """Return how many bytes this process has written so far."""
    text = Path("/proc/self/io").read_text(encoding="ascii")
    return int(dict(line.split(": ") for line in text.splitlines())["wchar"])


def _segment_bytes(directory: Path) -> int:
    """Return what the events of turns that have ended take."""
    connection = sqlite3.connect(directory / "conversations.sqlite3")
    try:
        (size,) = connection.execute("SELECT sum(length(frames)) FROM segment").fetchone()
    finally:
        connection.close()
    return int(size)


def fan_out(*, readers: int, events: int) -> Figures:
    """Time a burst of events to many readers of one conversation, stored and not."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        stored = asyncio.run(_fan_out(Path(place), readers, events))
        return {"stored_ns": stored, "memory_ns": asyncio.run(_fan_out(None, readers, events))}


async def _fan_out(directory: Path | None, readers: int, events: int) -> float:
    async def follow(conversation: Conversation) -> None:
        reader = conversation.subscribe(since="0")
        while isinstance(batch := await reader.next(), list) and batch[-1].name != "agent_end":
            pass
        reader.close()

    async with _service(directory) as service:
        conversation = await _open(service, "eager")
        began = perf_counter_ns()
        conversation.prompt(str(events))
        await asyncio.gather(*(follow(conversation) for _ in range(readers)))
        return perf_counter_ns() - began


# -- starting, listing -------------------------------------------------------------------------


def starts(*, dormant: int, cut: int, journal_bytes: int) -> Figures:
    """Time the start over what a process left that was killed: dormant ones, and turns cut off."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        store = _store(Path(place))
        _fill(store, dormant)
        each = journal_bytes // max(1, cut)
        store.apply([one for number in range(cut) for one in _cut_turn(dormant + number + 1, each)])
        store.close()
        began = perf_counter_ns()
        asyncio.run(_start(Path(place)))
        return {"start_ns": perf_counter_ns() - began}


async def _start(directory: Path) -> None:
    async with _service(directory):
        pass


def pages(*, conversations: int, count: int) -> Figures:
    """Time a page of a hundred of a tenant's conversations."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        store = _store(Path(place))
        _fill(store, conversations)
        taken = []
        for number in range(count):
            query = ListQuery(tenant_id="bench", after=number * (conversations // count), limit=100)
            began = perf_counter_ns()
            store.page(query)
            taken.append(perf_counter_ns() - began)
        store.close()
        return {"page_ns": median(taken)}


def _fill(store: SqliteConversations, count: int) -> None:
    for first in range(0, count, 1000):
        numbers = range(first + 1, min(first + 1000, count) + 1)
        store.apply([one for number in numbers for one in _dormant(number)])


def _opened(number: int) -> ConversationOpened:
    context = SessionContext(
        session_id=f"s-{number}", tenant_id="bench", blueprint="quick", model="m"
    )
    return ConversationOpened(
        number=number,
        tenant_id="bench",
        session_id=context.session_id,
        blueprint="quick",
        model="m",
        api_key="key-1",
        created_at_ms=number,
        fence=number,
        options=msgspec.json.encode(StoredOptions(context=context)),
    )


def _dormant(number: int) -> list[AnyOperation]:
    return [_opened(number), ConversationLeft(number=number, at_ms=number)]


def _cut_turn(number: int, size: int) -> list[AnyOperation]:
    """Return a conversation in the midst of a turn that has said so many bytes."""
    request_id = f"req_{number:016x}"
    json = b'{"requestId":"%b","delta":"%b"}' % (request_id.encode(), WORDS.encode())
    frame = encode_frame(EventFrame("message_delta", request_id, json))
    queued = TurnQueued(number=number, request_id=request_id, text="t", api_key=None, at_ms=number)
    frames = FramesAppended(
        number=number, fence=number, first_index=1, frames=(frame,) * max(1, size // len(frame))
    )
    begun = TurnBegun(number=number, request_id=request_id, first_index=1, at_ms=number)
    return [_opened(number), queued, begun, frames]
