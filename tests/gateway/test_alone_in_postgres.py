"""Gateways without a cluster on one PostgreSQL: one at a time, the next when that has ended."""

import re
import shutil
import signal
import socket
from contextlib import contextmanager

import pytest

from gateway.command import CONFIG, serving
from gateway.running import create
from gateway.test_workers_storage import RECALLING
from support.fault_proxy import FaultProxy
from support.postgres import PASSWORD, USER, PostgresServer
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(240)]

WITHIN_S = 60
HOST = socket.gethostname()[:32]
STORED = """
[conversations]
store = "postgresql://{user}@127.0.0.1:{port}/postgres"
password_file = "{password}"
"""


@pytest.fixture(scope="module")
def postgres():
    with PostgresServer() as server:
        yield server


class Desks:
    """Gateways with a state directory each, and one database."""

    def __init__(self, directory, postgres):
        self.directory, self.postgres = directory, postgres
        self._password = directory / "password"
        self._password.write_text(PASSWORD)

    def serving(self, name, *arguments, port=None, **options):
        where = {"user": USER, "port": port or self.postgres.port, "password": self._password}
        config = CONFIG + RECALLING + STORED.format(**where)
        return serving(self.directory / name, *arguments, config=config, **options)

    def give_secret(self, name, *, to):
        """Let a gateway have another's master secret: two of one service."""
        state = self.directory / to / "state"
        state.mkdir(parents=True, mode=0o700)
        shutil.copy2(self.directory / name / "state" / "master.secret", state)

    @contextmanager
    def waiting(self, name, *arguments, for_whom, **options):
        """Start a gateway that waits for another, and has said so."""
        with self.serving(name, *arguments, wait=False, **options) as waiting:
            said = rf"waiting up to 30 s for another gateway.*process {for_whom}\b"
            eventually(lambda: re.search(said, waiting.log), within_s=WITHIN_S)
            yield waiting


@pytest.fixture
def desks(tmp_path, postgres):
    postgres.ask("DROP SCHEMA IF EXISTS frontdesk CASCADE")
    return Desks(tmp_path, postgres)


def said(client, text):
    """Have a turn of the session; return what its agent said."""
    answer = client.post("/v1/sessions/mine/prompt", json={"text": text, "wait": 20})
    assert answer.status_code == 200, answer.text
    return answer.json()["text"]


def find_url(server):
    eventually(server.find_url, within_s=WITHIN_S)
    assert server.url, server.log


def test_a_second_gateway_is_refused_and_the_first_has_all_it_had(desks):
    """Its master secret is another one: that it is refused is said first."""
    with desks.serving("first", "--workers", "2") as first, first.client() as client:
        create(client, "mine", blueprint="recalling")
        said(client, "one")
        pid = first.process.pid
        with desks.waiting("second", for_whom=pid) as second:
            assert second.wait(WITHIN_S) == 2
        assert f"which runs, stores there ({HOST}, process {pid})" in second.log
        assert PASSWORD not in second.log
        assert "user: one" in said(client, "two")
        assert first.terminate() == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_when_the_first_ends_or_is_killed_the_second_goes_on_with_its_conversations(desks, end):
    with desks.serving("first") as first, first.client() as client:
        create(client, "mine", blueprint="recalling")
        said(client, "one")
        desks.give_secret("first", to="second")
        with desks.waiting("second", for_whom=first.process.pid) as second:
            assert second.url_in(second.log) is None
            first.signal(end)
            first.wait(WITHIN_S)
            find_url(second)
            with second.client() as other:
                assert "user: one" in said(other, "two")


def test_one_that_was_cut_off_while_another_took_over_ends_and_says_why(desks):
    with (
        FaultProxy(f"tcp:127.0.0.1:{desks.postgres.port}") as proxy,
        desks.serving("first", port=proxy.port) as first,
        first.client() as client,
    ):
        create(client, "mine", blueprint="recalling")
        said(client, "one")
        desks.give_secret("first", to="second")
        proxy.refuse()
        with desks.serving("second") as second, second.client() as other:
            proxy.heal()
            assert first.wait(WITHIN_S) == -signal.SIGKILL
            assert f"another gateway has taken it over ({HOST}" in first.log
            assert "user: one" in said(other, "two")


def test_one_whose_database_restarts_has_its_lock_again_and_goes_on(desks):
    with desks.serving("first") as first, first.client() as client:
        create(client, "mine", blueprint="recalling")
        said(client, "one")
        desks.postgres.kill()
        desks.postgres.start()
        eventually(lambda: "was lost, and is had again" in first.log, within_s=WITHIN_S)
        assert "user: one" in said(client, "two")
        assert first.terminate() == 0
