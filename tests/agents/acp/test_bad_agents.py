"""ACP agents that misbehave: each gives a clear refusal or error, and none hangs anybody."""

import contextlib

import pytest
from hypothesis import given
from hypothesis.strategies import binary

from frontdesk.agents.acp import lines as acp_lines
from frontdesk.agents.acp import transport
from frontdesk.agents.acp.lines import Lines, LineTooLong
from frontdesk.agents.acp.parsing import LeftOut, parse_message
from frontdesk.agents.errors import CreateFailed
from support.acp import open_acp_service, open_acp_session, open_session, turn_of
from support.sessions import BOUND_S, Stream, data_of, names, soon, text

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def refused(habit, why, **options):
    """Expect that a session cannot be opened, and that nothing is left of it."""
    async with open_acp_service(habit, **options) as service:
        with pytest.raises(CreateFailed, match=why):
            await open_session(service)
        assert service.store.count() == 0
        assert not len(service.keeper)
        yield service


async def failed_turn(habit, **options):
    """Run a turn that is to fail, and return its events and the session's last."""
    async with open_acp_session(habit, **options) as conversation:
        stream = Stream(conversation)
        conversation.prompt("go")
        events = await stream.rest()
        stream.close()
        assert names(events)[-3:] == ["error", "agent_abort", "session_end"], names(events)
        assert names(events).count("agent_abort") == 1
        return events


# -- before the first prompt -------------------------------------------------------------------


async def test_an_agent_that_never_answers_is_refused_at_the_deadline_and_the_log_says_so(caplog):
    async with refused("Silent", "not ready after 0.5 s", start_timeout_s=0.5):
        (line,) = [each.message for each in caplog.records if "not ready" in each.message]
        assert line.startswith("session acme/")
        assert line.endswith("the agent was not ready after 0.5 s")


async def test_an_agent_that_prints_rubbish_is_refused(caplog):
    async with refused("Rubbish", "failed as it was opened"):
        assert "is not the Agent Client Protocol" in caplog.text
        assert caplog.text.count("server listening") == 1


async def test_a_few_stray_lines_of_a_launcher_are_forgiven():
    async with open_acp_session("Chatty") as conversation:
        assert text(await turn_of(conversation, "hello")) == "hello"


async def test_an_agent_whose_line_never_ends_is_refused(caplog):
    async with refused("Unending", "failed as it was opened"):
        assert "is not the Agent Client Protocol" in caplog.text


async def test_an_agent_that_exits_at_once_is_refused(caplog):
    async with refused("Gone", "failed as it was opened"):
        assert "exited: 3" in caplog.text


async def test_an_agent_that_floods_before_it_is_asked_is_refused(caplog):
    async with refused("FloodingEarly", "failed as it was opened"):
        assert "that nobody asked for" in caplog.text


async def test_a_program_that_is_not_installed_is_refused():
    async with refused(("no-such-program-here",), "not installed on this server"):
        pass


async def test_a_program_that_cannot_be_executed_is_refused(tmp_path):
    program = tmp_path / "agent"
    program.write_bytes(b"\x7fELF and nothing else")
    program.chmod(0o755)
    async with refused((str(program),), r"could not be started \(exec\)"):
        pass


async def test_an_agent_of_another_version_is_refused():
    async with refused("OldFashioned", "speaks version 2"):
        pass


async def test_what_an_agent_says_as_it_refuses_is_for_operators(caplog):
    async with refused("Refusing", r"refused to open a session \(-32603\)$"):
        assert "/secret/place" in caplog.text


async def test_an_agent_that_is_not_logged_in_is_refused():
    async with refused("Locked", "not logged in"):
        pass


async def test_an_agent_is_logged_in_by_the_method_that_the_operator_names():
    async with open_acp_session("Locked", auth_method="token") as conversation:
        assert text(await turn_of(conversation, "hello")) == "hello"


# -- in a turn ---------------------------------------------------------------------------------


async def test_an_agent_that_exits_in_the_middle_ends_turn_and_session():
    events = await failed_turn("Dropping")
    assert text(events) == "half a "
    assert data_of(events[-1])["reason"] == "exited: 4"


async def test_an_agent_that_closes_its_output_and_lives_on_is_ended():
    async with open_acp_session("Closing", turn_timeout_s=0.5, cancel_patience_s=0.1) as session:
        first = await turn_of(session, "go")
        assert names(first)[-2:] == ["error", "agent_abort"]
        assert data_of(first[-1])["reason"] == "deadline"
        stream = Stream(session, since=None, from_now=True)
        session.prompt("again")
        # Not begun by an agent that cannot be reached: it waits, and is told how that ended.
        told = await stream.rest()
        assert names(told) == ["session_end"]
        assert data_of(told[-1])["reason"].startswith("crashed: AgentLost")
        stream.close()


async def test_a_message_that_is_too_large_ends_the_session(caplog):
    await failed_turn("Huge")


async def test_an_agent_that_asks_without_end_and_reads_nothing_is_ended(monkeypatch):
    # More than a pipe holds, and little enough to be reached on a busy machine.
    monkeypatch.setattr(transport, "MAX_UNREAD_BYTES", 100_000)
    await failed_turn("FloodingRequests")


async def test_answers_that_are_out_of_order_answer_nothing():
    async with open_acp_session("Disordered") as conversation:
        assert text(await turn_of(conversation, "hello")) == "hello"


async def test_messages_of_the_wrong_types_are_passed_over():
    async with open_acp_session("Malformed") as conversation:
        events = await turn_of(conversation, "hello")
        assert text(events) == "half \N{REPLACEMENT CHARACTER} of ithello"
        assert names(events)[-1] == "agent_end"


async def test_a_flood_ends_at_the_turns_deadline_and_the_gateway_lives_through_it():
    options = {"turn_timeout_s": 3.0, "cancel_patience_s": 0.1}
    async with open_acp_session("Flooding", **options) as conversation:
        conversation.prompt("go")
        stream = Stream(conversation, since=None)
        events = []
        # What is no longer held is skipped, as a slow reader would.
        while "agent_abort" not in names(events):
            with contextlib.suppress(Exception):
                events += await stream.until("agent_abort")
            stream.close()
            stream = Stream(conversation, since=str(conversation.log.oldest - 1))
            events += [event for event in await stream.reader.next() if event.name != "gap"]
        stream.close()
        assert conversation.log.last_index > 100


async def test_an_agent_that_floods_though_nobody_asked_is_ended():
    options = {"cancel_patience_s": BOUND_S, "service": {"abort_grace_s": 0.1}}
    async with open_acp_session("Flooding", **options) as conversation:
        conversation.prompt("go")
        await soon(lambda: conversation.log.last_index > 100)
        conversation.abort()
        await soon(lambda: conversation.ended is not None)
        assert str(conversation.ended.public_text) == "crashed: AgentLost"
        assert "nobody asked for" in conversation.ended.text


async def test_requests_beyond_what_can_be_answered_at_once_are_refused():
    async with open_acp_session("Crowding") as conversation:
        events = await turn_of(conversation, "go")
        assert text(events) == "36 refused"
        assert names(events).count("approval_required") == 64
        assert names(events).count("approval_resolved") == 64


async def test_calls_that_never_end_are_forgotten_and_ended():
    async with open_acp_session("Endless") as conversation:
        events = await turn_of(conversation, "go")
        assert names(events).count("tool_execution_start") == 1200
        assert names(events).count("tool_execution_end") == 1200


# -- the wire ----------------------------------------------------------------------------------


def lines_of(*pieces):
    lines, found = Lines(), []
    for piece in pieces:
        lines.feed(piece)
        while (line := lines.take()) is not None:
            found.append(line)
    return found


@given(binary())
def test_no_line_upsets_the_wire(line):
    message = parse_message(line)
    assert message is None or isinstance(message, LeftOut) or "method" in message or "id" in message


async def test_lines_are_cut_wherever_the_pieces_end():
    stream = b'{"a":1}\n\n{"b":2}\r\n{"c":3}\nleft'
    for size in range(1, len(stream)):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert lines_of(*pieces) == [b'{"a":1}', b"", b'{"b":2}\r', b'{"c":3}']


async def test_a_line_is_bounded_though_all_of_it_comes_at_once(monkeypatch):
    monkeypatch.setattr(acp_lines, "MAX_LINE_BYTES", 100_000)
    assert lines_of(b"{" + b" " * 99_999 + b"\n")
    for line in (b"{" + b" " * 100_001, b"x" * 65_537):
        for end in (b"", b"\n"):
            with pytest.raises(LineTooLong):
                lines_of(line + end)
