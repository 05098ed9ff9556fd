"""A law of a store as data, and what holds a store to it.

A law is an id to name it by, a sentence to read, and a check that fails where a store breaks it. It
needs no pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frontdesk.store import Limits, SessionStore
from frontdesk.testing.subject import EmbeddedSubject, StoreUnderTest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Check = Callable[[StoreUnderTest], Awaitable[None]]

BOUND_S = 120.0
"""A law that has not come to its end by then is broken: something hangs."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What a law needs its store to be made with."""

    limits: Limits | None = None
    feed_capacity: int = 4096


StoreFactory = Callable[[StoreOptions], AbstractAsyncContextManager[StoreUnderTest]]


@dataclass(frozen=True, slots=True)
class Law:
    """One thing that every store does.

    Attributes:
        law_id (str): What to name it by.
        sentence (str): What a store does that keeps it.
        guarantee (int): The number of the guarantee that it belongs to.
        check (Check): Fails where a store breaks it.
        options (StoreOptions): What its store is made with.
    """

    law_id: str
    sentence: str
    guarantee: int
    check: Check
    options: StoreOptions = StoreOptions()

    def __str__(self) -> str:
        return self.law_id


def law(
    sentence: str, *, guarantee: int, limits: Limits | None = None, feed_capacity: int = 4096
) -> Callable[[Check], Law]:
    """Make a law of the coroutine function below; its id is that function's name, with hyphens."""
    options = StoreOptions(limits, feed_capacity)

    def make(check: Check) -> Law:
        name = str(getattr(check, "__name__", "law")).strip("_").replace("_", "-")
        return Law(name, sentence, guarantee, check, options)

    return make


async def check_law_async(law: Law, factory: StoreFactory) -> None:
    """Check one law on a fresh store of the factory's, on the running event loop.

    Whatever the check raises comes out with the law's sentence as a note. Needs assertions: under
    `python -O` every law would pass, so it is a `RuntimeError` instead.
    """
    if not __debug__:
        raise RuntimeError("laws are made of assert statements: run them without -O")
    try:
        async with asyncio.timeout(BOUND_S), factory(law.options) as store:
            await law.check(store)
    except BaseException as error:
        error.add_note(f"the broken law ({law.law_id}): {law.sentence}")
        raise


def check_law(law: Law, factory: StoreFactory) -> None:
    """Check one law on an event loop of its own. See `check_law_async`."""
    asyncio.run(check_law_async(law, factory))


def check_laws(laws: Iterable[Law], factory: StoreFactory) -> None:
    """Check every law, each on a fresh store, and raise all failures as one `ExceptionGroup`.

    With pytest, parametrize over `LAWS` and call `check_law` instead: one test for each law.
    """
    failures = []
    for law in laws:
        try:
            check_law(law, factory)
        except Exception as error:  # noqa: BLE001 - whatever a check raises says: it is broken
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} laws are broken", failures)


@asynccontextmanager
async def embedded_store(options: StoreOptions) -> AsyncIterator[StoreUnderTest]:
    """Make the embedded store for a law: the factory of the reference product."""
    async with SessionStore(limits=options.limits, feed_capacity=options.feed_capacity) as store:
        yield EmbeddedSubject(store)
