"""Idempotency keys: the first answer again."""

import asyncio

import pytest

from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import IdempotencyMismatch
from frontdesk.gateway.idempotency import Idempotency, StoredResponse
from gateway.requirements import covers


def counting(status=201):
    made = []

    async def answer(place):
        made.append(None)
        await asyncio.sleep(0)
        return StoredResponse(status, str(len(made)).encode())

    return made, answer


def once(keeper, answer, *, key="k", body=b"b", scope=("key", "create")):
    return keeper.once(scope, key, body=body, answer=answer)


@covers("errors.idempotency")
def test_the_same_key_and_body_get_the_first_answer_for_ten_minutes(clock):
    async def scenario():
        keeper, (_made, answer) = Idempotency(clock=clock), counting()
        first = await once(keeper, answer)
        clock.advance(599)
        assert await once(keeper, answer) == first
        clock.advance(1)
        assert (await once(keeper, answer)).body == b"2"

    asyncio.run(scenario())


@covers("errors.idempotency")
def test_the_same_key_with_another_body_is_refused(clock):
    async def scenario():
        keeper, (_, answer) = Idempotency(clock=clock), counting()
        await once(keeper, answer)
        with pytest.raises(IdempotencyMismatch):
            await once(keeper, answer, body=b"other")

    asyncio.run(scenario())


def test_two_at_once_are_carried_out_once(clock):
    async def scenario():
        keeper, (made, answer) = Idempotency(clock=clock), counting()
        answers = await asyncio.gather(*(once(keeper, answer) for _ in range(10)))
        assert len(made) == 1
        assert set(answers) == {StoredResponse(201, b"1")}

    asyncio.run(scenario())


def test_the_second_gets_its_answer_when_the_first_client_leaves_in_the_middle(clock):
    async def scenario():
        keeper, (made, answer) = Idempotency(clock=clock), counting()
        first = asyncio.create_task(once(keeper, answer))
        await asyncio.sleep(0)
        first.cancel()
        assert (await once(keeper, answer)).body == b"1"
        assert len(made) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_invites_to_try_again_is_not_kept(clock, status):
    async def scenario():
        keeper, (made, answer) = Idempotency(clock=clock), counting(status)
        await once(keeper, answer)
        await once(keeper, answer)
        assert len(made) == 2
        assert len(keeper) <= 1

    asyncio.run(scenario())


def test_scopes_share_no_keys(clock):
    async def scenario():
        keeper, (made, answer) = Idempotency(clock=clock), counting()
        await once(keeper, answer, scope=("a", "create"))
        await once(keeper, answer, scope=("b", "create"), body=b"other")
        assert len(made) == 2

    asyncio.run(scenario())


def test_nobody_pushes_out_the_answers_of_others(clock):
    async def scenario():
        keeper, (made, answer) = Idempotency(clock=clock, max_stored=3), counting()
        await once(keeper, answer, scope=("a", "create"), key="precious")
        for number in range(10):
            await once(keeper, answer, scope=("b", "create"), key=str(number))
        assert len(keeper) == 3
        await once(keeper, answer, scope=("a", "create"), key="precious")
        assert len(made) == 11

    asyncio.run(scenario())


def test_past_the_bound_the_oldest_is_forgotten(clock):
    async def scenario():
        keeper, (made, answer) = Idempotency(clock=clock, max_stored=2), counting()
        for key in ("a", "b", "c"):
            await once(keeper, answer, key=key)
        assert len(keeper) == 2
        await once(keeper, answer, key="a")
        assert len(made) == 4

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_of_no_or_too_many_characters_is_refused(clock, key):
    with pytest.raises(InvalidArgument):
        asyncio.run(once(Idempotency(clock=clock), counting()[1], key=key))
