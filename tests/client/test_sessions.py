"""What can be asked of a real gateway, by both clients."""

import pytest

from client.both import client_of
from frontdesk import __version__
from frontdesk.client import (
    AlreadyExistsError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    SessionDeadError,
    UnauthorizedError,
    gateway_calls,
)
from gateway.running import ACME, OPERATOR, UMBRELLA


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


def test_the_key_is_taken_from_the_environment(gateway, kind, monkeypatch):
    monkeypatch.setenv("FRONTDESK_URL", gateway.url + "/")
    monkeypatch.setenv("FRONTDESK_KEY", ACME)
    with client_of(kind) as client:
        assert client.url == gateway.url
        client.list()
