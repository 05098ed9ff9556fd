"""The page of the configuration lists every setting, with its default."""

import typing

import pytest

from docs.pages import page
from docs.tables import SETTINGS, default_of
from frontdesk.gateway.blueprint_settings import BlueprintSettings
from frontdesk.gateway.config import load_config
from frontdesk.gateway.settings import BudgetSettings, Config, GuardrailSettings
from frontdesk.keeper.environment import HARMLESS

PAGE = page("docs/reference/configuration.md")


@pytest.mark.parametrize("table", SETTINGS)
def test_the_page_lists_every_setting_with_its_default(table):
    said = {row[0].strip("`"): row[1] for row in PAGE.rows(under=table)}
    fields = SETTINGS[table].model_fields
    assert said == {name: default_of(field.default) for name, field in fields.items()}


KINDS = {
    typing.get_args(kind.model_fields["kind"].annotation)[0]: kind
    for kind in typing.get_args(typing.get_args(BlueprintSettings)[0])
}


@pytest.mark.parametrize("name", KINDS)
def test_the_page_lists_every_setting_of_a_kind_of_blueprint(name):
    common = {row[0].strip("`"): row[1] for row in PAGE.rows(under="All kinds")}
    own = {row[0].strip("`"): row[1] for row in PAGE.rows(under=f'kind = "{name}"')}
    fields = KINDS[name].model_fields
    assert set(common) | set(own) == set(fields)
    for setting, default in {**common, **own}.items():
        field = fields[setting]
        if setting != "isolation":
            assert default == ("required" if field.is_required() else default_of(field.default)), (
                setting
            )


def test_the_environment_of_agent_processes_is_the_one_on_its_page():
    rows = page("docs/how-to/isolate-agents.md").rows(under="What each process gets")
    environment = next(row[1] for row in rows if row[0] == "environment")
    assert environment.split("`")[1::2] == [*HARMLESS, "environment"]


def test_a_tenant_has_the_settings_that_the_page_says():
    tenant = typing.get_args(Config.model_fields["tenants"].annotation)[1]
    own = {"guardrails": GuardrailSettings, "budgets": BudgetSettings}
    assert list(tenant.model_fields) == [*own, "retention_days"]
    for name, table in own.items():
        assert table in typing.get_args(tenant.model_fields[name].annotation)


@pytest.mark.parametrize("block", [b for b in PAGE.blocks if b.language == "toml"], ids=str)
def test_the_configuration_on_the_page_is_accepted(block, tmp_path):
    file = tmp_path / "frontdesk.toml"
    file.write_text(block.source)
    assert load_config(path=file)
