"""Workers and their supervisor killed while they write: what was answered is there, whole."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from frontdesk.persistence.conversation_server import ConversationServer
from frontdesk.persistence.operations import MessageAdded
from support.programs import storage_processes

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

ANSWERED = 20
"""So many batches of each are answered before somebody is killed."""


@contextmanager
def program(*arguments):
    """Run a program of the storage, killed at the end."""
    command = [sys.executable, storage_processes.__file__, *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def writers(socket):
    """Run two workers that write for ever, each into a conversation of its own."""
    with program("write", socket, "w1", 1) as first, program("write", socket, "w2", 2) as second:
        yield first, second


def answered(process, at_least=ANSWERED):
    """Wait for answers; return the last one that was read."""
    while (line := process.stdout.readline()) and int(line) < at_least:
        pass
    return int(line)


def rest(process):
    """Return the last answer of a process that has ended."""
    lines = [line for line in process.stdout.read().splitlines() if line.strip()]
    return max((int(line) for line in lines), default=0)


def stored(store, number):
    """Return how far a conversation came, checked: its batches are whole and without gaps."""
    conversation = store.find("acme", f"s{number}")
    messages = store.messages(number, limit=100_000)
    assert [each.position for each in messages] == list(range(1, len(messages) + 1))
    assert conversation.last_index == len(messages)
    return len(messages)


def test_of_a_killed_worker_everything_answered_is_there_and_another_goes_on_with_it(tmp_path):
    socket = tmp_path / "storage.sock"
    store = storage_processes.opened_store(tmp_path)
    with (
        ConversationServer(socket, store, is_worker=bool, on_broken=print) as server,
        writers(socket) as (first, second),
    ):
        last = answered(first)
        answered(second)
        first.kill()
        first.wait()
        server.process_died(first.pid)
        last = max(last, rest(first))
        successor = store.owned_by("w1-again", lives={"w2"}.__contains__)
        assert successor.claim() == [1]
        assert last <= stored(store, 1) <= last + 1
        added = MessageAdded(number=1, position=stored(store, 1) + 1, message=b"m")
        assert not successor.apply([added]).lost
        # The other one noticed nothing.
        answered(second, 2 * ANSWERED)
    store.close()


def test_of_a_killed_supervisor_everything_answered_is_there(tmp_path):
    socket = tmp_path / "storage.sock"
    with program("serve", tmp_path, socket) as supervisor:
        assert supervisor.stdout.readline() == "serving\n"
        with writers(socket) as processes:
            last = [answered(each) for each in processes]
            supervisor.kill()
            supervisor.wait()
            last = [max(n, rest(each)) for n, each in zip(last, processes, strict=True)]
    store = storage_processes.opened_store(tmp_path)
    for number, answers in zip((1, 2), last, strict=True):
        assert answers <= stored(store, number) <= answers + 1
    store.close()
