"""Homes of ACP agents: what one tenant's agent remembers is in no other tenant's requests."""

import asyncio
import os

import pytest

from frontdesk.agents.acp.home import Home
from support.acp import open_acp_service, open_session, turn_of
from support.sessions import text
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def remembered(service, tenant, prompt):
    """Run one turn in a session of its own; return what its agent remembered, and its home."""
    conversation = await open_session(service, tenant=tenant)
    said = text(await turn_of(conversation, prompt))
    await service.tenant(tenant, "key-1").delete(conversation.session_id)
    memory, _, home = said.partition("|")
    return memory, home


async def test_tenants_do_not_share_a_home_and_their_sessions_do(tmp_path):
    homes = tmp_path / "homes"
    async with open_acp_service("Homely", homes=homes) as service:
        assert await remembered(service, "acme", "a secret.") == ("", str(homes / "acme"))
        assert await remembered(service, "globex", "other.") == ("", str(homes / "globex"))
        assert (await remembered(service, "acme", "more."))[0] == "a secret."
    assert (homes / "acme" / "AGENTS.md").read_text() == "a secret.more."
    assert (homes / "acme").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("options", [{"home": "session"}, {}])
async def test_a_sessions_own_home_is_empty_and_gone_with_it(options):
    async with open_acp_service("Homely", **options) as service:
        homes = set()
        for _ in range(2):
            memory, home = await remembered(service, "acme", "a secret.")
            homes.add(home)
            assert memory == ""
            await asyncio.to_thread(eventually, lambda gone=home: not os.path.exists(gone))
        assert len(homes) == 2
        assert os.environ["HOME"] not in homes


async def test_a_shared_home_is_the_operators(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    async with open_acp_service("Homely", home="shared") as service:
        assert await remembered(service, "acme", "x") == ("", str(tmp_path))
        assert await remembered(service, "globex", "y") == ("x", str(tmp_path))


async def test_a_home_that_cannot_be_made_is_a_create_that_failed(tmp_path):
    from frontdesk.agents.errors import CreateFailed

    (tmp_path / "homes").write_text("not a directory")
    async with open_acp_service("Homely", homes=tmp_path / "homes") as service:
        with pytest.raises(CreateFailed):
            await open_session(service)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a directory away")
async def test_a_home_belongs_to_the_agents_account(tmp_path):
    home = Home("tenant", tenant_id="acme", homes=tmp_path / "homes", account="nobody")
    assert os.stat(home.path).st_uid != 0
