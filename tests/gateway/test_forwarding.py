"""Any node serves any request: a session answers alike wherever its client asks.

Two real gateways, each in a thread, with real sockets between them; sessions are opened on one and
used on the other.
"""

import json

import pytest

from gateway.cluster_running import cluster
from gateway.running import UMBRELLA, create, turn_of
from support.waiting import eventually

VARYING = {"date", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"}


@pytest.fixture(scope="module")
def nodes():
    """Two gateways with one registry."""
    with cluster("one", "two") as running:
        yield running


@pytest.fixture
def here(nodes):
    """A client of the node that opens sessions."""
    with nodes[0].client() as client:
        yield client


@pytest.fixture
def there(nodes):
    """A client of the other node."""
    with nodes[1].client() as client:
        yield client


def alike(*answers):
    """Say whether answers are the same, but for what differs from second to second."""
    seen = [
        (
            each.status_code,
            each.content,
            sorted((name, value) for name, value in each.headers.items() if name not in VARYING),
        )
        for each in answers
    ]
    assert seen[0] == seen[1], seen
    return True


def test_a_session_answers_on_every_node(here, there, sid):
    create(here, sid)
    seen = turn_of(there, sid, "one two")
    assert [each[1] for each in seen][-1] == "agent_end"
    assert there.get(f"/v1/sessions/{sid}").json()["turns"] == 1
    assert here.get(f"/v1/sessions/{sid}").json()["turns"] == 1


@pytest.mark.parametrize("path", ["", "/stats", "/status", "/messages", "/messages?limit=1"])
def test_what_is_read_is_the_same_on_every_node(here, there, sid, path):
    create(here, sid)
    turn_of(here, sid, "hello")
    url = f"/v1/sessions/{sid}{path}"
    answers = [client.get(url) for client in (here, there)]
    if not path:
        assert [each.json()["state"] for each in answers] == ["idle", "idle"]
    else:
        assert alike(*answers)


def test_head_is_get_without_a_body_on_every_node(here, there, sid):
    create(here, sid)
    for path in ("/stats", "/events"):
        url = f"/v1/sessions/{sid}{path}"
        answers = [client.head(url) for client in (here, there)]
        assert alike(*answers)
        assert answers[0].status_code == 200
        assert answers[0].content == b""
    # The connection between the nodes is as good as before.
    assert there.get(f"/v1/sessions/{sid}").status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST", "OPTIONS"])
def test_a_wrong_verb_is_refused_alike(here, there, sid, method):
    create(here, sid)
    assert alike(*(client.request(method, f"/v1/sessions/{sid}") for client in (here, there)))


@pytest.mark.parametrize("path", ["/nothing", "/prompt/more", "/tools/%2e%2e", "/events/", "//"])
def test_a_path_that_is_none_is_refused_alike(here, there, sid, path):
    create(here, sid)
    assert alike(*(client.get(f"/v1/sessions/{sid}{path}") for client in (here, there)))


@pytest.mark.parametrize("kind", ["s-none", "%2e%2e", "a%2Fb", "with%20space", "%ff", "x" * 129])
def test_a_session_that_never_was_is_refused_alike(here, there, kind):
    assert alike(*(client.get(f"/v1/sessions/{kind}") for client in (here, there)))


def test_an_id_may_be_written_in_percent(here, there, sid):
    create(here, f"{sid}~a.b")
    assert there.get(f"/v1/sessions/{sid}%7Ea%2eb").json()["sessionId"] == f"{sid}~a.b"


def test_another_tenants_session_is_none_on_every_node(nodes, here, sid):
    create(here, sid)
    answers = []
    for node in nodes:
        with node.client(UMBRELLA) as client:
            answers += [client.get(f"/v1/sessions/{each}") for each in (sid, "none-" + sid)]
    text = {each.text.replace("none-", "") for each in answers}
    assert [each.status_code for each in answers] == [404] * 4
    assert len(text) == 1
    assert json.loads(text.pop())["error"] == "not_found"


def test_two_tenants_may_have_one_id_on_two_nodes(nodes, here, sid):
    create(here, sid, systemPrompt="acme's")
    with nodes[1].client(UMBRELLA) as umbrella:
        create(umbrella, sid)
        assert umbrella.get(f"/v1/sessions/{sid}").json()["tenantId"] == "umbrella"
    with nodes[1].client() as acme:
        assert acme.get(f"/v1/sessions/{sid}").json()["tenantId"] == "acme"


def test_a_mistake_in_a_body_is_told_alike(here, there, sid):
    create(here, sid)
    bodies = [b"", b"{", b'{"text": 1, "more": 2}', b'{"text": "\xff"}', b"[]"]
    for body in bodies:
        headers = {"content-type": "application/json"}
        url = f"/v1/sessions/{sid}/prompt"
        assert alike(*(client.post(url, content=body, headers=headers) for client in (here, there)))


def test_a_mistake_in_a_query_is_told_alike(here, there, sid):
    create(here, sid)
    for query in ("typo=1", "since=x&types=nothing", "api_key=", "api_key=s&api_key=t", "a&b=%zz"):
        for path in ("/status", "/events", "/messages"):
            url = f"/v1/sessions/{sid}{path}?{query}"
            with here.stream("GET", url) as one, there.stream("GET", url) as two:
                assert one.status_code == two.status_code, (path, query)
                if one.status_code >= 400:
                    assert one.read() == two.read()


def test_a_body_over_the_limit_is_refused_before_anything_is_passed_on(here, there, sid):
    create(here, sid)
    body = b" " * (1024 * 1024 + 1)
    assert alike(
        *(client.post(f"/v1/sessions/{sid}/prompt", content=body) for client in (here, there))
    )


def test_a_body_as_large_as_may_be_arrives_whole(here, there, sid):
    create(here, sid)
    text = "x" * 190_000
    assert there.post(f"/v1/sessions/{sid}/prompt", json={"text": text}).status_code == 202
    padded = json.dumps({"text": "y"}).ljust(1024 * 1024).encode()
    headers = {"content-type": "application/json"}
    answer = there.post(f"/v1/sessions/{sid}/prompt", content=padded, headers=headers)
    assert answer.status_code == 202, answer.text


def test_a_body_in_chunks_arrives_whole(here, there, sid):
    create(here, sid)
    pieces = iter([b'{"text"', b': "in ', b'pieces"}'])
    headers = {"content-type": "application/json"}
    answer = there.post(f"/v1/sessions/{sid}/prompt", content=pieces, headers=headers)
    assert answer.status_code == 202, answer.text
    assert there.get(f"/v1/sessions/{sid}/messages").json()["messages"][0]["content"] == "in pieces"


def test_a_prompt_may_be_waited_for_on_another_node(here, there, sid):
    create(here, sid)
    answer = there.post(f"/v1/sessions/{sid}/prompt", json={"text": "one two", "wait": 20})
    assert (answer.status_code, answer.json()["text"]) == (200, "one two ")


def test_a_repeated_prompt_gets_its_first_answer_whichever_nodes_it_came_to(here, there, sid):
    create(here, sid)
    headers = {"Idempotency-Key": f"key-{sid}"}
    asked = {"json": {"text": "once"}, "headers": headers}
    answers = [client.post(f"/v1/sessions/{sid}/prompt", **asked) for client in (there, here)]
    assert answers[0].json() == answers[1].json()
    other = there.post(f"/v1/sessions/{sid}/prompt", json={"text": "twice"}, headers=headers)
    assert (other.status_code, other.json()["error"]) == (409, "idempotency_mismatch")


def test_an_approval_is_answered_on_another_node(here, there, sid):
    create(here, sid, blueprint="careful")
    there.post(f"/v1/sessions/{sid}/prompt", json={"text": "o1"})
    pending = []
    while not pending:
        pending = there.get(f"/v1/sessions/{sid}/status").json()["pendingApprovals"]
    body = {"approvalId": pending[0]["approvalId"], "reason": "fine"}
    assert there.post(f"/v1/sessions/{sid}/approve", json=body).json() == {"status": "approved"}
    again = [client.post(f"/v1/sessions/{sid}/approve", json=body) for client in (here, there)]
    assert alike(*again)
    assert again[0].status_code == 400


def test_steering_and_aborting_work_on_another_node(here, there, sid):
    create(here, sid, blueprint="patient")
    there.post(f"/v1/sessions/{sid}/prompt", json={"text": "work"})
    while there.get(f"/v1/sessions/{sid}").json()["state"] != "working":
        pass
    assert there.post(f"/v1/sessions/{sid}/steer", json={"text": "hm"}).status_code == 202
    assert there.post(f"/v1/sessions/{sid}/abort", json={}).json() == {"status": "aborting"}
    assert there.post(f"/v1/sessions/{sid}/abort").status_code == 202


def test_a_tool_is_attached_and_detached_on_another_node_and_is_where_the_answer_says(
    here, there, sid
):
    create(here, sid)
    tool = {
        "name": "look",
        "description": "d",
        "parameters": {"type": "object"},
        "callbackUrl": "https://93.184.216.34/tool",
    }
    attached = there.post(f"/v1/sessions/{sid}/tools", json=tool)
    assert attached.status_code == 201, attached.text
    assert attached.headers["location"] == f"/v1/sessions/{sid}/tools/look"
    assert there.delete(attached.headers["location"]).status_code == 200
    assert there.delete(attached.headers["location"]).status_code == 404


def test_a_session_is_deleted_on_another_node_and_gone_on_both(here, there, sid):
    create(here, sid)
    deleted = there.delete(f"/v1/sessions/{sid}")
    assert deleted.json() == {"sessionId": sid, "status": "deleted"}
    answers = [client.get(f"/v1/sessions/{sid}") for client in (here, there)]
    assert alike(*answers)
    assert answers[0].json()["reason"] == "deleted"
    assert alike(*(client.delete(f"/v1/sessions/{sid}") for client in (here, there)))


def test_an_id_that_ended_on_one_node_and_lives_on_the_other_is_the_one_that_lives(
    here, there, sid
):
    create(here, sid)
    here.delete(f"/v1/sessions/{sid}")
    create(there, sid)
    assert [each.get(f"/v1/sessions/{sid}").status_code for each in (here, there)] == [200, 200]
    turn_of(here, sid, "on the other one")
    there.delete(f"/v1/sessions/{sid}")
    create(here, sid)
    assert there.get(f"/v1/sessions/{sid}").json()["turns"] == 0


def test_a_session_token_of_one_node_opens_its_session_on_the_other(nodes, here, there, sid):
    create(here, sid)
    body = {"scopes": ["read", "prompt"], "ttlS": 60}
    made = there.post(f"/v1/sessions/{sid}/tokens", json=body)
    assert made.status_code == 200, made.text
    for node in nodes:
        with node.client(made.json()["token"]) as browser:
            assert browser.get(f"/v1/sessions/{sid}").status_code == 200
            turn_of(browser, sid, "hi")
            refused = browser.delete(f"/v1/sessions/{sid}")
            assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
            other = browser.get("/v1/sessions/other-than-that")
            assert (other.status_code, other.json()["error"]) == (404, "not_found")


def test_a_token_of_an_earlier_conversation_opens_none_of_that_id_on_any_node(
    nodes, here, there, sid
):
    create(here, sid)
    body = {"scopes": ["read"], "ttlS": 60}
    token = there.post(f"/v1/sessions/{sid}/tokens", json=body).json()["token"]
    here.delete(f"/v1/sessions/{sid}")
    create(here, sid)
    for node in nodes:
        with node.client(token) as browser:
            answer = browser.get(f"/v1/sessions/{sid}")
            assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_a_key_may_do_no_more_on_another_node_than_here(nodes, here, sid):
    create(here, sid)
    for node in nodes:
        with node.client("wrong-secret-0123456789") as stranger:
            assert stranger.get(f"/v1/sessions/{sid}").status_code == 401


def test_a_request_counts_once_where_it_came_in(nodes, here, there, sid):
    create(here, sid)
    left = [
        int(there.get(f"/v1/sessions/{sid}").headers["x-ratelimit-remaining"]) for _ in range(3)
    ]
    assert [left[0] - each for each in left] == [0, 1, 2]


def test_every_answer_has_its_headers_once(there, here, sid):
    create(here, sid)
    answer = there.get(f"/v1/sessions/{sid}", headers={"Origin": "https://page.example"})
    names = [name.lower() for name, _ in answer.headers.raw]
    assert len(names) == len(set(names)), names
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-store"
    assert not [each for each in names if b"frontdesk" in each]


def test_a_request_is_logged_once_where_it_came_in(nodes, here, there, sid):
    create(here, sid)
    there.get(f"/v1/sessions/{sid}/stats")

    def logged(node):
        return [each for each in node.log.lines if each["path"] == f"/v1/sessions/{sid}/stats"]

    eventually(lambda: len(logged(nodes[1])) == 1)
    assert logged(nodes[0]) == []


def test_a_session_that_is_here_is_asked_about_nowhere(nodes, here, sid, monkeypatch):
    create(here, sid)

    async def fail(key):
        raise AssertionError(key)

    monkeypatch.setattr(nodes[0].gateway.node, "find", fail)
    assert here.get(f"/v1/sessions/{sid}").status_code == 200
