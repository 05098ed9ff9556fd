"""What is asked again, how often, and when; and what is asked once, whatever becomes of it."""

import random

import pytest

from client.both import client_of
from client.scripted import CuttingProxy, ScriptedServer, answer, silent
from frontdesk.client import (
    BudgetExceededError,
    Client,
    MalformedAnswerError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
    UnreachableError,
    retrying,
)
from frontdesk.client.retrying import Retries
from gateway.running import ACME

LIST = answer(200, {"sessions": [], "next": None, "partial": False})
OPENED = answer(
    201,
    {
        "sessionId": "s", "state": "idle", "turns": 0, "toolCalls": 0, "totalTokens": 0,
        "uptimeMs": 0, "model": "test", "blueprint": "b", "createdAt": 1, "tenantId": "acme",
        "restarts": 0, "pid": None, "live": True, "stored": True, "label": None, "blocked": None,
        "lastActivityAt": 1, "forkedFrom": None, "fence": "1", "prompt": None, "turn": None,
    },
)  # fmt: skip
DONE = answer(202, {"status": "accepted"})


def busy(status, code, **more):
    return answer(status, {"error": code, "message": "not now", **more})


AWAY = [
    b"",
    b"HTTP/1.1 200 OK\r\ncontent-len",
    b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{",
    busy(503, "unavailable"),
    busy(429, "rate_limited"),
    answer(502, b"<html>bad gateway</html>"),
    answer(504, b""),
]


@pytest.mark.parametrize("away", AWAY, ids=range(len(AWAY)))
def test_a_get_is_asked_again_until_it_is_answered(kind, away):
    with ScriptedServer(*[away] * 5, LIST) as server:
        with client_of(kind, server.url, key=ACME) as client:
            assert client.list().sessions == ()
        assert len(server.requests) == 6


@pytest.mark.parametrize("away", AWAY, ids=range(len(AWAY)))
def test_after_five_repetitions_the_last_error_is_told(kind, away):
    with (
        ScriptedServer(away) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises((UnreachableError, UnavailableError, RateLimitedError)),
    ):
        client.list()
    assert len(server.requests) == 6


@pytest.mark.parametrize("away", AWAY, ids=range(len(AWAY)))
def test_a_post_under_a_key_is_repeated_under_that_key(kind, away):
    with ScriptedServer(away, away, OPENED) as server:
        with client_of(kind, server.url, key=ACME) as client:
            client.open("test", session_id="s")
        keys = [each.headers["idempotency-key"] for each in server.requests]
        assert len(keys) == 3
        assert len(set(keys)) == 1
        assert len({each.body for each in server.requests}) == 1


def test_two_calls_have_two_keys(kind):
    with ScriptedServer(OPENED) as server:
        with client_of(kind, server.url, key=ACME) as client:
            client.open("test")
            client.open("test")
        first, second = (each.headers["idempotency-key"] for each in server.requests)
        assert first != second
        assert len(first) >= 32


ONCE = {
    "stop": lambda client: client.stop("s"),
    "approve": lambda client: client.session("s").approve("a1"),
    "reject": lambda client: client.session("s").reject("a1"),
    "respond": lambda client: client.session("s").respond("r1", "x"),
    "steer": lambda client: client.session("s").steer("x"),
    "abort": lambda client: client.session("s").abort(),
    "switch_model": lambda client: client.session("s").switch_model("x"),
    "attach_tool": lambda client: client.session("s").attach_tool("t", "https://a.example"),
    "detach_tool": lambda client: client.session("s").detach_tool("t"),
    "resume": lambda client: client.session("s").resume(),
    "close": lambda client: client.session("s").close(),
    "make_checkpoint": lambda client: client.session("s").make_checkpoint("c"),
    "delete_checkpoint": lambda client: client.session("s").delete_checkpoint("c"),
    "import_session": lambda client: client.import_session(b"{}\n"),
    "token": lambda client: client.session("s").token(["read"]),
    "operator.stop": lambda client: client.operator.stop("acme", "s"),
    "operator.abort": lambda client: client.operator.abort("acme", "s"),
    "operator.drain": lambda client: client.operator.drain("desk-1"),
}


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("away", [b"", busy(503, "unavailable", retryAfter=1)], ids=["cut", "busy"])
def test_what_could_do_something_twice_is_asked_once(kind, name, away):
    with (
        ScriptedServer(away, DONE) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises((UnreachableError, UnavailableError)),
    ):
        ONCE[name](client)
    assert len(server.requests) == 1
    assert "idempotency-key" not in server.requests[0].headers


REFUSALS = [
    (429, "session_limit"),
    (429, "prompt_queue_full"),
    (409, "already_exists"),
    (500, "internal"),
    (401, "unauthorized"),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
def test_what_stays_so_is_told_at_once(kind, status, code):
    with ScriptedServer(busy(status, code)) as server:
        with (
            client_of(kind, server.url, key=ACME) as client,
            pytest.raises(RefusedError, match="not now"),
        ):
            client.open("test")
        assert len(server.requests) == 1


def test_who_is_to_come_again_much_later_is_told_at_once(kind):
    spent = busy(429, "budget_exceeded", retryAfter=5400, reason="tokens_per_day", scope="x")
    later = busy(503, "unavailable", retryAfter=121)
    for refusal, expected in ((spent, BudgetExceededError), (later, UnavailableError)):
        with ScriptedServer(refusal) as server, client_of(kind, server.url, key=ACME) as client:
            with pytest.raises(expected) as caught:
                client.list()
            assert len(server.requests) == 1
            assert caught.value.retry_after_s in (5400, 121)


@pytest.mark.parametrize("header", [True, False], ids=["header", "body"])
def test_what_is_asked_again_waits_as_long_as_the_gateway_says(kind, monkeypatch, header):
    waited = []
    plain = Retries.wait_s
    monkeypatch.setattr(Retries, "wait_s", lambda *args: waited.append(plain(*args)) or 0.0)
    if header:
        refusal = answer(503, b"<html>later</html>", "retry-after: 7")
    else:
        refusal = busy(429, "rate_limited", retryAfter=7)
    with ScriptedServer(refusal, LIST) as server, client_of(kind, server.url, key=ACME) as client:
        client.list()
    assert 7 <= waited[0] <= 7.7


def test_an_answer_that_does_not_come_in_time_is_none(kind):
    with ScriptedServer(silent, LIST) as server:
        with client_of(kind, server.url, key=ACME, timeout_s=0.2) as client:
            client.list()
        assert len(server.requests) == 2


def test_waits_double_up_to_eight_seconds_and_differ(monkeypatch):
    monkeypatch.setattr(retrying, "FIRST_WAIT_S", 0.5)
    told = []
    for seed in range(200):
        retries = Retries(repeatable=True, chance=random.Random(seed))
        waits = [retries.wait_s(UnreachableError("x")) for _ in range(5)]
        for wait_s, longest_s in zip(waits, (0.5, 1, 2, 4, 8), strict=True):
            assert longest_s / 2 <= wait_s <= longest_s
        with pytest.raises(UnreachableError):
            retries.wait_s(UnreachableError("x"))
        told.append(waits[0])
    assert len(set(told)) > 100


def test_no_wait_is_longer_than_eight_seconds(monkeypatch):
    monkeypatch.setattr(retrying, "FIRST_WAIT_S", 5.0)
    retries = Retries(repeatable=True)
    assert max(retries.wait_s(UnreachableError("x")) for _ in range(5)) <= 8


def test_what_is_no_answer_of_a_gateway_is_not_asked_for_again(kind):
    with ScriptedServer(answer(200, b"<html>hello</html>")) as server:
        with client_of(kind, server.url, key=ACME) as client, pytest.raises(MalformedAnswerError):
            client.list()
        assert len(server.requests) == 1


def test_an_open_that_is_cut_anywhere_opens_one_session(gateway, kind, sid):
    """A real gateway: what it had done before its answer was cut, it does not do again."""
    with CuttingProxy(gateway.port) as proxy, client_of(kind, proxy.url, key=ACME) as client:
        for number, at in enumerate(range(0, 700, 170)):
            proxy.cuts = [at]
            session = client.open("test", session_id=f"{sid}-{number}")
            session.get()
            turns = session.prompt("hello")
            assert turns.text() == "hello "
            proxy.cuts = [at]
            assert session.prompt("again").text() == "again "
            assert session.stats().prompt_count == 2
    with Client(gateway.url, key=ACME) as plain:
        opened = [each.session_id for each in plain.sessions()]
    assert sum(each.startswith(f"{sid}-") for each in opened) == 5
