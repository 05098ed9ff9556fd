"""The lock of a state directory: who waits for it, who is refused, and when the kernel lets go."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from frontdesk.gateway.conversation_storage import lock_patience_s
from frontdesk.gateway.errors import StateUnusable
from frontdesk.gateway.settings import Config
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import locked
from support.waiting import eventually

WITHIN_S = 60
HOLDER = """
import sys
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import locked
with locked(StateDir.make(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path):
    return StateDir.make(tmp_path / "state")


@pytest.fixture
def holder(state):
    """A process that has the lock until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(state.path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=env, **pipes) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


class Second(threading.Thread):
    """One that waits for the lock, in a thread."""

    def __init__(self, state):
        super().__init__(daemon=True)
        self._state, self.had = state, threading.Event()
        self.start()

    def run(self):
        with locked(self._state, patience_s=WITHIN_S):
            self.had.set()


@pytest.mark.parametrize("patience_s", [0.0, 0.1])
def test_who_is_refused_is_told_which_process_has_it(state, holder, patience_s, caplog):
    with pytest.raises(StateUnusable) as raised, locked(state, patience_s=patience_s):
        pass
    assert raised.value.path == str(state.path)
    assert raised.value.problem.endswith(f"has its state here (process {holder.pid})")
    waited = f"waiting up to {patience_s:g} s for another gateway to end" in caplog.text
    assert waited == (patience_s > 0)


@pytest.mark.parametrize("end", ["its end", "its death"])
def test_who_waits_gets_it_when_the_one_before_has_ended(state, holder, end, caplog):
    second = Second(state)
    eventually(lambda: f"(process {holder.pid})" in caplog.text)
    assert not second.had.is_set()
    if end == "its death":
        holder.send_signal(signal.SIGKILL)
    else:
        holder.stdin.close()
    assert second.had.wait(WITHIN_S)
    second.join(WITHIN_S)


@pytest.mark.parametrize(
    ("store", "cluster", "waits_s"),
    [
        ("sqlite", None, 30),
        ("postgresql://desk@db.example/desk", None, 30),
        ("postgresql://desk@db.example/desk", "valkey://127.0.0.1", 0),
        ("memory", None, 0),
    ],
)
def test_whoever_goes_on_with_what_the_one_before_stored_waits_for_its_end(
    tmp_path, store, cluster, waits_s
):
    cluster = {"url": cluster, "secret_file": tmp_path / "secret"}
    config = Config(conversations={"store": store}, cluster=cluster)
    assert lock_patience_s(config) == waits_s


def test_a_shorter_process_id_takes_the_whole_place_of_a_longer_one(state):
    state.lock.write_text("123456789012\n")
    with locked(state):
        assert state.lock.read_text() == f"{os.getpid()}\n"
