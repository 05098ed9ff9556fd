"""Which rows are asked for: one filter for the feeds and the lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from frontdesk.agents.ids import SESSION_ID
from frontdesk.gateway.queries import NoQuery
from frontdesk.schemas.row_schemas import SessionRow

MAX_POSITION = 4096
"""An event's id names how far each node's changes have been told: so many characters at most."""

Text = Annotated[
    Annotated[str, Field(min_length=1, max_length=256)] | None,
    BeforeValidator(lambda value: value or None),
]
Sort = Literal["created", "-created", "activity", "-activity", "tokens", "-tokens", "cost", "-cost"]
SORT_KEYS: dict[str, Callable[[SessionRow], float]] = {
    "created": lambda row: row.created_at,
    "activity": lambda row: row.last_activity_at,
    "tokens": lambda row: row.tokens,
    "cost": lambda row: row.cost_usd,
}


class RowQuery(NoQuery):
    """Which sessions: those that are as each of the fields says."""

    key_id: Annotated[Text, Field(alias="keyId", description="opened with this key")] = None
    blueprint: Text = None
    model: Text = None
    state: Annotated[
        Literal[
            "idle",
            "working",
            "waiting_approval",
            "waiting_input",
            "restarting",
            "dormant",
            "stopping",
            "suspect",
        ]
        | None,
        BeforeValidator(lambda value: value or None),
        Field(description="what it is doing"),
    ] = None
    node: Annotated[Text, Field(description="the node that it is on")] = None
    older_than: Annotated[
        Annotated[int, Field(ge=0, lt=2**31)] | None,
        BeforeValidator(lambda value: value or None),
        Field(alias="olderThan", description="opened at least this many seconds ago"),
    ] = None
    prefix: Annotated[
        Annotated[str, Field(pattern=f"^({SESSION_ID})?$")] | None,
        BeforeValidator(lambda value: value or None),
        Field(description="its id begins with this"),
    ] = None

    @property
    def narrow(self) -> bool:
        """Whether there are sessions that it leaves out."""
        return any(getattr(self, name) is not None for name in FILTERS)

    def takes(self, row: SessionRow, *, now_ms: int) -> bool:
        """Say whether a row is asked for."""
        return (
            (self.key_id is None or row.key_id == self.key_id)
            and (self.blueprint is None or row.blueprint == self.blueprint)
            and (self.model is None or row.model == self.model)
            and (self.state is None or row.state == self.state)
            and (self.node is None or row.node == self.node)
            and (self.prefix is None or row.session_id.startswith(self.prefix))
            and (self.older_than is None or now_ms - row.created_at >= self.older_than * 1000)
        )


class FeedQuery(RowQuery):
    """Which sessions a feed follows, and where it goes on."""

    since: Annotated[
        Annotated[str, Field(max_length=MAX_POSITION)] | None,
        BeforeValidator(lambda value: value or None),
        Field(description="an event's id: the feed goes on after it"),
    ] = None
    api_key: Annotated[
        str | None, Field(description="the key, where a browser can set no header")
    ] = None


class TenantOfOperator(NoQuery):
    """Whose sessions an operator asks for."""

    tenant: Annotated[Text, Field(description="of this tenant alone")] = None


class OperatorFeedQuery(FeedQuery, TenantOfOperator):
    """Which sessions of all tenants a feed follows, and where it goes on."""


FILTERS = ("key_id", "blueprint", "model", "state", "node", "older_than", "prefix")
