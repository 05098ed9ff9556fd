"""The feeds of sessions on one gateway: what a client that follows them holds."""

import json

import pytest

from gateway.feeds import Held, feed, snapshot_of
from gateway.requirements import covers
from gateway.running import ACME, OPERATOR, UMBRELLA, RunningGateway, create, turn_of


@pytest.fixture
def running(tmp_path):
    with RunningGateway(tmp_path) as made:
        yield made


@pytest.fixture
def acme(running):
    with running.client() as client:
        yield client


@covers("feed.snapshot", "feed.changes")
def test_a_reader_gets_all_rows_and_then_each_change(acme):
    create(acme, "one")
    with feed(acme) as opened:
        held = opened.until(snapshot_of)
        assert held.ids == {"one"}
        create(acme, "two")
        opened.until(lambda held: "two" in held.ids)
        turn_of(acme, "one", "hello there")
        opened.until(lambda held: held.rows["acme", "one"]["turns"] == 1)
        acme.delete("/v1/sessions/one")
        opened.until(lambda held: held.ids == {"two"})
    (end,) = held.ends
    assert (end["sessionId"], end["reason"]) == ("one", "deleted")
    assert held.snapshots == 1


@covers("feed.row")
def test_a_row_has_what_a_session_is_and_nothing_that_anybody_said(acme):
    create(acme, "one", systemPrompt="the planted system prompt")
    turn_of(acme, "one", "the planted prompt")
    with feed(acme) as opened:
        held = opened.until(snapshot_of)
    assert "planted" not in json.dumps(held.frames)
    row = held.rows["acme", "one"]
    assert set(row) == {
        "tenantId", "sessionId", "fence", "state", "createdAt", "lastActivityAt", "blueprint",
        "model", "turns", "tokens", "costUsd", "approvals", "questions", "keyId", "node",
    }  # fmt: skip
    assert (row["state"], row["turns"], row["keyId"], row["blueprint"]) == (
        "idle", 1, "k-acme", "parrot",
    )  # fmt: skip
    assert row["lastActivityAt"] >= row["createdAt"]


@covers("feed.tenants")
def test_another_tenants_feed_has_no_byte_of_mine(running, acme):
    with running.client(UMBRELLA) as umbrella, feed(umbrella) as theirs:
        theirs.until(snapshot_of)
        create(acme, "planted-session")
        turn_of(acme, "planted-session", "hello")
        acme.delete("/v1/sessions/planted-session")
        create(umbrella, "last")
        held = theirs.until(lambda held: "last" in held.ids)
    said = json.dumps(held.frames)
    assert "planted" not in said
    assert "acme" not in said
    assert all(minute["starts"] <= 1 and not minute["ends"] for minute in held.minutes.values())


@covers("feed.operators")
def test_an_operator_follows_all_tenants_or_one(running, acme):
    create(acme, "mine")
    with running.client(UMBRELLA) as umbrella, running.client(OPERATOR) as operator:
        create(umbrella, "theirs")
        with feed(operator, "/ops/feed") as everybody:
            assert everybody.until(snapshot_of).ids == {"mine", "theirs"}
        with feed(operator, "/ops/feed", tenant="umbrella") as one:
            assert one.until(snapshot_of).ids == {"theirs"}
        assert acme.get("/ops/feed").status_code == 401
        assert operator.get("/v1/feed").status_code == 401
        refused = acme.get("/v1/feed?tenant=umbrella")
        assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")


@covers("feed.resume")
def test_who_comes_back_with_an_id_gets_what_was_missed_and_no_snapshot(acme):
    create(acme, "one")
    with feed(acme) as opened:
        held = opened.until(snapshot_of)
    create(acme, "two")
    acme.delete("/v1/sessions/one")
    for again in ({"headers": {"Last-Event-ID": held.position}}, {"since": held.position}):
        copy = Held()
        copy.rows, copy.snapshots = dict(held.rows), held.snapshots
        with feed(acme, held=copy, **again) as back:
            back.until(lambda held: held.ids == {"two"})
        assert copy.snapshots == 1
        assert [each["sessionId"] for each in copy.ends] == ["one"]


@covers("feed.gap")
@pytest.mark.parametrize("since", ["nonsense", "0123abcd-5", "ffff-1_aaaa-2", "1-1"])
def test_what_is_no_position_of_this_run_is_answered_with_a_snapshot(acme, since):
    create(acme, "one")
    with feed(acme, since=since) as opened:
        assert opened.until(snapshot_of).ids == {"one"}


@covers("feed.gap")
def test_who_has_fallen_off_the_ring_gets_a_new_snapshot(running, acme):
    create(acme, "one")
    with feed(acme) as opened:
        held = opened.until(snapshot_of)
    create(acme, "two")

    def forget():
        running.gateway.rows.ring.restart(running.gateway.rows.ring.head + 5)

    running.call(forget)
    with feed(acme, held=held, since=held.position) as back:
        back.until(lambda held: held.ids == {"one", "two"})
    assert held.snapshots == 2


@covers("feed.filters")
def test_a_row_that_matches_the_filter_no_more_is_taken_back(acme):
    create(acme, "careful", blueprint="careful")
    with feed(acme, state="idle") as opened:
        held = opened.until(snapshot_of)
        assert held.ids == {"careful"}
        acme.post("/v1/sessions/careful/prompt", json={"text": "17"})
        opened.until(lambda held: held.left)
        assert (held.ids, held.ends) == (set(), [])
        acme.post("/v1/sessions/careful/abort", json={})
        opened.until(lambda held: held.ids == {"careful"})
        acme.delete("/v1/sessions/careful")
        opened.until(lambda held: held.ends or not held.ids)


@covers("feed.rate")
def test_a_row_that_changes_all_the_time_is_sent_as_it_is_now_at_most_four_times_a_second(
    running, acme
):
    create(acme, "busy")
    with feed(acme) as opened:
        held = opened.until(snapshot_of)
        begun = running.call(running.loop.time)
        for number in range(12):
            turn_of(acme, "busy", f"turn {number}")
        opened.until(lambda held: held.rows["acme", "busy"]["turns"] == 12)
        passed_s = running.call(running.loop.time) - begun
    frames = [said for name, said in held.frames if name == "rows"]
    assert len(frames) <= passed_s * 4 + 2
    assert all(len(said["changed"]) <= 1 for said in frames)


@pytest.mark.slow
@covers("feed.pages")
def test_pages_have_five_hundred_rows_at_most(tmp_path):
    limits = dict.fromkeys(("sessions_total", "sessions_per_tenant", "sessions_per_key"))
    with RunningGateway(tmp_path, limits=limits) as running, running.client() as acme:
        for number in range(501):
            create(acme, f"s{number}")
        with feed(acme) as opened:
            held = opened.until(snapshot_of)
        pages = [said for name, said in held.frames if name == "snapshot"]
        assert [len(page["rows"]) for page in pages] == [500, 1]
        assert [(page["first"], page["last"]) for page in pages] == [(True, False), (False, True)]
        assert len(held.rows) == 501


@pytest.mark.slow
@covers("feed.too-many")
def test_where_there_are_too_many_rows_they_are_counted_until_a_filter_leaves_fewer(
    running, acme, monkeypatch
):
    monkeypatch.setattr("frontdesk.gateway.rows.row_reader.MOST", 2)
    for number in range(3):
        create(acme, f"s{number}")
    with feed(acme) as opened:
        held = opened.until(lambda held: held.counted)
        assert held.counted == {
            "total": 3,
            "byState": {"idle": 3},
            "byTenant": {"acme": 3},
            "byBlueprint": {"parrot": 3},
        }
        assert held.snapshots == 0
        acme.delete("/v1/sessions/s0")
        opened.until(snapshot_of)
        assert held.ids == {"s1", "s2"}
        create(acme, "s3")
        opened.until(lambda held: held.counted)
    with feed(acme, prefix="s2") as narrow:
        assert narrow.until(snapshot_of).ids == {"s2"}


@covers("feed.ends-once")
def test_each_end_is_told_once_with_its_reason_and_listed_after(acme):
    with feed(acme) as opened:
        held = opened.until(snapshot_of)
        for number in range(20):
            create(acme, f"s{number}")
            acme.delete(f"/v1/sessions/s{number}")
        opened.until(lambda held: len(held.ends) >= 20)
        create(acme, "last")
        opened.until(lambda held: held.ids == {"last"})
    assert sorted(each["sessionId"] for each in held.ends) == sorted(f"s{n}" for n in range(20))
    listed = acme.get("/v1/ends").json()
    assert not listed["partial"]
    assert [each["sessionId"] for each in listed["ends"]] == [f"s{n}" for n in reversed(range(20))]
    assert all(each["reason"] == "deleted" and len(each["logId"]) == 16 for each in listed["ends"])


def test_an_end_says_the_type_of_an_exception_and_not_its_text(running, acme):
    create(acme, "one", blueprint="parrot")

    def crash():
        service = running.gateway.service
        (live,) = list(service._live)
        live.conversation.end(__import__("frontdesk").ExitReason.crashed(ValueError("planted")))

    running.call(crash)
    (end,) = acme.get("/v1/ends").json()["ends"]
    assert end["reason"] == "crashed: ValueError"


@covers("feed.hour")
def test_the_last_hour_is_there_for_a_page_that_opens_later(acme):
    create(acme, "one")
    acme.delete("/v1/sessions/one")
    with feed(acme) as opened:
        held = opened.until(snapshot_of)
    assert sum(each["starts"] for each in held.minutes.values()) == 1
    assert [each["ends"] for each in held.minutes.values() if each["ends"]] == [{"deleted": 1}]


@covers("feed.revoked")
def test_a_feed_ends_when_its_key_is_revoked_and_counts_as_a_stream_of_it(tmp_path):
    with (
        RunningGateway(tmp_path, limits={"streams_per_key": 1}) as running,
        running.client(ACME) as acme,
        feed(acme) as opened,
    ):
        opened.until(snapshot_of)
        refused = acme.get("/v1/feed")
        assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
        running.call(lambda: running.gateway.reload(running.config, keys=running.keys[1:]))
        opened.until_it_ends()


@covers("feed.drain")
def test_a_feed_tells_the_ends_of_a_drain_and_ends(tmp_path):
    with RunningGateway(tmp_path) as running, running.client() as acme:
        create(acme, "one")
        with feed(acme) as opened:
            opened.until(snapshot_of)
            running.call(lambda: running.gateway.drain(0))
            opened.until_it_ends()
    assert [(each["sessionId"], each["reason"]) for each in opened.held.ends] == [
        ("one", "shutdown")
    ]


@covers("feed.costs-nothing")
def test_while_nobody_reads_no_row_is_made(running, acme, monkeypatch):
    made = []
    local = running.gateway.rows
    plain = local.row
    monkeypatch.setattr(local, "row", lambda of: made.append(of) or plain(of))
    create(acme, "one")
    turn_of(acme, "one", "hello")
    acme.delete("/v1/sessions/one")
    assert (made, local.ring.head, local.reading) == ([], 0, False)
    assert running.call(lambda: len(running.gateway.scopes)) == 0
    with feed(acme) as opened:
        opened.until(snapshot_of)
        assert local.reading
