"""Each extra, installed from the built wheel into an empty environment, brings all it needs."""

import doctest
import re
import sys
import tomllib

import pytest

from built.building import built, installed, ran
from docs.pages import ROOT, page
from docs.test_code_blocks import (
    WORKING,
    brought_by_an_extra,
    gateway_of_pages,
    imported,
    run,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# What a program of the documents imports says which extra it is about: the first that fits.
ABOUT = {
    "guardrails": r"denied_(words|patterns)",
    "jwt": r"auth\.jwt|JwtSettings",
    "acp": r"frontdesk\.agents\.acp|\bacp\b",
    "pydantic-ai": r"pydantic_ai|\"test\"|'test'",
    "client": r"frontdesk\.client",
    "gateway": r"frontdesk\.(gateway|cli)|fastapi|httpx2|anyio",
    "cluster": r"frontdesk\.cluster",
    "durable": r"frontdesk\.persistence",
    "agents": r"frontdesk\.(agents|sessions|keeper)",
    None: r"",
}
ALONE = {
    None: ("frontdesk", "frontdesk.testing"),
    "agents": ("frontdesk.agents", "frontdesk.sessions", "frontdesk.keeper.client"),
    "cluster": ("frontdesk.cluster", "frontdesk.cluster.valkey.engine"),
    "durable": ("frontdesk.persistence", "frontdesk.persistence.sqlite_conversations"),
    "postgresql": ("frontdesk.persistence.postgres_conversations",),
    "gateway": ("frontdesk.gateway.app", "frontdesk.gateway.server", "frontdesk.cli.commands"),
    "pydantic-ai": ("frontdesk.agents.pydantic_ai",),
    "acp": ("frontdesk.agents.acp.blueprint",),
    "guardrails": ("re2",),
    "jwt": ("jwt", "cryptography"),
    "client": ("frontdesk.client",),
    "cli": ("frontdesk.cli.commands", "frontdesk.cli.top_screen", "frontdesk.client"),
    "otel": ("opentelemetry.trace",),
}
"""What an extra is asked for, by modules."""

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TOGETHER = {
    "guardrails": "gateway,guardrails",
    "jwt": "gateway,jwt",
    "pydantic-ai": "gateway,pydantic-ai",
}
"""What programs of the documents use one with."""

__all__ = ["gateway_of_pages"]  # a fixture of the documents' tests


def about(block):
    return next(extra for extra, words in ABOUT.items() if re.search(words, block.source))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=ALONE, ids=lambda extra: extra or "none")
def environment(request, wheel, tmp_path_factory):
    """An extra, and the interpreter of an environment with it alone."""
    extra = request.param
    place = tmp_path_factory.mktemp("environment") / "venv"
    return extra, installed(wheel, place, extra=extra)


def test_an_extra_brings_all_that_its_modules_import(environment, tmp_path):
    extra, python = environment
    for module in ALONE[extra]:
        ran(python, "-W", "error", "-c", f"import {module}", cwd=tmp_path)
    ran(python, "-m", "pip", "check")


def test_what_an_extra_does_not_bring_is_named_by_the_extra_that_does(environment, tmp_path):
    extra, python = environment
    lacking = {
        None: ("frontdesk.agents", "agents"),
        "agents": ("frontdesk.gateway; frontdesk.gateway.create_app", "gateway"),
        "cluster": ("frontdesk.gateway; frontdesk.gateway.create_app", "gateway"),
        "durable": ("frontdesk.persistence.postgres_connections", "postgresql"),
        "postgresql": ("frontdesk.gateway; frontdesk.gateway.create_app", "gateway"),
        "gateway": ("frontdesk.cluster.valkey.engine", "cluster"),
        "pydantic-ai": ("frontdesk.agents.acp.blueprint", "acp"),
        "acp": ("frontdesk.agents.pydantic_ai", "pydantic-ai"),
        "guardrails": ("frontdesk.agents", "agents"),
        "jwt": ("frontdesk.agents", "agents"),
        "client": ("frontdesk.gateway; frontdesk.gateway.create_app", "gateway"),
        "cli": ("frontdesk.gateway; frontdesk.gateway.create_app", "gateway"),
        "otel": ("frontdesk.gateway; frontdesk.gateway.create_app", "gateway"),
    }
    module, needed = lacking[extra]
    told = ran(python, "-c", f"import {module}", cwd=tmp_path, check=False)
    assert told.returncode == 1
    assert f"pip install 'frontdesk[{needed}]'" in told.stderr


def test_the_programs_of_the_documents_run_with_the_extra_that_they_are_about(
    environment, wheel, tmp_path_factory, request
):
    extra, python = environment
    beside = request.getfixturevalue("gateway_of_pages") if extra == "client" else None
    if extra in TOGETHER:
        place = tmp_path_factory.mktemp("together") / "venv"
        python = installed(wheel, place, extra=TOGETHER[extra])
    known = {"frontdesk", "anyio", *sys.stdlib_module_names, *brought_by_an_extra()}
    blocks = [
        block
        for block in WORKING
        # What is about a framework of somebody else's is run where that is.
        if about(block) == extra
        and set(imported(block)) <= known
        # Nor does an extra bring an SDK for traces.
        and "opentelemetry.sdk" not in block.source
    ]
    for block in blocks:
        done = run(block, tmp_path_factory.mktemp("program"), python=python, variables=beside)
        assert done.returncode == 0, f"{block}: {done.stderr}"
        shown = page(block.page).shown_below(block)
        checker = doctest.OutputChecker()
        assert shown is None or checker.check_output(shown, done.stdout, doctest.ELLIPSIS), block
    assert blocks or extra in {"guardrails", "acp", "jwt", "cli", "otel", "durable", "postgresql"}


COMMANDS = {
    "gateway": (
        ("version", 0, ""),
        ("keys list", 2, "no gateway has its state here"),
        ("top", 2, "pip install 'frontdesk[cli]'"),
    ),
    "cli": (
        ("version", 0, ""),
        ("sessions ls --url http://127.0.0.1:9", 5, "nothing answers"),
        ("top", 2, "needs a terminal"),
        ("keys list", 2, "pip install 'frontdesk[gateway]'"),
        ("serve", 2, "pip install 'frontdesk[gateway]'"),
    ),
}
"""Commands, with an extra alone: how they end, and what they say."""


def test_a_command_works_with_its_extra_and_names_it_without(environment, tmp_path):
    extra, python = environment
    for arguments, code, said in COMMANDS.get(extra, ()):
        command = (python, "-m", "frontdesk.cli", *arguments.split())
        done = ran(*command, cwd=tmp_path, check=False)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_every_extra_is_among_those_that_are_tried():
    frameworks = {"openai-agents", "openai", "a2a", "langgraph", "adk"}  # where they are installed
    assert set(EXTRAS) - {"all", "dev"} - frameworks <= set(ALONE)
