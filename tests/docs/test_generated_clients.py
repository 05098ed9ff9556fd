"""Clients generated from the API description open a session, prompt and read, on a real gateway.

The programs and the commands are those of the page: its generators are installed on demand, pinned.
`make check` runs this. Whatever a generator warns about is a mistake of the description.
"""

import os
import shlex
import shutil
import subprocess

import pytest

from docs.pages import page
from gateway.running import ACME, RunningGateway
from support.installed import PYTHON_CLIENTS, TYPESCRIPT_CLIENTS, from_npm, from_pip, missing

PAGE = page("docs/how-to/generate-a-client.md")
USUAL = "http://127.0.0.1:4000"
COMMAND_S = 120

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway as it is without any configuration: its blueprints are those that come with it."""
    with RunningGateway(tmp_path_factory.mktemp("state"), agents=None) as running:
        yield running


def written(folder, *, under, url):
    """Save the programs of a section under their names; return its commands and what is shown."""
    commands, shown = [], ""
    for block in (each for each in PAGE.blocks if each.heading == under):
        if block.above.startswith("Save this as"):
            name = block.above.split("`")[1]
            (folder / name).write_text(block.source.replace(USUAL, url), encoding="utf-8")
        elif block.above == "It prints:":
            shown = block.source
        else:
            lines = [line.removeprefix("$ ") for line in block.source.splitlines()]
            commands += [shlex.split(line.replace(USUAL, url)) for line in lines]
    return commands, shown


def run(command, folder):
    """Run a command of the page, and return what it printed."""
    given = {"FRONTDESK_KEY": ACME, "NO_PROXY": "*", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**os.environ, **given}
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


OVERRIDES = "content_type_overrides:\n  application/jsonl: application/octet-stream\n"
"""As the page says: the generator knows no JSON lines."""


def test_a_python_client_opens_prompts_and_reads_as_the_page_shows(gateway, tmp_path):
    python = from_pip("openapi-python-client", *PYTHON_CLIENTS)
    (install, (program, *generate)), shown = written(tmp_path, under="Python", url=gateway.url)
    assert install == ["pip", "install", "openapi-python-client"]
    # What is generated is not made pretty: the formatters are not installed.
    (tmp_path / "quiet.yml").write_text(f"post_hooks: []\n{OVERRIDES}")
    strictly = ("--config", "quiet.yml", "--fail-on-warning")
    run([python.with_name(program), *generate, *strictly], tmp_path)
    assert run([python, "-W", "error", "ask.py"], tmp_path) == shown


def test_a_typescript_client_opens_prompts_and_reads_as_the_page_shows(gateway, tmp_path):
    if shutil.which("node") is None:
        missing("node")
    modules = from_npm(*TYPESCRIPT_CLIENTS).parent
    (tmp_path / "node_modules").symlink_to(modules)
    (install, *commands), shown = written(tmp_path, under="TypeScript", url=gateway.url)
    assert install == ["npm", "install", "openapi-fetch", "openapi-typescript", "typescript@5"]
    printed = ""
    for first, *more in commands:
        command = [modules / ".bin" / more[0], *more[1:]] if first == "npx" else [first, *more]
        printed = run(command, tmp_path)
    assert printed == shown
