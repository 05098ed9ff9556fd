"""One tenant's slow work: what blocks on its word delays its own calls, and no other tenant's."""

import ast
import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

import frontdesk
from frontdesk.gateway.ssrf import NAMES_PER_TENANT, AddressGuard, guarded_client
from frontdesk.gateway.tenant_slots import TenantSlots
from gateway.running import UMBRELLA, RunningGateway, create
from support.waiting import eventually

MANY = NAMES_PER_TENANT + 8
PUBLIC = "93.184.215.14"


class Names:
    """The resolver of a machine: names that begin with `slow` are answered when the test says."""

    def __init__(self, monkeypatch):
        self.waiting, self.most, self.lock = 0, 0, threading.Lock()
        self.answered = threading.Event()
        self.ask = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host, *args, **options):
        if not str(host).endswith(".example"):
            return self.ask(host, *args, **options)
        if host.startswith("slow"):
            with self.lock:
                self.waiting += 1
                self.most = max(self.most, self.waiting)
            assert self.answered.wait(60)
            with self.lock:
                self.waiting -= 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 443))]


def attached(client, number, name):
    body = {
        "name": f"tool{number}",
        "description": "looks things up",
        "parameters": {},
        "callbackUrl": f"https://{name}.example/",
    }
    return client.post("/v1/sessions/s/tools", json=body)


def opened_with_a_model_elsewhere(client, number, name):
    body = {
        "model": "test",
        "blueprint": "parrot",
        "sessionId": f"{name}{number}",
        "providerOpts": {"baseUrl": f"https://{name}.example/"},
    }
    return client.post("/v1/sessions", json=body)


class Unreached(httpx2.AsyncBaseTransport):
    """Where a request would go that may go out."""

    async def handle_async_request(self, request):
        return httpx2.Response(204)


@pytest.mark.parametrize("call", [attached, opened_with_a_model_elsewhere])
def test_names_that_resolve_slowly_delay_their_own_tenant_alone(tmp_path, monkeypatch, call):
    names = Names(monkeypatch)
    with (
        RunningGateway(tmp_path) as gateway,
        gateway.client() as acme,
        gateway.client(UMBRELLA) as umbrella,
        ThreadPoolExecutor(MANY) as callers,
    ):
        create(acme, "s")
        create(umbrella, "s")
        try:
            slow = [callers.submit(call, acme, n, f"slow{n}") for n in range(MANY)]
            eventually(lambda: names.waiting == NAMES_PER_TENANT)
            fine = call(umbrella, 0, "fine")
            assert fine.status_code in (201, 422), fine.text
            assert "resolved" not in fine.text
            assert not any(each.done() for each in slow)
            # What asks for no name goes on for the tenant itself.
            assert acme.get("/v1/sessions/s").status_code == 200
        finally:
            names.answered.set()
        answers = {each.result(60).status_code for each in slow}
        assert answers == {fine.status_code}
        assert names.most == NAMES_PER_TENANT


def test_a_slow_name_of_a_call_under_way_delays_its_own_tenant_alone(monkeypatch):
    """A model's server, or a callback tool's: the guard resolves at every call."""
    names = Names(monkeypatch)

    async def scenario():
        guard = AddressGuard()
        acme, umbrella = guarded_client(guard, "acme"), guarded_client(guard, "umbrella")

        async def call(client, name):
            # The last moment before something leaves this machine.
            transport = client._transport
            transport._inner = Unreached()
            return await client.get(f"https://{name}.example/", timeout=None)

        slow = [asyncio.create_task(call(acme, f"slow{n}")) for n in range(MANY)]
        while names.waiting < NAMES_PER_TENANT:
            await asyncio.sleep(0)
        assert (await call(umbrella, "fine")).status_code == 204
        assert not any(each.done() for each in slow)
        names.answered.set()
        assert {answer.status_code for answer in await asyncio.gather(*slow)} == {204}
        for client in (acme, umbrella):
            await client.aclose()

    asyncio.run(scenario())
    assert names.most == NAMES_PER_TENANT


# -- slots ---------------------------------------------------------------------------------------


def slots_of(scenario):
    async def run():
        await asyncio.wait_for(scenario(TenantSlots(2)), 60)

    asyncio.run(run())


def test_a_slot_is_taken_until_the_call_ends_though_nobody_waits_for_it():
    async def scenario(slots):
        free, begun = asyncio.Event(), []

        async def blocks():
            begun.append(1)
            await free.wait()

        waiting = [asyncio.create_task(slots.run("acme", blocks)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        third = asyncio.create_task(slots.run("acme", blocks))
        await slots.run("umbrella", nothing)
        assert len(begun) == 2
        free.set()
        await third
        assert len(begun) == 3

    slots_of(scenario)


async def nothing():
    return None


def test_one_that_gave_up_before_its_turn_takes_no_slot():
    async def scenario(slots):
        free = asyncio.Event()
        running = [asyncio.create_task(slots.run("acme", free.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(slots.run("acme", free.wait)) for _ in range(20)]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        free.set()
        await asyncio.wait(running)
        await slots.run("acme", nothing)

    slots_of(scenario)


def test_what_a_call_raises_is_raised_where_it_is_waited_for_and_its_slot_is_free():
    async def scenario(slots):
        async def breaks():
            raise OSError("no such thing")

        for _ in range(5):
            with pytest.raises(OSError, match="no such thing"):
                await slots.run("acme", breaks)

    slots_of(scenario)


def test_no_tenant_is_remembered_that_has_nothing_under_way():
    async def scenario(slots):
        for number in range(50):
            await slots.run(f"t{number}", nothing)
        await asyncio.sleep(0)
        assert len(slots._by_tenant) == 0

    slots_of(scenario)


SOURCES = Path(frontdesk.__file__).parent


@pytest.mark.parametrize("shared", ["to_thread", "run_in_executor", "getaddrinfo", "getnameinfo"])
def test_nothing_of_ours_waits_in_threads_that_all_share(shared):
    """The loop's executor has a few threads, and so has the resolver of uvloop."""
    calling = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == shared
    }
    # The kit tests stores in threads; the server's own address is resolved before it serves; and
    # names are resolved in threads of their own.
    resolving = {"gateway/server.py", "gateway/ssrf.py"} if shared == "getaddrinfo" else set()
    assert calling - {"testing/subject.py"} == resolving
    text = (SOURCES / "gateway/ssrf.py").read_text()
    assert "loop.getaddrinfo" not in text
