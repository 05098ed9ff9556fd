"""What the page about agents elsewhere says to write is served, with a loopback address in it."""

import asyncio
import json
import tomllib

import pytest

from adapters.dialects import OpenAI
from adapters.frameworks import A2A_ADDRESS
from adapters.model_server import ORIGIN, ModelServer
from docs.pages import page
from gateway.command import serving

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BLOCKS = [b for b in page("docs/how-to/remote-agents.md").blocks if b.language == "toml"]


async def greet(asked):
    yield "Hello "
    yield "from elsewhere."


@pytest.fixture
def settings(block, request):
    """Return the table of a block, with an agent that answers at its address here."""
    ((_, settings),) = tomllib.loads(block.source)["blueprints"].items()
    if settings["kind"] == "a2a":
        pytest.importorskip("a2a.client")
        request.getfixturevalue("remote_agent")
    return settings


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_at_most_five_lines_of_configuration_lead_to_a_live_session(
    block, settings, tmp_path, monkeypatch
):
    assert len(block.source.splitlines()) <= 5
    here = {"openai": f"{ORIGIN}/v1", "a2a": A2A_ADDRESS}[settings["kind"]]
    (tmp_path / "frontdesk.toml").write_text(block.source.replace(settings["target"], here))
    if "credential" in settings:
        monkeypatch.setenv(settings["credential"], "sk-of-the-tests")

    def live():
        with serving(tmp_path, config=None) as served, served.client() as client:
            order = {"model": "default", "prompt": "hi", "wait": 30}
            answer = client.post("/v1/sessions", json=order)
            assert answer.status_code == 201, answer.text
            return answer.json()

    async with ModelServer(OpenAI(), greet):
        opened = await asyncio.to_thread(live)
    assert "Hello from elsewhere." in json.dumps(opened)
