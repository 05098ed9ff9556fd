"""Server-sent events on a real socket: where a stream begins, goes on, and ends."""

import json
import re
import threading

import httpx
import pytest
from httpx_sse import connect_sse

from gateway.exposition import Scraped
from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create, events, parsed, turn_of, until
from support.waiting import eventually


def prompt(client, session_id, text):
    response = client.post(f"/v1/sessions/{session_id}/prompt", json={"text": text})
    assert response.status_code == 202, response.text
    return response.json()["requestId"]


def indices(turn):
    return [int(each[0].partition("-")[2]) for each in turn]


@covers("events.frame", "events.no-gaps", "streams.headers")
def test_a_turn_is_told_from_its_prompt_to_its_end(acme, sid):
    created = create(acme, sid)
    prompt(acme, sid, "one two")
    with acme.stream("GET", f"/v1/sessions/{sid}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-frontdesk-heartbeat"] == "30"
        turn = until(parsed(response.iter_lines()), "agent_end")
    assert [each[1] for each in turn] == [
        "prompt_received", "agent_start", "message_start", "message_delta", "message_delta",
        "agent_end",
    ]  # fmt: skip
    assert [each[0] for each in turn] == [f"{created['fence']}-{n}" for n in range(1, 7)]
    assert turn[0][2]["text"] == "one two"
    assert turn[-1][2]["lastMessage"] == {"role": "assistant", "content": "one two "}
    assert turn[-1][2]["tokenUsage"]["totalTokens"] == 4


def test_an_independent_client_reads_the_same(acme, sid):
    create(acme, sid)
    prompt(acme, sid, "hello there")
    with connect_sse(acme, "GET", f"/v1/sessions/{sid}/events") as source:
        seen = []
        for event in source.iter_sse():
            seen.append((event.event, json.loads(event.data), event.id))
            if event.event == "agent_end":
                break
    assert seen[0][0] == "prompt_received"
    assert all(re.fullmatch(r"\d+-\d+", each) for _, _, each in seen)


@covers("streams.begin-at-latest-prompt")
def test_a_stream_opened_after_the_prompt_sees_that_turn_whole_and_no_older_one(acme, sid):
    create(acme, sid)
    turn_of(acme, sid, "first")
    for number in range(5):
        turn = turn_of(acme, sid, f"number {number}")
        assert turn[0][1] == "prompt_received"
        assert turn[0][2]["text"] == f"number {number}"


@covers("streams.begin-at-latest-prompt")
def test_a_stream_begins_at_the_latest_prompt_even_if_that_is_still_to_come(acme, sid):
    create(acme, sid, blueprint="patient")
    prompt(acme, sid, "under way")
    latest = prompt(acme, sid, "still to come")
    with events(acme, sid) as stream:
        acme.post(f"/v1/sessions/{sid}/abort")
        first = next(stream)
        assert (first[1], first[2]["requestId"]) == ("prompt_received", latest)


def test_a_stream_since_what_a_prompt_was_answered_has_its_turn_whatever_was_accepted_later(
    acme, sid
):
    create(acme, sid)
    turn_of(acme, sid, "before")
    accepted = acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "mine"}).json()
    turn_of(acme, sid, "of somebody else")
    with events(acme, sid, since=accepted["since"]) as stream:
        mine = until(stream, "agent_end")
    assert mine[0][1:] == (
        "prompt_received",
        {"requestId": accepted["requestId"], "text": "mine", "attachments": []},
    )


def test_a_stream_without_a_prompt_begins_at_index_one(acme, sid):
    create(acme, sid)
    acme.post(f"/v1/sessions/{sid}/switch_model", json={"model": "other"})
    with events(acme, sid) as stream:
        assert indices([next(stream)]) == [1]


@covers("streams.resume")
def test_a_client_that_reconnects_after_every_event_loses_and_repeats_nothing(acme, sid):
    create(acme, sid)
    whole = turn_of(acme, sid, "a b c d e f g h")
    seen, last = [], None
    while not seen or seen[-1][1] != "agent_end":
        headers = {"Last-Event-ID": last} if last else {}
        with events(acme, sid, headers=headers) as stream:
            seen.append(next(stream))
            last = seen[-1][0]
    assert seen == whole


@covers("streams.resume", "streams.since")
def test_last_event_id_beats_since_and_since_takes_an_id_or_an_index(acme, sid):
    created = create(acme, sid)
    whole = turn_of(acme, sid, "a b c d")
    with events(acme, sid, since="4") as stream:
        assert next(stream) == whole[4]
    with events(acme, sid, since=f"{created['fence']}-4") as stream:
        assert next(stream) == whole[4]
    with events(acme, sid, since="4", headers={"Last-Event-ID": whole[1][0]}) as stream:
        assert next(stream) == whole[2]
    with events(acme, sid, since="0") as stream:
        assert next(stream) == whole[0]


@covers("streams.gap")
@pytest.mark.parametrize("since", ["999999", "77777-3"])
def test_what_is_not_held_is_a_gap_without_an_id(acme, sid, since):
    create(acme, sid)
    whole = turn_of(acme, sid, "a b")
    with events(acme, sid, since=since) as stream:
        event_id, name, data = next(stream)
        assert (event_id, name, data["reason"]) == (None, "error", "gap")
        assert data["requested"] == since
        assert data["resumesAt"] == whole[0][0]
        assert next(stream) == whole[0]


@covers("streams.gap")
def test_what_was_forgotten_is_a_gap_that_says_where_the_stream_goes_on(tmp_path):
    streams = {"kept_events": 10}
    with RunningGateway(tmp_path, streams=streams) as gateway, gateway.client() as client:
        create(client, "s")
        for number in range(10):
            turn_of(client, "s", f"turn {number}")
        with events(client, "s", since="1") as stream:
            gap, first = next(stream), next(stream)
        assert gap[2]["reason"] == "gap"
        assert first[0] == gap[2]["resumesAt"]


@pytest.mark.parametrize("query", ["since=x", "since=1-2-3", "since=-1", "types=nope", "types=a,b"])
def test_a_query_that_makes_no_sense_is_400(acme, sid, query):
    create(acme, sid)
    response = acme.get(f"/v1/sessions/{sid}/events?{query}")
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")


@covers("streams.types")
def test_types_filter_what_is_sent(acme, sid):
    create(acme, sid)
    prompt(acme, sid, "a b")
    with events(acme, sid, types="message_delta,agent_end") as stream:
        turn = until(stream, "agent_end")
    assert [each[1] for each in turn] == ["message_delta", "message_delta", "agent_end"]


@covers("events.no-gaps")
def test_a_burst_of_thousands_of_events_is_lost_and_repeated_nowhere(acme, sid):
    create(acme, sid, blueprint="chatty")
    turn = turn_of(acme, sid, "5000")
    assert indices(turn) == list(range(1, len(turn) + 1))
    words = [each[2]["delta"] for each in turn if each[1] == "message_delta"]
    assert words == [f"{number} " for number in range(5000)]


@covers("streams.ends", "streams.replay", "streams.drained")
def test_the_stream_of_a_session_that_ended_replays_and_ends_and_then_there_is_no_more(acme, sid):
    create(acme, sid)
    with events(acme, sid) as stream:
        prompt(acme, sid, "a")
        until(stream, "agent_end")
        acme.delete(f"/v1/sessions/{sid}")
        rest = list(stream)
    assert [each[1:] for each in rest] == [("session_end", {"reason": "deleted"})]
    with events(acme, sid) as stream:
        replay = list(stream)
    assert replay[0][1] == "prompt_received"
    assert replay[-1][1] == "session_end"
    last = {"Last-Event-ID": replay[-1][0]}
    response = acme.get(f"/v1/sessions/{sid}/events", headers=last)
    assert (response.status_code, response.content) == (204, b"")


@covers("streams.heartbeat")
def test_a_comment_is_the_heartbeat_of_a_silent_stream(tmp_path):
    streams = {"heartbeat_s": 0.05}
    with RunningGateway(tmp_path, streams=streams) as gateway, gateway.client() as client:
        create(client, "s")
        with client.stream("GET", "/v1/sessions/s/events") as response:
            comments = (line for line in response.iter_lines() if line.startswith(":"))
            assert len([next(comments) for _ in range(4)]) == 4


@covers("streams.leaving")
def test_a_client_that_leaves_is_noticed_at_once(gateway, acme, sid):
    create(acme, sid)
    before = gateway.call(lambda: len(gateway.gateway.streams))
    connection = gateway.connect()
    connection.sendall(
        f"GET /v1/sessions/{sid}/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME}\r\n\r\n".encode()
    )
    eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == before + 1)
    connection.close()
    eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == before, within_s=5)


@covers("streams.disconnect-harms-no-turn")
def test_a_clients_disconnect_in_the_middle_of_a_turn_harms_no_turn(acme, sid):
    create(acme, sid, blueprint="patient")
    request_id = prompt(acme, sid, "x")
    with events(acme, sid) as stream:
        until(stream, "message_delta")
    acme.post(f"/v1/sessions/{sid}/steer", json={"text": "go"})
    with events(acme, sid) as stream:
        end = until(stream, "agent_end", "agent_abort")[-1]
    assert (end[1], end[2]["requestId"]) == ("agent_end", request_id)


@covers("streams.slow-reader")
def test_a_client_that_does_not_read_is_disconnected_and_can_resume(tmp_path):
    with (
        RunningGateway(
            tmp_path,
            limits={"stalled_write_s": 0.3},
            streams={"kept_bytes": 200_000, "kept_events": 10},
        ) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="flooding")
        prompt(client, "s", "x")
        connection = gateway.connect()
        connection.sendall(
            f"GET /v1/sessions/s/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME}\r\n\r\n".encode()
        )
        eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 1)
        eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
        assert Scraped.of(gateway).sum("frontdesk_slow_readers_total") == 1
        connection.close()
        with events(client, "s", since="1") as stream:
            assert next(stream)[2]["reason"] == "gap"
            assert next(stream)[1] == "message_delta"
        client.post("/v1/sessions/s/abort")


@covers("streams.bounded")
def test_a_key_holds_only_so_many_streams_open(tmp_path):
    with (
        RunningGateway(tmp_path, limits={"streams_per_key": 2}) as gateway,
        gateway.client() as client,
    ):
        create(client, "s")
        with events(client, "s"), events(client, "s"):
            refused = client.get("/v1/sessions/s/events")
            assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
        eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
        with events(client, "s"):
            pass


@covers("events.exactly-one-end")
@pytest.mark.parametrize("how", ["clumsy", "abort", "delete", "deadline"])
def test_every_turn_ends_exactly_once_whatever_ends_it(tmp_path, how):
    turns = {"deadline_s": 0.2} if how == "deadline" else {}
    with RunningGateway(tmp_path, turns=turns) as gateway, gateway.client() as client:
        create(client, "s", blueprint="clumsy" if how == "clumsy" else "patient")
        prompt(client, "s", "x")
        with events(client, "s") as stream:
            until(stream, "message_delta")
            if how == "abort":
                client.post("/v1/sessions/s/abort")
            if how == "delete":
                client.delete("/v1/sessions/s")
            until(stream, "agent_end", "agent_abort")
        if how != "delete":
            client.delete("/v1/sessions/s")
        with events(client, "s", since="0") as stream:
            names = [each[1] for each in stream]
        assert names.count("agent_end") + names.count("agent_abort") == 1
        assert names[-1] == "session_end"


def test_many_streams_of_one_session_all_see_the_same(gateway, acme, sid):
    create(acme, sid)
    seen = {}

    def follow(number):
        with gateway.client() as client, events(client, sid, since="0") as stream:
            seen[number] = until(stream, "agent_end")

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    prompt(acme, sid, "word " * 50)
    for thread in threads:
        thread.join(30)
    assert len(seen) == 20
    assert all(each == seen[0] for each in seen.values())


def test_an_open_stream_does_not_hold_other_requests_of_its_client(gateway, sid):
    async def scenario():
        headers = {"X-API-Key": ACME}
        async with httpx.AsyncClient(
            base_url=gateway.url, headers=headers, trust_env=False, timeout=20
        ) as client:
            await client.post("/v1/sessions", json={"model": "test", "sessionId": sid})
            async with client.stream("GET", f"/v1/sessions/{sid}/events") as response:
                await client.post(f"/v1/sessions/{sid}/prompt", json={"text": "hello"})
                async for line in response.aiter_lines():
                    if line == "event: agent_end":
                        break

    import asyncio

    asyncio.run(scenario())


@covers("streams.envelope")
def test_in_an_envelope_the_same_events_come_without_a_name(acme, sid):
    create(acme, sid)
    plain = turn_of(acme, sid, "hello there")
    with events(acme, sid, envelope="1") as stream:
        wrapped = [next(stream) for _ in plain]
    assert [name for _, name, _ in wrapped] == [None] * len(plain)
    assert [(each, data["event"], data["data"]) for each, _, data in wrapped] == plain
    assert [data["index"] for _, _, data in wrapped] == [int(i.split("-")[1]) for i, _, _ in plain]


@pytest.mark.parametrize("envelope", ["", "0", "false"])
def test_no_envelope_is_the_usual_form(acme, sid, envelope):
    create(acme, sid)
    plain = turn_of(acme, sid, "hello there")
    with events(acme, sid, envelope=envelope) as stream:
        assert [next(stream) for _ in plain] == plain


def test_an_envelope_is_for_event_streams_and_yes_or_no(gateway, acme, sid):
    create(acme, sid)
    for path in ("events?envelope=perhaps", "ws?envelope=1"):
        refused = acme.get(f"/v1/sessions/{sid}/{path}")
        assert (refused.status_code, "envelope" in refused.json()["message"]) == (400, True)


def test_streams_of_both_forms_follow_one_session_at_once(acme, sid):
    create(acme, sid)
    with events(acme, sid, envelope="1") as wrapped, events(acme, sid) as plain:
        acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "one two three"})
        told = until(plain, "agent_end")
        assert [next(wrapped)[2]["event"] for _ in told] == [name for _, name, _ in told]
