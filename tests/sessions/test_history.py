"""The history of a conversation: messages of turns, numbered, bounded."""

import tracemalloc

import msgspec
import pytest

from frontdesk import InvalidArgument
from frontdesk.agents.events import (
    MessageDelta,
    MessageStart,
    ThinkingDelta,
    ThinkingStart,
    ToolCalls,
    ToolExecutionEnd,
    ToolExecutionStart,
)
from frontdesk.agents.records import Message, ToolCall
from frontdesk.sessions.history import History
from frontdesk.sessions.transcript import MAX_MESSAGE_CHARACTERS, Transcript


def history(**bounds):
    return History(**{"max_messages": 1000, "max_bytes": 1_000_000, **bounds})


def contents(page):
    return [message.content for message in page.messages]


def test_pages_follow_each_other_without_loss_or_repetition():
    kept = history()
    for number in range(10):
        kept.add(Message("user", str(number)))
    seen, after = [], None
    while True:
        page = kept.page(limit=3, after=after)
        seen += contents(page)
        after = page.next
        if after is None:
            break
    assert seen == [str(number) for number in range(10)]


def test_a_cursor_stays_right_while_old_messages_go():
    kept = history(max_messages=5)
    for number in range(1, 6):
        kept.add(Message("user", str(number)))
    after = kept.page(limit=2, after=None).next
    kept.add(Message("user", "6"))
    assert contents(kept.page(limit=10, after=after)) == ["3", "4", "5", "6"]
    for number in range(7, 20):
        kept.add(Message("user", str(number)))
    assert contents(kept.page(limit=10, after=after)) == ["15", "16", "17", "18", "19"]


def test_the_history_is_bounded_by_its_text_but_keeps_the_newest_message():
    kept = history(max_bytes=1300)
    for _ in range(10):
        kept.add(Message("user", "x" * 300))
    assert len(kept.all()) == 2
    kept.add(Message("user", "y" * 5000))
    assert [message.content[0] for message in kept.all()] == ["y"]


@pytest.mark.parametrize("cursor", ["x", "-1", "", "1" * 20, "1.5", "²"])
def test_a_wrong_cursor_is_refused(cursor):
    with pytest.raises(InvalidArgument):
        history().page(limit=1, after=cursor)


def told(*events):
    """Pass events through a transcript as a turn does; return the opened events and the history."""
    kept = history()
    transcript, came = Transcript(kept), []
    for event in events:
        opening = transcript.opening(event)
        for each in (opening, event) if opening else (event,):
            transcript.add(each)
            came.append(each.name)
    return came, transcript.close(), [(m.role, m.content) for m in kept.all()], kept.all()


def test_deltas_open_their_message_and_their_thought_by_themselves():
    came, last, _, _ = told(
        ThinkingDelta("hm"), ThinkingDelta("m"), MessageDelta("a"), MessageDelta("b")
    )
    assert came == [
        "thinking_start",
        "thinking_delta",
        "thinking_delta",
        "message_start",
        "message_delta",
        "message_delta",
    ]
    assert last.content == "ab"


def test_a_message_that_was_opened_is_not_opened_again():
    came, _, _, _ = told(MessageStart(), MessageDelta("a"), ThinkingStart(), ThinkingDelta("t"))
    assert came == ["message_start", "message_delta", "thinking_start", "thinking_delta"]


def test_tool_calls_belong_to_the_message_before_them_and_results_follow():
    _, last, messages, kept = told(
        MessageDelta("let me look"),
        ToolCalls(2),
        ToolExecutionStart("c1", "look", {"at": 1}),
        ToolExecutionStart("c2", "look", {"at": 2}),
        ToolExecutionEnd("c1", "look", "ok", {"found": 1}),
        ToolExecutionEnd("c2", "look", "ok", "two"),
        MessageDelta("it is one"),
    )
    assert messages == [
        ("assistant", "let me look"),
        ("tool_result", '{"found":1}'),
        ("tool_result", "two"),
        ("assistant", "it is one"),
    ]
    assert [call.call_id for call in kept[0].tool_calls] == ["c1", "c2"]
    assert [(each.call_id, each.status) for each in kept] == [
        *((None, None), ("c1", "ok"), ("c2", "ok"), (None, None)),
    ]
    assert last.content == "it is one"


def test_a_turn_without_words_has_an_empty_last_message_and_writes_none():
    _, last, messages, _ = told()
    assert (last.role, last.content, messages) == ("assistant", "", [])


def test_what_is_kept_of_an_endless_message_is_bounded():
    _, last, _, _ = told(*[MessageDelta("x" * 100_000)] * 20)
    assert len(last.content) == MAX_MESSAGE_CHARACTERS


def test_arguments_that_json_cannot_say_or_that_are_huge_stay_out_of_the_history():
    _, _, _, kept = told(
        ToolExecutionStart("c1", "t", {"odd": object()}),
        ToolExecutionStart("c2", "t", "x" * 200_000),
        ToolExecutionEnd("c1", "t", "ok", object()),
    )
    assert [call.args for call in kept[0].tool_calls] == [{"odd": "<object>"}, None]
    assert kept[1].content == '"<object>"'


@pytest.mark.parametrize(
    "message",
    [
        Message("user", "x"),
        Message("user", "x" * 5000),
        Message("user", "\N{GRINNING FACE}" * 5000),
        Message("tool_result", "", call_id="c" * 5000, status="ok"),
        Message("assistant", "é" * 100, (ToolCall("c", "t", {"a": list(range(500))}),)),
        Message("assistant", "", (ToolCall("c", "t", {str(n): {} for n in range(500)}),)),
    ],
    ids=["letter", "text", "emoji", "call id", "numbers", "dicts"],
)
def test_the_memory_of_a_history_stays_within_its_bound(message):
    encoded = msgspec.json.encode(message)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = history(max_messages=100_000, max_bytes=2_000_000)
        for _ in range(30_000):
            kept.add(msgspec.json.decode(encoded, type=Message))
            if len(kept.all()) < kept._newest:
                break
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(kept.all()) < kept._newest, "the bound was reached"
    assert taken < 2_000_000 * 1.2
