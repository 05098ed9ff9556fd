"""Every code of the gateway's has a class, with its facts; what is no answer is told as that."""

import pickle

import msgspec
import pytest

from client.both import client_of
from client.scripted import ScriptedServer, answer
from frontdesk import FrontdeskError
from frontdesk.client import (
    CLASS_OF_CODE,
    BudgetExceededError,
    Client,
    ClientClosedError,
    ClientError,
    InternalError,
    MalformedAnswerError,
    NoEventLoopError,
    RefusedError,
    TurnAbortedError,
    TurnLostError,
    UnavailableError,
    UnreachableError,
)
from frontdesk.client import errors as client_errors
from frontdesk.gateway import error_answers
from frontdesk.gateway.error_answers import ANSWERS, ErrorAnswer
from frontdesk.gateway.problems import example_of
from gateway.running import ACME

EVERY = [each for each in vars(error_answers).values() if isinstance(each, ErrorAnswer)]


def test_every_code_of_the_gateway_has_a_class_and_no_class_is_without_one():
    assert set(CLASS_OF_CODE) == {each.code for each in EVERY}
    assert set(ANSWERS) <= set(EVERY)
    assert len(set(CLASS_OF_CODE.values())) == len(CLASS_OF_CODE)


def test_the_class_of_a_code_has_its_name():
    for code, kind in CLASS_OF_CODE.items():
        assert kind.__name__ == "".join(map(str.capitalize, code.split("_"))) + "Error"


@pytest.mark.parametrize("each", EVERY, ids=lambda each: f"{each.status}-{each.code}")
def test_an_error_has_the_gateways_code_status_message_and_facts(kind, each):
    problem = example_of(each)
    whole = answer(each.status, problem.body, *[f"{k}: {v}" for k, v in problem.headers.items()])
    with (
        ScriptedServer(whole) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(CLASS_OF_CODE[each.code]) as caught,
    ):
        client.stop("s")
    error = caught.value
    assert isinstance(error, ClientError)
    assert (error.code, error.status) == (each.code, each.status)
    assert error.message == str(error) == problem.refusal.message
    told = msgspec.json.decode(problem.body)
    assert error.facts == {k: v for k, v in told.items() if k not in ("error", "message")}


def test_facts_have_their_names_and_types():
    error = BudgetExceededError(
        "budget_exceeded", "x", status=429, facts={"retryAfter": 7, "reason": "tokens_per_day"}
    )
    assert (error.retry_after_s, error.reason) == (7, "tokens_per_day")
    nothing = InternalError("internal", "x", status=500)
    assert (nothing.retry_after_s, nothing.reason, nothing.facts) == (None, None, {})


def test_a_code_that_is_not_known_yet_is_told_as_it_is(kind):
    newer = answer(418, {"error": "teapot", "message": "short and stout", "spout": True})
    with (
        ScriptedServer(newer) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(RefusedError, match="short and stout") as caught,
    ):
        client.list()
    assert type(caught.value) is RefusedError
    assert (caught.value.code, caught.value.status) == ("teapot", 418)


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (502, b"<html>", UnavailableError, "the gateway is away"),
        (301, b"", MalformedAnswerError, "use that one as the url"),
        (404, b"<html>", MalformedAnswerError, "is not a gateway's"),
        (200, b"<html>", MalformedAnswerError, "the answer is no SessionDeleted"),
        (200, b'{"sessionId": 7, "status": "deleted"}', MalformedAnswerError, "sessionId"),
        (400, b'{"error": 7}', MalformedAnswerError, "is not a gateway's"),
        (200, b"\xff\xfe", MalformedAnswerError, "the answer is no SessionDeleted"),
        (200, b"[" * 100_000, MalformedAnswerError, "the answer is no SessionDeleted"),
    ],
)
def test_what_is_no_gateways_answer_is_told_as_that(kind, status, body, expected, words):
    with (
        ScriptedServer(answer(status, body)) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(expected, match=words),
    ):
        client.stop("s")


def test_an_answer_with_more_fields_than_are_known_is_read(kind):
    newer = answer(200, {"sessionId": "s", "status": "deleted", "since": 7, "more": {"of": "it"}})
    with ScriptedServer(newer) as server, client_of(kind, server.url, key=ACME) as client:
        client.stop("s")


def test_every_error_of_the_client_is_one_of_frontdesks_and_can_be_pickled():
    made = [
        BudgetExceededError("budget_exceeded", "x", status=429, facts={"retryAfter": 7}),
        UnreachableError("x"),
        MalformedAnswerError("x"),
        TurnAbortedError("aborted", error="RuntimeError", text="I will "),
        TurnLostError("r1"),
        ClientClosedError(),
        NoEventLoopError(),
    ]
    for error in made:
        copy = pickle.loads(pickle.dumps(error))
        assert isinstance(copy, FrontdeskError)
        assert (type(copy), str(copy), copy.code) == (type(error), str(error), error.code)
        assert copy.facts == error.facts
    for name in client_errors.__all__:
        one = getattr(client_errors, name)
        assert not isinstance(one, type) or issubclass(one, ClientError)


def test_nobody_listening_is_told_with_the_address(kind):
    with (
        client_of(kind, "http://127.0.0.1:9", key=ACME) as client,
        pytest.raises(UnreachableError, match=r"no answer from http://127\.0\.0\.1:9"),
    ):
        client.stop("s")


def test_the_cause_of_an_error_is_there_for_who_looks():
    with Client("http://127.0.0.1:9") as client, pytest.raises(UnreachableError) as caught:
        client.stop("s")
    assert caught.value.__cause__ is not None
