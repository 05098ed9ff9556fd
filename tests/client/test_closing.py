"""Leaving the `with` ends everything, soon, whatever is going on; and leaves nothing behind."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from client.both import client_of
from client.scripted import ScriptedServer, answer, frame, silent, stream
from frontdesk.client import (
    AsyncClient,
    Client,
    ClientClosedError,
    MalformedAnswerError,
    MessageDelta,
    NoEventLoopError,
)
from gateway.running import ACME

SOON_S = 10
STARTED = frame("agent_start", {}, "7-1")


def hanging(connection, _request):
    """Begin a stream, and say nothing more."""
    connection.sendall(stream(STARTED))
    connection.recv(1)


def open_sockets():
    """Return how many sockets this process has."""
    links = (f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(each) and os.readlink(each).startswith("socket:") for each in links)


@pytest.fixture(autouse=True)
def quickly():
    """Fail where something takes long: time-outs of the client are longer than this."""
    before = time.monotonic()
    yield
    assert time.monotonic() - before < SOON_S


def test_leaving_in_the_midst_of_a_stream_closes_it(kind):
    with ScriptedServer(hanging) as server:
        with client_of(kind, server.url, key=ACME) as client:
            events = iter(client.session("s").events(since="0"))
            assert next(events).index == 1
        with pytest.raises((ClientClosedError, StopIteration, RuntimeError)):
            next(events)


def test_an_error_in_the_midst_of_a_stream_leaves_at_once(kind):
    def main(url):
        with client_of(kind, url, key=ACME) as client:
            for _ in client.session("s").events(since="0"):
                raise KeyError("a fault of the program's")

    with ScriptedServer(hanging) as server, pytest.raises(KeyError):
        main(server.url)


def test_a_closed_client_says_so(kind):
    with client_of(kind, "http://127.0.0.1:9", key=ACME) as client:
        client.close()
        client.close()
        with pytest.raises(ClientClosedError, match="the client is closed"):
            client.list()
        with pytest.raises(ClientClosedError):
            list(client.session("s").events())


def test_closing_ends_the_wait_for_another_try():
    """In another thread: it does not sleep for as long as it was told to come again after."""
    busy = answer(503, {"error": "unavailable", "message": "x", "retryAfter": 100})
    ended = []
    with ScriptedServer(busy) as server:
        client = Client(server.url, key=ACME)

        def ask():
            try:
                client.list()
            except ClientClosedError as error:
                ended.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        while not server.requests:
            time.sleep(0.001)
        client.close()
        asking.join(SOON_S)
    assert len(ended) == 1


def test_a_stream_that_another_task_reads_ends_with_its_client():
    async def main(url):
        client = AsyncClient(url, key=ACME)
        events = client.session("s").events(since="0")
        assert (await anext(events)).index == 1
        reading = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises((ClientClosedError, StopAsyncIteration)):
            await reading

    with ScriptedServer(hanging) as server:
        asyncio.run(asyncio.wait_for(main(server.url), SOON_S))


@pytest.mark.parametrize("act", [hanging, silent], ids=["stream", "no answer"])
def test_a_task_that_is_cancelled_ends_at_once_and_closes_its_connection(act):
    async def main(url, server):
        async with AsyncClient(url, key=ACME) as client:

            async def follow():
                async for _ in client.session("s").events(since="0"):
                    pass

            task = asyncio.create_task(follow())
            while not server.requests:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with ScriptedServer(act) as server:
        asyncio.run(asyncio.wait_for(main(server.url, server), SOON_S))


def test_leaving_while_cancelled_ends_at_once():
    async def main(url):
        reading = asyncio.Event()

        async def use():
            async with AsyncClient(url, key=ACME) as client:
                async for _ in client.session("s").events(since="0"):
                    reading.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(use())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ScriptedServer(hanging) as server:
        asyncio.run(asyncio.wait_for(main(server.url), SOON_S))


def test_a_stream_that_is_none_closes_its_connection_without_waiting_for_the_client(kind):
    closed = threading.Event()

    def no_stream(connection, _):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>")
        if connection.recv(1) == b"":
            closed.set()

    with ScriptedServer(no_stream) as server, client_of(kind, server.url, key=ACME) as client:
        events = client.session("s").events(since="0")
        with pytest.raises(MalformedAnswerError):
            next(iter(events))
        assert closed.wait(SOON_S - 2)


def test_no_socket_is_left_whatever_was_left_early(gateway, kind):
    gc.collect()
    before = open_sockets()
    for _ in range(2):
        with client_of(kind, gateway.url, key=ACME) as client:
            session = client.open("test", blueprint="patient")
            for event in session.prompt("work"):
                if isinstance(event, MessageDelta):
                    break
            for _ in session.events(since="0"):
                break
            next(iter(client.feed()))
            session.stop()
    gc.collect()
    # The gateway is in this process: it closes its own ends a little later.
    until = time.monotonic() + SOON_S
    while open_sockets() > before and time.monotonic() < until - 1:
        time.sleep(0.01)
    assert open_sockets() <= before


def test_an_iteration_that_is_left_closes_its_connection_without_waiting_for_the_client(kind):
    closed = threading.Event()

    def watched(connection, _):
        connection.sendall(stream(STARTED))
        if connection.recv(1) == b"":
            closed.set()

    with ScriptedServer(watched) as server, client_of(kind, server.url, key=ACME) as client:
        for _ in client.session("s").events(since="0"):
            break
        gc.collect()
        assert closed.wait(SOON_S - 2)


PROGRAM = """
import signal, sys
from frontdesk.client import Client
# Whoever runs the tests may ignore it, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Client(sys.argv[1], key="k" * 24) as client:
    for event in client.session("s").events(since="0"):
        print(event.index, flush=True)
"""


def test_control_c_in_the_midst_of_a_stream_ends_the_program_at_once():
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    with (
        ScriptedServer(hanging) as server,
        subprocess.Popen(
            [*command, server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program,
    ):
        assert program.stdout.readline() == "1\n"
        program.send_signal(signal.SIGINT)
        _, told = program.communicate(timeout=SOON_S)
    assert program.returncode == -signal.SIGINT
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert "ResourceWarning" not in told
    assert "Exception ignored" not in told


def test_an_async_client_outside_of_asyncio_says_so():
    trio = pytest.importorskip("trio")
    client = AsyncClient("http://127.0.0.1:9", key=ACME)
    with pytest.raises(NoEventLoopError, match="trio is not supported"):
        trio.run(client.list)
