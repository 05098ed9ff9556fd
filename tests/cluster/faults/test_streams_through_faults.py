"""Streams and WebSockets of a session that lives on another node, when one of the two dies."""

import contextlib
import json
import signal
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cluster.faults.desks import ANSWER_S, gateways, timed
from cluster.faults.engines import VALKEY_9, running
from cluster.faults.streams import Following
from gateway.running import ACME
from support.cluster_nodes import PATIENCE_S
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WORDS = 150
OWNER, BETWEEN = 0, 1


@pytest.fixture
def desk(tmp_path):
    """Two gateways; sessions are made on the first, and reached through the second."""
    with running(VALKEY_9) as engine, gateways(tmp_path, engine) as desk:
        yield desk


def to_the_end(desk, session_id, at, seen):
    """Follow a turn from where its stream broke off; as clients do, who ask again after a 503."""
    seen = list(seen)

    def goes_on():
        last = next(number for number, *_ in reversed(seen) if number)
        resumed = desk.events(session_id, at, headers={"Last-Event-ID": last})
        with contextlib.suppress(AssertionError, httpx.HTTPError), resumed as stream:
            for event in stream:
                seen.append(event)
                if event[1] == "agent_end":
                    return True
        return False

    eventually(goes_on, within_s=PATIENCE_S)
    return seen


def words_of(events):
    """Return the text that the agent's words make."""
    return "".join(data["delta"] for _, kind, data in events if kind == "message_delta")


def numbers(count):
    """Return what the agent says."""
    return "".join(f"{number} " for number in range(count))


def test_a_stream_whose_node_between_is_killed_goes_on_at_another_without_loss_or_repetition(desk):
    desk.create("s", blueprint="slow", at=OWNER)
    through = Following(desk, "s", BETWEEN, since="0")
    assert desk.prompt("s", str(WORDS), at=BETWEEN).status_code == 202
    through.reached(20)
    desk.servers[BETWEEN].signal(signal.SIGKILL)
    both = to_the_end(desk, "s", OWNER, through.ends())
    assert words_of(both) == numbers(WORDS)
    ids = [number for number, *_ in both if number]
    assert len(ids) == len(set(ids))


def test_a_stream_whose_owner_is_killed_ends_at_once_and_nobody_waits(desk):
    desk.create("s", blueprint="slow", at=OWNER)
    through = Following(desk, "s", BETWEEN, since="0")
    desk.prompt("s", str(WORDS * 10), at=BETWEEN)
    through.reached(20)
    desk.servers[OWNER].signal(signal.SIGKILL)
    killed = time.monotonic()
    through.ends()
    assert through.ended_at - killed < ANSWER_S
    answer, took = timed(lambda: desk.get("s", at=BETWEEN))
    assert took < ANSWER_S
    assert answer.status_code in {503, 404, 410}
    eventually(lambda: desk.get("s", at=BETWEEN).status_code in {404, 410}, within_s=PATIENCE_S)


def test_a_stream_whose_owner_stands_still_for_a_while_loses_nothing(desk):
    s = desk.minted(blueprint="slow", at=OWNER)
    through = Following(desk, s, BETWEEN, since="0")
    desk.prompt(s, str(WORDS), at=BETWEEN)
    through.reached(20)
    desk.servers[OWNER].signal(signal.SIGSTOP)
    try:
        answer, took = timed(lambda: desk.get(s, at=BETWEEN))
        assert took < ANSWER_S
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
    finally:
        desk.servers[OWNER].signal(signal.SIGCONT)
    eventually(lambda: desk.get(s, at=BETWEEN).status_code == 200, within_s=PATIENCE_S)
    # The stream lived through it, or ended and goes on where it was.
    eventually(
        lambda: through.ended_at or any(kind == "agent_end" for _, kind, _ in through.events),
        within_s=PATIENCE_S,
    )
    seen = list(through.events)
    if seen[-1][1] != "agent_end":
        seen = to_the_end(desk, s, BETWEEN, seen)
    whole = seen[: next(at for at, each in enumerate(seen) if each[1] == "agent_end")]
    assert words_of(whole) == numbers(WORDS)


def test_a_websocket_whose_owner_is_killed_is_closed_at_once(desk):
    desk.create("s", blueprint="slow", at=OWNER)
    url = desk.servers[BETWEEN].url.replace("http", "ws", 1) + "/v1/sessions/s/ws"
    with connect(url, additional_headers={"X-API-Key": ACME}, proxy=None) as socket:
        socket.send(json.dumps({"action": "prompt", "text": str(WORDS * 10)}))
        for _ in range(20):
            socket.recv(PATIENCE_S)
        desk.servers[OWNER].signal(signal.SIGKILL)
        killed = time.monotonic()
        with contextlib.suppress(ConnectionClosed):
            while socket.recv(PATIENCE_S):
                pass
        assert time.monotonic() - killed < ANSWER_S
