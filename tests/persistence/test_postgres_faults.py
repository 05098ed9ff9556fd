"""What a database and the way to it can do: what was answered is stored, once, and it heals."""

import shutil
import threading

import psycopg
import pytest

from frontdesk.persistence import operations as ops
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable
from frontdesk.persistence.postgres_connections import DatabaseAddress, WaitLimits
from frontdesk.persistence.stored import ListQuery
from support.fault_proxy import FaultProxy, Way
from support.persistence import opened
from support.postgres import PASSWORD, QUOTED_PASSWORD
from support.programs.postgres_node import written_by
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

WITHIN_S = 60
COMMIT_ANSWER = b"2\0\0\0\4" + b"C\0\0\0\x0bCOMMIT\0" + b"Z\0\0\0\5I"
"""That it was bound, is done, and nothing is open now."""
IMPATIENT = WaitLimits(connect_s=2, statement_s=1.0, lock_s=1.0, idle_s=1.0, answer_s=1.5)


def until_it_is_written(store, batch):
    """Give it the same batch until it takes it, as the writer does; return how often it did not."""
    refused = 0

    def taken():
        nonlocal refused
        try:
            assert not store.apply(batch).lost
        except StorageUnavailable:
            refused += 1
            return False
        return True

    eventually(taken, within_s=WITHIN_S)
    return refused


def assert_each_is_stored_once(stores, store, batches, *, node="n1", before=0):
    """Compare the log with what was answered, and how many transactions there were."""
    frames = store.frames(1, after=0, limit=10**6, max_bytes=10**9)
    assert [one.index for one in frames] == list(range(1, 2 * batches + 1))
    assert [one.frame for one in frames] == [
        f"{node} {batch} {part}".encode() for batch in range(1, batches + 1) for part in "ab"
    ]
    assert [one.position for one in store.messages(1, limit=10**6)] == list(range(1, batches + 1))
    assert stores.sequence(node) == before + batches


# -- the connection --------------------------------------------------------------------------------


def test_a_connection_that_is_cut_at_any_byte_of_an_answer_writes_each_batch_once(stores):
    with FaultProxy(f"tcp:127.0.0.1:{stores.server.port}") as proxy:
        store = stores.open(port=proxy.port)
        store.apply([opened(1)])
        before, batch = stores.sequence(), 0
        for _ in range(10):  # statements are prepared now, and answers of one size
            store.apply(written_by("n1", 1, batch := batch + 1))
        passed = passed_to_the_client(proxy)
        store.apply(written_by("n1", 1, batch := batch + 1))
        size = passed_to_the_client(proxy) - passed
        broken = proxy.broken
        commit = size - len(COMMIT_ANSWER)
        for byte in [*range(0, commit, 24), *range(commit, size + 1)]:
            proxy.cut_after(passed_to_the_client(proxy) + byte)
            until_it_is_written(store, written_by("n1", 1, batch := batch + 1))
            proxy.heal()
            # What it does on a new connection for the first times has longer answers.
            while passed_to_the_client(proxy) < passed:
                store.apply(written_by("n1", 1, batch := batch + 1))
        assert proxy.broken - broken > len(COMMIT_ANSWER)
        assert_each_is_stored_once(stores, store, batch, before=before)


def passed_to_the_client(proxy):
    return max(one.passed[Way.TO_CLIENT] for one in proxy._connections)


def test_connections_that_an_administrator_ends_are_made_again(stores):
    store = stores.open()
    store.apply([opened(1)])
    before = stores.sequence()
    for batch in range(1, 11):
        stores.ask(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'frontdesk n1'"
        )
        store.apply(written_by("n1", 1, batch))
        assert store.count("t") == 1
    assert_each_is_stored_once(stores, store, 10, before=before)


def test_readers_share_a_few_connections(stores):
    store = stores.open()
    store.apply([opened(1), *written_by("n1", 1, 1)])
    ready, failures = threading.Barrier(9), []

    def read():
        ready.wait(WITHIN_S)
        try:
            for _ in range(20):
                assert len(store.frames(1, after=0, limit=9, max_bytes=99)) == 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait(WITHIN_S)
    for thread in threads:
        thread.join(WITHIN_S)
    assert failures == []
    (connections,) = stores.ask(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'frontdesk n1'"
    )[0]
    assert connections <= 3


# -- the server ------------------------------------------------------------------------------------


def test_a_server_that_is_killed_under_load_has_every_batch_that_was_answered_once(stores):
    server, store = stores.server, stores.open()
    store.apply([opened(1)])
    before, answered, refused = stores.sequence(), 0, 0
    for _ in range(3):
        killed = threading.Event()

        def kill_and_start(killed=killed):
            server.kill()
            killed.set()
            server.start()

        killing = threading.Timer(0.2, kill_and_start)
        killing.start()
        while not killed.is_set():
            refused += until_it_is_written(store, written_by("n1", 1, answered + 1))
            answered += 1
        killing.join(WITHIN_S)
    assert refused > 0
    assert answered > 3
    assert_each_is_stored_once(stores, store, answered, before=before)


def test_a_server_that_stands_still_is_given_up_and_what_it_does_later_is_found_out(stores):
    server, store = stores.server, stores.open(limits=IMPATIENT)
    store.apply([opened(1)])
    before = stores.sequence()
    until_it_is_written(store, written_by("n1", 1, 1))
    server.pause()
    try:
        with pytest.raises(StorageUnavailable):
            store.apply(written_by("n1", 1, 2))
        with pytest.raises(StorageUnavailable):
            store.count("t")
    finally:
        server.resume()
    until_it_is_written(store, written_by("n1", 1, 2))
    assert store.count("t") == 1
    assert_each_is_stored_once(stores, store, 2, before=before)


def test_a_database_that_went_back_in_time_is_noticed_and_nothing_is_written(stores, tmp_path):
    server, store = stores.server, stores.open()
    store.apply([opened(1)])
    store.apply(written_by("n1", 1, 1))
    server.stop()
    shutil.copytree(server.files, tmp_path / "backup")
    server.start()
    until_it_is_written(store, written_by("n1", 1, 2))
    server.stop()
    restore(server, tmp_path / "backup")
    server.start()
    with pytest.raises(StorageBroken, match=r"gone back in time.*backup"):
        store.apply(written_by("n1", 1, 3))
    assert [one.position for one in store.messages(1)] == [1]


def restore(server, backup):
    """Put back what the files were, whoever owns them."""
    for place in backup.rglob("*"):
        if place.is_file():
            with (server.files / place.relative_to(backup)).open("r+b") as file:
                file.truncate()
                file.write(place.read_bytes())


def test_a_read_only_database_is_unavailable_and_heals(stores):
    store = stores.open()
    store.apply([opened(1)])
    set_for_all(stores, "default_transaction_read_only", "on")
    try:
        # The server's processes read of it one after the other: the first ones may yet be written.
        eventually(lambda: is_refused(store, written_by("n1", 1, 1)), within_s=WITHIN_S)
        before = stores.sequence()
        assert store.count("t") == 1
    finally:
        set_for_all(stores, "default_transaction_read_only", "off")
    until_it_is_written(store, written_by("n1", 1, 1))
    assert_each_is_stored_once(stores, store, 1, before=before)


def is_refused(store, batch):
    try:
        store.apply(batch)
    except StorageUnavailable:
        return True
    return False


def set_for_all(stores, name, value):
    with psycopg.connect(stores.server.url(), autocommit=True) as connection:
        connection.read_only = False
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET {name} = {value}")
        connection.execute("SELECT pg_reload_conf()")


def test_a_database_whose_disk_is_full_is_unavailable_and_heals(stores):
    store = stores.open()
    store.apply([opened(1)])
    before = stores.sequence()
    stores.ask(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"
    )
    stores.ask("CREATE TRIGGER full_disk BEFORE INSERT ON journal EXECUTE FUNCTION full_disk()")
    with pytest.raises(StorageUnavailable, match="no space left"):
        store.apply(written_by("n1", 1, 1))
    assert store.messages(1) == []
    stores.ask("DROP TRIGGER full_disk ON journal")
    store.apply(written_by("n1", 1, 1))
    assert_each_is_stored_once(stores, store, 1, before=before)


def test_what_is_damaged_is_broken_and_not_unavailable(stores):
    store = stores.open()
    store.apply([opened(1)])
    stores.ask(
        "CREATE FUNCTION damaged() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'invalid page' USING ERRCODE = 'data_corrupted'; END $$"
    )
    stores.ask("CREATE TRIGGER damaged BEFORE INSERT ON journal EXECUTE FUNCTION damaged()")
    with pytest.raises(StorageBroken, match="invalid page"):
        store.apply(written_by("n1", 1, 1))


def test_a_second_process_of_the_same_name_ends_the_first(stores):
    first = stores.open("n1")
    first.apply([opened(1)])
    second = stores.open("n1")
    with pytest.raises(StorageBroken, match="another process"):
        first.apply(written_by("n1", 1, 1))
    assert second.apply(written_by("n1", 1, 1)).lost == set()


def test_tables_of_a_newer_version_are_refused(stores):
    stores.open().close()
    stores.ask("UPDATE schema_version SET version = 999")
    with pytest.raises(StorageRefused, match="999"):
        stores.open()


# -- what is in it ---------------------------------------------------------------------------------


def test_what_postgresql_cannot_have_in_a_text_keeps_nobody_from_writing(stores):
    store = stores.open()
    odd = "a\0b\ud800"
    store.apply(
        [
            opened(1, label=odd),
            ops.TurnQueued(number=1, request_id="r", text=odd, api_key=None, at_ms=1),
        ]
    )
    assert store.find("t", "s1").label == "a\ufffdb?"
    assert store.turn(1, "r").text == odd


def test_what_is_erased_is_gone_from_the_tables_files_after_their_vacuum(stores):
    server, store = stores.server, stores.open()
    secret = b"what nobody may read any more"
    store.apply([opened(1), *written_by("n1", 1, 1)])
    frames = ops.FramesAppended(number=1, fence=1001, first_index=3, frames=(secret,))
    message = ops.MessageAdded(number=1, position=2, message=secret)
    store.apply([frames, message])
    server.ask("CHECKPOINT")
    assert tables_with(server, secret)
    store.apply([ops.ConversationErased(number=1)])
    server.ask("VACUUM")
    server.ask("CHECKPOINT")
    assert tables_with(server, secret) == []


def tables_with(server, text):
    files = [place for place in (server.files / "base").rglob("*") if place.is_file()]
    return [place for place in files if text in place.read_bytes()]


def test_a_page_of_many_conversations_is_whole(stores):
    store = stores.open()
    store.apply([opened(number) for number in range(1, 251)])
    store.apply([ops.ConversationEnded(number=7, reason=b"{}", at_ms=9)])
    page = store.page(ListQuery(tenant_id="t", after=5, limit=100))
    assert [one.number for one in page] == [6, *range(8, 107)]


# -- secrets ---------------------------------------------------------------------------------------


def test_no_error_and_no_text_has_the_password(stores):
    address = stores.address()
    assert PASSWORD not in repr(address) + str(address)
    wrong = DatabaseAddress.parse(stores.server.url().replace(QUOTED_PASSWORD, "wrong-pass"))
    for broken in (wrong, DatabaseAddress.parse("postgresql://a:wrong-pass@127.0.0.1:1/x")):
        with pytest.raises(StorageUnavailable) as refused:
            open_at(stores, broken)
        assert "wrong-pass" not in repr(refused.value) + str(refused.value)
        assert refused.value.__cause__ is None


def open_at(stores, address):
    from frontdesk.persistence.postgres_conversations import PostgresConversations
    from frontdesk.persistence.sealing import Sealing

    def sealing(keys):
        return Sealing(b"x" * 32, keys)

    return PostgresConversations(address, owner="n1", sealing=sealing, schema=stores.schema)
