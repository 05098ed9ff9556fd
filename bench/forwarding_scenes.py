"""What it costs that a session is another worker's: the same requests, direct and passed on.

Above: `forwarding` makes rows of the figures. One `frontdesk serve --workers 2`, and two
connections of one client, one to each worker; they ask in turn.
"""

from __future__ import annotations

from time import perf_counter_ns

from bench.load import tables
from bench.scene import Figures
from bench.servers import KEY, Server, gateway
from bench.talk import SESSIONS, create, percentiles
from bench.wire import Caller, request, run

TRIES = 200
"""Connections until each of two workers has one."""
WARMING = 50


def requests(*, count: int) -> Figures:
    """Ask for one session, on the worker that has it and on the other, in turn."""
    with gateway(tables("parrot"), workers=2) as server:
        return run(_requests(server, count))


async def _requests(server: Server, count: int) -> Figures:
    by_worker = await callers(server)
    owner, other = by_worker
    await owner.call(create("one", "parrot"), expected=201)
    asked = request("GET", f"{SESSIONS}/one", headers=KEY)
    taken: dict[str, list[int]] = {"direct": [], "passed": []}
    for number in range(count + WARMING):
        for name, caller in (("direct", owner), ("passed", other)):
            start = perf_counter_ns()
            await caller.call(asked)
            if number >= WARMING:
                taken[name].append(perf_counter_ns() - start)
    return {
        f"{name}_{figure}": value
        for name, times in taken.items()
        for figure, value in percentiles(times).items()
    }


async def callers(server: Server) -> tuple[Caller, Caller]:
    """Return a connection to each of two workers: which one it is, its health says."""
    found: dict[str, Caller] = {}
    for _ in range(TRIES):
        caller = await Caller.connect(server.port)
        health = (await caller.call(request("GET", "/healthz", headers=KEY))).json()
        if found.setdefault(health["cluster"]["node"], caller) is not caller:
            caller.close()
        if len(found) == 2:
            first, second = found.values()
            return first, second
    raise RuntimeError(f"of {TRIES} connections none came to a second worker")
