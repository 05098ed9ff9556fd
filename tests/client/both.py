"""Both clients by one face, so that what is promised of both is tested of both, by the same lines.

`Blocking` drives an `AsyncClient` from a thread without an event loop: what it would be awaited for
is waited for, and what would be iterated with `async for` is iterated.
"""

import inspect
from contextlib import contextmanager, suppress

from anyio.from_thread import start_blocking_portal

from frontdesk.client import (
    AsyncClient,
    AsyncClientOperator,
    AsyncClientSession,
    AsyncClientTurn,
    AsyncStream,
    Client,
)

OURS = (AsyncClient, AsyncClientSession, AsyncClientTurn, AsyncClientOperator)
LOOPS = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}


class Blocking:
    """Something of the asynchronous client, as its synchronous twin would be."""

    def __init__(self, wrapped, portal):
        self._wrapped, self._portal = wrapped, portal

    def _plain(self, result):
        if inspect.iscoroutine(result):

            async def awaited():
                return await result

            return self._plain(self._portal.call(awaited))
        if isinstance(result, AsyncStream) or inspect.isasyncgen(result):
            return self._iterated(result)
        return Blocking(result, self._portal) if isinstance(result, OURS) else result

    def _iterated(self, items):
        try:
            while True:
                try:
                    yield self._portal.call(items.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            with suppress(RuntimeError):  # its loop has ended, and the client with it
                self._portal.call(items.aclose)

    def __iter__(self):
        return self._iterated(self._wrapped.__aiter__())

    def __getattr__(self, name):
        found = getattr(self._wrapped, name)
        if not callable(found):
            return self._plain(found)

        def called(*args, **options):
            if inspect.iscoroutinefunction(found):

                async def run():
                    return await found(*args, **options)

                return self._plain(self._portal.call(run))

            async def made():
                return found(*args, **options)

            return self._plain(self._portal.call(made))

        return called

    def __repr__(self):
        return repr(self._wrapped)


@contextmanager
def client_of(kind, *args, **options):
    """Open a client of a kind: `sync`, or the event loop's name."""
    if kind == "sync":
        with Client(*args, **options) as client:
            yield client
        return
    backend, settings = LOOPS[kind]
    with start_blocking_portal(backend, settings) as portal:

        async def opened():
            return AsyncClient(*args, **options)

        client = portal.call(opened)
        with portal.wrap_async_context_manager(client):
            yield Blocking(client, portal)
