"""The storage of several workers: calls over a socket, batches committed together, dead owners."""

import inspect
import os
import signal
import socket
import subprocess
import sys

import msgspec
import pytest

from frontdesk.persistence import storage_wire as wire
from frontdesk.persistence.conversations import Applied, Conversations, StoredMessage
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable
from frontdesk.persistence.remote_conversations import RemoteConversations
from frontdesk.persistence.stored import (
    ListQuery,
    StoredAnswer,
    StoredCheckpoint,
    StoredConversation,
    StoredEpoch,
    StoredFrame,
    StoredMemory,
    StoredRequest,
    StoredTurn,
)
from persistence.joint_stores import WITHIN_S, Call, JointStore, ServedStore, frame, held_up, opened
from support.waiting import eventually

MEMORY = StoredMemory(request_id="r", kind="k", version=1, content=b"\x00\xff")
CONVERSATION = StoredConversation(
    number=1,
    tenant_id="acme",
    session_id="s",
    owner="host/1",
    state="live",
    blueprint="b",
    model="m",
    api_key=None,
    label="l",
    created_at_ms=1,
    last_activity_ms=2,
    fence=3,
    epochs=(StoredEpoch(3, 1),),
    oldest_index=1,
    last_index=9,
    last_position=4,
    options=b"\x00",
    totals=b"",
    ended=None,
    forked_from=None,
    waiting=0,
    held_bytes=10,
)
TURN = StoredTurn(
    number=1,
    position=1,
    request_id="r",
    state="suspended",
    text="t",
    api_key=None,
    attachments=b"",
    first_index=1,
    last_index=2,
    queued_at_ms=1,
    begun_at_ms=None,
    ended_at_ms=None,
    end=None,
    usage=None,
    suspended=MEMORY,
)
LISTED = ListQuery(tenant_id="acme", states=("ended",), label="l")
READS = {
    "unfinished": ((), {}, [CONVERSATION]),
    "find": (("acme", "s"), {"fence": 3}, CONVERSATION),
    "page": ((LISTED,), {}, [CONVERSATION]),
    "count": (("acme",), {}, 7),
    "frames": ((1,), {"after": 0, "limit": 9, "max_bytes": 99}, [StoredFrame(3, 1, b"\xff")]),
    "messages": ((1,), {"after": 2}, [StoredMessage(3, b"m")]),
    "last_messages": ((1,), {"limit": 2, "max_bytes": 9}, [StoredMessage(3, b"m")]),
    "turns": ((1,), {"states": ("queued", "running")}, [TURN]),
    "turn": ((1, "r"), {}, None),
    "latest_turn": ((1,), {}, TURN),
    "memories": ((1,), {"at": 3}, [MEMORY]),
    "requests": (
        (1,),
        {},
        [StoredRequest(request_id="r", reference="a", kind="approval", event=b"e", answer=None)],
    ),
    "checkpoints": (
        (1,),
        {},
        [StoredCheckpoint(name="c", request_id="r", position=1, at_ms=1)],
    ),
    "answer": (("slot",), {"now_ms": 5}, StoredAnswer(digest=b"d", answer=b"a")),
    "greatest_fence": ((), {}, 2**52),
    "expired": ((), {"before_ms": 5, "limit": 2, "after": 3, "blueprint": "b"}, []),
}


@pytest.fixture
def served(tmp_path):
    with ServedStore(tmp_path / "storage.sock", JointStore()) as served:
        yield served


def test_every_method_of_a_store_is_a_verb():
    methods = {name for name, _ in inspect.getmembers(Conversations, inspect.isfunction)}
    methods -= {"close", "__init__", "__subclasshook__"}
    assert set(wire.VERBS) == {name for name in methods if not name.startswith("_")}
    assert set(READS) == set(wire.VERBS) - {"apply", "claim"}


@pytest.mark.parametrize("verb", READS)
def test_what_is_read_arrives_as_it_was_stored(served, verb):
    args, kwargs, result = READS[verb]
    asked = []

    def read(**given):
        asked.append(given)
        return result

    served.store.results[verb] = read
    assert getattr(served.worker("host/1"), verb)(*args, **kwargs) == result
    bound = inspect.signature(getattr(Conversations, verb)).bind(None, *args, **kwargs)
    bound.apply_defaults()
    del bound.arguments["self"]
    assert asked == [bound.arguments]


def test_a_batch_is_its_workers_and_is_carried_out_in_its_order(served):
    batch = [opened(1), frame(1, b"\x00" * 100_000), frame(1, index=2)]
    assert served.worker("host/1").apply(batch) == Applied()
    assert served.store.done == [("host/1", each) for each in batch]


def test_the_batches_of_all_workers_that_wait_are_one_transaction(served):
    workers = [served.worker(f"host/{number}") for number in (1, 2, 3, 4)]
    with held_up(served.store):
        first = Call(workers[0].apply, [opened(1)])
        assert served.store.begun.acquire(timeout=WITHIN_S)
        others = [Call(each.apply, [opened(n)]) for n, each in enumerate(workers[1:], start=2)]
        waiting = served.server.commits
        eventually(lambda: waiting.waiting == 3)
    for call in (first, *others):
        assert call.result() == Applied()
    together = served.store.transactions
    assert [sorted(each) for each in together] == [["host/1"], ["host/2", "host/3", "host/4"]]


def test_a_batch_that_cannot_be_carried_out_fails_alone(served):
    workers = [served.worker(f"host/{number}") for number in (1, 2, 3)]
    served.store.broken_batch = [opened(2)]
    with held_up(served.store):
        first = Call(workers[0].apply, [opened(1)])
        assert served.store.begun.acquire(timeout=WITHIN_S)
        second, third = (
            Call(each.apply, [opened(n)]) for n, each in ((2, workers[1]), (3, workers[2]))
        )
        eventually(lambda: served.server.commits.waiting == 2)
    assert first.result() == third.result() == Applied()
    with pytest.raises(StorageUnavailable, match="supervisor's log"):
        second.result()


def test_reads_do_not_wait_for_a_commit(served):
    served.store.results["count"] = 3
    worker = served.worker("host/1")
    with held_up(served.store):
        writing = Call(worker.apply, [opened(1)])
        assert served.store.begun.acquire(timeout=WITHIN_S)
        assert worker.count("acme") == 3
    writing.result()


def test_what_lives_is_not_claimed_and_what_a_dead_process_had_is(served):
    child = [sys.executable, "-c", CHILD, str(served.path), "host/1"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(child, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"stored\n"
        worker = served.worker("host/2")
        assert worker.claim(1) == []
        process.send_signal(signal.SIGKILL)
        process.wait(WITHIN_S)
        served.server.process_died(process.pid)
    assert worker.claim() == [1]
    assert served.store.owners == {1: "host/2"}


CHILD = """
import sys
from pathlib import Path
from frontdesk.persistence.remote_conversations import RemoteConversations
from persistence.joint_stores import opened
worker = RemoteConversations(Path(sys.argv[1]), owner=sys.argv[2], place="1")
worker.apply([opened(1)])
print("stored", flush=True)
sys.stdin.read()
"""


def test_who_has_the_place_of_another_may_claim_what_that_had_at_once(served):
    """Its parent may not have heard of the death yet; the kernel has given away its lock."""
    before = served.worker("first", place="1")
    before.apply([opened(1), opened(2)])
    successor = served.worker("second", place="1")
    assert successor.claim(1) == [1]
    with pytest.raises(StorageUnavailable):
        before.apply([frame(2)])
    assert successor.claim() == [2]
    assert successor.apply([frame(1), frame(2)]) == Applied()
    assert "first" not in {owner for owner, _ in served.store.done[2:]}


def test_a_batch_leaves_out_what_another_has_claimed_and_says_so(served):
    """It was held to be dead, and goes on with the rest."""
    first, second = served.worker("host/1"), served.worker("host/2")
    first.apply([opened(1), opened(2)])
    served.store.owners[1] = "host/2"
    with held_up(served.store):
        holding = Call(second.apply, [frame(1)])
        assert served.store.begun.acquire(timeout=WITHIN_S)
        late = Call(first.apply, [frame(1), frame(2)])
        eventually(lambda: served.server.commits.waiting == 1)
    assert holding.result() == Applied()
    assert late.result() == Applied(frozenset({1}))
    assert ("host/1", frame(2)) in served.store.done
    assert ("host/1", frame(1)) not in served.store.done


def raw_connection(served, owner="raw"):
    """Return a socket that has greeted."""
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(served.path))
    greeting = wire.Greeting(owner, owner, 1, wire.wire_form())
    wire.send(connected, msgspec.msgpack.encode(greeting))
    assert wire.receive(connected) is not None
    return connected


def test_of_a_message_that_is_cut_nothing_is_done(served):
    call = wire.APPLY.call([opened(1)])
    with raw_connection(served) as connected:
        connected.sendall(len(call).to_bytes(4, "big") + call[:-1])
    assert served.worker("host/1").apply([opened(2)]) == Applied()
    eventually(lambda: served.server.connections == 1)
    assert [operation.number for _, operation in served.store.done] == [2]


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x04" + msgspec.msgpack.encode(["x", {}]),
    ],
    ids=["too large", "no message", "no verb"],
)
def test_who_sends_what_makes_no_sense_is_hung_up_on_and_others_go_on(served, sent, caplog):
    worker = served.worker("host/1")
    worker.apply([opened(1)])
    with raw_connection(served) as connected:
        connected.sendall(sent)
        assert connected.recv(1) == b""
    assert worker.apply([frame(1)]) == Applied()
    assert f"hung up on process {os.getpid()}" in caplog.text


def test_a_process_that_is_no_worker_is_hung_up_on(served, caplog):
    served.strangers.add(os.getpid())
    with pytest.raises(StorageUnavailable):
        served.worker("host/1").count("acme")
    eventually(lambda: f"hung up on process {os.getpid()}: no worker" in caplog.text)
    assert served.server.connections == 0


def test_errors_of_the_storage_arrive_with_their_facts(served):
    worker = served.worker("host/1")
    served.store.fault = StorageUnavailable("the disk is full")
    with pytest.raises(StorageUnavailable) as raised:
        worker.apply([opened(1)])
    assert raised.value.problem == "the disk is full"
    assert not served.broken


@pytest.mark.parametrize("verb", ["apply", "count"])
def test_a_storage_that_broke_is_told_to_whoever_serves_it(served, verb):
    worker = served.worker("host/1")
    served.store.fault = served.store.results["count"] = StorageBroken("fsync: EIO")
    with pytest.raises(StorageBroken, match="EIO"):
        worker.apply([opened(1)]) if verb == "apply" else worker.count("acme")
    assert [each.problem for each in served.broken] == ["fsync: EIO"]


def test_a_worker_of_another_version_is_refused(served, monkeypatch):
    monkeypatch.setattr(wire, "wire_form", lambda: "another")
    worker = served.worker("host/1")
    monkeypatch.undo()
    with pytest.raises(StorageRefused, match="restart the whole service"):
        worker.count("acme")


def test_what_was_asked_over_a_connection_that_ended_is_asked_again(tmp_path):
    store = JointStore()
    store.results["count"] = 1
    path = tmp_path / "storage.sock"
    with ServedStore(path, store) as before:
        worker = RemoteConversations(path, owner="host/1", place="1")
        worker.apply([opened(1)])
        assert worker.count("acme") == 1
    del before
    with pytest.raises(StorageUnavailable):
        worker.count("acme")
    with ServedStore(path, store):
        assert worker.apply([frame(1)]) == Applied()
        assert worker.count("acme") == 1
        worker.close()
    assert [owner for owner, _ in store.done] == ["host/1"] * 2


def test_a_call_under_way_ends_when_its_store_is_closed(served):
    worker = served.worker("host/1")
    with held_up(served.store):
        writing = Call(worker.apply, [opened(1)])
        assert served.store.begun.acquire(timeout=WITHIN_S)
        worker.close()
        with pytest.raises(StorageUnavailable):
            writing.result()
    with pytest.raises(StorageUnavailable):
        worker.count("acme")


def test_where_nobody_serves_the_storage_cannot_be_reached(tmp_path):
    worker = RemoteConversations(tmp_path / "none.sock", owner="host/1", place="1")
    with pytest.raises(StorageUnavailable):
        worker.count("acme")


def test_the_socket_is_for_this_account_alone_and_goes_with_its_server(tmp_path):
    path = tmp_path / "storage.sock"
    with ServedStore(path, JointStore()):
        assert path.stat().st_mode & 0o777 == 0o700
    assert not path.exists()
