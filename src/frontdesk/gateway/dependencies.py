"""What a route may ask for: the sessions of the key that came in, its tenant's, and nothing wider.

Between the routes and the middleware, which has let the key in. A route has no other way to a
session than the `TenantSessions` from here; that is the whole of tenant isolation above the
registry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, get_type_hints

import msgspec
from fastapi import Depends, Path
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from frontdesk.agents.ids import SESSION_ID
from frontdesk.agents.values import MAX_VALUES, TooManyValues, read_json
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.errors import TooLarge
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.paths import PathRule, match_path
from frontdesk.gateway.queries import InFence, NoQuery, query_of
from frontdesk.gateway.request_context import context_of, require
from frontdesk.schemas.answer_schemas import Answer
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.tenant_sessions import TenantSessions


async def tenant_sessions(request: Request) -> TenantSessions:
    """Return the sessions that the request's key opens."""
    return context_of(request.scope).tenant_sessions


async def tenant_key(request: Request) -> Caller:
    """Return who was let in."""
    return context_of(request.scope).tenant_key


async def live_conversation(request: Request, session_id: SessionIdInPath) -> Conversation:
    """Return the live session that the path names."""
    return context_of(request.scope).tenant_sessions.find(session_id)


async def earlier_conversation(
    request: Request, session_id: SessionIdInPath, query: InFence
) -> Conversation:
    """Return the live session that the path names, or the one of it that has a fence."""
    sessions = context_of(request.scope).tenant_sessions
    if query.fence is None:
        return sessions.find(session_id)
    return await sessions.earlier(session_id, fence=int(query.fence))


def gateway_of(request: Request) -> Gateway:
    """Return what all requests share, without the framework's detour by a dependency."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def the_gateway(request: Request) -> Gateway:
    """Return what all requests share."""
    return gateway_of(request)


SessionIdInPath = Annotated[
    str,
    Path(
        alias="sessionId",
        description=f"`{SESSION_ID}`, neither `.` nor `..`",
        json_schema_extra={"pattern": f"^{SESSION_ID}$"},
        examples=["support-42"],
    ),
]
InSessions = Annotated[TenantSessions, Depends(tenant_sessions)]
InKey = Annotated[Caller, Depends(tenant_key)]
InConversation = Annotated[Conversation, Depends(live_conversation)]
InEarlierConversation = Annotated[Conversation, Depends(earlier_conversation)]
InGateway = Annotated[Gateway, Depends(the_gateway)]


class JsonRequest(Request):
    """A request whose body is JSON in UTF-8; the framework's own takes UTF-16 and UTF-32 as well.

    `NaN` and `Infinity` are refused with the field that has them (`body_schemas.py`).
    """

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                self._json = read_json(body, constants=True)
            except TooManyValues:
                problem = str(TooLarge("body", limit=MAX_VALUES, unit="values"))
                raise HTTPException(413, problem) from None
        return self._json


class GatewayRoute(APIRoute):
    """A route that answers only where the middleware has granted the right that its path needs.

    The middleware goes by the path of the request, the router by the routes: wherever they should
    ever disagree (a prefix, another middleware in between, none), nothing is answered. One that
    takes no query is answered only without one.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.rule: PathRule = match_path(path).rule
        kinds = get_type_hints(endpoint).values()
        asked_for = get_type_hints(endpoint, include_extras=True).values()
        self._takes_query = InEarlierConversation in asked_for or any(
            isinstance(each, type) and issubclass(each, NoQuery) for each in kinds
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_strictly(request: Request) -> Response:
            return await answer(JsonRequest(request.scope, request.receive))

        return answer_strictly

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = scope["method"] in (self.methods or ())
        require(scope, self.rule, scope["method"] if answers else None)
        query: bytes = scope["query_string"]
        if query and answers and not self._takes_query:
            query_of(query, NoQuery)
        await super().handle(scope, receive, send)


class SessionRoute(GatewayRoute):
    """A route under a session's path.

    One that asks for nothing but the conversation gets it directly, as long as no fence is asked
    for: the framework's way to find its parameters costs as much as all the rest of such a request.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        answer_any = self.app

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"]:
                await answer_any(scope, receive, send)
                return
            conversation = context_of(scope).tenant_sessions.find(scope["path_params"]["sessionId"])
            response: Response = await endpoint(conversation)
            await response(scope, receive, send)

        if list(inspect.signature(endpoint).parameters) == ["conversation"]:
            self.app = answer


def encoded(answer: Answer, *, status: int = 200, location: str | None = None) -> Response:
    """Return an answer in JSON; `location` is where the thing is that was made."""
    return Response(
        msgspec.json.encode(answer),
        status_code=status,
        media_type="application/json",
        headers=None if location is None else {"Location": location},
    )


def location_of(request: Request, path: str) -> str:
    """Return where a path of ours is for the client that asks: below whatever prefix there is."""
    gateway = gateway_of(request)
    base = gateway.config.server.public_url or gateway.proxies.prefix(request.scope)
    return base.rstrip("/") + path
