"""The ids of sessions: what a tenant's session is called in the registry.

The registry's ids are global to a store and
clients' ids are not: two tenants may choose the same one. This is the only file that composes
`<tenant>/<session id>` and takes it apart, and so the only one where isolation by name could break.
"""

from __future__ import annotations

import re
import secrets
from typing import Literal

from frontdesk.errors import InvalidArgument

TENANT_ID = r"[a-z0-9_-]{1,64}"
"""What a tenant may be called."""

SESSION_ID = r"[A-Za-z0-9_~.-]{1,128}"
"""What a session may be called, `.` and `..` excepted."""

NAME = r"[A-Za-z0-9_.-]{1,64}"
"""What an API key or a blueprint may be called."""

_TENANT_ID = re.compile(TENANT_ID)
_SESSION_ID = re.compile(SESSION_ID)
_MEANT_BY_A_PATH = frozenset({".", ".."})
_SHOWN_CHARACTERS = 40


def check_tenant(tenant_id: object) -> str:
    """Return the tenant's id, or raise `InvalidArgument` where it cannot be one."""
    if isinstance(tenant_id, str) and _TENANT_ID.fullmatch(tenant_id):
        return tenant_id
    raise InvalidArgument("tenantId", expected=TENANT_ID, got=_quoted(tenant_id))


def check_session_id(session_id: object) -> str:
    """Return the client's session id, or raise `InvalidArgument` where it cannot be one."""
    if (
        isinstance(session_id, str)
        and _SESSION_ID.fullmatch(session_id)
        and session_id not in _MEANT_BY_A_PATH
    ):
        return session_id
    raise InvalidArgument(
        "sessionId",
        expected=f"{SESSION_ID}, neither . nor ..",
        got=_quoted(session_id),
    )


def mint_session_id() -> str:
    """Return a fresh id of 16 lower-case hex digits from a secure source."""
    return secrets.token_hex(8)


def registry_key(tenant_id: str, session_id: str) -> str:
    """Return the registry's id of a tenant's session. Both parts are checked."""
    return f"{check_tenant(tenant_id)}/{check_session_id(session_id)}"


def split(registry_agent: str) -> tuple[str, str]:
    """Return the tenant and the session id that `registry_key` composed."""
    tenant_id, _, session_id = registry_agent.partition("/")
    return check_tenant(tenant_id), check_session_id(session_id)


def _quoted(value: object) -> str:
    if not isinstance(value, str):
        return type(value).__name__
    if len(value) <= _SHOWN_CHARACTERS:
        return repr(value)
    return f"{value[:_SHOWN_CHARACTERS]!r}... ({len(value)} characters)"


def new_reference(kind: Literal["apr", "ask"]) -> str:
    """Return what a new approval, or a new question, is called.

    >>> new_reference("apr")[:4], len(new_reference("ask"))
    ('apr_', 20)
    """
    return f"{kind}_{secrets.token_hex(8)}"
