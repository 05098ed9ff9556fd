"""What an agent may make the gateway hold and do: each bound is measured."""

import asyncio
import contextlib
import gc
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, dictionaries, integers, lists, none, recursive, text

from frontdesk.agents.acp import lines, parsing, tool_calls, transport
from frontdesk.agents.acp.lines import Lines, LongLine
from frontdesk.agents.acp.parsing import LeftOut, left_out, parse_message
from frontdesk.agents.values import MAX_VALUES
from support import sessions
from support.acp import open_acp_session, turn_of
from support.sessions import Stream, data_of, names

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

LONGEST_TURN_S = 0.1
"""What another tenant may wait for at most, whatever one agent sends."""

END = ["answer", {"stopReason": "end_turn"}]

SAY = """
def call(**fields):
    return {"toolCallId": "c", "title": "t", **fields}
def report(**fields):
    update("tool_call_update", **call(**fields))
def asking(number, **fields):
    options = [{"optionId": "yes", "name": "yes", "kind": "allow_once"}]
    params = {"sessionId": SESSION, "toolCall": call(**fields), "options": options}
    send({"id": number, "method": "session/request_permission", "params": params})
"""


def run(source):
    return ["run", SAY + source]


@contextlib.contextmanager
def longest_turn():
    """Watch the loop: a list of the longest that it was busy at a time, in its thread's seconds."""
    loop, longest = asyncio.get_running_loop(), [0.0]
    since = time.thread_time()

    def look():
        nonlocal since, handle
        now = time.thread_time()
        longest[0], since = max(longest[0], now - since), now
        handle = loop.call_soon(look)

    handle = loop.call_soon(look)
    try:
        yield longest
    finally:
        handle.cancel()


# -- time --------------------------------------------------------------------------------------

LARGE = [
    'update("tool_call", **call(rawInput=[[]] * 1_000_000))',
    'report(status="completed", rawOutput=[{"a": []}] * 300_000)',
    'report(content=[{}] * 900_000)',
    'report(content=[{}] * 9_000, locations=[{}] * 9_000)',
    'asking(1, rawInput={str(n): n for n in range(200_000)})',
    'send({"method": "session/update", "params": [[]] * 1_000_000})',
    'send({"method": "_their/own", "params": [[]] * 1_000_000})',
    'send({"id": 1, "method": "fs/read_text_file", "params": [[]] * 1_000_000})',
    'send({"id": 99, "result": [[]] * 1_000_000})',
    'update("plan", entries=[{"content": "", "priority": "low", "status": "pending"}] * 50_000)',
    'update("agent_message_chunk", content={"type": "text", "text": "x" * 15_000_000})',
    'report(rawInput="x" * 15_000_000)',
    'report(content=[{"type": "diff", "path": "/a", "newText": "ä, [{" * 400_000}])',
]  # fmt: skip


@pytest.mark.parametrize("source", LARGE)
async def test_no_message_keeps_the_loop_from_the_others(source):
    async with open_acp_session("Scripted") as conversation:
        await turn_of(conversation, json.dumps([END]))
        gc.collect()
        with longest_turn() as longest:
            events = await turn_of(conversation, json.dumps([run(source), END]))
        assert names(events)[-1] == "agent_end"
        assert longest[0] < LONGEST_TURN_S


# -- memory ------------------------------------------------------------------------------------


def rss_bytes():
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024


@pytest.mark.parametrize(
    ("size", "pending"),
    [(12_000_000, 0), (3_000_000, 20), (300_000, 20)],
)
async def test_twenty_large_permissions_hold_little(size, pending):
    async with open_acp_session("Scripted", service={"abort_grace_s": 20}) as conversation:
        await turn_of(conversation, json.dumps([END]))
        gc.collect()
        before = rss_bytes()
        asking = f'for n in range(20): asking(n, rawInput={{"text": "x" * {size}}})'
        stream = Stream(conversation, since=None, from_now=True, bound_s=60)
        conversation.prompt(json.dumps([run(asking), ["line", BY_THE_WAY]]))
        await stream.until("message_delta")
        assert len(conversation.parts.approvals) == pending
        gc.collect()
        # Buffers of the process that are reused, and what the allocator keeps, are in it.
        assert rss_bytes() - before < 64 * 1024 * 1024
        stream.close()


BY_THE_WAY = json.dumps(
    {
        "jsonrpc": "2.0",
        "method": "session/update",
        "params": {
            "sessionId": "s-1",
            "update": {
                "sessionUpdate": "agent_message_chunk",
                "content": {"type": "text", "text": "all asked"},
            },
        },
    }
)


async def test_a_thousand_calls_that_do_not_end_hold_little():
    reports = (
        'for n in range(200): update("tool_call", toolCallId=str(n), title="t", status="pending",'
        ' rawOutput="x" * 900_000)'
    )
    async with open_acp_session("Scripted") as conversation:
        await turn_of(conversation, json.dumps([END]))
        gc.collect()
        before = rss_bytes()
        stream = Stream(conversation, since=None, from_now=True, bound_s=60)
        conversation.prompt(json.dumps([run(reports), ["line", BY_THE_WAY]]))
        await stream.until("message_delta")
        gc.collect()
        assert rss_bytes() - before < 64 * 1024 * 1024
        stream.close()


async def test_what_is_kept_of_calls_is_counted_and_let_go_at_their_end(monkeypatch):
    monkeypatch.setattr(tool_calls, "MAX_KEPT_BYTES", 1000)
    source = (
        'for n in range(3): update("tool_call", toolCallId=str(n), title="t",'
        ' rawOutput="x" * 400)\n'
        'for n in range(3): update("tool_call_update", toolCallId=str(n), status="completed")\n'
        'update("tool_call", toolCallId="4", title="t", rawOutput="y" * 900, status="completed")'
    )
    async with open_acp_session("Scripted") as conversation:
        events = await turn_of(conversation, json.dumps([run(source), END]))
        results = [data_of(each)["result"] for each in events if each.name == "tool_execution_end"]
        assert results == ["x" * 400, "x" * 400, "<400 bytes>", "y" * 900]


# -- what is too large is refused, and its agent lives on ---------------------------------------


async def test_a_request_that_is_too_large_is_refused_by_its_id():
    source = (
        'asking(7, content=[{"type": "content", "content": {"type": "text", "text": "x" * %d}}])\n'
        "answer = next(INPUT)\n"
        "say(f\"{answer['id']} {answer['error']['data']}\")"
    )
    async with open_acp_session("Scripted") as conversation:
        script = json.dumps([run(source % 5_000_000), END])
        assert "7 {'details': 'it is too long'}" in sessions.text(
            await turn_of(conversation, script)
        )


async def test_too_much_that_is_asked_at_once_is_refused(monkeypatch):
    monkeypatch.setattr(transport, "MAX_UNDER_WAY_BYTES", 100_000)
    source = (
        'for n in range(10): asking(n, rawInput="x" * 30_000)\n'
        'answers = [next(INPUT) for _ in range(7)]\n'
        'say(str(sorted({answer["error"]["data"]["details"] for answer in answers})))'
    )  # fmt: skip
    async with open_acp_session("Scripted") as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps([run(source), END]))
        events = await stream.until("agent_end")
        stream.close()
        assert sessions.text(events) == "['too much is asked at once']"
        assert names(events).count("approval_required") == 3


async def test_an_id_that_is_used_again_before_its_answer_is_refused():
    source = "asking(1)\nasking(1)\nsay(str(next(INPUT)['error']['data']))"
    async with open_acp_session("Scripted") as conversation:
        events = await turn_of(conversation, json.dumps([run(source), END]))
        assert "used again" in sessions.text(events)
        assert names(events).count("approval_required") == 1


@pytest.mark.parametrize("text", ['"x" * 5_000_000', "[[]] * 50_000"])
async def test_a_report_that_is_too_large_is_told_of(text):
    source = f'update("agent_message_chunk", content={{"type": "text", "text": {text}}})'
    async with open_acp_session("Scripted") as conversation:
        events = await turn_of(conversation, json.dumps([run(source), END]))
        reasons = [data_of(each)["reason"] for each in events if each.name == "error"]
        assert reasons == ["message_too_large"]
        assert names(events)[-1] == "agent_end"


async def test_an_answer_that_is_too_large_ends_its_turn_and_not_the_session():
    async with open_acp_session("Scripted") as conversation:
        script = 'send({"id": 2, "result": {"_meta": "x" * 5_000_000}})'
        events = await turn_of(conversation, json.dumps([["run", script]]))
        assert names(events)[-2:] == ["error", "agent_abort"]
        events = await turn_of(conversation, json.dumps([["line", BY_THE_WAY], END]))
        assert sessions.text(events) == "all asked"


def test_a_long_line_says_whose_it_was(monkeypatch):
    monkeypatch.setattr(lines, "MAX_MESSAGE_BYTES", 10_000)
    body = {"text": "x" * 50_000, "id": 1, "method": "none"}
    for message, found in (
        ({"jsonrpc": "2.0", "id": 5, "method": "m", "params": body}, (5, True, "m")),
        ({"params": body, "method": "m", "id": "a", "jsonrpc": "2.0"}, ("a", True, "m")),
        ({"jsonrpc": "2.0", "method": "m", "params": body}, (None, False, "m")),
        ({"jsonrpc": "2.0", "id": 9, "result": body}, (9, True, None)),
        ({"result": body, "id": 9}, (9, True, None)),
        ({"params": body}, (None, False, None)),
    ):
        cut, came = Lines(), []
        encoded = json.dumps(message).encode() + b"\n" + b'{"next":1}\n'
        for at in range(0, len(encoded), 4096):
            cut.feed(encoded[at : at + 4096])
            while (line := cut.take()) is not None:
                came.append(line)
        long, following = came
        assert isinstance(long, LongLine)
        assert (long.size, following) == (len(encoded) - 12, b'{"next":1}')
        known = left_out(long)
        assert (known.id, known.has_id, known.method) == found


values = recursive(
    none() | booleans() | integers(-9, 9) | text(alphabet='a,[{"\\', max_size=5),
    lambda each: lists(each, max_size=4) | dictionaries(text(alphabet="ab", max_size=2), each),
)


@given(values)
def test_a_large_message_is_read_as_a_small_one_is(value):
    message = {"jsonrpc": "2.0", "id": 1, "method": "some/method", "params": value}
    encoded = json.dumps(message).encode()
    small, bound = parse_message(encoded), parsing.SMALL_BYTES
    parsing.SMALL_BYTES = 0
    try:
        large = parse_message(encoded)
    finally:
        parsing.SMALL_BYTES = bound
    assert large == small


def test_a_large_call_is_read_as_a_small_one_is(monkeypatch):
    call = {
        "sessionUpdate": "tool_call_update",
        "toolCallId": "c",
        "status": "completed",
        "content": [{"type": "diff", "path": "/a", "oldText": None, "newText": "b"}],
        "locations": [{"path": "/a", "line": 3}],
        "rawInput": {"a": [1, "half \ud83d"]},
        "rawOutput": None,
        "kind": "edit",
        "title": "t",
    }
    params = {"sessionId": "s", "update": call}
    encoded = json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": params}).encode()
    small = parse_message(encoded)
    monkeypatch.setattr(parsing, "SMALL_BYTES", 300)
    assert len(encoded) > 300
    assert parse_message(encoded) == small
    assert not isinstance(small, LeftOut)


def test_the_bounds_are_those_of_the_documents():
    document = Path(__file__).parents[3] / "docs" / "how-to" / "coding-agents.md"
    said = document.read_text()
    mib = 1024 * 1024
    for size, words in (
        (lines.MAX_MESSAGE_BYTES, "MiB a message"),
        (lines.MAX_LINE_BYTES, "MiB a line"),
        (transport.MAX_UNDER_WAY_BYTES, "MiB of requests being answered"),
        (tool_calls.MAX_KEPT_BYTES, "MiB of what is known of calls"),
        (transport.MAX_UNREAD_BYTES, "MiB that the program leaves unread"),
    ):
        assert f"| {size // mib} {words}" in said
    assert f"{MAX_VALUES:,} values" in said
    assert f"{transport.MAX_UNSOLICITED:,} messages" in said
