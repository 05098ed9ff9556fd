"""How conversations are stored, and for how long, as an operator may set it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.persistence.stored import WaitingConversation

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageLimits:
    """What may be stored: for how long, of a conversation, of a tenant. It may be replaced.

    `retention_days` of a tenant goes before that of a blueprint, and both before that of all.
    """

    retention_days: float = 30.0
    of_tenants: Mapping[str, float] = field(default_factory=dict)
    max_bytes: int = 64 * 1024 * 1024
    per_tenant: int = 10_000

    def retention_ms(self, tenant_id: str, blueprint: Blueprint | None) -> float:
        """Return how long a conversation is stored after it was last used."""
        days = self.of_tenants.get(tenant_id)
        if days is None and blueprint is not None:
            days = blueprint.retention_days
        return (self.retention_days if days is None else days) * DAY_MS

    def shortest_ms(self, blueprints: Blueprints) -> float:
        """Return the shortest time for which any is stored."""
        own = [each.retention_days for each in blueprints.values() if each.retention_days]
        return min([self.retention_days, *self.of_tenants.values(), *own]) * DAY_MS


class WaitingFound(Protocol):
    """Finds conversations with turns to end whose owner is gone. It blocks."""

    def __call__(self, *, after: int, limit: int) -> list[WaitingConversation]:
        """Return so many of those after a number, in their order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingSettings:
    """How many conversations are resumed at once after a start, and held in memory.

    `owner` is as what this process owns them, where several share a storage, and
    `waiting_elsewhere` finds what waits at nodes that are gone. `patience_s` is how long a turn
    waits for a storage that takes nothing.
    """

    owner: str = ""
    waiting_elsewhere: WaitingFound | None = None
    resume_at_once: int = 4
    max_loaded: int = 1000
    patience_s: float = 30.0
    limits: StorageLimits = StorageLimits()
