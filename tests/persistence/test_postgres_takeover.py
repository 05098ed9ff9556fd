"""Conversations that several nodes have in turn: whoever had one before writes nothing of it."""

import json
import os
import subprocess
import sys
import threading

import pytest

from frontdesk.persistence import operations as ops
from frontdesk.persistence import postgres_claims
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.sessions.keeping_settings import KeepingSettings
from support.persistence import begun, opened, turn
from support.programs import postgres_node
from support.programs.postgres_node import written_by
from support.sessions import open_service, parrot

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

WITHIN_S = 60
STEPS = 24
"""More than a batch has: of the last conversations, the node is stopped in its next batch."""


class StoppedNode:
    """A node in a process of its own, which stops itself in its batches."""

    def __init__(self, stores):
        words = [postgres_node.__file__, stores.server.url(), stores.schema, stores.keys, STEPS]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def until_it_is_stopped(self):
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def lines_until_it_is_told_that_it_lost(self):
        lines = []
        while not lines or not lines[-1]["lost"]:
            lines.append(json.loads(self.process.stdout.readline()))
        return lines

    def goes_on(self):
        os.kill(self.process.pid, 18)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=WITHIN_S)


def test_batches_of_two_owners_never_interleave_wherever_the_first_is_stopped(stores, monkeypatch):
    monkeypatch.setattr(postgres_claims, "LOCK_WAIT_MS", 100)
    other = stores.open("other")
    with StoppedNode(stores) as node:
        for number in range(1, STEPS + 1):
            node.until_it_is_stopped()
            assert other.claim(number, dead=frozenset({"stopped"})) == [number]
            before = texts(other, number)
            position = len(before) // 2
            for batch in range(position + 1, position + 4):
                assert not other.apply(written_by("other", number, batch)).lost
            node.goes_on()
            told = node.lines_until_it_is_told_that_it_lost()
            stored = [one["batch"] for one in told if not one["lost"]]
            after = texts(other, number)
            assert after[: len(before)] == before
            assert all(text.startswith("other ") for text in after[len(before) :])
            assert len(after) == len(before) + 6
            assert [text for text in before if text.endswith("a")] == [
                f"stopped {batch} a" for batch in range(1, position + 1)
            ]
            assert stored == list(range(1, position + 1)), "it was told what is not stored"
            assert [one.message.decode() for one in other.messages(number)] == [
                text[:-2] for text in after[::2]
            ]


def texts(store, number):
    frames = store.frames(number, after=0, limit=10_000, max_bytes=10**9)
    assert [one.index for one in frames] == list(range(1, len(frames) + 1))
    return [one.frame.decode() for one in frames]


def test_a_node_that_lost_one_conversation_goes_on_with_what_nobody_claimed(stores):
    first, second = stores.open("first"), stores.open("second")
    first.apply([opened(1), opened(2)])
    assert second.claim(1, dead=frozenset({"first"})) == [1]
    applied = first.apply([*turn(1, "r", first=1, frames=[b"x"]), opened(3), left(2)])
    assert applied.lost == {1}
    assert second.turns(1) == []
    assert [one.number for one in first.unfinished()] == [3]
    assert second.find("t", "s2").state == "dormant"


def left(number):
    return ops.ConversationLeft(number=number, at_ms=1)


def test_what_a_living_node_owns_is_not_claimed(stores):
    first, second = stores.open("first"), stores.open("second")
    first.apply([opened(1)])
    assert second.claim(1, dead=frozenset()) == []
    assert second.claim(dead=frozenset({"another"})) == []
    assert first.apply([left(1)]).lost == set()


def test_what_a_node_released_at_its_end_anybody_may_have(stores):
    first, second = stores.open("first"), stores.open("second")
    first.apply([opened(1), opened(2), ops.ConversationEnded(number=2, reason=b"{}", at_ms=1)])
    first.close()
    assert second.claim(dead=frozenset()) == [1]
    assert {one.owner for one in (second.find("t", "s1"), second.find("t", "s2"))} == {"second"}


def test_of_nodes_that_claim_at_once_one_gets_each(stores):
    stores.open("first").apply([opened(number) for number in range(1, 41)])
    nodes = [stores.open(f"n{number}") for number in range(4)]
    claimed, ready = [], threading.Barrier(len(nodes))

    def claim(node):
        ready.wait(WITHIN_S)
        claimed.extend(node.claim(dead=frozenset({"first"})))

    run_together(*(lambda node=node: claim(node) for node in nodes))
    assert sorted(claimed) == list(range(1, 41))


def run_together(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
        assert not thread.is_alive()


def test_a_log_that_another_node_went_on_with_is_continued_where_it_ended(stores):
    first, second = stores.open("first"), stores.open("second")
    first.apply([opened(1), *written_by("first", 1, 1)])
    second.claim(1, dead=frozenset({"first"}))
    second.apply(written_by("second", 1, 2))
    assert first.claim(1, dead=frozenset({"second"})) == [1]
    first.apply(written_by("first", 1, 3))
    assert [text.split()[0] for text in texts(first, 1)] == ["first"] * 2 + ["second"] * 2 + [
        "first"
    ] * 2


def test_a_tenant_is_erased_whole_though_another_node_writes_into_it(stores):
    first, second = stores.open("first"), stores.open("second")
    second.apply([opened(2), opened(3, tenant_id="other")])
    lost, stop = set(), threading.Event()

    def write():
        batch = 0
        while not stop.is_set() and not lost:
            batch += 1
            lost.update(second.apply(written_by("second", 2, batch)).lost)

    def erase():
        first.apply([opened(1), ops.TenantErased(number=0, tenant_id="t")])

    try:
        writing = threading.Thread(target=write)
        writing.start()
        erase()
        writing.join(WITHIN_S)
    finally:
        stop.set()
    assert lost == {2}
    for table in ("conversation", "journal", "message", "epoch", "tenant_key"):
        wanted = (
            [("other",)] if table == "tenant_key" else [(3,)] * (table in {"conversation", "epoch"})
        )
        column = "tenant_id" if table == "tenant_key" else "number"
        assert stores.ask(f"SELECT {column} FROM {table}") == wanted
    assert stores.ask("SELECT * FROM doomed_key") == []
    assert second.find("other", "s3").unreadable is None


def test_nodes_that_open_a_tenants_first_conversations_at_once_have_one_key(stores):
    nodes = [stores.open(f"n{number}") for number in range(4)]
    ready = threading.Barrier(len(nodes))

    def open_one(number):
        ready.wait(WITHIN_S)
        nodes[number].apply([opened(number + 1)])

    run_together(*(lambda number=number: open_one(number) for number in range(len(nodes))))
    assert len(stores.ask("SELECT DISTINCT key_id FROM conversation")) == 1
    assert [one.unreadable for one in map(nodes[0].find, "tttt", ("s1", "s2", "s3", "s4"))] == [
        None
    ] * 4
    assert len(list(stores.keys.iterdir())) == 1


@pytest.mark.parametrize(
    ("standing", "still", "asked_for", "has_it"),
    [
        ("lives", True, True, False),
        ("unknown", False, True, False),
        ("unknown", True, True, True),
        ("unknown", True, False, True),
        ("buried", False, True, True),
        ("buried", False, False, False),
        ("buried", True, False, True),
        ("dead", False, False, True),
    ],
)
def test_who_may_live_on_loses_what_is_asked_for_and_the_rest_once_it_was_still(
    stores, standing, still, asked_for, has_it
):
    queued = ops.TurnQueued(number=1, request_id="r", text="hi", api_key=None, at_ms=1)
    stores.open("first").apply([opened(1), queued, opened(2)])
    hold_s = 0.0 if still else 3600.0
    second = stores.open("second", standing_of={"first": standing}.get, hold_s=hold_s)
    if not asked_for:
        assert waiting_elsewhere(second) == [(1, "t", "s1")] * has_it
        assert second.waiting_elsewhere(after=1, limit=9) == []
        assert [each.number for each in second.expired(before_ms=9, limit=9)] == [2] * has_it
    assert second.claim(1 if asked_for else None) == ([1] if asked_for else [1, 2]) * has_it
    assert waiting_elsewhere(second) == []


def waiting_elsewhere(store):
    found = store.waiting_elsewhere(after=0, limit=9)
    return [(each.number, each.tenant_id, each.session_id) for each in found]


def test_what_waits_at_an_owner_that_has_released_it_is_found_by_all_others(stores):
    queued = ops.TurnQueued(number=1, request_id="r", text="hi", api_key=None, at_ms=1)
    first = stores.open("first")
    first.apply([opened(1), queued])
    others = [stores.open(each, standing_of=lambda _: "lives") for each in ("second", "third")]
    assert [waiting_elsewhere(each) for each in others] == [[], []]
    first.close()
    assert [waiting_elsewhere(each) for each in others] == [[(1, "t", "s1")]] * 2
    assert [each.claim(1) for each in others] == [[1], []]
    assert [waiting_elsewhere(each) for each in others] == [[], []]


@pytest.mark.anyio
async def test_what_a_dead_node_left_is_erased_by_another_once_its_time_is_over(stores):
    first = stores.open("first", standing_of=lambda _: "lives")
    first.apply([opened(1), left(1), opened(2), left(2), opened(3), opened(4), *begun(4, "r")])
    standing = {"first": "lives"}
    second = stores.open("second", standing_of=standing.get)
    keeping = KeepingSettings(owner="second")
    async with (
        CommitQueue(second) as commits,
        open_service(parrot, commits=commits, keeping=keeping) as service,
    ):
        await service._keeping.retention.sweep()
        assert [each.number for each in first.unfinished()] == [3, 4]
        assert first.count("t") == 4, "their node lives"
        standing["first"] = "dead"
        await service._keeping.retention.sweep()
        assert [first.find("t", f"s{number}") is None for number in range(1, 5)] == [
            *[True] * 3,
            False,
        ]
        assert first.apply([*begun(1, "late"), *begun(4, "late")]).lost == {1}


def test_without_a_place_for_keys_they_are_in_the_database_and_go_with_their_tenant(stores):
    stores.keys = None
    first, second = stores.open("first"), stores.open("second")
    first.apply([opened(1, options=b"what is secret")])
    assert second.find("t", "s1").options == b"what is secret"
    ((wrapped,),) = stores.ask("SELECT wrapped FROM wrapped_key")
    assert len(wrapped) > 32
    second.apply([ops.TenantErased(number=0, tenant_id="t")])
    assert stores.ask("SELECT * FROM wrapped_key") == []


def test_readers_that_need_keys_of_the_database_at_once_get_them(stores):
    stores.keys = None
    tenants = [f"t{number}" for number in range(12)]
    writer = stores.open("writer", encrypt=True)
    for number, tenant_id in enumerate(tenants, 1):
        writer.apply([opened(number, tenant_id=tenant_id), *written_by("writer", number, 1)])
    reader, found = stores.open("reader", encrypt=True), []
    ready = threading.Barrier(len(tenants))

    def read(number):
        ready.wait(WITHIN_S)
        found.extend(one.message for one in reader.messages(number))

    run_together(*(lambda number=number: read(number) for number in range(1, 13)))
    assert found == [b"writer 1"] * 12
