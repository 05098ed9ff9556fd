"""What operators see of sessions, and what they do to them: every one of it logged."""

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.gateway.app import create_app
from frontdesk.gateway.rows.hosted_rows import HostedQuery, page_of
from frontdesk.gateway.rows.row_filter import SORT_KEYS
from frontdesk.schemas.row_schemas import HostedSession
from gateway.asgi import ask
from gateway.cluster_running import cluster
from gateway.requirements import covers
from gateway.running import OPERATOR, UMBRELLA, RunningGateway, create, events, turn_of, until
from support.waiting import eventually


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with RunningGateway(tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture
def operator(gateway):
    with gateway.client(OPERATOR) as client:
        yield client


@pytest.fixture
def acme(gateway):
    with gateway.client() as client:
        yield client
        for each in client.get("/v1/sessions").json()["sessions"]:
            client.delete(f"/v1/sessions/{each['sessionId']}")


def logged(caplog):
    """The operators' actions in the log, as (key, action, target, result)."""
    return [
        (each.key_id, each.action, each.target, each.result)
        for each in caplog.records
        if getattr(each, "event", "") == "operator_action"
    ]


@covers("operators.list")
def test_the_list_has_rows_of_all_tenants_with_their_processes_by_page(gateway, operator, acme):
    for number in range(5):
        create(acme, f"s{number}")
    with gateway.client(UMBRELLA) as umbrella:
        create(umbrella, "theirs")
        ids, after = [], ""
        while after is not None:
            page = operator.get("/ops/sessions", params={"limit": 2, "after": after}).json()
            ids += [each["sessionId"] for each in page["sessions"]]
            after = page["next"]
        assert sorted(ids) == ["s0", "s1", "s2", "s3", "s4", "theirs"]
        only = operator.get("/ops/sessions", params={"tenant": "umbrella"}).json()["sessions"]
        assert [(each["tenantId"], each["pid"]) for each in only] == [("umbrella", None)]
        umbrella.delete("/v1/sessions/theirs")


@covers("operators.list")
@pytest.mark.parametrize("query", ["after=nonsense", "sort=name", "limit=0", "state=asleep", "x=1"])
def test_what_is_no_filter_is_refused_by_name(operator, query):
    refused = operator.get(f"/ops/sessions?{query}")
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
    assert query.partition("=")[0] in refused.json()["message"]


TEXTS = st.sampled_from(["a", "b", "ab"])
ROWS = st.lists(
    st.builds(
        partial(HostedSession, last_activity_at=0, approvals=0, questions=0, pid=None, turns=0),
        tenant_id=TEXTS,
        session_id=TEXTS,
        fence=st.integers(1, 9).map(str),
        state=st.sampled_from(["idle", "working", "stopping"]),
        created_at=st.integers(0, 5000),
        blueprint=TEXTS,
        model=TEXTS,
        tokens=st.integers(0, 3),
        cost_usd=st.sampled_from([0.0, 0.5]),
        key_id=st.none() | TEXTS,
        node=TEXTS,
    ),
    max_size=12,
    unique_by=lambda row: (row.tenant_id, row.session_id, row.fence),
)
NOW_MS = 6000


@covers("operators.filters")
@settings(max_examples=60, deadline=None)
@given(
    rows=ROWS,
    given=st.dictionaries(
        st.sampled_from(["keyId", "blueprint", "model", "node", "prefix"]), TEXTS
    ),
    state=st.none() | st.sampled_from(["idle", "working"]),
    older_than=st.none() | st.integers(0, 6),
    sort=st.sampled_from([*SORT_KEYS, *(f"-{each}" for each in SORT_KEYS)]),
    limit=st.integers(1, 4),
)
def test_pages_are_what_matches_in_order_each_once(rows, given, state, older_than, sort, limit):
    fields = {**given, "state": state, "olderThan": older_than, "sort": sort, "limit": limit}
    query = HostedQuery.model_validate(
        {key: each for key, each in fields.items() if each is not None}
    )

    def expected(row):
        names = {"keyId": "key_id", "blueprint": "blueprint", "model": "model", "node": "node"}
        return (
            all(getattr(row, names[name]) == each for name, each in given.items() if name in names)
            and row.session_id.startswith(given.get("prefix", ""))
            and (state is None or row.state == state)
            and (not older_than or NOW_MS - row.created_at >= older_than * 1000)
        )

    wanted = [row for row in rows if expected(row)]
    assert [row for row in rows if query.takes(row, now_ms=NOW_MS)] == wanted
    pages, after = [], None
    while True:
        asked = query.model_copy(update={"after": after})
        beginning = asked.beginning()
        left = [row for row in wanted if beginning is None or asked.position(row) > beginning]
        page, after = page_of(asked, left)
        pages += page
        if after is None:
            break
    assert sorted(pages, key=str) == sorted(wanted, key=str)
    values = [SORT_KEYS[sort.removeprefix("-")](row) for row in pages]
    assert values == sorted(values, reverse=sort.startswith("-"))


@covers("operators.detail")
def test_a_session_by_itself_names_its_tools_and_has_no_text(operator, acme):
    create(acme, "careful", blueprint="careful", systemPrompt="the planted system prompt")
    acme.post("/v1/sessions/careful/prompt", json={"text": "17"})
    with events(acme, "careful") as stream:
        waits = until(stream, "approval_required")[-1][2]
    detail = operator.get("/ops/sessions/acme/careful").json()
    assert (detail["state"], detail["waitingTools"]) == ("waiting_approval", [waits["toolName"]])
    assert "planted" not in json.dumps(detail)
    assert waits["approvalId"] not in json.dumps(detail)
    for path in ("/ops/sessions/acme/none", "/ops/sessions/umbrella/careful"):
        assert operator.get(path).json()["error"] == "not_found"
    acme.delete("/v1/sessions/careful")
    assert operator.get("/ops/sessions/acme/careful").json()["error"] == "session_dead"


@covers("operators.actions")
def test_an_operator_stops_and_aborts_and_the_log_has_key_target_and_result(operator, acme, caplog):
    caplog.set_level("INFO", logger="frontdesk.events")
    create(acme, "careful", blueprint="careful")
    acme.post("/v1/sessions/careful/prompt", json={"text": "17"})
    with events(acme, "careful") as stream:
        until(stream, "approval_required")
        aborted = operator.post("/ops/sessions/acme/careful/abort", json={"reason": "too long"})
        assert (aborted.status_code, aborted.json()) == (202, {"status": "aborting"})
        assert until(stream, "agent_abort")[-1][2]["reason"] == "too long"
    stopped = operator.post("/ops/sessions/acme/careful/stop")
    assert stopped.json() == {"sessionId": "careful", "status": "deleted"}
    assert acme.get("/v1/sessions/careful").json()["error"] == "session_dead"
    assert operator.post("/ops/sessions/acme/none/stop").status_code == 404
    assert operator.post("/ops/sessions/ACME/none/stop").status_code == 400
    assert logged(caplog) == [
        ("k-operator", "abort", "acme/careful", "ok"),
        ("k-operator", "stop", "acme/careful", "ok"),
        ("k-operator", "stop", "acme/none", "not_found"),
        ("k-operator", "stop", "ACME/none", "bad_request"),
    ]


@covers("operators.actions")
@pytest.mark.parametrize(
    ("target", "result"),
    [("acme/mine", "ok"), ("acme/none", "not_found"), ("ACME/none", "bad_request")],
)
def test_whoever_has_the_answer_to_an_action_finds_its_line(gateway, acme, caplog, target, result):
    caplog.set_level("INFO", logger="frontdesk.events")
    create(acme, "mine")
    app, found = create_app(gateway.gateway), []

    async def looking(scope, receive, send):
        async def look(message):
            if message["type"] == "http.response.start":
                found.extend(logged(caplog))
            await send(message)

        await app(scope, receive, look)

    headers = [(b"x-api-key", OPERATOR.encode())]
    path = f"/ops/sessions/{target}/stop"
    gateway.call(lambda: ask(looking, path, method="POST", headers=headers))
    assert found == [("k-operator", "stop", target, result)]


@covers("operators.actions")
@pytest.mark.parametrize("path", ["stop", "abort", "messages", "events", ""])
def test_a_tenants_key_does_nothing_of_it(acme, path):
    create(acme, "mine")
    for method in ("GET", "POST"):
        assert acme.request(method, f"/ops/sessions/acme/mine/{path}").status_code == 401
    assert acme.get("/v1/sessions/mine").status_code == 200


@covers("operators.actions")
def test_another_verb_does_nothing_and_names_the_right_one(operator, acme):
    create(acme, "mine")
    for path, right in (("stop", "POST"), ("messages", "GET, HEAD")):
        wrong = operator.put(f"/ops/sessions/acme/mine/{path}")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, right)
    assert operator.get("/ops/sessions/acme/mine/stop").status_code == 405
    assert acme.get("/v1/sessions/mine").status_code == 200


@covers("operators.text")
def test_without_the_setting_operators_read_no_text_and_the_attempt_is_logged(
    operator, acme, caplog
):
    caplog.set_level("INFO", logger="frontdesk.events")
    create(acme, "mine")
    turn_of(acme, "mine", "the planted prompt")
    for path in ("messages", "events", "events?since=0"):
        refused = operator.get(f"/ops/sessions/acme/mine/{path}")
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
        assert "operators_read_text" in refused.json()["message"]
        assert "planted" not in refused.text
    assert [each[1:] for each in logged(caplog)] == [
        ("read_messages", "acme/mine", "forbidden"),
        ("read_events", "acme/mine", "forbidden"),
        ("read_events", "acme/mine", "forbidden"),
    ]


@covers("operators.text")
def test_with_the_setting_operators_read_text_and_each_reading_is_logged(tmp_path, caplog):
    caplog.set_level("INFO", logger="frontdesk.events")
    server = {"operators_read_text": True}
    with (
        RunningGateway(tmp_path, server=server) as running,
        running.client() as acme,
        running.client(OPERATOR) as operator,
    ):
        create(acme, "mine")
        turn_of(acme, "mine", "the planted prompt")
        said = operator.get("/ops/sessions/acme/mine/messages", params={"limit": 1}).json()
        assert said == acme.get("/v1/sessions/mine/messages", params={"limit": 1}).json()
        with operator.stream(
            "GET", "/ops/sessions/acme/mine/events", params={"since": "0"}
        ) as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            assert any("planted" in line for line in lines)
            # The stream is open still: it is logged as it begins.
            assert [each[1:] for each in logged(caplog)] == [
                ("read_messages", "acme/mine", "ok"),
                ("read_events", "acme/mine", "ok"),
            ]
            keys = [key for key in running.keys if key.tenant_id is not None]
            running.call(lambda: running.gateway.reload(running.config, keys=keys))
            # It ends with the operator's key.
            assert not any(line.startswith("event: session_end") for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(200)
@covers("operators.nodes")
def test_through_any_node_operators_list_see_stop_and_read(caplog):
    caplog.set_level("INFO", logger="frontdesk.events")
    with (
        cluster("one", "two", proxied=True, server={"operators_read_text": True}) as (one, two),
        two.client() as acme,
        one.client(OPERATOR) as operator,
    ):
        assert eventually(lambda: len(one.gateway.node.nodes()) == 2)
        create(acme, "there")
        turn_of(acme, "there", "hello there")
        page = operator.get("/ops/sessions").json()
        assert [(each["sessionId"], each["node"]) for each in page["sessions"]] == [
            ("there", "two")
        ]
        assert not page["partial"]
        assert operator.get("/ops/sessions/acme/there").json()["turns"] == 1
        assert "hello there" in operator.get("/ops/sessions/acme/there/messages").text
        with operator.stream("GET", "/ops/sessions/acme/there/events?since=0") as stream:
            assert next(line for line in stream.iter_lines() if line.startswith("data"))
        assert operator.post("/ops/sessions/acme/there/abort", json={}).status_code == 202
        assert operator.post("/ops/sessions/acme/there/stop").status_code == 200
        assert acme.get("/v1/sessions/there").json()["error"] == "session_dead"
        assert operator.get("/ops/sessions/acme/there").json()["error"] == "session_dead"
        create(acme, "silent")
        two.proxy.refuse()
        assert operator.get("/ops/sessions").json()["partial"]
        assert operator.post("/ops/sessions/acme/silent/stop").status_code == 503
    assert [each[1:] for each in logged(caplog)] == [
        ("read_messages", "acme/there", "ok"),
        ("read_events", "acme/there", "ok"),
        ("abort", "acme/there", "ok"),
        ("stop", "acme/there", "ok"),
        ("stop", "acme/silent", "unavailable"),
    ]
