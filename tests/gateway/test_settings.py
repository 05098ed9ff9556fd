"""Settings are defined once: what is said beside a setting's type is what holds."""

import asyncio
import dataclasses

import pytest
from pydantic import BaseModel

from frontdesk.agents.blueprints import Blueprints
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.setting_types import setting_of
from frontdesk.gateway.settings import Config
from frontdesk.sessions.context import SessionSettings
from frontdesk.store import Limits

TABLES = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
SETTINGS = {
    (table, name): setting_of(field)
    for table, kind in TABLES.items()
    for name, field in kind.model_fields.items()
}
OPTIONS = {place: each.sets for place, each in SETTINGS.items() if each is not None and each.sets}


@pytest.mark.parametrize("place", SETTINGS, ids=".".join)
def test_every_setting_says_what_it_means(place):
    assert SETTINGS[place] is not None
    assert SETTINGS[place].meaning


@pytest.mark.parametrize("place", OPTIONS, ids=".".join)
def test_a_setting_that_sets_an_option_of_a_layer_below_names_one_of_its_own(place):
    record, option = OPTIONS[place]
    assert option in {field.name for field in dataclasses.fields(record)}
    assert list(OPTIONS.values()).count((record, option)) == 1


def test_what_nobody_sets_is_what_the_sessions_have_by_themselves():
    assert Config().options(SessionSettings) == SessionSettings()


def test_what_is_set_reaches_the_layer_below():
    config = Config(limits={"prompt_queue": 7, "sessions_per_key": None}, turns={"approval_s": 1.5})
    settings = config.options(SessionSettings)
    assert (settings.max_queued_prompts, settings.approval_timeout_s) == (7, 1.5)
    assert config.options(Limits) == Limits(total=10_000, per_tenant=1_000, per_api_key=None)


LIMITS = {
    "requests_per_minute": lambda gateway: gateway.rate.allowance("k").limit,
    "wrong_keys_per_minute": lambda gateway: gateway.authenticator.wrong_keys.allowance("k").limit,
    "streams_per_key": lambda gateway: gateway.streams.per_key,
    "sessions_total": lambda gateway: gateway.store.limits.total,
    "sessions_per_tenant": lambda gateway: gateway.store.limits.per_tenant,
    "sessions_per_key": lambda gateway: gateway.store.limits.per_api_key,
    "body_bytes": lambda gateway: gateway.config.limits.body_bytes,
    "text_characters": lambda gateway: gateway.config.limits.text_characters,
}
"""What is in force, of each limit that a reload changes."""


def test_every_limit_that_says_so_is_changed_by_a_reload(tmp_path):
    said = {name for (table, name), each in SETTINGS.items() if table == "limits" and each.reload}
    assert said == set(LIMITS)
    server = {"state_dir": tmp_path}
    other = Config(server=server, limits=dict.fromkeys(LIMITS, 2048))

    async def reloaded():
        async with Gateway(Config(server=server), blueprints=Blueprints([])) as gateway:
            before = {name: found(gateway) for name, found in LIMITS.items()}
            gateway.reload(other)
            return before, {name: found(gateway) for name, found in LIMITS.items()}

    before, after = asyncio.run(reloaded())
    assert before == {name: getattr(Config().limits, name) for name in LIMITS}
    assert after == dict.fromkeys(LIMITS, 2048)
