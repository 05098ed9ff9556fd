"""Clients of a service whose every request is written into a history, for the checker.

They know what is answered and no more. So a service is one node of the history, whichever of its
processes has a session: `service` names one life of it.
"""

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from cluster import history as h
from cluster.checker import findings
from cluster.faults.desks import client_of
from cluster.history import HistoryFile, in_words, read_history
from gateway.running import ACME
from support.cluster_nodes import PATIENCE_S
from support.waiting import LOOK_S, eventually

RETRY, TAKEN, GONE = 503, 409, {404, 410}
UNREACHABLE = 0
"""In place of a status: nobody answered, or the connection broke."""


class Life:
    """One life of a service, from its first answer until it is killed."""

    def __init__(self, servers, name):
        self.servers, self.name = servers, name
        self.accepted = {}
        """Fence and agent of each session that was accepted, and that nobody has ended."""


class RecordedClients:
    """Clients, one a thread, and the history that they write. A context manager."""

    def __init__(self, directory, *, chosen):
        self._path = directory / "clients.jsonl"
        self._history = HistoryFile(self._path)
        self.chosen = list(chosen)
        self._numbers = itertools.count(1)
        self._serving = threading.Event()
        self.life = None
        self._opened = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._history.close()

    def write(self, kind, /, **facts):
        """Write an event of now down."""
        self._history.write(kind(at=time.monotonic(), **facts))

    def begin(self, servers, name):
        """Let requests go to a service from now on."""
        self.life = Life(servers, name)
        self.write(h.NodeJoined, node=name, incarnation=name)
        self._serving.set()
        return self.life

    def gone(self):
        """Write that the service is no more; nothing goes to it any longer."""
        self._serving.clear()
        self.write(h.NodeGone, node=self.life.name)

    @contextmanager
    def load(self, count):
        """Let so many clients do one thing after another, each on its own."""
        over = threading.Event()
        with ThreadPoolExecutor(count) as pool:
            clients = [pool.submit(self._act, random.Random(each), over) for each in range(count)]
            try:
                yield
            finally:
                over.set()
                for client in clients:
                    client.result(PATIENCE_S)

    def have_opened(self, number):
        """Wait until about so many more sessions were accepted."""
        wanted = self._opened + number
        eventually(lambda: self._opened >= wanted, within_s=PATIENCE_S)

    def _act(self, draw, over):
        while not over.is_set():
            if self._serving.wait(LOOK_S):
                doing = draw.choices((self.create, self.look, self.end), (4, 4, 2))[0]
                doing(self.life, draw.choice(self.chosen))

    # -- one request each ------------------------------------------------------------------------

    def create(self, life, session, *, blueprint="fenced"):
        """Open a session, twice with the same key; return the fence, None where there is none."""
        name = str(next(self._numbers))
        named = {"node": life.name, "agent": name, "session_id": session}
        self.write(h.AgentStarted, **named)
        self.write(h.CreateAsked, token=name, **named)
        fence = self._created(life, session, name, blueprint)
        again = self._created(life, session, name, blueprint)
        if fence or again:
            life.accepted[session] = fence or again, name
            self._opened += 1
        else:
            self.write(h.AgentEnded, node=life.name, agent=name)
        return fence or again

    def _created(self, life, session, name, blueprint):
        """Ask for a session; return its fence in the cluster, which its agent says."""
        body = {"model": "test", "sessionId": session, "blueprint": blueprint}
        body |= {"prompt": "Which is your fence?", "wait": PATIENCE_S / 2}
        once = {"Idempotency-Key": f"the-key-of-{name}"}
        status, answer = self._ask(life, "POST", "/v1/sessions", json=body, headers=once)
        assert status in {201, TAKEN, RETRY, UNREACHABLE}, (status, answer)
        fence = int(answer["turn"]["text"]) if status == 201 else None
        refused = "SessionAlreadyExists" if status == TAKEN else None
        self.write(h.CreateAnswered, token=name, fence=fence, refused=refused)
        return fence

    def look(self, life, session):
        """Look a session up; return the status."""
        asked = {"asked_at": time.monotonic(), "node": life.name, "session_id": session}
        status, answer = self._ask(life, "GET", f"/v1/sessions/{session}")
        assert status in {200, RETRY, UNREACHABLE, *GONE}, (status, answer)
        if status == 200:
            self.write(h.LookedUp, owner=life.name, **asked)
        else:
            refused = "SessionNotFound" if status in GONE else "unknown"
            self.write(h.LookedUp, refused=refused, **asked)
        return status

    def end(self, life, session):
        """End a session that was accepted and that nobody else ends."""
        if (accepted := life.accepted.pop(session, None)) is None:
            return
        fence, agent = accepted
        self.write(h.EndTold, node=life.name, session_id=session, fence=fence)
        self.write(h.AgentEnded, node=life.name, agent=agent)  # at some moment from here on
        status, answer = self._ask(life, "DELETE", f"/v1/sessions/{session}")
        assert status in {200, UNREACHABLE}, (status, answer)

    def _ask(self, life, method, path, *, headers=None, **options):
        """Ask on a connection of its own, so that any process may get it."""
        try:
            with client_of(random.choice(life.servers), PATIENCE_S) as client:
                headers = {"X-API-Key": ACME, **(headers or {})}
                answer = client.request(method, path, headers=headers, **options)
                return answer.status_code, answer.json() if answer.content else {}
        except httpx.TransportError:
            return UNREACHABLE, {}

    # -- afterwards ------------------------------------------------------------------------------

    def events(self):
        """Return the history so far."""
        return read_history(self._path)

    def check(self, bounds):
        """Fail with what is wrong with the history, and what led to it."""
        events = self.events()
        assert events, "nothing happened"
        wrong = findings(events, bounds)
        around = [in_words(one)[:200] for one in events if wrong and one.at <= wrong[0].at + 0.001]
        assert not wrong, "\n".join([*map(str, wrong[:5]), "", *around[-20:]])
