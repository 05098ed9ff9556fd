"""What the page on other interpreters says to write is served, there."""

import os
import subprocess
import sys
import tomllib

import pytest

from docs.pages import page
from support.other_interpreters import virtual

PAGE = page("docs/how-to/other-interpreters.md")
BOUND_S = 100

CREWAI = """
class Answer:
    raw, usage_metrics = "from the crew", {"prompt_tokens": 3, "completion_tokens": 4}

class Agent:
    def __init__(self, *, role, goal, backstory, llm):
        assert llm == "openai/gpt-5"

    async def kickoff_async(self, messages):
        assert [each["role"] for each in messages] == ["user"]
        return Answer()
"""
"""As much of the framework as the page uses: its name and calls, and no model's server."""


@pytest.mark.slow
def test_the_agent_and_the_table_of_the_page_are_served(tmp_path):
    agent = next(block for block in PAGE.blocks if block.above.endswith("`research.py`:"))
    table = next(block for block in PAGE.blocks if block.language == "toml")
    (tmp_path / "research.py").write_text(agent.source)
    (tmp_path / "frontdesk.toml").write_text(table.source)
    interpreter = tomllib.loads(table.source)["blueprints"]["research"]["python"]
    assert virtual(tmp_path / "crew", crewai=CREWAI) == str(tmp_path / interpreter)
    check = ["agents", "check", "research", "--model", "openai/gpt-5"]
    ran = subprocess.run(
        [sys.executable, "-m", "frontdesk.cli", *check],
        cwd=tmp_path,
        env={**os.environ, "OPENAI_API_KEY": "sk-none"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert "research (python): ok, openai/gpt-5 answered in" in ran.stdout, ran.stdout + ran.stderr
    assert "from the crew" in ran.stdout
