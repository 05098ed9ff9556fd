"""Dormant sessions as operators see them: their rows, their lines in the log, their numbers."""

import logging

import pytest

from frontdesk.agents import Blueprints
from frontdesk.gateway.metrics.gateway_metrics import LIVES
from gateway.agents import parrot, patient
from gateway.exposition import Scraped
from gateway.feeds import feed, snapshot_of
from gateway.requirements import covers
from gateway.running import OPERATOR, RunningGateway, create, events, turn_of, until
from support.sessions import scripted
from support.waiting import eventually

pytestmark = pytest.mark.slow
SQLITE = {"store": "sqlite"}


@pytest.fixture
def rested(tmp_path):
    """Return a gateway that has begun again, with a session of before."""
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as acme:
        create(acme, "one")
        turn_of(acme, "one", "hello")
    with RunningGateway(tmp_path, conversations=SQLITE) as running:
        yield running


def test_a_dormant_sessions_row_says_so_and_follows_it_as_it_goes_on(rested):
    with rested.client() as acme, feed(acme) as opened:
        assert not opened.until(snapshot_of).rows
        assert acme.get("/v1/sessions/one").json()["state"] == "idle"
        held = opened.until(lambda held: "one" in held.ids)
        assert (held.rows["acme", "one"]["state"], held.rows["acme", "one"]["turns"]) == (
            "dormant", 1,
        )  # fmt: skip
        turn_of(acme, "one", "again")
        opened.until(lambda held: held.rows["acme", "one"]["turns"] == 2)
        assert held.rows["acme", "one"]["state"] != "dormant"
        assert acme.delete("/v1/sessions/one").status_code == 200
        opened.until(lambda held: not held.rows)


def test_operators_find_a_dormant_session_by_its_state(rested):
    with rested.client() as acme, rested.client(OPERATOR) as operator:
        acme.get("/v1/sessions/one")
        (row,) = operator.get("/ops/sessions?state=dormant").json()["sessions"]
        assert (row["sessionId"], row["pid"], row["fence"]) == (
            "one", None, row["fence"],
        )  # fmt: skip
        assert operator.get("/ops/sessions?state=idle").json()["sessions"] == []


def test_a_dormant_session_that_ends_takes_nothing_from_those_that_live(tmp_path):
    agents = Blueprints([parrot, patient])
    with (
        RunningGateway(tmp_path, conversations=SQLITE, agents=agents) as running,
        running.client() as acme,
    ):
        for each in ("one", "two", "three"):
            create(acme, each, blueprint="patient")
        acme.post("/v1/sessions/one/prompt", json={"text": "x"})
        eventually(lambda: acme.get("/v1/sessions/one").json()["state"] == "working")
        for each in ("one", "two"):
            assert acme.post(f"/v1/sessions/{each}/close").status_code == 200
        assert acme.delete("/v1/sessions/one").status_code == 200
        acme.post("/v1/sessions/two/resume")
        acme.delete("/v1/sessions/two")
        counted = Scraped.of(running)
        assert sum(sign * counted.sum(name) for name, sign in LIVES.items()) == 1
        assert counted.sum("frontdesk_session_dormant_total", reason="closed") == 2
        assert counted.sum("frontdesk_session_dormant_ends_total") == 1
        # Its turn ended with its agent, and not with the session.
        assert counted.sum("frontdesk_turns_total", outcome="agent_ended") == 1
        # As 0 already: a first one shows as an increase.
        assert 'frontdesk_session_dormant_total{blueprint="patient",reason="lost"' in counted.text


@covers("operators.actions")
def test_an_operators_stop_ends_a_session_and_erases_nothing_of_its_tenants(tmp_path):
    with (
        RunningGateway(tmp_path, conversations=SQLITE) as running,
        running.client() as acme,
        running.client(OPERATOR) as operator,
    ):
        for each in ("live", "dormant"):
            create(acme, each)
            turn_of(acme, each, "hello")
        create(acme, "unstored", ephemeral=True)
        assert acme.post("/v1/sessions/dormant/close").status_code == 200
        for each in ("live", "dormant", "unstored"):
            stopped = operator.post(f"/ops/sessions/acme/{each}/stop")
            assert stopped.json() == {"sessionId": each, "status": "deleted"}
        again = operator.post("/ops/sessions/acme/live/stop")
        assert (again.status_code, again.json()["error"]) == (404, "session_dead")
        for each in ("live", "dormant"):
            assert acme.get(f"/v1/sessions/{each}").json()["error"] == "session_dead"
            export = acme.get(f"/v1/sessions/{each}/export")
            assert (export.status_code, "hello" in export.text) == (200, True)
        with events(acme, "live", since="0") as stream:
            assert until(stream, "session_end")[-1][2] == {"reason": "closed"}
        assert acme.post("/v1/sessions/live/resume").json()["live"]
        assert acme.delete("/v1/sessions/dormant").status_code == 200
        assert acme.get("/v1/sessions/dormant").json()["error"] == "not_found"


def test_what_rests_is_no_live_session_and_no_new_one_when_it_goes_on(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "frontdesk.events"):
        with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as acme:
            create(acme, "one")
            counted = Scraped.of(running)
            assert counted.sum("frontdesk_session_starts_total") == 1
            assert counted.sum("frontdesk_storage_committed_bytes_total") > 0
            assert counted.sum("frontdesk_storage_file_bytes") > 0
        with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as acme:
            acme.get("/v1/sessions/one")
            counted = Scraped.of(running)
            assert counted.sum("frontdesk_sessions") == 0
            assert counted.sum("frontdesk_conversations_dormant") == 1
            turn_of(acme, "one", "again")
            counted = Scraped.of(running)
            assert counted.sum("frontdesk_sessions") == 1
            assert counted.sum("frontdesk_conversations_dormant") == 0
            assert counted.sum("frontdesk_session_starts_total") == 0
            assert counted.sum("frontdesk_session_resumes_total") == 1
            acme.delete("/v1/sessions/one")
            counted = Scraped.of(running)
            assert counted.sum("frontdesk_conversations_erased_total") == 1
            assert counted.sum("frontdesk_sessions") == 0
    events = [each.event for each in caplog.records if getattr(each, "session_id", "") == "one"]
    sessions = [each for each in events if each.startswith("session_")]
    assert sessions == ["session_started", "session_dormant", "session_resumed", "session_ended"]


def test_a_session_whose_agent_is_restarted_was_not_dormant(tmp_path, caplog):
    async def crashing(turn):
        turn.memory = turn.text
        if turn.text == "crash":
            raise ValueError("as asked")
        yield "fine"

    rules = {"restart": "on_crash", "errors_end": "session"}
    agents = Blueprints([scripted(crashing, name="fragile", **rules)])
    with (
        caplog.at_level(logging.INFO, "frontdesk.events"),
        RunningGateway(tmp_path, conversations=SQLITE, agents=agents) as running,
        running.client() as acme,
    ):
        create(acme, "one", blueprint="fragile")
        turn_of(acme, "one", "hello")
        acme.post("/v1/sessions/one/prompt", json={"text": "crash"})
        turn_of(acme, "one", "again")
        counted = Scraped.of(running)
        assert counted.sum("frontdesk_session_resumes_total") == 0
        assert counted.sum("frontdesk_session_starts_total") == 1
    (line,) = [each for each in caplog.records if each.event == "session_restarted"]
    assert (line.memory, line.restarts) == ("kept", 1)
    assert not [each for each in caplog.records if each.event == "session_resumed"]
