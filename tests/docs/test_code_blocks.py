"""Every Python block of the documents is a program: it runs, alone, and prints what is shown.

A block in the language `output` right below a Python block is what that program prints (`...`
stands for anything). On the troubleshooting page a program shows the error that is its heading.
"""

import ast
import doctest
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from docs.pages import HOSTED_ELSEWHERE, PAGES, ROOT, blocks_in, page
from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.demo import demo
from gateway.running import ACME, RunningGateway

# Part of `make check`, and not of `make test` again.
pytestmark = pytest.mark.slow

BOUND_S = 60
LANGUAGES = {"ipython", "python", "output", "sh", "toml", "json", "text", "html", "yaml"}
TROUBLE = "docs/how-to/troubleshooting.md"
WORKING = [block for block in blocks_in("python") if block.page not in (TROUBLE, HOSTED_ELSEWHERE)]
FAILING = [block for block in blocks_in("python") if block.page == TROUBLE]


@pytest.fixture(scope="session")
def gateway_of_pages(tmp_path_factory):
    """Return what a shell has that runs a page's programs beside `frontdesk serve --dev`."""
    state_dir = tmp_path_factory.mktemp("state")
    agents = Blueprints([demo], default="demo")
    with RunningGateway(state_dir, agents=agents, conversations={}) as gateway:
        yield {"FRONTDESK_URL": gateway.url, "FRONTDESK_KEY": ACME}


def of_a_client(block):
    """Say whether a program asks a gateway that runs."""
    return "from frontdesk.client import" in block.source


def run(block, folder, *, python=sys.executable, variables=None):
    """Run a block as a program of its own, with warnings as errors, in an empty folder."""
    program = folder / "program.py"
    program.write_text(block.source, encoding="utf-8")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(variables or {})}
    return subprocess.run(
        [str(python), "-W", "error", str(program)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


@pytest.mark.parametrize("block", WORKING, ids=str)
def test_the_program_runs_and_prints_what_the_page_shows(block, tmp_path, request):
    # Not started for the others: each worker would have one.
    beside = request.getfixturevalue("gateway_of_pages") if of_a_client(block) else None
    ran = run(block, tmp_path, variables=beside)
    assert ran.returncode == 0, ran.stderr
    assert "Exception ignored" not in ran.stderr
    shown = page(block.page).shown_below(block)
    if shown is not None:
        same = doctest.OutputChecker().check_output(shown, ran.stdout, doctest.ELLIPSIS)
        assert same, f"the page shows:\n{shown}\nthe program prints:\n{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize("block", FAILING, ids=str)
def test_the_program_shows_the_error_that_is_its_heading(block, tmp_path):
    ran = run(block, tmp_path)
    assert block.heading in ran.stdout + ran.stderr


def test_every_heading_for_troubleshooting_has_its_program():
    assert [block.heading for block in FAILING] == list(page(TROUBLE).headings[1:])


ALL_EXTRAS = ("acp", "agents", "client", "gateway", "guardrails", "jwt", "otel", "pydantic-ai")


def brought_by_an_extra():
    """Return the packages that `frontdesk[all]` asks for, by the names that programs import."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    asked = [each for name in ALL_EXTRAS for each in extras[name]]
    names = {re.match(r"[A-Za-z0-9_.-]+", each)[0].replace("_", "-").lower() for each in asked}
    return {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if names & {each.replace("_", "-").lower() for each in distributions}
    }


def imported(block):
    """Return the modules that a program imports, by their first names."""
    for node in ast.walk(ast.parse(block.source)):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.partition(".")[0]


def test_every_program_imports_only_what_the_library_or_one_of_its_extras_brings():
    # FastAPI is made of anyio and says so.
    # And who tests with pytest has it.
    allowed = {"frontdesk", "anyio", "pytest", *sys.stdlib_module_names, *brought_by_an_extra()}
    missing = {str(block): set(imported(block)) - allowed for block in [*WORKING, *FAILING]}
    assert {block: names for block, names in missing.items() if names} == {}


def test_every_output_that_is_shown_belongs_to_a_program():
    for one in PAGES:
        languages = [block.language for block in one.blocks]
        for index, block in enumerate(one.blocks):
            if block.language == "output":
                assert index, f"{block}: nothing is above it"
                assert languages[index - 1] in {"ipython", "python", "sh"}, (
                    f"{block}: of which program?"
                )


def test_every_block_says_its_language():
    for one in PAGES:
        for block in one.blocks:
            assert block.language in LANGUAGES, f"{block}: {block.language!r}"


def test_the_toml_is_toml_the_json_is_json_and_the_yaml_is_yaml():
    load = {"toml": tomllib.loads, "json": json.loads, "yaml": yaml.safe_load}
    for block in blocks_in(*load):
        load[block.language](block.source)


def test_the_readme_has_a_program_of_fifteen_lines():
    program = next(b for b in page("README.md").blocks if b.language == "python")
    lines = [line for line in program.source.splitlines() if line.strip()]
    assert len(lines) <= 15
