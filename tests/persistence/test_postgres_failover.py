"""A database whose primary is lost: what the replica lacks is noticed, and what it has goes on."""

import contextlib
import threading

import pytest

from frontdesk.persistence.errors import StorageBroken, StorageUnavailable
from frontdesk.persistence.postgres_connections import DatabaseAddress, WaitLimits, check_database
from persistence.test_postgres_faults import assert_each_is_stored_once, until_it_is_written
from support.persistence import opened
from support.postgres import PostgresServer, PostgresStandby
from support.postgres_stores import Stores
from support.programs.postgres_node import written_by

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

WITHIN_S = 60
IMPATIENT = WaitLimits(connect_s=2, statement_s=1.0, lock_s=1.0, idle_s=1.0, answer_s=1.0)
SYNCHRONOUS = {"synchronous_standby_names": "*"}


class Pair:
    """A primary and its standby, under the one address of both; and stores there."""

    def __init__(self, primary, standby, keys):
        self.primary, self.standby = primary, standby
        self.stores = Stores(self, keys)
        self.ask, self.connect = primary.ask, primary.connect

    @property
    def process(self):
        return self.standby.process

    def url(self, *, port=None):
        there = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return self.primary.url().replace(f"127.0.0.1:{self.primary.port}", there)

    def fail_over(self):
        """Lose the primary at once, and have the standby in its place, with what that has."""
        self.primary.kill()
        self.standby.promote()
        self.ask, self.connect = self.standby.ask, self.standby.connect


@pytest.fixture
def pair_of(tmp_path):
    """Open a primary with these options and a standby of it."""
    with contextlib.ExitStack() as stack:

        def opened_pair(**options):
            primary = stack.enter_context(PostgresServer())
            standby = stack.enter_context(PostgresStandby(primary))
            for name, value in options.items():
                primary.ask(f"ALTER SYSTEM SET {name} = '{value}'")
            primary.ask("SELECT pg_reload_conf()")
            pair = Pair(primary, standby, tmp_path / "keys")
            stack.enter_context(pair.stores)
            return pair

        yield opened_pair


def test_a_replica_that_lacks_what_was_answered_is_noticed_and_nothing_is_written(pair_of):
    pair = pair_of()
    store = pair.stores.open(limits=IMPATIENT)
    until_it_is_written(store, [opened(1), *written_by("n1", 1, 1)])
    pair.standby.catch_up()
    pair.standby.stop_following()
    unknown_there = pair.stores.open("later", limits=IMPATIENT)
    until_it_is_written(unknown_there, [opened(2)])
    for batch in (2, 3):
        until_it_is_written(store, written_by("n1", 1, batch))
    pair.fail_over()
    for _ in range(2):
        with pytest.raises(StorageBroken, match=r"gone back in time.* 3 batches .* 1\..*replica"):
            store.apply(written_by("n1", 1, 4))
        with pytest.raises(StorageBroken, match=r"row is gone.*gone back in time.*replica"):
            unknown_there.apply([opened(3)])
    # The next process goes on from what there is.
    other = pair.stores.open("n2")
    assert [other.find("t", each) for each in ("s2", "s3")] == [None, None]
    assert [one.message for one in other.messages(1)] == [b"n1 1"]
    assert other.claim() == [1]
    other.apply(written_by("n2", 1, 2))
    assert [one.message for one in other.messages(1)] == [b"n1 1", b"n2 2"]


def test_under_load_a_replica_that_has_all_that_was_answered_goes_on_without_loss(pair_of):
    pair = pair_of(**SYNCHRONOUS)
    store = pair.stores.open(limits=IMPATIENT)
    store.apply([opened(1)])
    before, answered, refused, over = pair.stores.sequence(), 0, 0, threading.Event()

    def fail_over():
        pair.fail_over()
        over.set()

    failing = threading.Timer(0.3, fail_over)
    failing.start()
    while not over.is_set() or not refused:
        refused += until_it_is_written(store, written_by("n1", 1, answered + 1))
        answered += 1
    failing.join(WITHIN_S)
    assert_each_is_stored_once(pair.stores, store, answered, before=before)


def test_what_a_synchronous_replica_has_not_is_not_answered_however_long_that_takes(pair_of):
    pair = pair_of(**SYNCHRONOUS)
    store = pair.stores.open(limits=IMPATIENT)
    until_it_is_written(store, [opened(1), *written_by("n1", 1, 1)])
    before = pair.stores.sequence() - 1
    pair.standby.stop_following()
    with pytest.raises(StorageUnavailable):
        store.apply(written_by("n1", 1, 2))
    pair.fail_over()
    until_it_is_written(store, written_by("n1", 1, 2))
    assert_each_is_stored_once(pair.stores, store, 2, before=before)


def test_a_standby_is_not_asked_for_it_may_be_behind(pair_of):
    pair = pair_of()
    with pytest.raises(StorageUnavailable, match="standby"):
        check_database(DatabaseAddress.parse(pair.standby.url()))
    check_database(pair.stores.address())
