"""What the how-to of each framework says to write is served: its agents, by its tables."""

import asyncio
import json
import os
import subprocess
import sys
import tomllib

import pytest

from adapters import frameworks
from adapters.dialects import Gemini, OpenAI, OpenAIChat
from adapters.model_server import ModelServer
from docs.pages import page
from gateway.command import serving

pytestmark = pytest.mark.anyio

BOUND_S = 100
KINDS = {"langgraph": OpenAIChat(), "openai-agents": OpenAI(), "adk": Gemini()}
HERE = {each.kind for each in frameworks.tested()}
PAGES = {f"docs/how-to/{kind}.md": dialect for kind, dialect in KINDS.items() if kind in HERE}
TABLES = {name: [b for b in page(name).blocks if b.language == "toml"] for name in PAGES}
FURTHER = [
    pytest.param(name, table, id=str(table))
    for name, (_, *further) in TABLES.items()
    for table in further
]


async def greet(asked):
    """Answer as the model behind the agents of the pages."""
    yield "Hello "
    yield "from the model."


def written(folder, name, table):
    """Write the table and the agent above it as the page says; return the blueprint's name."""
    blocks = page(name).blocks
    ((blueprint, settings),) = tomllib.loads(table.source)["blueprints"].items()
    module = settings["target"].partition(":")[0]
    (folder / f"{module}.py").write_text(blocks[blocks.index(table) - 1].source)
    (folder / "frontdesk.toml").write_text(table.source)
    first = settings.get("models", ["default"])[0]
    return blueprint, first.replace("*", "gpt-5")


@pytest.mark.parametrize(("name", "table"), FURTHER)
async def test_each_further_table_of_the_page_is_served_with_its_agent(name, table, tmp_path):
    blueprint, model = written(tmp_path, name, table)
    async with ModelServer(PAGES[name], greet):
        ran = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "frontdesk.cli", "agents", "check", blueprint, "--model", model],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
    kind = tomllib.loads(table.source)["blueprints"][blueprint]["kind"]
    assert f"{blueprint} ({kind}): ok" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", PAGES)
async def test_at_most_five_lines_of_configuration_lead_to_a_live_session(name, tmp_path):
    table = TABLES[name][0]
    assert len(table.source.splitlines()) <= 5
    blueprint, model = written(tmp_path, name, table)

    def live():
        with serving(tmp_path, config=None) as served, served.client() as client:
            order = {"model": model, "blueprint": blueprint, "prompt": "hi", "wait": 30}
            answer = client.post("/v1/sessions", json=order)
            assert answer.status_code == 201, answer.text
            return answer.json()

    async with ModelServer(PAGES[name], greet):
        opened = await asyncio.to_thread(live)
    assert "Hello from the model." in json.dumps(opened)
