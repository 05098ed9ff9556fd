"""Frontdesk itself with more than one process: workers of one machine, or gateways on an engine."""

import random
import ssl
import time
from contextlib import ExitStack, contextmanager

import httpx

from gateway.command import START_S, serving
from gateway.running import ACME, parsed
from support.processes import descendants
from support.waiting import create_when_known, eventually

LEASE_S, HOLD_S = 2.0, 4.5
ANSWER_S = 10
"""An answer takes less, whatever it is: nobody waits for the dead."""

BLUEPRINTS = """
[blueprints.parrot]
kind = "python"
target = "gateway.agents:parrot"
[blueprints.patient]
kind = "python"
target = "gateway.agents:patient"
[blueprints.chatty]
kind = "python"
target = "gateway.agents:chatty"
[blueprints.rude]
kind = "python"
target = "cluster.faults.rude_agents:rude"
[blueprints.slow]
kind = "python"
target = "cluster.faults.rude_agents:slow"
[blueprints.fenced]
kind = "python"
target = "cluster.faults.rude_agents:fenced"
[limits]
requests_per_minute = 1000000
sessions_per_tenant = 100000
sessions_per_key = 100000
[turns]
end_grace_s = 0.5
"""
IN_MEMORY = """
[conversations]
store = "memory"
"""
IN_PROCESSES = """
[blueprints.isolated]
kind = "python"
target = "cluster.faults.rude_agents:fenced"
isolation = "process"
"""
"""For services whose agents run in processes too, which takes longer to start."""

CLUSTER = """
[cluster]
secret_file = "{secret}"
"""
TERMS = """
lease_s = 2
isolation_grace_s = 1
kill_grace_s = 0.5
"""


class Desk:
    """One or several processes that answer for the same sessions."""

    def __init__(self, servers, start=None):
        self.servers, self._start = servers, start

    def restart(self, at):
        """Start a gateway again that has ended, with its own directory and name."""
        self.servers[at] = self._start(at)

    def ask(self, method, path, at=None, **options):
        """Ask on a connection of its own, so that any worker may get it; in time."""
        server = random.choice(self.servers) if at is None else self.servers[at]
        headers = {"X-API-Key": ACME, **options.pop("headers", {})}
        with client_of(server, ANSWER_S) as client:
            return client.request(method, path, headers=headers, **options)

    def create(self, session_id, *, blueprint="parrot", **options):
        """Create a session; return the answer's body."""
        body = {"model": "test", "sessionId": session_id, "blueprint": blueprint}
        answer = self.ask("POST", "/v1/sessions", json=body, **options)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def minted(self, *, blueprint="parrot", **options):
        """Create a session under an id that the gateway draws; return the id."""
        body = {"model": "test", "blueprint": blueprint}
        answer = self.ask("POST", "/v1/sessions", json=body, **options)
        assert answer.status_code == 201, answer.text
        return answer.json()["sessionId"]

    def get(self, session_id, **options):
        return self.ask("GET", f"/v1/sessions/{session_id}", **options)

    def prompt(self, session_id, text, **options):
        path = f"/v1/sessions/{session_id}/prompt"
        return self.ask("POST", path, json={"text": text}, **options)

    def listed(self, **options):
        """Return the ids of all sessions, over pages."""
        found, query = [], {"limit": 200}
        while True:
            answer = self.ask("GET", "/v1/sessions", params=query, **options)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += [each["sessionId"] for each in page["sessions"]]
            if page["next"] is None:
                return found
            query["after"] = page["next"]

    @contextmanager
    def events(self, session_id, at=None, *, headers=None, **query):
        """Follow a session's events on a connection of its own, as (id, type, data)."""
        server = random.choice(self.servers) if at is None else self.servers[at]
        path = f"/v1/sessions/{session_id}/events"
        with (
            client_of(server, 60) as client,
            client.stream(
                "GET", path, params=query, headers={"X-API-Key": ACME, **(headers or {})}
            ) as response,
        ):
            assert response.status_code == 200, response.read()
            yield parsed(response.iter_lines())

    @property
    def workers(self):
        """The processes that serve under a supervisor."""
        [server] = self.servers
        return [pid for pid in descendants(server.process.pid) if is_worker(pid)]


def client_of(server, timeout_s):
    """Return a client with connections of its own; without certificates, which take time."""
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(base_url=server.url, trust_env=False, timeout=timeout_s, verify=plain)


def is_worker(pid):
    """Tell whether a process is a worker, by its command line."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"worker" in file.read()
    except OSError:
        return False


@contextmanager
def workers(directory, number=3, *arguments, more=""):
    """Serve with workers of one machine; `more` are further settings."""
    config = BLUEPRINTS + IN_MEMORY + more
    with serving(directory, "--workers", str(number), *arguments, config=config) as server:
        yield Desk([server])


@contextmanager
def gateways(
    directory, engine, number=2, *, url=None, more=None, terms=TERMS, conversations=IN_MEMORY
):
    """Serve by several gateways on one engine; `more` are further settings of each.

    Without `terms` leases are as long as they are where the settings say nothing.
    """
    directory.mkdir(exist_ok=True)
    secret = directory / "secret"
    secret.write_text("a secret of at least thirty-two bytes\n")
    secret.chmod(0o600)
    with ExitStack() as stack:

        def start(each, *, wait=True):
            way = url or engine.url_at(engine.address)
            ours = CLUSTER.format(secret=secret) + terms + f'name = "desk{each}"\nurl = "{way}"\n'
            config = BLUEPRINTS + conversations + ours + (more or [""] * number)[each]
            return stack.enter_context(serving(directory / f"{each}", config=config, wait=wait))

        servers = [start(each, wait=False) for each in range(number)]
        for server in servers:
            eventually(server.find_url, within_s=START_S)
            assert server.url, server.log
        desk = Desk(servers, start)
        create_when_known(desk.ask, "first", within_s=START_S)
        answer = desk.ask("DELETE", "/v1/sessions/first")
        assert answer.status_code == 200, answer.text
        yield desk


def timed(ask):
    """Return an answer and how long it took."""
    began = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - began
