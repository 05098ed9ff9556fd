"""A real gateway on a real socket, in a thread of the test's process."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager

from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.app import create_app
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.keys import Key, digest_of
from frontdesk.gateway.server import GatewayServer, bound_socket
from frontdesk.gateway.settings import Config
from gateway.agents import BLUEPRINTS
from gateway.described import Client

ACME, UMBRELLA, OPERATOR = "acme-secret-0123456789abcdef", "umbrella-secret-0123456789", "op-secret"
KEYS = (
    Key("k-acme", "acme", "ci", digest_of(ACME)),
    Key("k-umbrella", "umbrella", "ci", digest_of(UMBRELLA)),
    Key("k-operator", None, "op", digest_of(OPERATOR)),
)
START_S = 20


class Lines:
    """An access log that a test can read."""

    def __init__(self):
        self.lines = []

    def info(self, event, **facts):
        self.lines.append(facts)


class RunningGateway:
    """A gateway that answers at `url` until it is stopped."""

    def __init__(self, state_dir, *, keys=KEYS, agents=BLUEPRINTS, clock=None, port=0, **tables):
        tables.setdefault("server", {})
        tables["server"] = {"state_dir": state_dir, "grace_s": 5, **tables["server"]}
        tables.setdefault("limits", {})
        tables["limits"] = {"requests_per_minute": 1_000_000, **tables["limits"]}
        tables.setdefault("turns", {})
        tables["turns"] = {"end_grace_s": 1, **tables["turns"]}
        tables.setdefault("conversations", {"store": "memory"})
        self.keys, self.config, self.port = keys, Config(**tables), port
        self.gateway = Gateway(self.config, blueprints=agents, keys=keys, clock=clock)
        self.log = Lines()
        self.error = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="gateway under test")

    def _serve(self):
        try:
            asyncio.run(self._serve_on())
        except BaseException as error:
            self.error = error
        finally:
            self._started.set()

    async def _serve_on(self):
        self.loop = asyncio.get_running_loop()
        with bound_socket("127.0.0.1", self.port) as address:
            self.port = address.getsockname()[1]
            app = create_app(self.gateway, log=AccessLog(self.log))
            self.server = GatewayServer(app, gateway=self.gateway, on_started=self._started.set)
            await self.server.serve(sockets=[address])

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(START_S)
        if self.error is not None:
            raise self.error
        return self

    def __exit__(self, *exc_info):
        self.loop.call_soon_threadsafe(self.stop)
        self._thread.join(START_S)
        assert not self._thread.is_alive(), "the gateway did not end"
        if self.error is not None and exc_info[0] is None:
            raise self.error

    def stop(self):
        self.server.should_exit = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self):
        return f"ws://127.0.0.1:{self.port}"

    def call(self, function, *args):
        """Run a function on the gateway's loop and return what it returns."""

        async def run():
            result = function(*args)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(START_S)

    def client(self, secret=ACME, **options):
        headers = {"X-API-Key": secret} if secret else {}
        return Client(base_url=self.url, headers=headers, trust_env=False, timeout=20, **options)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def events(client, session_id, *, headers=None, **query):
    """Open a stream and give an iterator over its events as (id, type, data)."""
    path = f"/v1/sessions/{session_id}/events"
    with client.stream("GET", path, params=query, headers=headers or {}) as response:
        assert response.status_code == 200, response.read()
        yield parsed(response.iter_lines())


def parsed(lines):
    """Yield (id, type, data) of each frame; comments, and when to come again, are skipped."""
    frame = {}
    for line in lines:
        if not line and "data" in frame:
            yield frame.get("id"), frame.get("event"), json.loads(frame["data"])
            frame = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            frame[name] = value


def until(stream, *types):
    """Collect events up to and including the first of one of these types."""
    seen = []
    for event in stream:
        seen.append(event)
        if event[1] in types:
            return seen
    raise AssertionError(f"the stream ended before {types}: {[each[1] for each in seen]}")


def turn_of(client, session_id, text, **query):
    """Post a prompt, then open the stream, and return the turn's events."""
    accepted = client.post(f"/v1/sessions/{session_id}/prompt", json={"text": text})
    assert accepted.status_code == 202, accepted.text
    with events(client, session_id, **query) as stream:
        return until(stream, "agent_end", "agent_abort")


def create(client, session_id, *, blueprint="parrot", **fields):
    """Open a session and return its answer's body."""
    body = {"model": "test", "sessionId": session_id, "blueprint": blueprint, **fields}
    response = client.post("/v1/sessions", json=body)
    assert response.status_code == 201, response.text
    return response.json()
