"""The lock of a gateway without a cluster: one of them has the database, as long as it lives."""

import logging
import os
import threading
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest

from frontdesk.persistence.errors import StorageBroken, StorageRefused
from frontdesk.persistence.postgres_lock import DatabaseLock
from support.fault_proxy import FaultProxy
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

WITHIN_S = 60
HOLDERS = """
SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND application_name LIKE 'frontdesk %%'
"""

AS_ANOTHER = """
SELECT set_config('application_name', application_name, false)
FROM pg_stat_activity WHERE pid = %s
"""
HAVE = "SELECT pg_advisory_lock(hashtext('frontdesk alone'), hashtext(%s))"


class Locks:
    """Locks of one database, each a gateway's; and what those heard that have lost theirs."""

    def __init__(self, stores):
        self.stores, self.lost = stores, []

    def of(self, *, port=None, patience_s=0.0):
        return DatabaseLock(
            self.stores.address(port=port),
            patience_s=patience_s,
            on_lost=self.lost.append,
            schema=self.stores.schema,
        )

    def holders(self):
        return [pid for (pid,) in self.stores.server.ask(HOLDERS)]

    def assert_a_second_is_refused(self):
        with pytest.raises(StorageRefused) as raised, self.of():
            pass
        assert "another gateway without a cluster, which runs, stores there" in str(raised.value)
        assert f"process {os.getpid()})" in str(raised.value)


@pytest.fixture
def locks(stores):
    return Locks(stores)


@contextmanager
def waiting(lock):
    """Have a lock waited for, in a thread; yield what is set once it is had, until the end."""
    had, ending = threading.Event(), threading.Event()

    def hold():
        with lock:
            had.set()
            ending.wait(WITHIN_S)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield had
    finally:
        ending.set()
        thread.join(WITHIN_S)


def test_a_second_waits_says_for_whom_and_has_it_at_the_end_of_the_first(locks, caplog):
    with ExitStack() as first:
        first.enter_context(locks.of())
        locks.assert_a_second_is_refused()
        caplog.clear()
        with waiting(locks.of(patience_s=WITHIN_S)) as had:
            eventually(lambda: f"process {os.getpid()})" in caplog.text)
            assert f"waiting up to {WITHIN_S} s for another gateway to end" in caplog.text
            assert not had.is_set()
            first.close()
            assert had.wait(WITHIN_S)
    assert locks.lost == []


def test_of_two_schemas_each_has_a_lock_of_its_own(locks, stores):
    with locks.of():
        stores.schema, schema = f"{stores.schema}_other", stores.schema
        with locks.of():
            pass
        stores.schema = schema


def test_a_connection_that_was_cut_is_made_again_and_the_lock_is_had_again(locks, caplog):
    caplog.set_level(logging.WARNING, "frontdesk.persistence")
    with locks.of():
        (former,) = locks.holders()
        locks.stores.server.ask("SELECT pg_terminate_backend(%s)", former)
        eventually(lambda: "was lost, and is had again" in caplog.text, within_s=WITHIN_S)
        assert former not in locks.holders()
        locks.assert_a_second_is_refused()
    assert locks.lost == []


def test_after_the_server_was_killed_and_started_the_lock_is_had_again(locks):
    with locks.of():
        locks.stores.server.kill()
        locks.stores.server.start()
        eventually(locks.holders, within_s=WITHIN_S)
        locks.assert_a_second_is_refused()
    assert locks.lost == []


def test_what_a_gateway_itself_has_left_at_the_server_does_not_keep_it_out(locks, caplog):
    """As after a network that dropped all: a session with its name is there, and has the lock."""
    caplog.set_level(logging.WARNING, "frontdesk.persistence")
    with locks.of(), locks.stores.server.connect() as left:
        (former,) = locks.holders()
        left.execute(AS_ANOTHER, [former])
        left.execute("SELECT pg_terminate_backend(%s, 1000)", [former])
        with suppress(psycopg.errors.AdminShutdown):  # the gateway was faster
            left.execute(HAVE, [locks.stores.schema])
        eventually(lambda: "was lost, and is had again" in caplog.text, within_s=WITHIN_S)
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")
    assert locks.lost == []


def test_a_lock_that_was_lost_and_taken_by_another_is_told_once(locks):
    with FaultProxy(f"tcp:127.0.0.1:{locks.stores.server.port}") as proxy:
        with locks.of(port=proxy.port):
            proxy.refuse()
            with locks.of(patience_s=WITHIN_S):
                proxy.heal()
                eventually(lambda: locks.lost, within_s=WITHIN_S)
                locks.assert_a_second_is_refused()
        (error,) = locks.lost
    assert isinstance(error, StorageBroken)
    assert f"another gateway has taken it over ({os.uname().nodename[:32]}, process" in str(error)
