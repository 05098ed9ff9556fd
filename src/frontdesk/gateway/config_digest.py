"""A digest of what every node of a cluster should have alike: keys, blueprints, limits.

Below the gateway, which joins with it: where nodes differ in it, health and operators are shown
that. Nothing secret goes into it, and nothing can be read out of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from frontdesk.gateway.keys import Key
from frontdesk.gateway.scopes import in_order
from frontdesk.gateway.settings import Config

ALIKE = frozenset(
    {
        "attachments",
        "blueprints",
        "budgets",
        "callbacks",
        "default_blueprint",
        "guardrails",
        "limits",
        "tenants",
        "turns",
    }
)
"""The tables of the configuration that are every node's."""

DIGITS = 16


def config_digest(config: Config, *, keys: Iterable[Key]) -> str:
    """Return 16 hex digits; of keys counts who they are and what they may, not their secrets."""
    known = sorted(
        (key.key_id, key.tenant_id or "", list(in_order(key.scopes)), key.expires_at or 0)
        for key in keys
    )
    settings = config.model_dump(mode="json", include=set(ALIKE))
    content = msgspec.json.encode([known, settings], order="sorted")
    return hashlib.sha256(content).hexdigest()[:DIGITS]
