"""The dashboard: its page and files, which everybody may have, and who is logged in to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from frontdesk import __version__
from frontdesk.gateway.body_schemas import LoginBody
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.dashboard_files import GZIP, PAGE, POLICY, ServedFile, dashboard_files
from frontdesk.gateway.dashboard_login import cookie_name, from_own_page, set_cookie
from frontdesk.gateway.dependencies import GatewayRoute, InGateway, encoded
from frontdesk.gateway.errors import LoginUnsafe, MalformedRequest
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.openapi import answers, problems
from frontdesk.gateway.paths import path_of
from frontdesk.gateway.problems import no_such_route
from frontdesk.gateway.request_context import RequestContext, context_of
from frontdesk.gateway.scopes import in_order
from frontdesk.schemas.operator_schemas import LoggedIn

router: APIRouter = APIRouter(tags=["dashboard"], route_class=GatewayRoute)

ME = LoggedIn(
    key_id="env:ci",
    tenant_id="acme",
    operator=False,
    scopes=("read", "prompt"),
    expires_at=1795339800000,
    version=__version__,
    reads_text=True,
)

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}

files_of_the_dashboard: Callable[[], Mapping[str, ServedFile]] = cache(dashboard_files)


@router.post(
    "/dashboard/login",
    operation_id="logIn",
    responses={**answers(ME), **problems("login_unsafe")},
)
async def log_in(request: Request, gateway: InGateway, body: LoginBody) -> Response:
    """Log a browser in with a key: it gets a cookie for 12 hours, which no page can read.

    The cookie ends with the key. Without TLS it is given on loopback only.
    """
    name = cookie_name(gateway.base_url(request.scope))
    if name is None:
        # First: where it is not safe, browsers do not say which page asks either.
        raise LoginUnsafe
    context = own_page(request)
    caller = gateway.authenticator.log_in(context, key=body.key, code=body.code)
    now_ms = gateway.clock.wall_ms()
    value, expires_at = gateway.authenticator.logins.make(caller, now_ms=now_ms)
    answer = logged_in(gateway, caller, expires_at)
    max_age_s = (expires_at - now_ms) // 1000
    answer.headers["Set-Cookie"] = set_cookie(name, value, max_age_s=max_age_s)
    return answer


@router.post(
    "/dashboard/logout", operation_id="logOut", status_code=204, responses=problems("bad_request")
)
async def log_out(request: Request, gateway: InGateway) -> Response:
    """Take the cookie away, by the dashboard's own page."""
    own_page(request)
    name = cookie_name(gateway.base_url(request.scope))
    answer = Response(status_code=204)
    if name is not None:
        answer.headers["Set-Cookie"] = set_cookie(name, "", max_age_s=0)
    return answer


@router.get(
    "/dashboard/me",
    operation_id="getLogin",
    responses={**answers(ME), 204: {"description": "nobody is logged in"}},
)
async def me(request: Request, gateway: InGateway) -> Response:
    """Say who is logged in; nothing where nobody is."""
    caller = gateway.authenticator.logged_in(context_of(request.scope))
    if caller is None:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    return logged_in(gateway, caller, caller.expires_at)


def own_page(request: Request) -> RequestContext:
    """Return the request of the dashboard's own page; any other is refused.

    Another page could log its reader in as somebody else, or out.
    """
    context = context_of(request.scope)
    if not from_own_page(context):
        raise MalformedRequest(
            "a browser logs in and out by the dashboard's own page (`Sec-Fetch-Site: same-origin` "
            "and the header `X-Frontdesk`); programs show their key with each request"
        )
    return context


def logged_in(gateway: Gateway, caller: Caller, expires_at: int | None) -> Response:
    """Say whose key opens, until when, and what it may do."""
    operator = caller.tenant_id is None
    answer = encoded(
        LoggedIn(
            key_id=caller.key_id,
            tenant_id=caller.tenant_id,
            operator=operator,
            scopes=tuple(each.value for each in in_order(caller.scopes)),
            expires_at=expires_at,
            version=__version__,
            reads_text=not operator or gateway.config.server.operators_read_text,
        )
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """Return the page."""
    return _file(request, PAGE)


@router.get("/dashboard/{path:path}", include_in_schema=False)
async def file(request: Request, path: Annotated[str, Path()]) -> Response:
    """Return one of its files; the page has one address only, by which it finds the others."""
    return _file(request, path if path != PAGE else "")


def _file(request: Request, path: str) -> Response:
    found = files_of_the_dashboard().get(path)
    if found is None:
        return no_such_route(request.method, path_of(request.scope)).response
    headers = {**HEADERS, "ETag": found.etag}
    if found.is_known(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    content = found.content
    if GZIP.search(request.headers.get("accept-encoding", "")):
        content, headers["Content-Encoding"] = found.compressed, "gzip"
    return Response(content, media_type=found.media_type, headers=headers)
