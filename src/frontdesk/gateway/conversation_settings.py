"""The table of conversations: where they are stored, for how long, and what is done if that fails.

Its field names are those of `frontdesk.toml`; see `settings.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from frontdesk.gateway.setting_types import Positive, Seconds, Setting, Table, matching

MEMORY, SQLITE = "memory", "sqlite"


def _has_no_password(store: str) -> str:
    if re.match(r"[^/]*://[^/@]*:[^/@]*@|.*[?&]password=", store):
        raise ValueError("has a password in it, which belongs into a file: password_file")
    return store


Store = Annotated[
    str,
    AfterValidator(_has_no_password),
    matching(
        r"sqlite|memory|postgres(ql)?://\S+",
        "conversations are stored in sqlite, memory, or postgresql://host/database",
    ),
]


class ConversationSettings(Table):
    """Where conversations are stored, and for how long."""

    store: Annotated[
        Store,
        Setting(
            "`sqlite`: in the state directory; `postgresql://…`: for several machines; `memory`: "
            "nowhere, so that a restart ends every conversation"
        ),
    ] = "sqlite"
    password_file: Annotated[
        Path | None, Setting("a file with the password of the database's account, and nothing else")
    ] = None
    sync: Annotated[
        Literal["always", "edges"],
        Setting(
            "`always` syncs every commit to the disk; `edges` all but the pieces of messages, of "
            "which a power loss may then take the last"
        ),
    ] = "always"
    commit_interval_ms: Annotated[
        int,
        Field(ge=0, le=1000),
        Setting("how often what was said is committed where no answer waits for it"),
    ] = 10
    retention_days: Annotated[
        float,
        Field(gt=0, le=36_500),
        Setting("how long a conversation is stored after it was last used", reload=True),
    ] = 30
    max_mb: Annotated[
        Positive,
        Setting("of one conversation; beyond it its oldest events go", reload=True),
    ] = 64
    kept_per_tenant: Annotated[
        Positive, Setting("stored conversations of a tenant; one more is 429", reload=True)
    ] = 10_000
    encrypt: Annotated[
        bool,
        Setting("whether texts are encrypted as well; options and callback tools always are"),
    ] = False
    keys: Annotated[
        Path | None,
        Setting(
            "where the tenants' keys for that are, apart from the conversations: a directory that "
            "all nodes see; else in the state directory, and with PostgreSQL in the database"
        ),
    ] = None
    reserve_mb: Annotated[
        int,
        Field(ge=0, le=1024),
        Setting("a file that is freed where the disk is full, so that turns can be ended"),
    ] = 16
    storage_patience_s: Annotated[
        Seconds,
        Setting("how long turns wait for a storage that takes nothing, before they are ended"),
    ] = 30.0
    resume_at_once: Annotated[
        Positive, Setting("conversations that get an agent at the same time after a start")
    ] = 4
