"""The log of a conversation and its readers: numbers, bounds, and where streams begin."""

import asyncio
import tracemalloc

import pytest

from frontdesk import InvalidArgument
from frontdesk.agents.errors import EventTooLarge
from frontdesk.agents.events import (
    AgentEnd,
    Gap,
    LastMessage,
    MessageDelta,
    PromptReceived,
    SessionEnd,
    ToolExecutionEnd,
    ToolExecutionStart,
    TurnTokens,
)
from frontdesk.gateway.event_frames import named_frame
from frontdesk.sessions.errors import ReaderTooSlow
from frontdesk.sessions.event_log import EventLog
from frontdesk.sessions.event_reader import BATCH, EventReader, StreamStart

pytestmark = pytest.mark.anyio

END = AgentEnd(LastMessage("assistant", ""), TurnTokens())


def filled(count, **bounds):
    log = EventLog(fence=7, **bounds)
    for number in range(1, count + 1):
        log.append(MessageDelta(str(number)))
    return log


def reader_of(log, start=None, **options):
    return EventReader(log, start or StreamStart(0), on_close=lambda: None, **options)


async def read_all(reader):
    events = []
    while (batch := await reader.next()) is not None:
        events += batch
    return events


def indices(events):
    return [event.index for event in events]


# -- what is held --------------------------------------------------------------------------------


def test_indices_count_from_one_without_gaps():
    log = EventLog()
    assert [log.append(MessageDelta("x")).index for _ in range(5)] == [1, 2, 3, 4, 5]
    assert (log.oldest, log.last_index, len(log)) == (1, 5, 5)


async def test_a_burst_of_thousands_of_events_in_one_millisecond_is_lost_or_repeated_nowhere():
    log = EventLog()
    reader = reader_of(log)
    reading = asyncio.create_task(read_all(reader))
    await asyncio.sleep(0)
    log.append(PromptReceived("go"))
    for _ in range(5000):
        log.append(MessageDelta("x"))
    log.close()
    assert indices(await reading) == list(range(1, 5002))


def test_the_last_1024_events_are_held_and_the_whole_latest_turn():
    log = EventLog()
    log.append(PromptReceived("first"))
    for _ in range(3000):
        log.append(MessageDelta("x"))
    log.append(END)
    assert log.oldest == 1, "a turn stays whole after its end, for who comes late to it"
    log.append(PromptReceived("second"))
    assert log.oldest == 3003 - 1023
    for _ in range(5000):
        log.append(MessageDelta("x"))
    assert log.oldest == 3003


def test_a_log_never_holds_more_bytes_than_it_may_whatever_the_turn():
    log = EventLog(max_bytes=100_000)
    log.append(PromptReceived("go"))
    for _ in range(1000):
        log.append(MessageDelta("x" * 1000))
        assert log.held_bytes <= 100_000
    held = log.read(log.oldest - 1, limit=10_000)
    assert sum(each.held_bytes for each in held) == log.held_bytes
    assert indices(held) == list(range(log.oldest, log.last_index + 1))


@pytest.mark.parametrize(
    "event",
    [
        MessageDelta("x"),
        MessageDelta("x" * 50),
        MessageDelta("x" * 50_000),
        MessageDelta("\N{GRINNING FACE}" * 1000),
        ToolExecutionStart("call-1", "tool", {str(number): number for number in range(1000)}),
        ToolExecutionEnd("call-1", "tool", "ok", [[]] * 20_000, 1),
    ],
    ids=["letter", "words", "long", "emoji", "arguments", "result"],
)
def test_the_memory_of_a_log_stays_within_its_bound_frames_included(event):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        log = EventLog(max_bytes=2_000_000)
        log.append(PromptReceived("go"))
        while log.oldest == 1:
            logged = log.append(event, request_id="req_0123456789abcdef")
            logged.encoded(named_frame)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 2_000_000 * 1.1


def test_an_event_that_is_too_large_changes_nothing():
    log = EventLog(max_event_bytes=1000)
    with pytest.raises(EventTooLarge) as refused:
        log.append(MessageDelta("x" * 1000))
    assert refused.value.limit == 1000
    assert (log.last_index, log.held_bytes) == (0, 0)


def test_an_event_is_encoded_once_however_many_read_it():
    log, asked = filled(1), []

    def encoder(logged):
        asked.append(logged.index)
        return b"<" + logged.json + b">"

    first, second = log.read(0, limit=1), log.read(0, limit=1)
    assert first[0].json is second[0].json
    assert first[0].encoded(encoder) is second[0].encoded(encoder)
    assert asked == [1]


def test_the_encodings_of_two_protocols_are_never_mixed_up():
    (logged,) = filled(1).read(0, limit=1)
    for _ in range(2):
        assert logged.encoded(lambda each: b"one" + each.json) == b"one" + logged.json
        assert logged.encoded(lambda each: b"two" + each.json) == b"two" + logged.json


# -- reading -------------------------------------------------------------------------------------


async def test_three_hundred_readers_are_woken_once_for_a_batch():
    log = EventLog()
    readers = [reader_of(log) for _ in range(300)]
    waiting = [asyncio.create_task(each.next()) for each in readers]
    await asyncio.sleep(0)
    for _ in range(10):
        log.append(MessageDelta("x"))
    for batch in await asyncio.gather(*waiting):
        assert indices(batch) == list(range(1, 11))


async def test_readers_that_were_just_woken_get_what_follows_in_one_batch_and_the_end_at_once(
    monkeypatch,
):
    monkeypatch.setattr("frontdesk.sessions.event_log.REST_FOR_COST", 1e9)
    monkeypatch.setattr("frontdesk.sessions.event_log._LONGEST_REST_S", 1e9)
    log = EventLog()
    batches = [[] for _ in range(300)]

    async def read(reader, got):
        while (batch := await reader.next()) is not None:
            got.append(len(batch))

    reading = [asyncio.create_task(read(reader_of(log), got)) for got in batches]
    await asyncio.sleep(0)
    for _ in range(100):
        log.append(MessageDelta("x"))
        await asyncio.sleep(0)
    log.close()
    await asyncio.gather(*reading)
    assert batches == [[1, 99]] * 300


async def test_a_reader_gets_at_most_a_batch_at_a_time():
    log = filled(BATCH + 1)
    reader = reader_of(log)
    assert len(await reader.next()) == BATCH
    assert indices(await reader.next()) == [BATCH + 1]


async def test_a_reader_that_is_too_slow_is_told_and_can_resume():
    log = filled(10, min_events=4)
    reader = reader_of(log, StreamStart(6))
    for _ in range(10):
        log.append(MessageDelta("more"))
    with pytest.raises(ReaderTooSlow) as slow:
        await reader.next()
    assert (slow.value.next_index, slow.value.oldest) == (7, 17)
    resumed = reader_of(log, StreamStart.after("7-16", log))
    assert indices(await resumed.next()) == [17, 18, 19, 20]


async def test_a_read_that_is_cancelled_loses_nothing():
    log = EventLog()
    reader = reader_of(log)
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    log.append(MessageDelta("x"))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert indices(await reader.next()) == [1]


async def test_a_closed_log_is_read_to_its_end_and_then_the_stream_is_over():
    log = filled(3)
    log.close()
    reader = reader_of(log)
    assert indices(await reader.next()) == [1, 2, 3]
    assert await reader.next() is None


async def test_closing_a_reader_ends_its_pending_read_and_tells_once():
    told = []
    reader = EventReader(EventLog(), StreamStart(0), on_close=lambda: told.append(1))
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    reader.close()
    reader.close()
    assert await reading is None
    assert told == [1]


async def test_a_nudge_makes_a_read_return_with_what_there_is():
    log = EventLog()
    reader = reader_of(log)
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    reader.nudge()
    assert await reading == []
    reader.nudge()
    assert await reader.next() == []
    reader.nudge()
    log.append(MessageDelta("x"))
    assert indices(await reader.next()) == [1]


async def test_a_filter_by_type_keeps_the_numbers_of_what_it_lets_through():
    log = EventLog()
    for number in range(3):
        log.append(PromptReceived(str(number)))
        for _ in range(300):
            log.append(MessageDelta("x"))
    log.close()
    reader = reader_of(log, types=frozenset({"prompt_received"}))
    assert indices(await read_all(reader)) == [1, 302, 603]


# -- where a stream begins -----------------------------------------------------------------------


async def test_a_stream_resumes_after_an_id_or_a_bare_index_with_nothing_lost_or_repeated():
    log = filled(10)
    for since in ("7-4", "4"):
        start = StreamStart.after(since, log)
        assert start.gap is None
        assert indices(await reader_of(log, start).next()) == [5, 6, 7, 8, 9, 10]


async def test_a_client_that_has_everything_waits_for_the_next_event():
    log = filled(3)
    reader = reader_of(log, StreamStart.after("7-3", log))
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    log.append(MessageDelta("x"))
    assert indices(await reading) == [4]


@pytest.mark.parametrize(
    "since", ["7-11", "6-4", "8-4", "11", "7-3", "0", "99999999999999999999-1"]
)
async def test_what_is_not_held_of_another_fence_or_beyond_the_end_begins_with_a_gap(since):
    log = filled(10, min_events=6)
    reader = reader_of(log, StreamStart.after(since, log))
    gap = await reader.next()
    assert isinstance(gap, Gap)
    assert gap == Gap(requested=since, resumes_at="7-5")
    assert indices(await reader.next()) == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("since", ["", "x", "-1", "7-", "-", "7-4-1", "1" * 21, "٣", "4 "])
def test_what_is_no_id_is_refused(since):
    with pytest.raises(InvalidArgument):
        StreamStart.after(since, filled(10))


async def test_a_stream_begins_at_a_prompt_that_is_still_to_come_and_skips_what_is_before():
    log = filled(3)
    reader = reader_of(log, StreamStart.at_prompt("r-2", None, log))
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    log.append(PromptReceived("other"), request_id="r-1")
    log.append(MessageDelta("x"), request_id="r-1")
    await asyncio.sleep(0)
    log.append(PromptReceived("mine"), request_id="r-2")
    log.append(MessageDelta("y"), request_id="r-2")
    assert indices(await reading) == [6, 7]


async def test_a_stream_that_waits_for_a_prompt_hears_of_the_sessions_end():
    log = filled(3)
    reader = reader_of(log, StreamStart.at_prompt("never", None, log))
    log.append(MessageDelta("x"))
    log.append(SessionEnd("deleted"))
    log.close()
    assert not reader.drained
    assert [event.name for event in await reader.next()] == ["session_end"]
    assert await reader.next() is None


async def test_without_any_prompt_a_stream_begins_at_index_one():
    log = filled(3)
    assert indices(await reader_of(log, StreamStart.at_prompt(None, None, log)).next()) == [1, 2, 3]


async def test_a_prompt_that_is_no_longer_held_whole_begins_with_a_gap():
    log = EventLog(max_bytes=10_000)
    log.append(PromptReceived("go"), request_id="r-1")
    for _ in range(100):
        log.append(MessageDelta("x" * 1000))
    assert isinstance(await reader_of(log, StreamStart.at_prompt("r-1", 1, log)).next(), Gap)


# -- the end of a stream -------------------------------------------------------------------------


def test_a_reader_is_drained_only_when_it_has_all_of_a_conversation_that_ended():
    log = filled(3)
    assert not reader_of(log, StreamStart(3)).drained
    log.close()
    assert reader_of(log, StreamStart(3)).drained
    assert not reader_of(log, StreamStart(2)).drained
    assert not reader_of(log, StreamStart.after("6-3", log)).drained, "the gap is still to be told"


def test_a_filtered_reader_is_drained_when_nothing_that_it_wants_is_left():
    log = filled(3)
    log.append(SessionEnd("deleted"))
    log.close()
    assert reader_of(log, StreamStart(2), types=frozenset({"prompt_received"})).drained
    assert not reader_of(log, StreamStart(2), types=frozenset({"session_end"})).drained
