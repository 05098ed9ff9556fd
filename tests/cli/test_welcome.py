"""What a development run says when it has started, to the letter."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from frontdesk import __version__
from frontdesk.cli.dev import dev_keys, with_demo
from frontdesk.cli.welcome import program_here, welcome
from frontdesk.gateway.blueprint_config import blueprints_of
from frontdesk.gateway.settings import Config
from frontdesk.gateway.state_dir import StateDir
from frontdesk.keeper.client import Keeper

GOLDEN = Path(__file__).with_name("golden") / "welcome.txt"
WRITE = "FRONTDESK_WRITE_GOLDEN"


def test_the_command_is_named_by_its_place_where_it_is_on_no_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    beside = Path(sys.executable).with_name("frontdesk")
    assert Path(program_here()).resolve() == beside.resolve()
    monkeypatch.setenv("PATH", str(beside.parent))
    assert program_here() == "frontdesk"


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    keys = dev_keys(StateDir.make(tmp_path_factory.mktemp("state")))

    async def say():
        async with Keeper() as keeper:
            return welcome(
                "http://127.0.0.1:4000", keys, blueprints_of(with_demo(Config()), keeper)
            )

    text = asyncio.run(say())
    for secret, name in (
        (keys.tenant.secret, "TENANT_KEY"),
        (keys.operator.secret, "OPERATOR_KEY"),
        *zip(keys.codes, ("TENANT_CODE", "OPERATOR_CODE"), strict=True),
    ):
        assert text.count(secret) == 1, "each secret is said once"
        text = text.replace(secret, name)
    return text.replace(__version__, "VERSION").replace(program_here(), "frontdesk")


def test_the_welcome_is_what_it_was_agreed_to_be(said):
    if os.environ.get(WRITE):
        GOLDEN.write_text(said, encoding="utf-8")
    assert said == GOLDEN.read_text(encoding="utf-8"), f"to accept it: {WRITE}=1"


def test_the_welcome_fits_on_a_screen_and_every_step_is_there(said):
    assert len(said.splitlines()) <= 40
    assert re.findall(r"^(\d)\. ", said, re.MULTILINE) == ["1", "2", "3"]
    first = said.index("1. ")
    assert said.index("/#code=TENANT_CODE") > first, "the link comes first"
    assert said.index("/#code=TENANT_CODE") < said.index("2. ")
