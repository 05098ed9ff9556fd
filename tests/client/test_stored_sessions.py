"""Sessions that are stored, by both clients: copied, written out, read in, and followed on."""

import pytest

from client.both import client_of
from frontdesk.client import (
    AlreadyExistsError,
    BadRequestError,
    CheckpointRefusedError,
    ImportRefusedError,
    MalformedAnswerError,
    NotFoundError,
)
from frontdesk.client.gateway_calls import list_sessions
from gateway.running import ACME, RunningGateway

STORED = {"store": "sqlite"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that stores its conversations."""
    with RunningGateway(tmp_path_factory.mktemp("state"), conversations=STORED) as running:
        yield running


def texts(session):
    return [each.content for each in session.messages()]


def test_a_session_is_forked_at_its_end_at_a_turn_and_at_a_checkpoint(acme, sid):
    session = acme.open("test", session_id=sid)
    with pytest.raises(CheckpointRefusedError):
        session.make_checkpoint("early")
    first = session.prompt("one")
    first.text()
    made = session.make_checkpoint("after-one")
    session.prompt("two").text()
    assert texts(session.fork()) == ["one", "one ", "two", "two "]
    copy = session.fork(after=first.request_id, session_id=f"{sid}-2")
    assert copy.session_id == f"{sid}-2"
    assert copy.get().forked_from == sid
    assert texts(copy) == texts(session.fork(after="after-one")) == ["one", "one "]
    assert session.checkpoints() == (made,)
    session.delete_checkpoint("after-one")
    with pytest.raises(NotFoundError):
        session.delete_checkpoint("after-one")
    with pytest.raises(BadRequestError):
        session.fork(after="after-one")


def test_what_is_exported_is_imported_under_another_id(acme, sid):
    session = acme.open("test", session_id=sid)
    session.prompt("one").text()
    lines = session.export()
    with pytest.raises(AlreadyExistsError):
        acme.import_session(lines)
    copy = acme.import_session(lines, session_id=f"{sid}-2")
    assert texts(copy) == texts(session)
    assert copy.export().splitlines()[1:] == lines.splitlines()[1:]
    assert copy.prompt("two").text() == "two "
    with pytest.raises(ImportRefusedError, match="line 2: "):
        acme.import_session(lines.replace(b'"message"', b'"massage"', 1), session_id="x")


def test_a_stream_goes_on_over_a_restart_of_the_gateway(kind, tmp_path, sid):
    with RunningGateway(tmp_path, conversations=STORED) as gateway:
        port, client = gateway.port, client_of(kind, gateway.url, key=ACME)
        session = client.__enter__().open("test", session_id=sid)
        session.prompt("one").text()
        stream = session.events(since="0")
        seen = [next(stream)]
        while seen[-1].event.name != "agent_end":
            seen.append(next(stream))
    with RunningGateway(tmp_path, conversations=STORED, port=port):
        turn = session.prompt("two")
        while seen[-1].request_id != turn.request_id or seen[-1].event.name != "agent_end":
            seen.append(next(stream))
        assert [each.index for each in seen] == list(range(1, len(seen) + 1))
        assert [each.event.name for each in seen].count("agent_restarted") == 1
        stream.close()
        client.__exit__(None, None, None)


def test_an_export_that_was_cut_off_is_told(kind):
    from client.scripted import ScriptedServer

    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\ncontent-length: 24\r\n\r\n"
        b'{"line":"conversation"}\n'
    )
    with (
        ScriptedServer(answer) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(MalformedAnswerError, match="cut off"),
    ):
        client.session("s").export()


def test_a_list_is_asked_for_by_the_names_on_the_wire():
    chosen = {"ended": True, "state": ["idle", "ended"], "first": "2026-11-01", "label": "a b"}
    target = list_sessions(limit=5, after="7", chosen=chosen).target
    assert target == (
        "/v1/sessions?limit=5&after=7&kept=true&state=idle%2Cended&label=a+b&from=2026-11-01"
    )
