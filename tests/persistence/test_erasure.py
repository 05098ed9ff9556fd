"""Erasure: a while after it, what was erased is in no file of the directory, whatever was cut."""

import random
import shutil
import sqlite3

import pytest

from frontdesk.persistence import operations as ops
from gateway.requirements import covers
from support.persistence import opened, store_in, turn
from support.waiting import eventually


def marked(number):
    return b"text of %d, " % number


def files_of(directory):
    """Return all that lies in a directory, keys too."""
    return b"".join(each.read_bytes() for each in directory.rglob("*") if each.is_file())


def values_of(directory, number):
    """Return what the tables have of a conversation, as it lies there: compressed or encrypted."""
    connection = sqlite3.connect(directory / "conversations.sqlite3")
    try:
        segments = "SELECT frames FROM segment WHERE number = ?"
        found = [stored for (stored,) in connection.execute(segments, (number,))]
        options = "SELECT options FROM conversation WHERE number = ?"
        found += [stored for (stored,) in connection.execute(options, (number,))]
    finally:
        connection.close()
    return found


def filled(store, number, *, chance, rounds=6, tenant_id="t"):
    """Store a conversation with much text, in rows large and small."""
    store.apply([opened(number, tenant_id=tenant_id, label=marked(number).decode())])
    for each in range(rounds):
        frames = [marked(number) * chance.randrange(1, 400) for _ in range(4)]
        text = (marked(number) * chance.randrange(1, 900)).decode()
        first = each * 4 + 1
        turned = turn(number, f"r{each}", first=first, frames=frames, text=text, position=each + 1)
        store.apply(turned)


@covers("durable.erased-is-gone")
def test_what_is_erased_is_in_no_file_a_while_later_compressed_or_not(tmp_path):
    chance = random.Random(15)
    with store_in(tmp_path, erase_within_s=0.01) as store:
        for number in (7, 8):
            filled(store, number, chance=chance)
        stored = values_of(tmp_path, 7)
        assert len(stored) > 1
        assert marked(7) in files_of(tmp_path)
        store.apply([ops.ConversationErased(number=7)])

        def gone():
            there = files_of(tmp_path)
            return marked(7) not in there and not any(each in there for each in stored)

        eventually(gone)
        assert marked(8) in files_of(tmp_path)
        assert len(store.turns(8)) == 6


@pytest.mark.parametrize("whole_tenant", [False, True])
def test_memory_that_a_checkpoint_has_is_erased_with_its_conversation(tmp_path, whole_tenant):
    with store_in(tmp_path, erase_within_s=0.01) as store:
        store.apply([opened(7), *remembering(7, position=1, content=marked(7) * 300)])
        store.apply(remembering(7, position=2, content=b"another " * 300))
        assert [each.content for each in store.memories(7, at=1)] == [marked(7) * 300]
        gone = ops.ConversationErased(number=7)
        store.apply([ops.TenantErased(number=0, tenant_id="t") if whole_tenant else gone])
        eventually(lambda: marked(7) not in files_of(tmp_path))
        assert store.memories(7, at=1) == []


def remembering(number, *, position, content):
    """Return a memory that replaces what there was, and a checkpoint after it."""
    request_id = f"r{position}"
    memory = ops.MemoryAdded(
        number=number,
        position=position,
        request_id=request_id,
        kind="a",
        version=1,
        content=content,
        replaces=True,
    )
    made = ops.CheckpointMade(
        number=number, name=f"c{position}", request_id=request_id, position=position, at_ms=1
    )
    return [memory, made]


def test_an_erased_tenant_has_no_key_any_more_and_comes_back_with_another(tmp_path):
    with store_in(tmp_path, erase_within_s=0.01) as store:
        filled(store, 7, chance=random.Random(15), tenant_id="gone")
        filled(store, 8, chance=random.Random(15))
        keys = set((tmp_path / "keys").iterdir())
        assert len(keys) == 2
        store.apply([ops.TenantErased(number=0, tenant_id="gone")])
        eventually(lambda: marked(7) not in files_of(tmp_path))
        eventually(lambda: len(set((tmp_path / "keys").iterdir())) == 1)
        assert store.count("gone") == 0
        store.apply([opened(9, tenant_id="gone", options=b"again")])
        assert store.find("gone", "s9").options == b"again"
        assert store.find("t", "s8").unreadable is None
        assert len(set((tmp_path / "keys").iterdir()) - keys) == 1


def test_what_the_process_before_could_not_finish_is_finished_at_the_start(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with store_in(before, erase_within_s=1000) as store:
        filled(store, 7, chance=random.Random(15), tenant_id="gone")
        filled(store, 8, chance=random.Random(15))
        store.apply([ops.TenantErased(number=0, tenant_id="gone")])
        # What a kill leaves: the files as they are now.
        shutil.copytree(before, after, ignore=shutil.ignore_patterns("*-shm"))
    assert marked(7) in files_of(after)
    with store_in(after, erase_within_s=1000) as store:
        eventually(lambda: marked(7) not in files_of(after))
        eventually(lambda: len(list((after / "keys").iterdir())) == 1)
        assert len(store.turns(8)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_nothing_of_what_is_erased_stays_where_rows_lay_before_they_were_moved(tmp_path, seed):
    """Many conversations grow between each other, so that pages are split and merged."""
    chance = random.Random(seed)
    rounds = {}
    erased = set()
    with store_in(tmp_path, erase_within_s=1000) as store:
        for _ in range(500):
            number = chance.randrange(100, 160)
            if number in erased:
                continue
            if number not in rounds:
                store.apply([opened(number, label=marked(number).decode() * chance.randrange(20))])
                rounds[number] = 0
            elif chance.random() < 0.04:
                store.apply([ops.ConversationErased(number=number)])
                erased.add(number)
            else:
                grow(store, number, rounds[number], chance=chance)
                rounds[number] += 1
        assert erased
    there = files_of(tmp_path)
    assert {number for number in erased if marked(number) in there} == set()
    assert any(marked(number) in there for number in rounds)


def grow(store, number, round_number, *, chance):
    size = chance.choice([3, 60, 900])
    text = (marked(number) * chance.randrange(1, size)).decode()
    frames = [marked(number) * chance.randrange(1, size)]
    first = round_number + 1
    operations = turn(
        number, f"r{round_number}", first=first, frames=frames, text=text, position=first
    )
    added = marked(number) * chance.randrange(1, 2 * size)
    memory = ops.MemoryAdded(
        number=number,
        position=first,
        request_id=f"r{round_number}",
        kind=chance.choice("ab"),
        version=1,
        content=added,
        replaces=chance.random() < 0.4,
    )
    message = ops.MessageAdded(number=number, position=1000 + round_number, message=added)
    label = ops.OptionsChanged(number=number, label=marked(number).decode() * chance.randrange(30))
    store.apply([*operations, memory, message, label])
