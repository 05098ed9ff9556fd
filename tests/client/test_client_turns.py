"""Turns of a real gateway, as both clients give them."""

import asyncio
import threading

import pytest

from client.both import client_of
from frontdesk.client import (
    AgentAbort,
    AgentEnd,
    Approval,
    ApprovalRequired,
    ApprovalResolved,
    AskUser,
    AsyncClient,
    BadRequestError,
    Client,
    MessageDelta,
    PromptReceived,
    SessionDeadError,
    SessionEnd,
    TurnAbortedError,
)
from frontdesk.errors import InvalidType
from gateway.running import ACME


def names(events):
    return [type(each).__name__ for each in events]


def test_a_turn_gives_its_events_in_order_and_then_no_more(acme, sid):
    turn = acme.open("test", session_id=sid).prompt("one two")
    assert turn.end is None
    events = list(turn)
    assert names(events) == [
        "PromptReceived", "AgentStart", "MessageStart", "MessageDelta", "MessageDelta", "AgentEnd",
    ]  # fmt: skip
    assert events[0] == PromptReceived("one two")
    assert [each.delta for each in events if isinstance(each, MessageDelta)] == ["one ", "two "]
    assert turn.end is events[-1]
    assert list(turn) == []
    assert turn.text() == "one two "


def test_a_turn_is_whole_whatever_else_was_prompted_before_it_is_read(acme, sid):
    session = acme.open("test", session_id=sid)
    turns = [session.prompt(f"number {number}") for number in range(4)]
    assert [turn.text() for turn in turns] == [f"number {number} " for number in range(4)]


def test_a_turn_that_waits_for_others_gives_only_its_own(acme, sid):
    session = acme.open("test", session_id=sid, blueprint="patient")
    first, second = session.prompt("first"), session.prompt("second")
    assert (first.queued, second.queued) == (False, True)
    session.steer("go")
    assert first.text() == "working done "
    session.steer("go")
    assert [each.text for each in second if isinstance(each, PromptReceived)] == ["second"]


def test_leaving_an_iteration_leaves_the_turn_and_iterating_again_goes_on(acme, sid):
    turn = acme.open("test", session_id=sid).prompt("a b c d e")
    told = []
    while turn.end is None:
        for event in turn:
            told.append(event)
            break
    assert names(told) == ["PromptReceived", "AgentStart", "MessageStart", *["MessageDelta"] * 5,
                           "AgentEnd"]  # fmt: skip


def test_an_abort_ends_the_turn_and_its_text_says_so(acme, sid):
    turn = acme.open("test", session_id=sid, blueprint="patient").prompt("work")
    for event in turn:
        if isinstance(event, MessageDelta):
            turn.abort(reason="enough")
    assert turn.end == AgentAbort("enough")
    with pytest.raises(TurnAbortedError) as caught:
        turn.text()
    assert (caught.value.reason, caught.value.text) == ("enough", "working ")
    turn.abort()  # it has ended: nothing happens


def test_a_crash_is_told_with_the_error_that_explains_it(acme, sid):
    turn = acme.open("test", session_id=sid, blueprint="clumsy").prompt("x")
    with pytest.raises(TurnAbortedError) as caught:
        turn.text()
    assert caught.value.text == "I will "
    assert caught.value.error == "RuntimeError"
    assert "swordfish" not in str(caught.value)


def test_a_prompt_that_never_began_ends_with_its_session(acme, sid):
    session = acme.open("test", session_id=sid, blueprint="patient")
    session.prompt("under way")
    waiting = session.prompt("waits")
    session.stop()
    with pytest.raises((SessionDeadError, TurnAbortedError)):
        waiting.text()


# -- approvals and questions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (True, "refund approved: None "),
        (False, "refund rejected: None "),
        (Approval("approved", "it is due"), "refund approved: it is due "),
        (Approval("rejected", "too much"), "refund rejected: too much "),
    ],
    ids=str,
)
def test_an_approval_is_asked_of_the_callback_and_answered(acme, sid, answer, told):
    asked = []

    def on_approval(approval):
        asked.append(approval)
        return answer

    session = acme.open("test", session_id=sid, blueprint="careful")
    assert session.prompt("17", on_approval=on_approval).text() == told
    assert [(each.tool_name, each.args, each.hint) for each in asked] == [
        ("refund", {"order": "17"}, "costs money")
    ]


def test_a_question_is_asked_of_the_callback_and_answered(acme, sid):
    session = acme.open("test", session_id=sid, blueprint="curious")
    told = session.prompt("?", on_question=lambda asked: f"{asked.question} blue").text()
    assert told == "so it is Which one? blue "


def test_an_approval_that_the_callback_leaves_may_be_answered_by_others(acme, sid):
    session = acme.open("test", session_id=sid, blueprint="careful")
    turn = session.prompt("17", on_approval=lambda _: None)
    for event in turn:
        if isinstance(event, ApprovalRequired):
            session.reject(event.approval_id, reason="by somebody else")
    assert turn.text() == "refund rejected: by somebody else "


def test_without_a_callback_approvals_and_questions_are_answered_by_hand(acme, sid):
    session = acme.open("test", session_id=sid, blueprint="curious")
    turn = session.prompt("?")
    for event in turn:
        if isinstance(event, AskUser):
            assert session.status().pending_questions[0].ref == event.ref
            session.respond(event.ref, {"colour": ["blue"]})
    assert turn.text() == "so it is {'colour': ['blue']} "
    with pytest.raises(BadRequestError):
        session.respond("no-such-reference", "x")


def test_an_answer_that_comes_second_is_no_error_of_the_turn(acme, gateway, sid):
    session = acme.open("test", session_id=sid, blueprint="careful")

    def somebody_else_is_faster(approval):
        with Client(gateway.url, key=ACME) as other:
            other.session(sid).approve(approval.approval_id)
        return False

    turn = session.prompt("17", on_approval=somebody_else_is_faster)
    assert [each.status for each in turn if isinstance(each, ApprovalResolved)] == ["approved"]
    assert turn.text() == "refund approved: None "


def test_an_answer_that_is_refused_while_it_waits_is_an_error(acme, sid):
    session = acme.open("test", session_id=sid, blueprint="careful")
    wrong = Approval("approved", option_id="no-such-option")
    turn = session.prompt("17", on_approval=lambda _: wrong)
    with pytest.raises(BadRequestError, match="option"):
        turn.text()
    session.approve(session.status().pending_approvals[0].approval_id)
    assert turn.text() == "refund approved: None "


@pytest.mark.parametrize("answer", ["yes", 1, [True]], ids=repr)
def test_a_tool_is_not_let_run_by_what_is_merely_true(acme, sid, answer):
    session = acme.open("test", session_id=sid, blueprint="careful")
    turn = session.prompt("17", on_approval=lambda _: answer)
    with pytest.raises(InvalidType, match="what on_approval gives"):
        turn.text()
    assert len(session.status().pending_approvals) == 1
    session.stop()


def test_an_error_of_a_callback_comes_out_and_the_turn_goes_on(acme, sid):
    session = acme.open("test", session_id=sid, blueprint="careful")

    def on_approval(_):
        raise KeyError("a fault of the program's")

    turn = session.prompt("17", on_approval=on_approval)
    with pytest.raises(KeyError, match="fault"):
        turn.text()
    session.approve(session.status().pending_approvals[0].approval_id)
    assert turn.text() == "refund approved: None "


def test_callbacks_of_the_asynchronous_client_may_be_coroutines(gateway, sid):
    async def approved(_):
        await asyncio.sleep(0)
        return True

    async def answered(_):
        await asyncio.sleep(0)
        return "blue"

    with client_of("asyncio", gateway.url, key=ACME) as client:
        careful = client.open("test", blueprint="careful")
        assert careful.prompt("17", on_approval=approved).text() == "refund approved: None "
        curious = client.open("test", blueprint="curious")
        assert curious.prompt("?", on_question=answered).text() == "so it is blue "


# -- events of a session ---------------------------------------------------------------------------


def test_the_events_of_a_session_are_followed_to_its_end(acme, sid):
    session = acme.open("test", session_id=sid)
    turn = session.prompt("one")
    turn.text()
    session.stop()
    events = list(session.events(since="0"))
    assert [each.index for each in events] == list(range(1, 7))
    assert events[-1].event == SessionEnd("deleted")
    assert {each.request_id for each in events[:-1]} == {turn.request_id}
    assert events[-1].request_id is None
    assert list(session.events(since=events[-1].id)) == []
    assert [each.index for each in session.events(since=events[2].id)] == [4, 5, 6]


def test_events_of_some_types_are_followed(acme, sid):
    session = acme.open("test", session_id=sid)
    session.prompt("one").text()
    session.stop()
    told = list(session.events(since="0", types=["agent_end", "session_end"]))
    assert [type(each.event) for each in told] == [AgentEnd, SessionEnd]
    with pytest.raises(BadRequestError, match="no event type 'nonsense'"):
        list(session.events(types=["nonsense"]))


def test_several_threads_may_use_one_client(gateway):
    told = []
    with client_of("sync", gateway.url, key=ACME) as client:

        def ask(number):
            told.append(client.open("test").prompt(f"number {number}").text())

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(told) == sorted(f"number {number} " for number in range(16))


@pytest.mark.slow
def test_a_hundred_and_fifty_turns_are_followed_at_once(gateway):
    """More than HTTP clients keep connections by default: none waits for another."""

    async def main():
        async with AsyncClient(gateway.url, key=ACME) as client:
            session = [await client.open("test", blueprint="patient") for _ in range(150)]
            turns = [await each.prompt("work") for each in session]

            async def follow(turn):
                async for event in turn:
                    if isinstance(event, MessageDelta):
                        break

            async with asyncio.timeout(60):
                await asyncio.gather(*map(follow, turns))
                await asyncio.gather(*(turn.session.stop() for turn in turns))

    asyncio.run(main())
