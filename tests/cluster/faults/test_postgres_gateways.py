"""Gateways on an engine, with their conversations in one PostgreSQL: they outlive their node."""

import signal

import pytest

from cluster.faults.desks import gateways
from cluster.faults.engines import VALKEY_9, running
from gateway.test_workers_storage import RECALLING, Follower, prompt, text_of
from support.postgres import PASSWORD, USER, PostgresServer
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(240)]

WITHIN_S = 60
FIRST, SECOND = 0, 1
OPEN = "state IN ('queued', 'running', 'suspended')"
STORED = """
[conversations]
store = "postgresql://{user}@127.0.0.1:{port}/postgres"
password_file = "{password}"
"""


@pytest.fixture(scope="module")
def postgres():
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def three_gateways(tmp_path_factory, postgres):
    directory = tmp_path_factory.mktemp("gateways")
    password = directory / "password"
    password.write_text(PASSWORD)
    stored = STORED.format(user=USER, port=postgres.port, password=password)
    with (
        running(VALKEY_9) as engine,
        gateways(directory / "desks", engine, 3, conversations=RECALLING + stored) as desk,
    ):
        yield desk


@pytest.fixture
def desk(three_gateways):
    """Three gateways; what the test before has ended is started again."""
    if three_gateways.servers[FIRST].process.poll() is not None:
        three_gateways.restart(FIRST)
    return three_gateways


@pytest.fixture
def other(desk):
    """A client of the gateway that has none of the sessions at first."""
    with desk.servers[SECOND].client() as client:
        yield client


def opened(desk, *, at, **more):
    """Open a session as soon as its gateway may: one that was held to be dead is joining anew."""

    def answered():
        body = {"model": "test", "blueprint": "recalling", **more}
        answer = desk.ask("POST", "/v1/sessions", at=at, json=body)
        assert answer.status_code in (201, 503), answer.text
        return answer.json().get("sessionId")

    return eventually(answered, within_s=WITHIN_S)


def followed(desk, session_id):
    return Follower(lambda: desk.servers[SECOND], session_id)


def begun_turn(other, follower, session_id):
    """Begin a turn that waits, and another behind it."""
    cut = prompt(other, session_id, "wait")
    queued = prompt(other, session_id, "two")
    eventually(lambda: text_of(follower, cut) == "working ", within_s=WITHIN_S)
    return cut, queued


def test_while_the_database_is_gone_what_must_be_stored_is_503_and_it_heals(desk, other, postgres):
    session_id = opened(desk, at=SECOND)
    follower = followed(desk, session_id)
    done = prompt(other, session_id, "one")
    follower.await_event("agent_end")
    postgres.kill()
    try:
        answer = other.post(f"/v1/sessions/{session_id}/prompt", json={"text": "two"})
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        assert PASSWORD not in answer.text
    finally:
        postgres.start()
    asked = prompt(other, session_id, "three")
    eventually(lambda: follower.ends_of(asked), within_s=WITHIN_S)
    follower.stop()
    assert follower.ends_of(done) == [("agent_end", None)]
    assert follower.ends_of(asked) == [("agent_end", None)]
    for server in desk.servers:
        assert PASSWORD not in server.log


def test_a_node_that_wakes_after_it_was_taken_over_writes_nothing(desk, other, postgres):
    session_id = opened(desk, at=FIRST)
    follower = followed(desk, session_id)
    stopped = desk.servers[FIRST]
    cut, queued = begun_turn(other, follower, session_id)
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        follower.await_event("agent_end")
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    eventually(lambda: f"{session_id} is another node's" in stopped.log, within_s=WITHIN_S)
    asked = prompt(other, session_id, "three")
    follower.await_event("agent_end", count=2)
    follower.stop()
    assert follower.ends_of(cut) == [("agent_abort", "interrupted")]
    assert follower.ends_of(queued) == [("agent_end", None)]
    assert "user: wait" in text_of(follower, asked)
    assert owners(postgres, [session_id]) <= {"desk1", "desk2"}


def test_a_killed_nodes_conversations_go_on_at_another(desk, other):
    """Its streams too; the turn is ended once, and the next agent knows what was said."""
    opened(desk, at=FIRST, sessionId="mine")
    follower = followed(desk, "mine")
    done = prompt(other, "mine", "one")
    follower.await_event("agent_end")
    cut, queued = begun_turn(other, follower, "mine")
    desk.servers[FIRST].process.kill()
    follower.await_event("agent_end", count=2)
    asked = prompt(other, "mine", "three")
    follower.await_event("agent_end", count=3)
    follower.stop()
    assert follower.ends_of(done) == [("agent_end", None)]
    assert follower.ends_of(cut) == [("agent_abort", "interrupted")]
    assert follower.ends_of(queued) == [("agent_end", None)]
    assert follower.types.count("agent_abort") == 1
    assert "session_end" not in follower.types
    said = text_of(follower, asked)
    for text in ("user: one", "user: wait", "assistant: working", "user: two"):
        assert text in said


def test_what_waits_at_a_killed_node_goes_on_at_the_others_and_nobody_asks(desk, other, postgres):
    sessions = [opened(desk, at=FIRST) for _ in range(6)]
    prompts = [[prompt_at(desk, each, text) for text in ("wait", "b", "c")] for each in sessions]
    eventually(lambda: turns(postgres, sessions, "running") == len(sessions), within_s=WITHIN_S)
    desk.servers[FIRST].process.kill()
    eventually(lambda: turns(postgres, sessions) == 0, within_s=WITHIN_S)
    assert owners(postgres, sessions) <= {"desk1", "desk2"}
    for session_id, (cut, *queued) in zip(sessions, prompts, strict=True):
        follower = followed(desk, session_id)
        follower.await_event("agent_end", count=2)
        follower.stop()
        assert follower.ends_of(cut) == [("agent_abort", "interrupted")]
        for each in queued:
            assert follower.ends_of(each) == [("agent_end", None)]
        assert follower.types.count("agent_start") == 3


def test_what_waits_at_a_node_that_ends_in_order_goes_on_at_the_others(desk, other, postgres):
    session_id = opened(desk, at=FIRST)
    cut, queued = (prompt_at(desk, session_id, text) for text in ("wait", "two"))
    eventually(lambda: turns(postgres, [session_id], "running") == 1, within_s=WITHIN_S)
    assert desk.servers[FIRST].terminate() == 0
    eventually(lambda: turns(postgres, [session_id]) == 0, within_s=WITHIN_S)
    follower = followed(desk, session_id)
    follower.await_event("agent_end")
    follower.stop()
    assert follower.ends_of(cut) == [("agent_abort", "shutdown")]
    assert follower.ends_of(queued) == [("agent_end", None)]


def test_nothing_is_taken_from_a_node_that_stands_still_within_its_hold(desk, other, postgres):
    session_id = opened(desk, at=FIRST)
    for text in ("wait", "two"):
        prompt_at(desk, session_id, text)
    eventually(lambda: turns(postgres, [session_id], "running") == 1, within_s=WITHIN_S)
    await_that_it_says = told(desk.servers[SECOND])
    stopped = desk.servers[FIRST].process
    stopped.send_signal(signal.SIGSTOP)
    try:
        await_that_it_says("node desk0 is suspect")
    finally:
        stopped.send_signal(signal.SIGCONT)
    await_that_it_says("node desk0 is alive")
    assert (owners(postgres, [session_id]), turns(postgres, [session_id])) == ({"desk0"}, 2)
    answer = desk.ask("DELETE", f"/v1/sessions/{session_id}", at=FIRST)
    assert answer.status_code == 200, answer.text


def prompt_at(desk, session_id, text):
    """Post a prompt to the gateway that has the session; return its request id."""
    with desk.servers[FIRST].client() as client:
        return prompt(client, session_id, text)


def turns(postgres, sessions, state=None):
    """Return how many turns of sessions are not ended, as the database has it."""
    asked = (
        "SELECT count(*) FROM frontdesk.turn JOIN frontdesk.conversation USING (number)"
        f" WHERE session_id = ANY(%s) AND turn.{OPEN} AND (%s::text IS NULL OR turn.state = %s)"
    )
    return postgres.ask(asked, sessions, state, state)[0][0]


def told(server):
    """Return what waits until a gateway has logged a text once more than by now."""
    before = server.log

    def await_text(text):
        eventually(lambda: server.log.count(text) > before.count(text), within_s=WITHIN_S)

    return await_text


def owners(postgres, sessions):
    """Return the names of the nodes that own them."""
    asked = "SELECT owner FROM frontdesk.conversation WHERE session_id = ANY(%s)"
    return {owner.rpartition("/")[0] for (owner,) in postgres.ask(asked, sessions)}


def test_what_a_node_left_at_its_end_another_has_at_once(desk, other):
    session_id = opened(desk, at=FIRST)
    follower = followed(desk, session_id)
    done = prompt(other, session_id, "one")
    follower.await_event("agent_end")
    assert desk.servers[FIRST].terminate() == 0
    asked = prompt(other, session_id, "two")
    follower.await_event("agent_end", count=2)
    follower.stop()
    assert follower.ends_of(done) + follower.ends_of(asked) == [("agent_end", None)] * 2
    assert "user: one" in text_of(follower, asked)
