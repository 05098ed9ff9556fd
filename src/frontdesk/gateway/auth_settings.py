"""How callers show who they are, beyond keys: the settings under `[auth]`.

Beside `settings.py`, which has the other tables.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from frontdesk.gateway.setting_types import Setting, Table

MAX_TOKEN_TTL_S = 30 * 86_400


class AuthSettings(Table):
    """Session tokens, and the bearer tokens of an identity provider."""

    token_ttl_s: Annotated[
        int,
        Field(gt=0, le=MAX_TOKEN_TTL_S),
        Setting(
            "the longest life of a session token, and that of one that asks for none", reload=True
        ),
    ] = 3600
