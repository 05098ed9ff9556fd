"""What `create` was asked for, checked: a session before it has an agent's monitor and a fence.

Below `store.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frontdesk.store import checks


@dataclass(slots=True)
class Draft:
    """The wish of one `create`."""

    session_id: str
    agent: Any
    api_key: str | None
    tenant_id: str
    blueprint: str | None
    model: str | None

    def __post_init__(self) -> None:
        self.session_id = checks.identifier("session_id", self.session_id)
        self.api_key = checks.optional_identifier("api_key", self.api_key)
        self.tenant_id = checks.identifier("tenant_id", self.tenant_id)
        self.blueprint = checks.optional_text("blueprint", self.blueprint)
        self.model = checks.optional_text("model", self.model)
