"""Conversations in either store: what is written is read back, once, by whoever may."""

import msgspec
import pytest

from frontdesk.persistence import operations as ops
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.stored import ListQuery
from support.persistence import SECRET, begun, opened, turn


def test_a_conversation_is_read_back_as_it_was_opened(store):
    store.apply([opened(7, options=b'{"a":1}', label="x", forked_from="other")])
    found = store.find("t", "s7")
    assert (found.number, found.owner, found.state) == (7, "n1", "live")
    assert (found.options, found.label, found.forked_from) == (b'{"a":1}', "x", "other")
    assert (found.oldest_index, found.last_index, found.waiting) == (1, 0, 0)
    assert [epoch.fence for epoch in found.epochs] == [7007]
    assert store.find("other", "s7") is None
    assert store.find("t", "s7", fence=7007) == found
    assert store.find("t", "s7", fence=1) is None
    assert store.greatest_fence() == 7007


def test_a_turn_is_read_back_with_its_events_messages_and_memory(store):
    store.apply([opened(7), *turn(7, "r1", first=1, frames=[b"f%d" % i for i in range(9)])])
    found = store.find("t", "s7")
    assert (found.last_index, found.last_position, found.totals) == (9, 1, b"totals")
    (kept,) = store.turns(7)
    assert (kept.position, kept.request_id, kept.state, kept.text) == (1, "r1", "completed", "hi")
    assert (kept.first_index, kept.last_index, kept.end) == (1, 9, b"end")
    assert store.turn(7, "r1") == kept
    assert store.turn(7, "r2") is None
    frames = store.frames(7, after=3, limit=4, max_bytes=10_000)
    assert [(each.index, each.frame) for each in frames] == [
        (4, b"f3"),
        (5, b"f4"),
        (6, b"f5"),
        (7, b"f6"),
    ]
    assert [each.message for each in store.messages(7)] == [b"message of r1"]
    assert [each.content for each in store.memories(7)] == [b"memory of r1"]


@pytest.mark.parametrize("encrypt", [False, True])
def test_events_are_the_same_in_the_journal_and_in_segments_and_after_a_restart(store_in, encrypt):
    frames = [b"event %d " % i * 20 for i in range(2000)]
    with store_in(encrypt=encrypt) as store:
        store.apply([opened(7), opened(8)])
        for start in range(0, 2000, 100):
            part = tuple(frames[start : start + 100])
            append = ops.FramesAppended(number=7, fence=7007, first_index=start + 1, frames=part)
            store.apply([append, msg_of_other(start)])
        before = store.frames(7, after=0, limit=5000, max_bytes=10**9)
        assert [each.frame for each in before] == frames
        assert [each.index for each in before] == list(range(1, 2001))
    with store_in(encrypt=encrypt) as store:
        assert store.frames(7, after=0, limit=5000, max_bytes=10**9) == before
        assert store.frames(7, after=1990, limit=3, max_bytes=1) == before[1990:1991]
        assert store.find("t", "s7").last_index == 2000


def msg_of_other(start):
    return ops.FramesAppended(
        number=8, fence=8008, first_index=start // 100 + 1, frames=(b"other",)
    )


def test_the_same_batch_again_changes_nothing(store):
    batch = [
        opened(7),
        *turn(7, "r1", first=1, frames=[b"a", b"b"]),
        ops.TurnQueued(number=7, request_id="r2", text="x", api_key=None, at_ms=5),
        ops.TurnBegun(number=7, request_id="r2", first_index=3, at_ms=6),
        ops.TurnSuspended(number=7, request_id="r2", kind="k", version=1, content=b"state"),
        ops.RequestAsked(number=7, request_id="r2", reference="q", kind="approval", event=b"event"),
        ops.CheckpointMade(number=7, name="c", request_id="r1", position=1, at_ms=3),
        ops.AnswerStored(number=7, slot="s", digest=b"d", answer=b"a", until_ms=99),
    ]
    store.apply(batch)
    before = everything(store, 7)
    assert before[0].held_bytes > 0
    store.apply(batch)
    assert everything(store, 7) == before


def test_the_files_of_a_turn_go_at_its_end(store_in):
    with store_in() as store:
        queued = ops.TurnQueued(
            number=7, request_id="r", text="x", api_key=None, at_ms=5, attachments=b"file" * 1000
        )
        store.apply([opened(7)])
        empty = store.find("t", "s7").held_bytes
        store.apply([queued])
        assert store.turn(7, "r").attachments == b"file" * 1000
        assert store.find("t", "s7").held_bytes > empty + 4000
        finished = turn(7, "r", first=1, frames=[b"a"])[-1]
        for _ in range(2):
            store.apply([finished])
            assert store.turn(7, "r").attachments == b""
            assert store.find("t", "s7").held_bytes < empty + 100


def everything(store, number):
    return (
        store.find("t", f"s{number}"),
        store.frames(number, after=0, limit=100, max_bytes=1000),
        store.messages(number),
        store.turns(number),
        store.memories(number),
        store.requests(number),
        store.checkpoints(number),
        store.answer("s", now_ms=98),
    )


def test_a_suspended_turn_goes_on_with_its_answer_and_its_request_goes_with_its_end(store):
    store.apply([opened(7), *begun(7, "r1")])
    store.apply(
        [
            ops.TurnSuspended(number=7, request_id="r1", kind="k", version=2, content=b"state"),
            ops.RequestAsked(
                number=7, request_id="r1", reference="q", kind="approval", event=b"event"
            ),
        ]
    )
    suspended = store.turn(7, "r1")
    assert (suspended.state, suspended.suspended.content) == ("suspended", b"state")
    store.apply([ops.RequestAnswered(number=7, reference="q", answer=b"yes")])
    (request,) = store.requests(7)
    assert (request.event, request.answer) == (b"event", b"yes")
    store.apply([ops.TurnBegun(number=7, request_id="r1", first_index=5, at_ms=9)])
    going_on = store.turn(7, "r1")
    assert (going_on.state, going_on.first_index, going_on.suspended) == ("running", 1, None)
    store.apply([ended(7, "r1")])
    assert store.requests(7) == []


def ended(number, request_id, *, state="completed"):
    return ops.TurnFinished(
        number=number,
        request_id=request_id,
        state=state,
        last_index=1,
        end=b"end",
        usage=b"usage",
        totals=b"totals",
        at_ms=7,
    )


def test_pages_of_messages_and_turns_end_where_they_are_large_enough_and_have_one_at_least(store):
    store.apply([opened(7)])
    for place in range(1, 5):
        queued = ops.TurnQueued(
            number=7, request_id=f"r{place}", text="t" * 1000, api_key=None, at_ms=place
        )
        added = ops.MessageAdded(number=7, position=place, message=b"m" * 1000)
        store.apply([queued, added])

    def positions(found):
        return [each.position for each in found]

    assert positions(store.messages(7, max_bytes=1)) == [1]
    assert positions(store.messages(7, after=1, max_bytes=2500)) == [2, 3]
    assert positions(store.messages(7, after=1, limit=1, max_bytes=2500)) == [2]
    assert store.messages(7, after=4, max_bytes=1) == []
    assert positions(store.turns(7)) == [1, 2, 3, 4]
    assert positions(store.turns(7, max_bytes=1)) == [1]
    assert positions(store.turns(7, after=1, states=("queued",), max_bytes=2500)) == [2, 3]
    assert store.turns(7, after=4, max_bytes=1) == []


def test_lists_read_no_options_and_say_which_of_them_cannot_be_read(store):
    store.apply([opened(7, options=b"x" * 100_000), ops.ConversationLeft(number=7, at_ms=1)])
    whole = store.find("t", "s7")
    assert len(whole.options) == 100_000
    listed = ListQuery(tenant_id="t", states=("dormant",))
    for (found,) in (store.page(listed), store.expired(before_ms=9, limit=9)):
        assert found == msgspec.structs.replace(whole, options=b"")


def test_a_page_has_a_tenants_own_of_the_states_that_are_asked_for(store):
    store.apply([opened(number) for number in range(1, 8)])
    store.apply([opened(8, tenant_id="other")])
    store.apply(
        [
            ops.ConversationLeft(number=2, at_ms=1),
            ops.ConversationEnded(number=3, reason=b"done", at_ms=1),
        ]
    )
    listed = ListQuery(tenant_id="t", limit=3)
    assert [each.number for each in store.page(listed)] == [1, 2, 4]
    after = ListQuery(tenant_id="t", after=4, limit=3)
    assert [each.number for each in store.page(after)] == [5, 6, 7]
    (ended,) = store.page(ListQuery(tenant_id="t", states=("ended",)))
    assert (ended.number, ended.ended) == (3, b"done")
    assert store.count("t") == 7


def test_what_is_erased_takes_nothing_more(store):
    store.apply([opened(7), *turn(7, "r1", first=1, frames=[b"a"])])
    store.apply([ops.ConversationErased(number=7)])
    store.apply(turn(7, "r2", first=2, frames=[b"b"]))
    assert store.find("t", "s7") is None
    assert store.frames(7, after=0, limit=9, max_bytes=99) == []
    assert store.turns(7) == []


def test_what_another_node_owns_is_left_out_and_said(store_in):
    with store_in(owner="n1") as store:
        store.apply([opened(7), opened(8)])
    with store_in(owner="n2") as store:
        applied = store.apply([ops.ConversationLeft(number=7, at_ms=1), opened(9)])
        assert applied.lost == {7}
        assert store.find("t", "s7").state == "live"
        assert [each.number for each in store.unfinished()] == [9]
        assert store.claim(8) == [8]
        assert store.claim() == [7]
        assert store.claim() == []
        assert [each.number for each in store.unfinished()] == [7, 8, 9]


def test_events_in_the_journal_are_found_after_a_claim(store_in):
    frames = ops.FramesAppended(number=7, fence=7007, first_index=1, frames=(b"a", b"b"))
    more = ops.FramesAppended(number=7, fence=7007, first_index=2, frames=(b"b", b"c"))
    with store_in(owner="n1") as store:
        store.apply([opened(7), frames])
    with store_in(owner="n2") as store:
        assert len(store.frames(7, after=0, limit=9, max_bytes=99)) == 2
        store.claim()
        store.apply([more])
        found = store.frames(7, after=0, limit=9, max_bytes=99)
        assert [each.frame for each in found] == [b"a", b"b", b"c"]


def test_events_that_are_dropped_are_gone_and_the_count_goes_on(store):
    frames = tuple(b"%d" % i for i in range(1, 11))
    store.apply([opened(7)])
    store.apply([ops.FramesAppended(number=7, fence=7007, first_index=1, frames=frames)])
    store.apply([ops.FramesDropped(number=7, before_index=6)])
    found = store.find("t", "s7")
    assert (found.oldest_index, found.last_index) == (6, 10)
    kept = store.frames(7, after=0, limit=99, max_bytes=99)
    assert [each.index for each in kept] == [6, 7, 8, 9, 10]
    store.apply([ops.FramesDropped(number=7, before_index=99)])
    assert store.frames(7, after=0, limit=99, max_bytes=99) == []
    assert store.find("t", "s7").last_index == 10


def remembered(kind, content, *, replaces, position=1):
    return ops.MemoryAdded(
        number=7,
        position=position,
        request_id=f"r{position}",
        kind=kind,
        version=1,
        content=content,
        replaces=replaces,
    )


def test_memory_that_replaces_takes_the_place_of_its_kind_alone(store):
    store.apply([opened(7)])
    store.apply([remembered("a", b"1", replaces=False), remembered("b", b"2", replaces=False)])
    store.apply([remembered("a", b"3", replaces=False)])
    assert [each.content for each in store.memories(7)] == [b"1", b"2", b"3"]
    store.apply([remembered("a", b"4", replaces=True)])
    assert [each.content for each in store.memories(7)] == [b"2", b"4"]


def checkpoint(name, position):
    request_id = f"r{position}"
    return ops.CheckpointMade(
        number=7, name=name, request_id=request_id, position=position, at_ms=3
    )


def contents(store, *, at=None):
    return [each.content for each in store.memories(7, at=at)]


@pytest.mark.parametrize("encrypt", [False, True])
def test_what_a_checkpoint_has_of_memory_is_held_as_long_as_one_needs_it(store_in, encrypt):
    with store_in(encrypt=encrypt) as store:
        store.apply([opened(7), remembered("b", b"other", replaces=False)])
        empty = store.find("t", "s7").held_bytes
        store.apply([remembered("a", b"1" * 1000, replaces=True)])
        batch = [
            remembered("a", b"2" * 1000, replaces=True, position=2),
            remembered("a", b"and", replaces=False, position=3),
            checkpoint("c", 3),
            checkpoint("same", 3),
            remembered("a", b"4" * 1000, replaces=True, position=4),
        ]
        store.apply(batch)
        held = [b"other", b"2" * 1000, b"and"], [b"other", b"4" * 1000]
        assert (contents(store, at=3), contents(store)) == held
        size = store.find("t", "s7").held_bytes
        assert 2000 < size - empty < 2200
        store.apply(batch)
        assert (contents(store, at=3), contents(store)) == held
        assert store.find("t", "s7").held_bytes == size
        store.apply([remembered("a", b"5" * 1000, replaces=True, position=5)])
        assert (contents(store, at=3), contents(store, at=4)) == (held[0], [b"other"])
        for name, left in (("c", held[0]), ("same", [b"other"])):
            store.apply([ops.CheckpointRemoved(number=7, name=name)])
            assert contents(store, at=3) == left
        assert contents(store) == [b"other", b"5" * 1000]
        assert store.find("t", "s7").held_bytes - empty < 1100


def test_what_a_turn_leaves_late_is_not_what_the_next_one_replaced(store):
    store.apply([opened(7), remembered("a", b"1", replaces=True), checkpoint("c", 1)])
    store.apply([remembered("a", b"2", replaces=True, position=2), checkpoint("d", 2)])
    store.apply([remembered("a", b"late", replaces=True)])
    assert (contents(store), contents(store, at=1)) == ([b"late"], [b"late"])
    store.apply([remembered("a", b"3", replaces=True, position=3)])
    assert (contents(store), contents(store, at=2)) == ([b"3"], [b"late"])


@pytest.mark.parametrize("lost", ["secret", "key"])
def test_a_conversation_whose_key_is_lost_is_listed_as_unreadable(store_in, tmp_path, lost):
    with store_in(encrypt=True) as store:
        store.apply([opened(7), *turn(7, "r1", first=1, frames=[b"a"])])
    secret = b"another" * 5 if lost == "secret" else SECRET
    if lost == "key":
        for key in (tmp_path / "keys").iterdir():
            key.unlink()
    with store_in(secret=secret, encrypt=True) as store:
        (found,) = store.page(ListQuery(tenant_id="t"))
        assert found.unreadable
        assert found.options == b""
        assert [each.number for each in store.unfinished()] == [7]
        with pytest.raises(ConversationUnreadable):
            store.messages(7)
        store.apply([opened(8)])
        assert store.find("t", "s8").unreadable is None
        store.apply([ops.ConversationEnded(number=7, reason=b"reason", at_ms=9)])
        assert store.find("t", "s7").state == "ended"
        assert [each.number for each in store.unfinished()] == [8]
