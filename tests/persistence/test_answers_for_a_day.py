"""The first answer to an `Idempotency-Key` is given again for a day, and then it is gone."""

import sqlite3
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from frontdesk.clock import SystemClock
from frontdesk.gateway.idempotency import Idempotency, StoredResponse
from frontdesk.persistence import operations as ops
from frontdesk.persistence.commit_queue import CommitQueue
from support.persistence import opened, store_in

pytestmark = pytest.mark.anyio

MINUTE_S = 60
DAY_S = 24 * 3600


@pytest.fixture
def anyio_backend():
    return "asyncio"


class LaterClock(SystemClock):
    """A clock that a test moves on; `time` has it as a module has it."""

    def __init__(self):
        self.ahead_s = 0
        self.time = SimpleNamespace(
            monotonic=lambda: time.monotonic() + self.ahead_s,
            time_ns=lambda: time.time_ns() + self.ahead_s * 1_000_000_000,
        )

    def wall_ms(self):
        return self.time.time_ns() // 1_000_000


async def answer_of(store, clock, *, made, key="once"):
    """Ask once, as the next process would; return the answer."""
    async with CommitQueue(store) as commits:

        def store_answer(slot, **answered):
            commits.add(ops.AnswerStored(number=7, slot=slot, **answered))

        async def answer(place):
            conversation = SimpleNamespace(record=SimpleNamespace(store_answer=store_answer))
            place.store(conversation, StoredResponse(201, made))
            await commits.committed(7)
            return StoredResponse(201, made)

        keeper = Idempotency(clock=clock)
        keeper.commits = commits
        return (await keeper.once(("key", "create"), key, body=b"b", answer=answer)).body


async def hold(open_store, clock, *, rows):
    with open_store() as store:
        store.apply([opened(7)])
        assert await answer_of(store, clock, made=b"first") == b"first"
    with open_store() as store:
        assert await answer_of(store, clock, made=b"first", key="never repeated") == b"first"
    assert rows() == 2
    clock.ahead_s = DAY_S - MINUTE_S
    with open_store() as store:
        assert await answer_of(store, clock, made=b"second") == b"first"
    clock.ahead_s = DAY_S + MINUTE_S
    with open_store() as store:
        assert await answer_of(store, clock, made=b"second") == b"second"
    with open_store() as store:
        clock.ahead_s += MINUTE_S
        store.apply([ops.ConversationLeft(number=7, at_ms=1)])
    assert rows() == 1, "what ran out is gone, and the new answer is there"


async def test_an_answer_is_given_again_for_a_day_over_restarts_and_then_its_row_goes(tmp_path):
    clock = LaterClock()

    def rows():
        with closing(sqlite3.connect(tmp_path / "conversations.sqlite3")) as connection:
            return connection.execute("SELECT count(*) FROM idempotency").fetchone()[0]

    await hold(lambda: store_in(tmp_path, wall_ms=clock.wall_ms), clock, rows=rows)


@pytest.mark.slow
async def test_an_answer_in_postgresql_is_given_again_for_a_day_and_then_its_row_goes(
    stores, monkeypatch
):
    from frontdesk.persistence import postgres_writer

    clock = LaterClock()
    monkeypatch.setattr(postgres_writer, "time", clock.time)

    def rows():
        return stores.ask("SELECT count(*) FROM idempotency")[0][0]

    await hold(lambda: closing(stores.open()), clock, rows=rows)
