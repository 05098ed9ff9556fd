"""What can be asked of a real gateway, by both clients."""

import pytest

from client.both import client_of
from frontdesk import __version__
from frontdesk.client import (
    AlreadyExistsError,
    ApprovalRequired,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    SessionDeadError,
    TurnAbortedError,
    UnauthorizedError,
    gateway_calls,
)
from gateway.running import ACME, OPERATOR, UMBRELLA, RunningGateway


def test_a_session_is_opened_read_and_stopped(acme, sid):
    session = acme.open("test", session_id=sid, user_data={"plan_name": "gold"})
    assert session.session_id == sid
    assert acme.get(sid).state == "idle"
    assert acme.session(sid).get().session_id == sid
    acme.stop(sid)
    with pytest.raises(SessionDeadError) as caught:
        session.get()
    assert (caught.value.status, caught.value.code) == (404, "session_dead")
    assert caught.value.reason == "deleted"
    assert caught.value.facts == {"reason": "deleted"}


def test_what_is_said_of_a_session_reaches_the_gateway(acme, gateway, sid):
    acme.open("test", session_id=sid, blueprint="patient", user_data={"plan_name": 1}, max_turns=3)
    sessions = gateway.gateway.service.tenant("acme", api_key="k-acme")
    context = gateway.call(lambda: sessions.recent(sid)).context
    assert context.blueprint == "patient"
    assert context.user_data == {"plan_name": 1}
    assert context.max_turns == 3


def test_a_session_that_exists_is_not_opened_again(acme, sid):
    acme.open("test", session_id=sid)
    with pytest.raises(AlreadyExistsError, match=sid):
        acme.open("test", session_id=sid)


def test_sessions_are_listed_by_pages_and_all(acme):
    opened = [acme.open("test").session_id for _ in range(5)]
    page = acme.list(limit=2)
    assert len(page.sessions) == 2
    following = acme.list(limit=2, after=page.next)
    assert not {each.session_id for each in following.sessions} & {
        each.session_id for each in page.sessions
    }
    assert set(opened) <= {each.session_id for each in acme.sessions()}


def test_the_history_is_given_whole_over_many_pages(acme, sid, monkeypatch):
    monkeypatch.setattr(gateway_calls, "MESSAGES_PAGE", 3)
    session = acme.open("test", session_id=sid)
    for number in range(5):
        session.prompt(f"number {number}").text()
    told = [each.content for each in session.messages()]
    assert told[0::2] == [f"number {number}" for number in range(5)]
    assert told[1::2] == [f"number {number} " for number in range(5)]


def test_what_a_session_does_and_has_used(acme, sid):
    session = acme.open("test", session_id=sid)
    session.prompt("one two").text()
    assert session.stats().token_usage.total_tokens == 4
    assert session.status().last_event_index == 6
    assert acme.usage(by=["day"]).rows[0].prompts >= 1
    assert acme.ends().partial is False
    assert "parrot" in {each.name for each in acme.blueprints().blueprints}
    assert [each.model for each in acme.models().models] == ["*"]


def test_a_tool_is_attached_and_detached_and_its_refusals_are_errors(acme, sid):
    session = acme.open("test", session_id=sid)
    with pytest.raises(NotFoundError, match="lookup"):
        session.detach_tool("lookup")
    with pytest.raises(BadRequestError, match="name"):
        session.attach_tool("not a name", "https://tools.example.com")


def test_a_session_token_opens_its_session_only(acme, gateway, kind, sid):
    session = acme.open("test", session_id=sid)
    token = session.token(["read"], ttl_s=60)
    with client_of(kind, gateway.url, key=token.token) as browser:
        assert browser.session(sid).get().session_id == sid
        with pytest.raises(ForbiddenError) as caught:
            browser.session(sid).prompt("hello")
        assert caught.value.facts == {"scope": "prompt"}
    assert token.token not in repr(token)


def test_a_tenant_sees_nothing_of_another(acme, gateway, kind, sid):
    acme.open("test", session_id=sid)
    with client_of(kind, gateway.url, key=UMBRELLA) as other:
        with pytest.raises(NotFoundError):
            other.get(sid)
        assert sid not in {each.session_id for each in other.sessions()}


def test_health_and_version_need_no_key(gateway, kind):
    with client_of(kind, gateway.url) as nobody:
        assert nobody.version() == __version__
        assert nobody.health().cluster is None
        with pytest.raises(UnauthorizedError) as caught:
            nobody.list()
    assert caught.value.status == 401


@pytest.mark.parametrize("session_id", [".", "..", "a/b", "a?b#c", "ü", "a b", "x" * 129])
def test_an_id_that_cannot_be_is_refused_by_the_gateway_and_names_no_other_route(acme, session_id):
    with pytest.raises((BadRequestError, NotFoundError)):
        acme.get(session_id)


def test_the_routes_below_an_id_of_dots_are_reached_as_they_are(acme):
    session = acme.open("test", session_id="...")
    assert session.get().session_id == "..."
    session.stop()


def test_operators_see_what_runs(gateway, kind, acme, sid):
    acme.open("test", session_id=sid)
    with client_of(kind, gateway.url, key=OPERATOR) as client:
        assert client.operator.status().version == __version__
        assert client.operator.nodes().nodes == ()
        with pytest.raises(NotFoundError):
            client.operator.drain("desk-1/2")
        with pytest.raises(UnauthorizedError):
            client.list()
    with pytest.raises(UnauthorizedError):
        acme.operator.status()


def test_operators_filter_sessions_and_look_at_one(gateway, kind, acme, sid):
    session = acme.open("test", session_id=sid, blueprint="careful")
    turn = session.prompt("17")
    next(each for each in turn if isinstance(each, ApprovalRequired))
    with client_of(kind, gateway.url, key=OPERATOR) as client:
        page = client.operator.sessions(prefix=sid, tenant="acme", sort="-created", limit=10)
        assert [each.session_id for each in page.sessions] == [sid]
        assert client.operator.sessions(prefix=sid, tenant="umbrella").sessions == ()
        assert client.operator.sessions(prefix=sid, older_than_s=3600).sessions == ()
        seen = client.operator.session("acme", sid)
        assert (seen.state, seen.waiting_tools) == ("waiting_approval", ("refund",))
        told = next(each for each in client.operator.feed(prefix=sid) if hasattr(each, "rows"))
        assert [each.session_id for each in told.rows] == [sid]


def test_operators_abort_and_stop(gateway, kind, acme, sid):
    session = acme.open("test", session_id=sid, blueprint="patient")
    turn = session.prompt("work")
    with client_of(kind, gateway.url, key=OPERATOR) as client:
        client.operator.abort("acme", sid, reason="enough")
        with pytest.raises(TurnAbortedError) as aborted:
            turn.text()
        assert aborted.value.reason == "enough"
        client.operator.stop("acme", sid)
        with pytest.raises(NotFoundError):
            client.operator.session("acme", sid)
        assert client.operator.ends().ends[0].session_id == sid
    with pytest.raises(SessionDeadError):
        session.get()


def test_operators_read_text_where_they_may(gateway, kind, acme, tmp_path, sid):
    acme.open("test", session_id=sid).prompt("a secret").text()
    with client_of(kind, gateway.url, key=OPERATOR) as client:
        with pytest.raises(ForbiddenError):
            list(client.operator.messages("acme", sid))
        with pytest.raises(ForbiddenError):
            list(client.operator.events("acme", sid, since="0"))
    with (
        RunningGateway(tmp_path, server={"operators_read_text": True}) as open_gateway,
        client_of(kind, open_gateway.url, key=ACME) as tenant,
        client_of(kind, open_gateway.url, key=OPERATOR) as client,
    ):
        tenant.open("test", session_id=sid).prompt("a secret").text()
        told = [each.content for each in client.operator.messages("acme", sid)]
        assert told == ["a secret", "a secret "]
        tenant.stop(sid)
        assert len(list(client.operator.events("acme", sid, since="0"))) == 7


def test_the_key_is_taken_from_the_environment(gateway, kind, monkeypatch):
    monkeypatch.setenv("FRONTDESK_URL", gateway.url + "/")
    monkeypatch.setenv("FRONTDESK_KEY", ACME)
    with client_of(kind) as client:
        assert client.url == gateway.url
        client.list()
