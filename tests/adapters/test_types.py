"""The types of adapters hold beside their frameworks; elsewhere those are all `Any`."""

import subprocess
import sys

import pytest

from docs.pages import ROOT

PACKAGES = {"a2a.client": ("a2a",), "agents.tracing": ("openai_agents",)}
"""The folders of adapters, by the module without which their types are unknown."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("needs", PACKAGES)
def test_the_types_of_an_adapter_are_those_of_its_framework(needs):
    pytest.importorskip(needs)
    folders = [f"src/frontdesk/agents/{name}" for name in PACKAGES[needs]]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
