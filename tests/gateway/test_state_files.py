"""The files of the state directory: of older versions, of newer ones, and of nobody."""

import sqlite3
import threading

import pytest

from frontdesk.clock import SystemClock
from frontdesk.gateway import key_file, usage_table
from frontdesk.gateway.errors import StateUnusable
from frontdesk.gateway.key_file import KeyFile
from frontdesk.gateway.metering import UsageMeter
from frontdesk.gateway.state_dir import StateDir, open_database
from gateway.command import frontdesk, serving

STEPS = (
    "CREATE TABLE IF NOT EXISTS notes (text TEXT) STRICT",
    "ALTER TABLE notes ADD COLUMN author TEXT",
    "CREATE INDEX by_author ON notes (author)",
)
FILES = {
    "keys.sqlite3": (key_file.SCHEMA, lambda state: KeyFile(state, clock=SystemClock())),
    "usage.sqlite3": (usage_table.SCHEMA, UsageMeter),
}


def version_of(path):
    database = sqlite3.connect(path)
    try:
        return database.execute("PRAGMA user_version").fetchone()[0]
    finally:
        database.close()


@pytest.mark.parametrize("seen", range(len(STEPS) + 1))
def test_a_file_of_an_older_version_gets_the_steps_that_it_lacks_and_keeps_its_rows(tmp_path, seen):
    path = tmp_path / "notes.sqlite3"
    open_database(path, schema=STEPS[:seen]).close()
    if seen:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("INSERT INTO notes (text) VALUES ('kept')")
        database.close()
    database = open_database(path, schema=STEPS)
    assert [*database.execute("SELECT text, author FROM notes")] == [("kept", None)] * bool(seen)
    database.close()
    assert version_of(path) == len(STEPS)


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "notes.sqlite3"
    open_database(path, schema=STEPS[:1]).close()
    with pytest.raises(StateUnusable, match="no such table"):
        open_database(path, schema=(*STEPS, "DROP TABLE absent"))
    assert version_of(path) == 1
    open_database(path, schema=STEPS).close()


def test_two_starts_at_once_upgrade_a_file_once(tmp_path):
    path = tmp_path / "notes.sqlite3"
    open_database(path, schema=STEPS[:1]).close()
    errors = []
    at_once = threading.Barrier(4)

    def start():
        at_once.wait(30)
        try:
            open_database(path, schema=STEPS).close()
        except StateUnusable as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert version_of(path) == len(STEPS)


@pytest.mark.parametrize("name", FILES)
def test_a_file_from_before_versions_is_taken_and_gets_one(tmp_path, name):
    schema, opened = FILES[name]
    database = sqlite3.connect(tmp_path / name)
    database.execute(schema[0])
    database.close()
    assert version_of(tmp_path / name) == 0
    with opened(StateDir.make(tmp_path)):
        pass
    assert version_of(tmp_path / name) == len(schema)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_newer_version_is_refused_unchanged(tmp_path, name):
    schema, opened = FILES[name]
    newer = (*schema, "CREATE TABLE news (text TEXT) STRICT")
    open_database(tmp_path / name, schema=newer).close()
    before = (tmp_path / name).read_bytes()
    with pytest.raises(StateUnusable, match="a newer Frontdesk has written it"):
        opened(StateDir.make(tmp_path))
    assert (tmp_path / name).read_bytes() == before


def test_a_newer_file_stops_the_start_with_a_sentence(tmp_path):
    state = StateDir.make(tmp_path / "state")
    newer = (*usage_table.SCHEMA, "CREATE TABLE news (text TEXT) STRICT")
    open_database(state.usage, schema=newer).close()
    with serving(tmp_path, wait=False) as server:
        assert server.wait() == 2
        assert "usage.sqlite3: a newer Frontdesk has written it" in server.log
        assert "Traceback" not in server.log


COMMANDS = (["list"], ["rotate", "key_none"], ["revoke", "key_none"], ["signing", "key_none"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_that_only_looks_makes_nothing_at_a_wrong_path(tmp_path, command):
    for place in (tmp_path / "misspelt", tmp_path):
        run = frontdesk(tmp_path, "keys", *command, "--state-dir", str(place))
        assert run.returncode == 2
        assert f"{place}: no gateway has its state here" in run.stderr
        assert run.stdout == ""
    assert not [*tmp_path.iterdir()]


def test_the_signing_secret_of_a_key_that_is_not_there_is_not_printed(tmp_path, monkeypatch):
    options = ("--state-dir", str(tmp_path / "state"))
    monkeypatch.setenv("FRONTDESK_KEYS", f"acme/ci:{'s' * 32}")
    frontdesk(tmp_path, "keys", "create", "--tenant", "acme", *options)
    for key_id in ("no-such-key", "env:other", "", "env:ci\n"):
        run = frontdesk(tmp_path, "keys", "signing", key_id, *options)
        assert (run.returncode, run.stdout) == (2, "")
        assert repr(key_id) in run.stderr
    assert len(frontdesk(tmp_path, "keys", "signing", "env:ci", *options).stdout.strip()) == 64
