"""What may stand in a query: the fields of each kind, and the refusal of all others by name.

Below the routes and the streams. Every route refuses what it does not know: dropped in silence, a
misspelt filter would give a whole list to who asked for a part. All mistakes of a query are named
at once. The framework reads the query of the routes that have one (`InPage`); the streams, which
bypass it, and the routes without one are read here, by models of the same kind.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import parse_qsl

from fastapi import Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from frontdesk.agents.events import EVENTS
from frontdesk.agents.ids import SESSION_ID
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.problems import mistakes_of
from frontdesk.sessions.event_reader import SINCE
from frontdesk.sessions.listing import SessionQuery
from frontdesk.sessions.tenant_sessions import MAX_PAGE

EVENT_TYPES = tuple(event.name for event in EVENTS)
MAX_FIELDS = 64
MAX_SHOWN = 40
MAX_DIGITS = 15
MOMENT = "time in milliseconds since 1970, or in ISO 8601, or day YYYY-MM-DD (UTC)"
DAY = r"^\d{4}-\d{2}-\d{2}$"
DAY_OR_NOTHING = r"^(\d{4}-\d{2}-\d{2})?$"
"""As it is described: a value that is empty is none."""

Q = TypeVar("Q", bound="NoQuery")


def known_event_type(name: str) -> str:
    """Return the name of an event's type; refuses what is none."""
    if name not in EVENT_TYPES:
        raise PydanticCustomError(
            "event_type", "there is no event type {name}", {"name": repr(name[:MAX_SHOWN])}
        )
    return name


def _parts(value: Any) -> Any:
    """Take `a,b` for a list, as well as the field more than once; nothing in it for no list."""
    texts = [value] if isinstance(value, str) else value
    parts = [part.strip() for text in texts or () for part in text.split(",")]
    return [part for part in parts if part] or None


def _given(value: Any) -> Any:
    """Take an empty value for none."""
    return value or None


def _is_a_day(text: str | None) -> str | None:
    """Refuse a day that no calendar has."""
    try:
        date.fromisoformat(text or "1970-01-01")
    except ValueError:
        raise PydanticCustomError("day", "is no day of the calendar") from None
    return text


def moment_ms(text: str, *, end: bool = False) -> int:
    """Return a moment in milliseconds since 1970: of a day its beginning, or its `end`.

    `ValueError` for what is none.
    """
    if text.isascii() and text.isdigit():
        return int(text[:MAX_DIGITS])
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if end and len(text) == len("1970-01-01"):
        moment += timedelta(days=1)
    return int(moment.timestamp() * 1000)


def _is_a_moment(text: str | None) -> str | None:
    """Refuse what is no moment."""
    try:
        moment_ms(text or "0")
    except (ValueError, OverflowError):
        raise PydanticCustomError("moment", "is no {wanted}", {"wanted": MOMENT}) from None
    return text


class NoQuery(BaseModel):
    """The query of a route that takes none, and the root of the others."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class PageQuery(NoQuery):
    """Which page of a list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE, description="how many at most")] = 100
    after: Annotated[
        Annotated[str, Field(max_length=512)] | None,
        BeforeValidator(_given),
        Field(description="the last answer's `next`"),
    ] = None


Digits = Annotated[str, Field(pattern=r"^[0-9]{1,19}$", json_schema_extra={"pattern": "^[0-9]*$"})]
Moment = Annotated[str, Field(max_length=40), AfterValidator(_is_a_moment)]


class FenceQuery(NoQuery):
    """Which session of an id."""

    fence: Annotated[
        Digits | None,
        BeforeValidator(_given),
        Field(description="an earlier session of this id, that of this fence"),
    ] = None


class SessionsQuery(PageQuery):
    """Which sessions of a tenant."""

    ended: Annotated[
        bool,
        BeforeValidator(lambda value: value or False),
        Field(alias="kept", description="those that have ended as well"),
    ] = False
    state: Annotated[
        list[Literal["idle", "working", "waiting_approval", "waiting_input", "restarting", "ended"]]
        | None,
        BeforeValidator(_parts),
        Field(description="only in these states, separated by commas"),
    ] = None
    blueprint: Annotated[
        Annotated[str, Field(max_length=256)] | None,
        BeforeValidator(_given),
        Field(description="only of this blueprint"),
    ] = None
    label: Annotated[
        Annotated[str, Field(max_length=200)] | None,
        BeforeValidator(_given),
        Field(description="only with this label"),
    ] = None
    first: Annotated[
        Moment | None,
        BeforeValidator(_given),
        Field(alias="from", description=f"opened then or later: {MOMENT}"),
    ] = None
    last: Annotated[
        Moment | None,
        BeforeValidator(_given),
        Field(alias="to", description=f"opened before then, on this day or before: {MOMENT}"),
    ] = None

    def asked(self, *, after: int) -> SessionQuery:
        """Return what is asked for, after the session of this number."""
        return SessionQuery(
            limit=self.limit,
            after=after,
            ended=self.ended,
            states=frozenset(self.state or ()),
            blueprint=self.blueprint,
            label=self.label,
            from_ms=None if self.first is None else moment_ms(self.first),
            to_ms=None if self.last is None else moment_ms(self.last, end=True),
        )


class MeterQuery(PageQuery):
    """Which sums of the meter, and of which days (in UTC, both included)."""

    by: Annotated[
        list[Literal["day", "model", "key"]] | None,
        BeforeValidator(_parts),
        Field(description="sum apart by these, separated by commas"),
    ] = None
    first: Annotated[
        Annotated[str, Field(pattern=DAY, json_schema_extra={"pattern": DAY_OR_NOTHING})] | None,
        BeforeValidator(_given),
        AfterValidator(_is_a_day),
        Field(alias="from", description="the first day, YYYY-MM-DD"),
    ] = None
    last: Annotated[
        Annotated[str, Field(pattern=DAY, json_schema_extra={"pattern": DAY_OR_NOTHING})] | None,
        BeforeValidator(_given),
        AfterValidator(_is_a_day),
        Field(alias="to", description="the last day, YYYY-MM-DD"),
    ] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first is not None and self.last is not None and self.first > self.last:
            raise PydanticCustomError("days", "from is after to")
        return self

    @property
    def ever(self) -> bool:
        """Say whether all days are asked for."""
        return self.first is None and self.last is None


class StreamQuery(NoQuery):
    """Where a stream begins, and what of it is sent."""

    since: Annotated[
        Annotated[str, Field(pattern=f"^({SINCE})?$")] | None,
        BeforeValidator(_given),
        Field(description="an event's id or a bare index: the stream goes on after it"),
    ] = None
    types: Annotated[
        list[
            Annotated[
                str,
                AfterValidator(known_event_type),
                Field(json_schema_extra={"enum": [*EVENT_TYPES]}),
            ]
        ]
        | None,
        BeforeValidator(_parts),
        Field(description="only these types of events, separated by commas"),
    ] = None
    api_key: Annotated[
        str | None, Field(description="the key, where a browser can set no header")
    ] = None

    @property
    def wanted(self) -> frozenset[str] | None:
        """Return the types as a set, None for all."""
        return None if self.types is None else frozenset(self.types)


class EventStreamQuery(StreamQuery):
    """The query of an event stream: in which form its events come, too."""

    envelope: Annotated[
        bool,
        BeforeValidator(lambda value: value or False),
        Field(description="send `{event, data, index}` as messages without a name"),
    ] = False


class ImportQuery(NoQuery):
    """Under which id a session is read in."""

    session_id: Annotated[
        Annotated[str, Field(pattern=f"^{SESSION_ID}$")] | None,
        BeforeValidator(_given),
        Field(alias="sessionId", description="in place of its own"),
    ] = None


InImport = Annotated[ImportQuery, Query()]
InPage = Annotated[PageQuery, Query()]
InSessionsQuery = Annotated[SessionsQuery, Query()]
InFence = Annotated[FenceQuery, Query()]
InMeterQuery = Annotated[MeterQuery, Query()]
InStreamQuery = Annotated[StreamQuery, Query()]
InEventStreamQuery = Annotated[EventStreamQuery, Query()]


def query_of(query: bytes, kind: type[Q]) -> Q:
    """Return the query of a request as one of its kind; `MalformedRequest` names every mistake."""
    given: dict[str, Any] = {}
    if query:
        try:
            fields = parse_qsl(
                query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS
            )
        except ValueError:
            raise MalformedRequest(f"the query has more than {MAX_FIELDS} fields") from None
        for name, value in fields:
            before = given.get(name)
            # As in a list of the framework's: a filter may be written twice, or with commas.
            given[name] = value if before is None or name != "types" else f"{before},{value}"
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise MalformedRequest(mistakes_of(found, whole="the query")) from None
