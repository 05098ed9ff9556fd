"""What of conversations is stored, and for how long, as the configuration says it.

Beside `conversation_storage.py`, which opens the place where they are.
"""

from __future__ import annotations

from frontdesk.gateway.settings import Config
from frontdesk.sessions.keeping_settings import KeepingSettings, StorageLimits, WaitingFound

MB = 1024 * 1024


def keeping_settings(
    config: Config, *, owner: str, waiting_elsewhere: WaitingFound | None
) -> KeepingSettings:
    """Return how the session service deals with conversations that are stored."""
    settings = config.conversations
    return KeepingSettings(
        owner=owner,
        waiting_elsewhere=waiting_elsewhere,
        resume_at_once=settings.resume_at_once,
        patience_s=settings.storage_patience_s,
        limits=storage_limits(config),
    )


def storage_limits(config: Config) -> StorageLimits:
    """Return how much may be stored; a reload changes it."""
    settings = config.conversations
    own = {name: each.retention_days for name, each in config.tenants.items()}
    return StorageLimits(
        retention_days=settings.retention_days,
        of_tenants={name: days for name, days in own.items() if days is not None},
        max_bytes=settings.max_mb * MB,
        per_tenant=settings.kept_per_tenant,
    )
