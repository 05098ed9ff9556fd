"""The gateway as the black boxes see it: `frontdesk serve` in a process of its own, from outside.

Every campaign gets tenants that no other has used, so what it finds of a tenant is its own doing.
Nothing here looks into the process: what is known of it is what it answers, and what the kernel
says of its time and memory.
"""

import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from gateway.command import serving

PROMPTLY_S = 10.0
"""What takes longer than this has no answer. Far more than a busy machine needs."""

TENANTS = 200
AGENTS = ("parrot", "patient", "careful", "curious", "clumsy", "apart", "careful-apart")
WAITING = frozenset({"patient", "careful", "curious", "careful-apart"})
"""Blueprints whose turns wait for somebody."""

CONFIG = """
default_blueprint = "parrot"
[limits]
requests_per_minute = 10_000_000
wrong_keys_per_minute = 10_000_000
head_timeout_s = 2
body_timeout_s = 2
[turns]
end_grace_s = 1
[blueprints.parrot]
kind = "python"
target = "gateway.agents:parrot"
[blueprints.patient]
kind = "python"
target = "gateway.agents:patient"
[blueprints.careful]
kind = "python"
target = "gateway.agents:careful"
[blueprints.curious]
kind = "python"
target = "gateway.agents:curious"
[blueprints.clumsy]
kind = "python"
target = "gateway.agents:clumsy"
[blueprints.leaver]
kind = "python"
target = "gateway.agents:leaver"
[blueprints.apart]
kind = "python"
target = "gateway.agents:parrot"
isolation = "process"
[blueprints.careful-apart]
kind = "python"
target = "gateway.agents:careful"
isolation = "process"
[blueprints.assistant]
kind = "pydantic-ai"
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request was answered, whoever asked."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, response):
        headers = {name.lower(): value for name, value in response.headers.items()}
        return cls(response.status_code, headers, response.content)


@dataclass(eq=False)
class Tenant:
    """A tenant with one key, and a client that has it."""

    name: str
    key: str
    client: httpx.Client
    silence_s: float = PROMPTLY_S

    def ask(self, method, path, **options):
        """Send one request and return its answer."""
        return Answer.of(self.client.request(method, path, **options))


@dataclass(eq=False)
class Box:
    """A running gateway: its address, its process, and tenants to use."""

    url: str
    pid: int
    directory: Path
    silence_s: float = PROMPTLY_S
    """A stream that tells nothing for so long tells nothing more of what is over."""
    _used: int = 0
    _clients: list[httpx.Client] = field(default_factory=list)

    @property
    def address(self):
        parts = urlsplit(self.url)
        return parts.hostname, parts.port

    def connect(self):
        connection = socket.create_connection(self.address, timeout=PROMPTLY_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def tenants(self, number=2):
        """Return tenants that nobody has used yet."""
        return [self._tenant() for _ in range(number)]

    def _tenant(self):
        name, key = key_of(self._used)
        self._used += 1
        client = httpx.Client(
            base_url=self.url,
            headers={"X-API-Key": key},
            trust_env=False,
            timeout=PROMPTLY_S,
        )
        self._clients.append(client)
        return Tenant(name, key, client, self.silence_s)

    @property
    def log(self):
        return (self.directory / "log.txt").read_text(encoding="utf-8")

    def close(self):
        for client in self._clients:
            client.close()

    # -- what the kernel says --------------------------------------------------------------------

    @property
    def cpu_s(self):
        """The processor time that the gateway's process has used, of all its threads."""
        # linux/posix-timers.h: the clock of another process, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime((~self.pid << 3) | 2)

    @property
    def resident_bytes(self):
        """The memory that the gateway's process takes, which is without its agents'."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    @property
    def alive(self):
        return Path(f"/proc/{self.pid}").exists()


def key_of(number):
    return f"t{number:03}", f"secret-of-tenant-{number:03}-0123456789"


@contextmanager
def boxed(directory, *, config=CONFIG, module="frontdesk.cli", **options):
    """Run a gateway with tenants; its program is the command line's, or one of the tests'."""
    named = (key_of(number) for number in range(TENANTS))
    keys = ",".join(f"{name}/ci:{key}" for name, key in named)
    with serving(directory, config=config, keys=keys, module=module) as served:
        box = Box(served.url, served.process.pid, directory, **options)
        try:
            yield box
        finally:
            box.close()
            served.terminate()
