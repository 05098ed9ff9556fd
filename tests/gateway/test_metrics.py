"""`/metrics`: what sessions, turns, streams and requests did is there, to the number."""

import asyncio
import json
import time
from contextlib import suppress

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from websockets.sync.client import connect

from frontdesk.agents import Blueprints, Turn, blueprint
from frontdesk.gateway.metrics.bounded_labels import OTHER
from frontdesk.gateway.metrics.definitions import METRICS
from frontdesk.gateway.metrics.gateway_metrics import PERIOD_S
from gateway.agents import careful, clumsy, curious, parrot, patient
from gateway.exposition import Scraped
from gateway.running import ACME, OPERATOR, RunningGateway, create, events, turn_of, until
from support.waiting import eventually

PLANTED = "the-prompt-is-the-secret-4711"
SECRETS = (PLANTED, ACME, OPERATOR, "k-acme")


@blueprint("priced", models=("test", "made:*"))
async def priced(turn: Turn):
    """Use tokens of which some were cached."""
    turn.usage(prompt=10, completion=5, cached=4, cost=0.5)
    yield turn.text


@blueprint("dying", errors_end="session")
async def dying(turn: Turn):
    """End its session by an error."""
    yield "I will "
    raise RuntimeError(PLANTED)


@blueprint("rising", errors_end="session", restart="on_crash")
async def rising(turn: Turn):
    """Be restarted after an error."""
    yield "I will "
    raise RuntimeError(PLANTED)


AGENTS = Blueprints([parrot, patient, careful, curious, clumsy, priced, dying, rising])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with RunningGateway(tmp_path_factory.mktemp("state"), agents=AGENTS) as running:
        yield running


@pytest.fixture
def before(gateway):
    return Scraped.of(gateway)


def grown(gateway, before, name, **labels):
    return Scraped.of(gateway).sum(name, **labels) - before.sum(name, **labels)


def test_starts_ends_and_live_sessions_are_those_that_there_were(gateway, acme, sid, before):
    for number in range(3):
        create(acme, f"{sid}-{number}")
    labels = {"tenant": "acme", "blueprint": "parrot"}
    assert grown(gateway, before, "frontdesk_session_starts_total", **labels) == 3
    assert grown(gateway, before, "frontdesk_session_start_seconds_count") == 3
    assert grown(gateway, before, "frontdesk_sessions", tenant="acme", state="idle") == 3
    for number in range(2):
        acme.delete(f"/v1/sessions/{sid}-{number}")
    ends = grown(gateway, before, "frontdesk_session_ends_total", reason="deleted", **labels)
    assert ends == 2
    assert grown(gateway, before, "frontdesk_sessions") == 1


def test_turns_are_counted_by_how_they_ended_and_never_by_what_a_client_says(
    gateway, acme, sid, before
):
    create(acme, f"{sid}-a")
    turn_of(acme, f"{sid}-a", "some words")
    create(acme, f"{sid}-b", blueprint="clumsy")
    turn_of(acme, f"{sid}-b", "fail")
    create(acme, f"{sid}-c", blueprint="patient")
    with events(acme, f"{sid}-c", since="0") as stream:
        acme.post(f"/v1/sessions/{sid}-c/prompt", json={"text": "x"})
        until(stream, "message_delta")
        acme.post(f"/v1/sessions/{sid}-c/abort", json={"reason": PLANTED})
        until(stream, "agent_abort")
    create(acme, f"{sid}-d", blueprint="patient")
    acme.post(f"/v1/sessions/{sid}-d/prompt", json={"text": "x"})
    eventually(lambda: acme.get(f"/v1/sessions/{sid}-d").json()["state"] == "working")
    acme.delete(f"/v1/sessions/{sid}-d")
    for outcome, blueprint_ in (
        ("completed", "parrot"),
        ("error", "clumsy"),
        ("aborted", "patient"),
        ("session_ended", "patient"),
    ):
        labels = {"tenant": "acme", "blueprint": blueprint_, "outcome": outcome}
        assert grown(gateway, before, "frontdesk_turns_total", **labels) == 1, outcome
    assert grown(gateway, before, "frontdesk_turns_total") == 4
    assert grown(gateway, before, "frontdesk_turn_seconds_count") == 4
    assert grown(gateway, before, "frontdesk_first_output_seconds_count") == 4


def test_tokens_add_up_and_cost_is_what_the_meter_has(gateway, acme, sid, before):
    create(acme, sid, blueprint="priced")
    for _ in range(3):
        turn_of(acme, sid, "x")
    for kind, count in (("prompt", 18), ("cached", 12), ("completion", 15)):
        labels = {"tenant": "acme", "model": "test", "kind": kind}
        assert grown(gateway, before, "frontdesk_tokens_total", **labels) == count
    assert grown(gateway, before, "frontdesk_cost_usd_total", model="test") == 1.5


def test_a_model_is_called_as_the_configuration_has_it(gateway, acme, sid, before):
    create(acme, sid, blueprint="priced", model=f"made:{PLANTED}")
    turn_of(acme, sid, "x")
    assert grown(gateway, before, "frontdesk_cost_usd_total", model="made:*") == 0.5


def test_approvals_and_prompts_that_wait_are_counted_while_they_do(gateway, acme, sid, before):
    create(acme, sid, blueprint="careful")
    with events(acme, sid, since="0") as stream:
        for text in ("one", "two"):
            acme.post(f"/v1/sessions/{sid}/prompt", json={"text": text})
        asked = until(stream, "approval_required")[-1][2]
        assert grown(gateway, before, "frontdesk_approvals_pending") == 1
        assert grown(gateway, before, "frontdesk_prompts_queued") == 1
        assert grown(gateway, before, "frontdesk_sessions", state="waiting_approval") == 1
        acme.post(f"/v1/sessions/{sid}/approve", json={"approvalId": asked["approvalId"]})
        until(stream, "approval_resolved")
    acme.delete(f"/v1/sessions/{sid}")
    for name in ("approvals_pending", "prompts_queued", "sessions"):
        assert grown(gateway, before, f"frontdesk_{name}") == 0
    assert grown(gateway, before, "frontdesk_approval_wait_seconds_count") == 2


def test_an_answer_to_a_question_shows_in_the_state_of_its_session(gateway, acme, sid, before):
    create(acme, sid, blueprint="curious")
    with events(acme, sid, since="0") as stream:
        acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
        asked = until(stream, "ask_user")[-1][2]
        assert grown(gateway, before, "frontdesk_sessions", state="waiting_input") == 1
        acme.post(f"/v1/sessions/{sid}/respond", json={"ref": asked["ref"], "response": "a"})
        until(stream, "agent_end")
    assert grown(gateway, before, "frontdesk_sessions", state="waiting_input") == 0
    assert grown(gateway, before, "frontdesk_sessions", state="idle") == 1


def test_a_death_is_counted_with_how_long_its_clean_up_took(gateway, acme, sid, before):
    create(acme, sid, blueprint="dying")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
    with events(acme, sid) as stream:
        until(stream, "session_end")
    assert grown(gateway, before, "frontdesk_session_ends_total", reason="crashed") == 1
    assert grown(gateway, before, "frontdesk_cleanup_seconds_count") == 1
    assert grown(gateway, before, "frontdesk_cleanup_seconds_bucket", le="1") == 1


def test_a_session_that_is_restarted_has_not_ended(gateway, acme, sid, before):
    create(acme, sid, blueprint="rising")
    with events(acme, sid, since="0") as stream:
        acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
        until(stream, "agent_restarted")
    assert grown(gateway, before, "frontdesk_session_ends_total") == 0
    assert grown(gateway, before, "frontdesk_session_starts_total") == 1
    assert grown(gateway, before, "frontdesk_cleanup_seconds_count") == 1
    assert grown(gateway, before, "frontdesk_sessions", state="idle") == 1


def test_streams_are_counted_by_kind_while_they_are_open(gateway, acme, sid, before):
    create(acme, sid)
    with (
        events(acme, sid),
        connect(
            f"{gateway.ws_url}/v1/sessions/{sid}/ws", additional_headers={"X-API-Key": ACME}
        ) as socket,
    ):
        assert grown(gateway, before, "frontdesk_streams", kind="events") == 1
        assert grown(gateway, before, "frontdesk_streams", kind="websocket") == 1
        socket.send('{"type": "approve", "approvalId": "no-such"}')
        answer = socket.recv()
    eventually(lambda: grown(gateway, before, "frontdesk_streams") == 0)
    code = json.loads(answer)["error"]
    assert grown(gateway, before, "frontdesk_refusals_total", error=code) == 1, answer


def test_a_stream_that_cannot_resume_is_a_gap(gateway, acme, sid, before):
    create(acme, sid)
    with events(acme, sid, since="77-5") as stream:
        assert next(iter(stream))[2]["reason"] == "gap"
    assert grown(gateway, before, "frontdesk_stream_gaps_total") == 1


def test_requests_are_counted_by_route_and_refusals_by_their_code_however_early(
    gateway, acme, sid, before
):
    create(acme, sid)
    acme.get(f"/v1/sessions/{sid}")
    acme.get("/v1/sessions/no-such")
    acme.get(f"/v1/{sid}/made/up")
    acme.request("PROPFIND", f"/v1/sessions/{sid}")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"wrong": 1})
    with gateway.client("no-such-key-0123456789") as stranger:
        stranger.get(f"/v1/sessions/{sid}")
    now = Scraped.of(gateway)

    def count(name, **labels):
        return now.sum(name, **labels) - before.sum(name, **labels)

    one = {"route": "/v1/sessions/{sessionId}"}
    requests = "frontdesk_http_requests_total"
    assert count(requests, route="/v1/sessions", method="POST", status="201") == 1
    assert count(requests, **one, method="GET", status="200") == 1
    assert count(requests, **one, method="GET", status="404") == 1
    assert count(requests, **one, method="GET", status="401") == 1
    assert count(requests, **one, method=OTHER, status="405") == 1
    assert count(requests, route=OTHER) == 1
    assert count("frontdesk_http_request_seconds_count", **one) == 4
    refusals = {"not_found": 2, "unauthorized": 1, "bad_request": 1, "method_not_allowed": 1}
    for error, number in refusals.items():
        assert count("frontdesk_refusals_total", error=error) == number, error


def test_what_no_application_sees_is_counted_as_refused_too(gateway, before):
    with gateway.connect() as connection:
        connection.sendall(b"this is no request\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")
    assert grown(gateway, before, "frontdesk_refusals_total", error="bad_request") == 1
    assert grown(gateway, before, "frontdesk_http_requests_total") == 0


def test_a_client_that_leaves_and_a_stream_are_no_durations(gateway, acme, sid, before):
    create(acme, sid)
    with events(acme, sid):
        pass
    stream = {"route": "/v1/sessions/{sessionId}/events"}
    eventually(lambda: grown(gateway, before, "frontdesk_http_requests_total", **stream) == 1)
    assert grown(gateway, before, "frontdesk_http_request_seconds_count", **stream) == 0


def test_a_turn_that_is_deaf_is_counted_while_it_runs(gateway):
    heard = []

    async def deaf():
        while not heard:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    async def abandon():
        task = asyncio.create_task(deaf())
        await asyncio.sleep(0)
        gateway.gateway.service._context.abandon(task)

    gateway.call(abandon)
    assert Scraped.of(gateway).sum("frontdesk_agents_stuck") == 1
    heard.append(True)
    eventually(lambda: Scraped.of(gateway).sum("frontdesk_agents_stuck") == 0)


def test_every_metric_of_the_list_is_exposed_and_no_other(gateway, acme, sid):
    create(acme, sid)
    turn_of(acme, sid, "x")
    scraped = Scraped.of(gateway)
    names = {line.split()[2] for line in scraped.text.splitlines() if line.startswith("# TYPE")}
    assert names == METRICS.keys()
    for family in scraped.families:
        for sample in family.samples:
            definition = METRICS.get(sample.name) or METRICS[sample.name.rpartition("_")[0]]
            assert sample.labels.keys() - {"le"} == set(definition.labels), sample


def test_a_scraper_gets_the_form_that_it_asks_for(gateway):
    with gateway.client(OPERATOR) as operator:
        plain = operator.get("/metrics")
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        opened = operator.get("/metrics", headers=accept)
        head = operator.head("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")
    strictly = {each.name for each in openmetrics.text_string_to_metric_families(opened.text)}
    assert {name.removesuffix("_total") for name in METRICS} == strictly
    assert (head.status_code, head.content) == (200, b"")


def test_no_id_no_text_and_no_secret_is_in_the_metrics(gateway, acme, sid):
    create(acme, f"id-{PLANTED}", blueprint="dying", userData={"x": PLANTED})
    turn_of(acme, f"id-{PLANTED}", PLANTED)
    acme.get(f"/v1/sessions/{PLANTED}/events")
    acme.get(f"/{PLANTED}?key={PLANTED}")
    scraped = Scraped.of(gateway)
    assert not [each for each in SECRETS if each in scraped.text]


@pytest.mark.slow
def test_a_loop_that_stands_still_shows_in_its_lag(gateway, before):
    async def stand_still():
        time.sleep(PERIOD_S + 0.5)  # what is due once a second is late by half a second at least

    def late():
        after, name = Scraped.of(gateway), "frontdesk_loop_lag_seconds_bucket"
        every, in_time = (
            after.sum(name, le=le) - before.sum(name, le=le) for le in ("+Inf", "0.25")
        )
        return every - in_time

    gateway.call(stand_still)
    eventually(lambda: late() >= 1)
