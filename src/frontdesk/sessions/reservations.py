"""Places of sessions that have no entry in the registry: they are being opened, or restarted.

The registry counts entries, and an entry comes with its agent. So that a limit is never exceeded by
agents that are being started, a session takes its place here before anything of it is started, and
keeps it until its entry is there. All on one event loop.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from frontdesk.errors import SessionLimitExceeded
from frontdesk.store import SessionStore


class Place(NamedTuple):
    """Whose limits a session counts against. `blueprint` is None while it is being restarted."""

    tenant_id: str
    api_key: str | None
    blueprint: str | None


class Reservations:
    """Hold the places that are reserved, by registry key."""

    __slots__ = ("_places", "_store", "_taken")

    def __init__(self, store: SessionStore[Any]) -> None:
        self._store = store
        self._places: dict[str, Place] = {}
        self._taken: Counter[tuple[str, ...]] = Counter()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def reserve(self, key: str, place: Place) -> None:
        """Reserve a place. Nothing is checked: see `refuse_over_limit`."""
        self._places[key] = place
        self._taken.update(_counted_as(place))

    def release(self, key: str) -> None:
        """Give a place back, if it is reserved: the entry is there, or will not come."""
        place = self._places.pop(key, None)
        if place is None:
            return
        for counted in _counted_as(place):
            self._taken[counted] -= 1
            if not self._taken[counted]:
                del self._taken[counted]

    def of_blueprint(self, tenant_id: str, blueprint: str) -> int:
        """Return how many sessions of a tenant are being opened from a blueprint."""
        return self._taken["blueprint", tenant_id, blueprint]

    def refuse_over_limit(self, tenant_id: str, api_key: str | None) -> None:
        """Raise `SessionLimitExceeded` where entries and places together reach a store's limit.

        Costs constant time; where a limit is reached, as much as it is high: agents that have
        finished do not count.
        """
        store, limits = self._store, self._store.limits
        if limits.total is not None:
            taken = len(self._places)
            if store.count() + taken >= limits.total and len(store.list()) + taken >= limits.total:
                raise SessionLimitExceeded(scope="total", limit=limits.total)
        if (limit := limits.per_tenant) is not None:
            taken = self._taken["tenant", tenant_id]
            if (
                store.count_by_tenant(tenant_id) + taken >= limit
                and len(store.list_by_tenant(tenant_id)) + taken >= limit
            ):
                raise SessionLimitExceeded(scope="per_tenant", limit=limit)
        if (limit := limits.per_api_key) is not None and api_key is not None:
            taken = self._taken["api_key", api_key]
            if (
                store.count_by_api_key(api_key) + taken >= limit
                and len(store.list_by_api_key(api_key)) + taken >= limit
            ):
                raise SessionLimitExceeded(scope="per_api_key", limit=limit)


def _counted_as(place: Place) -> list[tuple[str, ...]]:
    counted: list[tuple[str, ...]] = [("tenant", place.tenant_id)]
    if place.api_key is not None:
        counted.append(("api_key", place.api_key))
    if place.blueprint is not None:
        counted.append(("blueprint", place.tenant_id, place.blueprint))
    return counted
