"""Sessions whose tenant's key is lost: said, deleted, and gone on with once the key is back."""

import asyncio

import pytest

from frontdesk import SessionNotFound
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.sessions.errors import NotResumable
from support.sessions import Stream, open_session, parrot, scripted
from support.stored_services import as_killed, found, stored, turned

pytestmark = pytest.mark.anyio


async def cut_off(directory):
    """Leave a turn under way, a prompt behind it, and another tenant's session, as a kill does."""
    begun = asyncio.Event()

    async def script(turn):
        begun.set()
        yield "never finished"
        await asyncio.Event().wait()

    agent = scripted(script, name="b")
    async with stored(directory, agent, parrot, encrypt=True, end_grace_s=0.01) as service:
        beta = await open_session(service, session_id="s-9", tenant="beta", blueprint="parrot")
        await turned(beta, "hello")
        keys = set((directory / "keys").iterdir())
        conversation = await open_session(service, session_id="s-1", blueprint="b")
        requests = [conversation.prompt(text).request_id for text in ("first", "second")]
        await begun.wait()
        await conversation.committed()
        (key,) = set((directory / "keys").iterdir()) - keys
        copy = as_killed(directory)
    return copy, copy / "keys" / key.name, requests


async def test_a_lost_key_keeps_no_start_and_no_other_tenant_and_with_the_key_all_goes_on(tmp_path):
    (tmp_path / "state").mkdir()
    directory, key, requests = await cut_off(tmp_path / "state")
    key.rename(tmp_path / "away")
    async with stored(directory, scripted(echo, name="b"), parrot, encrypt=True) as service:
        assert (await found(service, "s-9", "beta")).blocked is None
        conversation = await found(service)
        assert conversation.dormant
        assert "key" in conversation.blocked
        with pytest.raises(NotResumable, match="key"):
            conversation.prompt("third")
        with pytest.raises(NotResumable, match="key"):
            conversation.steer("more")
        with pytest.raises(ConversationUnreadable):
            await conversation.messages()
        with pytest.raises(ConversationUnreadable):
            await Stream(conversation, since="0").until("agent_end")
    (tmp_path / "away").rename(key)
    async with stored(directory, scripted(echo, name="b"), parrot, encrypt=True) as service:
        conversation = await found(service)
        stream = Stream(conversation, since="0")
        events = await stream.until("agent_end", "agent_abort", count=2)
        stream.close()
        ends = [(each.request_id, each.name) for each in events if each.name.startswith("agent_")]
        assert (requests[0], "agent_abort") in ends
        assert (requests[1], "agent_end") in ends


async def test_what_cannot_be_decrypted_can_be_deleted(tmp_path):
    (tmp_path / "state").mkdir()
    directory, key, _ = await cut_off(tmp_path / "state")
    key.unlink()
    async with stored(directory, scripted(echo, name="b"), parrot, encrypt=True) as service:
        await found(service)
        await service.tenant("acme", "key-1").delete("s-1")
        with pytest.raises(SessionNotFound):
            await found(service)
    async with stored(directory, scripted(echo, name="b"), parrot, encrypt=True) as service:
        with pytest.raises(SessionNotFound):
            await found(service)


async def echo(turn):
    """Say what was asked."""
    yield turn.text
