"""Slots for what may take long, so many for each tenant: its slow calls delay its own alone.

Below whatever waits on a client's word for something that neither the loop nor a client can hurry,
such as the resolver of names. A pool that all share would be one tenant's after a few of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class TenantSlots:
    """So many calls of each tenant's at a time; the others of its own wait. On one event loop."""

    __slots__ = ("_by_tenant", "_per_tenant")

    def __init__(self, per_tenant: int) -> None:
        self._per_tenant = per_tenant
        # Held by whoever waits for one or has one: no tenant is remembered for longer.
        self._by_tenant: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def run(self, tenant_id: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a call in a slot of the tenant's; return or raise what it does.

        Cancelling ends the wait and not the call, which may be a thread's: its slot is taken until
        it has returned.
        """
        slots = self._by_tenant.get(tenant_id)
        if slots is None:
            slots = self._by_tenant[tenant_id] = asyncio.Semaphore(self._per_tenant)
        await slots.acquire()

        def release(done: asyncio.Task[T]) -> None:
            slots.release()
            if not done.cancelled():
                done.exception()  # seen, even where nobody waits for it any more

        task = asyncio.create_task(call())
        task.add_done_callback(release)
        return await asyncio.shield(task)
