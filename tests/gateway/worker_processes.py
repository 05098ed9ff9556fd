"""A service of several workers under test: which process is which, and clients of each."""

import itertools
import json
import os
import re
from contextlib import contextmanager

from gateway.command import serving
from support.processes import Life, descendants
from support.waiting import eventually

WITHIN_S = 90


class Service:
    """A `frontdesk serve --workers` that serves."""

    def __init__(self, server):
        self.server = server
        self._probes = itertools.count()

    def lines(self, **fields):
        """Return the lines of the log that have these fields."""
        found = []
        for line in self.server.log.splitlines():
            try:
                read = json.loads(line)
            except ValueError:
                continue  # half of it is written
            if all(read.get(name) == value for name, value in fields.items()):
                found.append(read)
        return found

    def says(self, text):
        return any(text in line.get("message", "") for line in self.lines())

    def pid(self, number):
        """Return the process of a worker: the last one of its number that served."""
        found = re.findall(rf"worker {number} serves, as process (\d+)", self.server.log)
        return int(found[-1])

    def life(self, number):
        return Life(self.pid(number))

    def await_another(self, number, life):
        """Wait until another process serves as a worker."""
        eventually(lambda: self.pid(number) != life.pid, within_s=WITHIN_S)

    @contextmanager
    def client_of(self, number):
        """A client whose connection lies with a worker, found out by its log."""
        for _ in range(200):
            with self.server.client() as client:
                if self.number_of(client) == number:
                    yield client
                    return
        raise AssertionError(f"no connection comes to worker {number}")

    def number_of(self, client):
        """Return the worker that a client's connection lies with."""
        path = f"/v1/sessions/probe-{next(self._probes)}"
        # A new engine may not know yet that there is no such session.
        assert client.get(path).status_code in (404, 503)
        (line,) = eventually(lambda: self.lines(event="request", path=path))
        return int(line["node"].rpartition("/")[2])

    def below(self):
        """Return all processes below the supervisor, itself included."""
        pid = self.server.process.pid
        return [Life(each) for each in (pid, *descendants(pid)) if os.path.exists(f"/proc/{each}")]


@contextmanager
def workers(directory, count, *arguments, **options):
    """Run the service; whatever a test does, none of its processes is left."""
    with serving(directory, "--workers", str(count), *arguments, **options) as server:
        service = Service(server)
        known = service.below()
        try:
            yield service
        finally:
            known += service.below() if server.process.poll() is None else []
            if server.process.poll() is None:
                server.process.kill()
            for life in known:
                life.await_end()
