"""The settings of a cluster: what is taken, from where, and what is unsafe, thus refused."""

import subprocess
import sys

import pytest

from frontdesk.gateway.cluster_settings import place_of
from frontdesk.gateway.config import load_config
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.surroundings import mistakes_around

HERE = 'secret_file = "s"\n'
ELSEWHERE = 'url = "valkey://10.0.0.9:6379"\nsecret_file = "s"\n'


IN_MEMORY = '[conversations]\nstore = "memory"\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").write_bytes(b"x" * 32)


def loaded(text, tmp_path, **more):
    path = tmp_path / "mine.toml"
    path.write_text(f"[cluster]\n{text}{IN_MEMORY}", encoding="utf-8")
    return load_config(path=path, around=mistakes_around, **more)


def mistake(text, tmp_path):
    with pytest.raises(ConfigurationWrong) as caught:
        loaded(text, tmp_path)
    (sentence,) = caught.value.mistakes
    return sentence


@pytest.mark.parametrize(
    "url",
    [
        "valkey://localhost",
        "valkey://127.0.0.1:6379/0",
        "valkeys://frontdesk@[::1]:6379",
        "redis://localhost:6379",
        "rediss://localhost:6379",
        "valkey+sentinel://localhost:26379,127.0.0.1:26380/mine",
    ],
)
def test_an_engine_on_this_machine_needs_its_url_and_a_secret(tmp_path, url):
    config = loaded(f'url = "{url}"\n{HERE}', tmp_path)
    assert (config.cluster.url, config.cluster.listening) == (url, "127.0.0.1:0")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('url = "http://localhost"\n' + HERE, "cluster.url: must be valkey://"),
        ('url = "valkey://localhost:1,localhost:2"\n' + HERE, "cluster.url: must be valkey://"),
        ('url = "valkey://localhost/mine"\n' + HERE, "cluster.url: must be valkey://"),
        ('url = "valkey+sentinel://localhost"\n' + HERE, "needs the name"),
        ('url = "valkey://localhost:0"\n' + HERE, "cluster.url: has a port that is none"),
        ('url = "valkey://localhost:65536"\n' + HERE, "cluster.url: has a port that is none"),
        ('url = "valkey+sentinel://[::1]:1,[::1]:0/a"\n' + HERE, "cluster.url: has a port"),
        ('url = "valkey://localhost"\n', "secret_file is missing"),
        ('certificate = "a.pem"\n', "certificate and certificate_key belong together"),
        (ELSEWHERE, "listen is missing"),
        (ELSEWHERE + 'listen = "0.0.0.0:4100"\n', "advertise is missing"),
        (ELSEWHERE + 'listen = "[::]:4100"\n', "advertise is missing"),
        (HERE + 'listen = "4100"\n', "must be host:port"),
        (HERE + 'listen = "10.0.0.5:70000"\n', "must be host:port"),
        ('tls_ca = "ca.pem"\n', "belong together"),
        ('name = "a b"\n', "is 1 to 127"),
        ('sentinel_user = "a b"\n', "without blanks"),
        ('sentinel_user = "desk"\n', "sentinel_user needs sentinel_password_file"),
        (
            'url = "valkey://localhost"\nsentinel_password_file = "short"\n' + HERE,
            "a url that leads to sentinels",
        ),
        (
            'url = "valkey+sentinel://localhost/mine"\nsentinel_password_file = "none"\n' + HERE,
            "cluster.sentinel_password_file: cannot be",
        ),
        ("lease_s = 0.5\n", "must be at least 1"),
        ("lease = 5\n", "is lease_s meant?"),
        ('url = "valkey://localhost"\nkill_grace_s = 1\n' + HERE, "turns.end_grace_s (5)"),
        ('url = "valkey://localhost"\nsecret_file = "none"\n', "cluster.secret_file: cannot be"),
        ('url = "valkey://localhost"\npassword_file = "none"\n' + HERE, "cluster.password_file"),
        ('url = "valkey://localhost"\nsecret_file = "short"\n', "at least 32 bytes"),
    ],
)
def test_what_is_wrong_or_unsafe_stops_the_start_with_its_line(tmp_path, text, wanted):
    (tmp_path / "short").write_bytes(b"x" * 31)
    sentence = mistake(text, tmp_path)
    assert wanted in sentence
    assert sentence.startswith("line ")


@pytest.mark.parametrize("said", ["", '[conversations]\nstore = "sqlite"\n'], ids=["not", "said"])
def test_conversations_in_a_file_of_one_machine_are_not_for_several(tmp_path, said):
    path = tmp_path / "mine.toml"
    path.write_text(f'[cluster]\nurl = "valkey://localhost"\n{HERE}{said}', encoding="utf-8")
    with pytest.raises(ConfigurationWrong) as caught:
        load_config(path=path, around=mistakes_around)
    (sentence,) = caught.value.mistakes
    assert sentence.startswith("line 1: cluster: with url, conversations.store has to be")


def test_a_password_in_the_url_is_refused_and_not_repeated(tmp_path):
    sentence = mistake(f'url = "valkey://me:hunter2@localhost"\n{HERE}', tmp_path)
    assert "password_file" in sentence
    assert "hunter2" not in sentence


def test_the_variable_of_the_cluster_is_its_url_beside_those_of_its_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTDESK_CLUSTER", "valkey://localhost:7000")
    monkeypatch.setenv("FRONTDESK_CLUSTER__SECRET_FILE", "s")
    config = loaded('name = "mine"\n', tmp_path)
    assert (config.cluster.url, config.cluster.name) == ("valkey://localhost:7000", "mine")


def test_the_command_line_wins_over_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTDESK_CLUSTER", "valkey://localhost:7000")
    given = {"cluster": {"url": "valkey://localhost:7001"}}
    assert loaded(HERE, tmp_path, overrides=given).cluster.url == "valkey://localhost:7001"


def test_the_terms_are_those_that_are_set(tmp_path):
    text = "lease_s = 4\nisolation_grace_s = 8\nkill_grace_s = 6\n"
    terms = loaded(text, tmp_path).cluster.terms
    assert (terms.lease_s, terms.hold_s) == (4, 18)


def test_a_place_is_a_host_and_a_port():
    assert place_of("[::1]:80") == ("::1", 80)
    assert place_of("node.internal:4100") == ("node.internal", 4100)


ALONE = """
import asyncio, sys
import frontdesk.cli.run
from frontdesk.agents import Blueprints
from frontdesk.gateway import Config, Gateway, create_app
async def main():
    gateway = Gateway(Config(server={"state_dir": "state"}), blueprints=Blueprints([]))
    create_app(gateway)
    async with gateway:
        assert gateway.node is None
asyncio.run(main())
print(*(name for name in sys.modules if name.startswith(("frontdesk.", "redis"))))
"""
SETTINGS = {"frontdesk.cluster", "frontdesk.cluster.errors", "frontdesk.cluster.terms"}
"""What the settings and the table of errors are made of."""


@pytest.mark.slow
def test_without_a_cluster_nothing_of_one_is_imported(tmp_path):
    command = [sys.executable, "-c", ALONE]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded_modules = ran.stdout.split()
    assert "frontdesk.gateway.gateway" in loaded_modules
    parts = ("frontdesk.cluster", "frontdesk.gateway.workers", "frontdesk.gateway.forwarding")
    found = {name for name in loaded_modules if name.startswith((*parts, "redis"))}
    assert found <= SETTINGS
