"""The programs that host a store in somebody else's program, each in the real thing."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from docs.pages import HOSTED_ELSEWHERE, page
from support.hosts import installed

HOSTS = page(HOSTED_ELSEWHERE)
TESTING = page("docs/how-to/test-with-pytest.md")
BOUND_S = 60

slow = [pytest.mark.slow, pytest.mark.timeout(900)]
hosted = pytest.mark.parametrize("heading", ["Flask", "Django"])


@pytest.fixture(scope="module")
def programs():
    """Return the folder of the hosts' programs."""
    return installed()


def block_of(heading, language="python"):
    (block,) = (one for one in HOSTS.blocks if (one.heading, one.language) == (heading, language))
    return block


def environment():
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def ran(*command, folder):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(*command, folder):
    """Run a server until the block is left; yield it and the file of what it says."""
    log = folder / "log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment(),
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait(BOUND_S)


def until_said(pattern, log, process):
    """Wait until a server has said something; return the match."""
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text())
        if found:
            return found
        assert process.poll() is None, log.read_text()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise AssertionError(log.read_text())


class TestHosts:
    pytestmark = slow

    @hosted
    def test_the_program_runs_and_prints_what_the_page_shows(self, programs, heading, tmp_path):
        block = block_of(heading)
        (tmp_path / "program.py").write_text(block.source)
        printed = ran(programs / "python", "program.py", folder=tmp_path)
        assert printed == HOSTS.shown_below(block)

    @hosted
    def test_each_forked_worker_of_gunicorn_has_a_store_of_its_own(
        self, programs, heading, tmp_path
    ):
        (tmp_path / "program.py").write_text(block_of(heading).source)
        options = ("--preload", "--workers", "1", "--threads", "16", "--bind", "127.0.0.1:0")
        gunicorn = (programs / "python", "-m", "gunicorn", *options, "program:app")
        with running(*gunicorn, folder=tmp_path) as (process, log):
            port = until_said(r"Listening at: http://127\.0\.0\.1:(\d+)", log, process)[1]
            worker = int(until_said(r"Booting worker with pid: (\d+)", log, process)[1])
            opening, method = {"Flask": ("sessions/s-1", "POST"), "Django": ("open/s-1", "GET")}[
                heading
            ]
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/{opening}", method=method)
            answers = []
            for _ in range(2):
                with urllib.request.urlopen(asked, timeout=BOUND_S) as answer:
                    answers.append(json.load(answer))
        assert answers == [{"fence": 1, "pid": worker}] * 2
        assert worker != process.pid

    def test_the_next_task_finds_the_agent_that_a_task_of_celery_started(self, programs, tmp_path):
        (tmp_path / "program.py").write_text(block_of("Celery").source)
        for folder in ("queue", "results"):
            (tmp_path / folder).mkdir()
        celery = (programs / "python", "-m", "celery", "-A", "program", "worker")
        asking = (
            "from program import open_session as ask\n"
            "print([ask.delay('s-1').get(timeout=50) for _ in range(2)])\n"
        )
        with running(*celery, "--concurrency", "1", folder=tmp_path) as (process, _):
            answers = json.loads(ran(programs / "python", "-c", asking, folder=tmp_path))
        assert answers[0] == answers[1]
        assert answers[0][0] == 1
        assert answers[0][1] != process.pid

    def test_the_cells_of_a_notebook_run_on_its_kernel(self, programs, tmp_path):
        block = block_of("A notebook", "ipython")
        running_cells = (
            "import json, sys, nbformat, nbclient\n"
            "cells = [nbformat.v4.new_code_cell(each) for each in json.load(sys.stdin)]\n"
            "book = nbformat.v4.new_notebook(cells=cells)\n"
            "nbclient.NotebookClient(book, timeout=50, kernel_name='python3').execute()\n"
            "print(''.join(each.text for cell in book.cells for each in cell.outputs"
            " if each.output_type == 'stream'), end='')\n"
        )
        first, *others = block.source.split("# %%\n")
        # The first cell twice: what a user does who goes back.
        done = subprocess.run(
            [str(programs / "python"), "-c", running_cells],
            input=json.dumps([first, first, *others]),
            cwd=tmp_path,
            env={
                **environment(),
                "IPYTHONDIR": str(tmp_path),
                "JUPYTER_ALLOW_INSECURE_WRITES": "1",
            },
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == HOSTS.shown_below(block)


def test_the_tests_that_the_page_shows_pass(tmp_path):
    (block,) = (one for one in TESTING.blocks if one.language == "python")
    (tmp_path / "test_sessions.py").write_text(block.source)
    command = (sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert "3 passed" in ran(*command, "test_sessions.py", folder=tmp_path)
