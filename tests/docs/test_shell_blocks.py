"""What the documents tell people to type into a shell works, on a real gateway.

A page's files are written, its first `frontdesk serve` is started in their folder, and its other
commands are typed in their order, with the gateway's address in place of the usual one. What is
shown below a block is what it prints (`...` stands for anything).
"""

import doctest
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from docs.pages import PAGES, commands_of

# Part of `make check`, and not of `make test` again.
pytestmark = pytest.mark.slow

START_S = 60
SCRIPT_S = 60
USUAL = "http://127.0.0.1:4000"
NOT_TYPED = re.compile(
    r"(make|pip|\.venv/bin/python|python[\d.]+ -m venv|\w+/bin/python -m pip) |.*frontdesk serve"
)
SERVE = re.compile(r"(?:PYTHONPATH=\S+ )?frontdesk (serve --dev.*)")
FRONTDESK = Path(sys.executable).with_name("frontdesk")

PRELUDE = """\
set -e
frontdesk() { command frontdesk "$@" | tee -a printed; }
curl() {
  case "$1" in
    *N*) command curl --noproxy '*' --max-time 5 $REFUSED "$@" || [ $? = 28 ] ;;
    *) command curl --noproxy '*' --max-time 60 $REFUSED "$@" ;;
  esac
}
"""
"""A stream (`-N`) that is open when its time is over (28) is as it should be; a refusal is not,
except where a page shows it."""

NOT_REFUSED = "REFUSED=--fail-with-body"

FIRST_KEY = "$(grep -om1 'key_[0-9a-f]*' printed)"
"""What stands for a key's id in the documents."""


def typed(block):
    """Return what of a block is typed once the gateway runs."""
    return [line for line in commands_of(block, whole=True) if not NOT_TYPED.match(line)]


def shell_blocks(one):
    return [block for block in one.blocks if block.language == "sh" and typed(block)]


def serve_of(one):
    """Return the words that start the page's gateway, None where it starts none."""
    lines = [line for b in one.blocks if b.language == "sh" for line in commands_of(b, whole=True)]
    return next((found[1].split() for line in lines if (found := SERVE.match(line))), None)


WITH_GATEWAY = [one for one in PAGES if shell_blocks(one) and serve_of(one)]
WITHOUT = [one for one in PAGES if shell_blocks(one) and not serve_of(one)]


class Served:
    """The gateway that a page starts."""

    def __init__(self, folder, words):
        self.output = ""
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [FRONTDESK, *words, "--port", "0"],
                cwd=folder,
                env=environment(PYTHONPATH=str(folder)),
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self):
        until = time.monotonic() + START_S
        while "Ctrl-C" not in self.output:
            ready, _, _ = select.select([self.process.stdout], [], [], until - time.monotonic())
            assert ready, "the gateway did not start"
            piece = os.read(self.process.stdout.fileno(), 4096).decode()
            assert piece, "the gateway ended"
            self.output += piece
        return self

    def __exit__(self, *exc_info):
        self.process.send_signal(signal.SIGTERM)
        with self.process:
            assert self.process.wait(START_S) == 0

    @property
    def url(self):
        return re.search(r"http://127\.0\.0\.1:\d+", self.output)[0]

    @property
    def key(self):
        return re.search(r"fd_dev_[\w-]+", self.output)[0]


def environment(**more):
    path = f"{FRONTDESK.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", **more}


def write_files(one, folder):
    """Write the blocks that the page says to save, each under its name; the first counts."""
    for block in one.blocks:
        named = re.search(r"Save this as `([\w.]+)`:$", block.above)
        if named:
            (folder / named[1]).write_text(block.source, encoding="utf-8")


def type_in(one, folder, *, url=USUAL, **variables):
    """Type the page's commands, and return what each block printed."""
    parts = [
        "\n".join([NOT_REFUSED if one.shown_below(block) is None else "REFUSED=", *typed(block)])
        for block in shell_blocks(one)
    ]
    script = PRELUDE + "\necho '=====next'\n".join(parts)
    ran = subprocess.run(
        ["bash", "-c", script.replace(USUAL, url).replace("KEY_ID", FIRST_KEY)],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=SCRIPT_S,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return re.split(r"\n?=====next\n", ran.stdout)


def check_shown(one, printed):
    for block, text in zip(shell_blocks(one), printed, strict=True):
        shown = one.shown_below(block)
        if shown is not None:
            got = text.rstrip() + "\n"
            same = doctest.OutputChecker().check_output(shown, got, doctest.ELLIPSIS)
            assert same, f"{block} shows:\n{shown}\nit prints:\n{text}"


@pytest.fixture(autouse=True)
def _tools():
    if shutil.which("bash") is None or shutil.which("curl") is None:
        assert "CI" not in os.environ, "bash and curl are needed here"
        pytest.skip("bash and curl are needed")


@pytest.mark.parametrize("one", WITH_GATEWAY, ids=str)
def test_the_commands_of_the_page_work_on_its_gateway(one, tmp_path):
    write_files(one, tmp_path)
    with Served(tmp_path, serve_of(one)) as served:
        pasted = {"FRONTDESK_URL": served.url, "FRONTDESK_KEY": served.key}
        printed = type_in(one, tmp_path, url=served.url, **pasted)
    check_shown(one, printed)


@pytest.mark.parametrize("one", WITHOUT, ids=str)
def test_the_commands_of_the_page_work(one, tmp_path):
    check_shown(one, type_in(one, tmp_path))
