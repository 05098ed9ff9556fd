"""The scenes of conversations in PostgreSQL: commits and lists, on a server of the scene's own.

It syncs as it comes; it is on a Unix socket in its directory, where nobody else gets in.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

from bench.scene import Figures
from frontdesk.persistence.frames import EventFrame, encode_frame
from frontdesk.persistence.operations import (
    AnswerStored,
    ConversationOpened,
    FramesAppended,
    TurnQueued,
)
from frontdesk.persistence.stored import ListQuery

WARM_UP = 10
"""Statements are prepared after a few times."""

MISSING = "conversations in PostgreSQL were not measured: it is not installed"
START_S = 60.0
OPENED_AT_ONCE = 2_000
BARE = b"x" * 16 * 1024
WORDS = (
    b'{"delta":"the storage has what a client saw before it is seen by anybody at all, in order "}'
)


def programs() -> Path | None:
    """Return where PostgreSQL's programs are, None where it is not installed."""
    found = [place for place in Path("/usr/lib/postgresql").glob("*/bin") if place.is_dir()]
    return max(found, key=lambda place: int(place.parent.name), default=None)


@contextmanager
def served() -> Iterator[Any]:
    """Run a server; yield its address. Root gives it to another account, as it has to."""
    from frontdesk.persistence.postgres_connections import DatabaseAddress

    place = programs()
    assert place is not None
    account: dict[str, Any] = {}
    directory = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        entry = pwd.getpwnam("nobody")
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(directory, entry.pw_uid, entry.pw_gid)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    files = ["-D", str(directory / "files")]
    make = [str(place / "initdb"), *files, "-N", "-U", "bench", "-E", "UTF8", "--locale=C"]
    subprocess.run(make, check=True, cwd=directory, **quiet, **account)
    serve = [str(place / "postgres"), *files, "-k", str(directory), "-c", "listen_addresses="]
    process = subprocess.Popen(serve, cwd=directory, **quiet, **account)
    try:
        address = DatabaseAddress.parse(f"postgresql:///postgres?host={directory}&user=bench")
        _await_answer(address)
        yield address
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory)


def _await_answer(address: Any) -> None:
    import psycopg

    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(**address.parameters).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _store(address: Any) -> Any:
    from frontdesk.persistence.postgres_conversations import PostgresConversations
    from frontdesk.persistence.sealing import Sealing

    return PostgresConversations(
        address, owner="bench", sealing=lambda keys: Sealing(b"b" * 32, keys)
    )


def _opened(number: int, *, tenant_id: str = "t") -> ConversationOpened:
    return ConversationOpened(
        number=number,
        tenant_id=tenant_id,
        session_id=f"s{number}",
        blueprint="b",
        model="m",
        api_key=None,
        created_at_ms=number,
        fence=number,
        options=b"{}",
    )


def _taken_ns(call: Callable[[], object]) -> int:
    began = perf_counter_ns()
    call()
    return perf_counter_ns() - began


def commits(count: int, conversations: int) -> Figures:
    """Return the medians of commits in turn: bare, of a prompt, of events of many."""
    import psycopg

    frame = encode_frame(EventFrame("message_delta", "request-1", WORDS))
    numbers = range(1, conversations + 1)
    with served() as address, psycopg.connect(**address.parameters, autocommit=True) as bare:
        store = _store(address)
        store.apply([_opened(number) for number in numbers])
        bare.execute("CREATE TABLE bare (content bytea)")

        def accept(at: int) -> None:
            request_id = f"r{at}"
            answer = AnswerStored(
                number=1, slot=request_id, digest=b"d" * 32, answer=b"a" * 200, until_ms=1 << 50
            )
            queued = TurnQueued(number=1, request_id=request_id, text="hi", api_key=None, at_ms=at)
            store.apply([queued, answer])

        def say_events(at: int) -> None:
            store.apply(
                [
                    FramesAppended(number=number, fence=number, first_index=at, frames=(frame,))
                    for number in numbers
                ]
            )

        def logged() -> int:
            row = bare.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
            return int(row[0]) if row else 0

        taken: dict[str, list[int]] = {"bare": [], "accepted": [], "events": []}
        written = 0
        for at in range(1, WARM_UP + count + 1):
            insert = _taken_ns(lambda: bare.execute("INSERT INTO bare VALUES (%b)", [BARE]))
            taken["bare"].append(insert)
            taken["accepted"].append(_taken_ns(partial(accept, at)))
            before = logged()
            taken["events"].append(_taken_ns(partial(say_events, at)))
            written += logged() - before
            if at == WARM_UP:
                written, taken = 0, {name: [] for name in taken}
        store.close()
    medians = {f"{name}_ns": median(each) for name, each in taken.items()}
    return {**medians, "logged": written / (count * conversations * len(frame))}


def pages(conversations: int, count: int) -> Figures:
    """Return the median of a page of 100, anywhere in a list."""
    with served() as address:
        store = _store(address)
        for first in range(1, conversations + 1, OPENED_AT_ONCE):
            last = min(first + OPENED_AT_ONCE, conversations + 1)
            store.apply([_opened(number) for number in range(first, last)])
        step = conversations // (count + 1)
        taken = [
            _taken_ns(partial(store.page, ListQuery(tenant_id="t", after=at * step)))
            for at in range(count)
        ]
        store.close()
    return {"page_ns": median(taken)}
