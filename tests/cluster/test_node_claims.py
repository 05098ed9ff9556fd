"""What a node has the answers to is claimed again where the engine forgets who has them."""

import asyncio

import pytest

from cluster.open_nodes import eventually, on_loop, open_nodes
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.own_claims import MAX_CLAIMS, OwnClaim, OwnClaims

TTL_S = 600


async def claimed(opened, slot):
    """Claim for a node as a gateway does; return who has it."""
    node = opened.node
    claim = await node.claim(slot, digest="d", ttl_s=TTL_S, by=node.incarnation)
    return claim.incarnation


def bury(server, incarnation):
    """Hold a node to be dead."""
    while not server.call("bury", 0, incarnation, proven=True).done:
        pass


async def told_dead(server, opened):
    """Let a node hear that it is held to be dead, and wait until it is back as another one."""
    before = opened.node.incarnation
    bury(server, before)
    opened.node._lease.renew_soon()
    await eventually(lambda: opened.node.incarnation != before)


@on_loop
async def test_a_node_that_was_held_to_be_dead_keeps_what_it_has_the_answers_to():
    async with open_nodes("a", "b") as (server, a, b):
        before = await claimed(a, "slot")
        await told_dead(server, a)
        await eventually(lambda: server.calls.count("claim") == 2)
        assert await claimed(b, "slot") == a.node.incarnation != before


@on_loop
async def test_a_claim_that_an_engine_has_lost_is_told_again_as_entries_are():
    async with open_nodes("a", "b") as (server, a, b):
        await claimed(a, "slot")
        server.wipe()
        for each in (a, b):
            each.node._lease.renew_soon()
        await eventually(lambda: server.calls.count("claim") == 2)
        await eventually(lambda: server.calls.count("join") == 4)
        assert await claimed(b, "slot") == a.node.incarnation


@on_loop
async def test_a_claim_that_another_node_got_meanwhile_is_that_nodes():
    async with open_nodes("a", "b") as (server, a, b):
        await claimed(a, "slot")
        bury(server, a.node.incarnation)
        assert await claimed(b, "slot") == b.node.incarnation
        await told_dead(server, a)
        await eventually(lambda: server.calls.count("claim") == 3)
        assert await claimed(a, "slot") == b.node.incarnation


@on_loop
async def test_an_engine_that_goes_away_meanwhile_is_told_of_claims_when_it_is_back():
    async with open_nodes("a", "b") as (server, a, b):
        await claimed(a, "slot")
        asked, fails = a.engine.call, []

        async def call(verb, *arguments, **options):
            if verb == "claim" and not fails:
                fails.append(verb)
                a.engine.lose_replies = 1
            return await asked(verb, *arguments, **options)

        a.engine.call = call
        await told_dead(server, a)
        await eventually(lambda: fails and server.calls.count("claim") == 3)
        assert await claimed(b, "slot") == a.node.incarnation


@on_loop
async def test_a_claim_that_fails_leaves_no_other_one_to_itself():
    async with open_nodes("a") as (server, a):
        for number in range(5):
            await claimed(a, f"slot{number}")
        asked, begun, never = a.engine.call, [], asyncio.Event()

        async def call(verb, *arguments, **options):
            if verb == "claim":
                begun.append(verb)
                if len(begun) == 1:
                    raise EngineUnavailable("it is gone")
                await never.wait()
            return await asked(verb, *arguments, **options)

        a.engine.call = call
        await told_dead(server, a)
        await eventually(lambda: len(begun) >= 5)
    # The node has left, and nothing of it waits: `open_nodes` looks.


def test_what_has_run_out_is_not_claimed_again():
    claims = OwnClaims()
    claims.add("one", OwnClaim("d", until_s=10.0), now_s=0.0)
    claims.add("two", OwnClaim("d", until_s=20.0), now_s=10.0)
    claims.forget()
    assert list(claims.forgotten) == ["two"]


def test_a_claim_that_is_asked_for_again_runs_out_as_it_did():
    claims = OwnClaims()
    claims.add("one", OwnClaim("d", until_s=10.0), now_s=0.0)
    claims.add("one", OwnClaim("d", until_s=15.0), now_s=5.0)
    claims.forget()
    assert claims.forgotten["one"].until_s == 10.0


@pytest.mark.parametrize("beyond", [1, 5])
def test_of_more_claims_than_are_held_the_oldest_go(beyond):
    claims = OwnClaims()
    for number in range(MAX_CLAIMS + beyond):
        claims.add(f"{number}", OwnClaim("d", until_s=600.0), now_s=0.0)
    claims.forget()
    assert len(claims.forgotten) == MAX_CLAIMS
    assert next(iter(claims.forgotten)) == f"{beyond}"
