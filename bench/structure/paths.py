"""What three events of a gateway cross: how many files of the package, and how deep the calls go.

The server is the command `frontdesk serve` of the checkout that is measured, so the figures compare
across versions whatever their modules are called. Each event happens several times while every call
is written down (`recorder`). What counts was crossed each time, and is not what timers of the
server's cross while nothing happens. The keeper's process is counted by itself.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.structure import recorder

TIMES = 7
WARM_UPS = 2
"""The first times import what is imported late."""

BOUND_S = 60.0
IDLE_S = 1.5
QUIET_S = 0.2
LOOK_S = 0.02

HOST = "127.0.0.1"
SECRET = "structure-secret-0123456789abcdef"
SESSIONS = "/v1/sessions"

CONFIG = """
[blueprints.task]
kind = "python"
target = "measured:speak"
[blueprints.process]
kind = "python"
target = "measured:speak"
isolation = "process"
"""

AGENT = '''
import asyncio
import os
from pathlib import Path

WORDS = Path(__file__).with_name("words")


async def speak(turn):
    """Say which process this is, then a word for each byte that comes through a pipe."""
    yield f"{os.getpid()} "
    if turn.text != "go on":
        return
    pipe = os.open(WORDS, os.O_RDWR | os.O_NONBLOCK)
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe, came.set)
    while True:
        await came.wait()
        came.clear()
        os.read(pipe, 1)
        yield "word "
'''


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the functions that led to it and itself (`path:function`), and if it only goes on.

    The first of them was called by the event loop or began a thread.
    """

    stack: tuple[str, ...]
    again: bool

    @property
    def files(self) -> Iterator[str]:
        """The files of these functions, below the package."""
        return (name.partition(":")[0] for name in self.stack)


@dataclass(frozen=True, slots=True)
class Crossed:
    """What one kind of event crosses in the processes of one role."""

    files: tuple[str, ...]
    """In the order in which they are first reached."""
    depth: int
    calls: tuple[Call, ...]
    """Those of the time that had the fewest."""


def crossings(checkout: Path, *, times: int = TIMES) -> dict[str, dict[str, Crossed]]:
    """Return what each event crosses, by event and role (`gateway`, `keeper`)."""
    with tempfile.TemporaryDirectory(prefix="frontdesk-paths-") as name:
        folder = Path(name)
        with _served(checkout, folder) as port:
            recordings = _Recordings(folder, times=times)
            return {
                "POST a session (task)": recordings.taken(_creates(port)),
                "kill -9 of an agent to session_end": recordings.taken(_kills(port)),
                "a prompt and its turn of a word, to an open stream": recordings.taken(
                    _turns(port)
                ),
                "a word of a turn, to an open stream": recordings.taken(_words(port, folder)),
            }


# -- events ----------------------------------------------------------------------------------------

Event = Callable[[], None]


def _creates(port: int) -> Iterator[Event]:
    for number in itertools.count(1):
        yield partial(_create, port, f"create-{number}", "task")


def _kills(port: int) -> Iterator[Event]:
    for number in itertools.count(1):
        session_id = f"kill-{number}"
        _create(port, session_id, "process")
        with _stream(port, session_id) as deltas:
            _prompt(port, session_id, "who are you?")
            pid = int(next(deltas))
        yield partial(os.kill, pid, signal.SIGKILL)
        if (status := _call(port, "GET", f"{SESSIONS}/{session_id}")[0]) == 200:
            raise RuntimeError(f"{session_id} answers {status} after its agent was killed")


def _turns(port: int) -> Iterator[Event]:
    _create(port, "turns", "task")
    with _stream(port, "turns") as deltas:
        while True:
            yield partial(_turn, port, deltas)


def _turn(port: int, deltas: Iterator[str]) -> None:
    _prompt(port, "turns", "who are you?")
    next(deltas)


def _words(port: int, folder: Path) -> Iterator[Event]:
    _create(port, "words", "task")
    with _stream(port, "words") as deltas:
        _prompt(port, "words", "go on")
        next(deltas)
        while True:
            yield partial(_word, folder, deltas)


def _word(folder: Path, deltas: Iterator[str]) -> None:
    (folder / "words").write_bytes(b".")
    next(deltas)


# -- requests --------------------------------------------------------------------------------------


def _create(port: int, session_id: str, blueprint: str) -> None:
    body = {"sessionId": session_id, "model": "none", "blueprint": blueprint}
    status, answer = _call(port, "POST", SESSIONS, body)
    if status != 201:
        raise RuntimeError(f"POST {SESSIONS}: {status} {answer!r}")


def _prompt(port: int, session_id: str, text: str) -> None:
    path = f"{SESSIONS}/{session_id}/prompt"
    status, answer = _call(port, "POST", path, {"text": text})
    if status != 202:
        raise RuntimeError(f"POST {path}: {status} {answer!r}")


def _call(port: int, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=BOUND_S)
    headers = {"X-API-Key": SECRET, "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


@contextmanager
def _stream(port: int, session_id: str) -> Iterator[Iterator[str]]:
    """Open a session's stream and give an iterator over the texts that its agent says."""
    connection = http.client.HTTPConnection(HOST, port, timeout=BOUND_S)
    path = f"{SESSIONS}/{session_id}/events?types=message_delta"
    connection.request("GET", path, headers={"X-API-Key": SECRET})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"GET {path}: {response.status} {response.read()!r}")
    try:
        yield (
            json.loads(line.removeprefix(b"data: "))["delta"]
            for line in iter(response.readline, b"")
            if line.startswith(b"data: ")
        )
    finally:
        connection.close()


# -- recordings ------------------------------------------------------------------------------------


class _Recordings:
    """The flag that all followed processes see, and the files that they write."""

    def __init__(self, folder: Path, *, times: int) -> None:
        self._folder, self._times, self._number = folder, times, 0
        self._idle: frozenset[tuple[str, ...]] = frozenset()
        """What is called while nothing happens."""

    def taken(self, events: Iterator[Event]) -> dict[str, Crossed]:
        """Let so many events happen, and return what they crossed, by role."""
        self._idle = frozenset()
        numbers = [self._take(event) for event in itertools.islice(events, WARM_UPS + self._times)]
        calls = {role: [self._calls(role, number) for number in numbers] for role in ROLES}
        return {role: _crossed(calls[role][WARM_UPS:]) for role in ROLES}

    def _take(self, event: Event) -> int:
        time.sleep(QUIET_S)  # what prepared the event ends, and timers go on
        with self._recording() as number:
            time.sleep(IDLE_S)
        self._idle |= {call.stack for role in ROLES for call in self._calls(role, number)}
        with self._recording() as number:
            event()
            self._wait_until_quiet(number)
        return number

    @contextmanager
    def _recording(self) -> Iterator[int]:
        self._number += 1
        self._set_flag(self._number)
        yield self._number
        self._set_flag(0)

    def _set_flag(self, number: int) -> None:
        with (self._folder / recorder.FLAG).open("r+b") as file:
            file.write(bytes([number]))

    def _wait_until_quiet(self, number: int) -> None:
        """Wait until something has been called, and then nothing more for a while."""
        until, before, calls = time.monotonic() + BOUND_S, -1, 0
        while before != calls or not calls:
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(QUIET_S)
            before, calls = calls, sum(len(self._calls(role, number)) for role in ROLES)

    def _calls(self, role: str, number: int) -> tuple[Call, ...]:
        calls = (
            Call(tuple(line["stack"]), line["again"])
            for process in self._folder.glob("process-*")
            if _role_of(process) == role
            for line in _lines(process.with_name(process.name.replace("process", "calls")))
            if line["recording"] == number
        )
        return tuple(call for call in calls if call.stack not in self._idle)


ROLES = ("gateway", "keeper")


def _role_of(process: Path) -> str:
    command = " ".join(json.loads(process.read_text())["command"])
    return "gateway" if "frontdesk.cli" in command else "keeper"


def _lines(calls: Path) -> Iterator[dict[str, Any]]:
    if calls.exists():
        # The last line may be on its way.
        whole = calls.read_text().rpartition("\n")[0]
        yield from map(json.loads, whole.splitlines())


def _crossed(times: list[tuple[Call, ...]]) -> Crossed:
    fewest = min(times, key=len)
    always = set.intersection(*({name for call in calls for name in call.files} for calls in times))
    files = dict.fromkeys(name for call in fewest for name in call.files if name in always)
    deepest = [max((len(call.stack) for call in calls), default=0) for calls in times]
    return Crossed(tuple(files), int(statistics.median(deepest)), fewest)


# -- the server ------------------------------------------------------------------------------------


@contextmanager
def _served(checkout: Path, folder: Path) -> Iterator[int]:
    """Run the checkout's gateway, followed by the recorder, until it answers; end it afterwards."""
    package = checkout.resolve() / "src" / "frontdesk"
    shutil.copy(recorder.__file__, folder / "sitecustomize.py")
    (folder / recorder.PACKAGE).write_text(f"{package}/")
    (folder / recorder.FLAG).write_bytes(b"\0")
    python = checkout.resolve() / ".venv" / "bin" / "python"
    wrapper = folder / recorder.PYTHON
    wrapper.write_text(f"#!/bin/sh\nPYTHONPATH='{folder}' exec '{python}' \"$@\"\n")
    wrapper.chmod(0o755)
    (folder / "measured.py").write_text(AGENT)
    (folder / "frontdesk.toml").write_text(CONFIG)
    os.mkfifo(folder / "words")
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    command = [
        str(checkout / ".venv" / "bin" / "python"), "-m", "frontdesk.cli", "serve",
        "--config", str(folder / "frontdesk.toml"), "--state-dir", str(folder / "state"),
        "--port", str(port),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(package.parent)]),
        "FRONTDESK_KEYS": f"acme/structure:{SECRET}",
    }
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        _until(lambda: server.poll() is not None or _answers(port))
        if server.poll() is not None:
            raise RuntimeError((folder / "server.log").read_text())
        yield port
    finally:
        server.terminate()
        server.wait(BOUND_S)


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=BOUND_S).close()
    except OSError:
        return False
    return True


def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + BOUND_S
    while not true():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(LOOK_S)
