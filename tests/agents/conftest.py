"""Fixtures of the agents' tests."""

import pytest

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "OPENAI_BASE_URL")


@pytest.fixture
def no_keys(monkeypatch):
    """Take the keys of model providers out of the environment."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
