"""The application: the routes under one roof, their errors, and the API description.

Below the middleware, above the routes. `create_app` gives an ASGI application that any server can
run; `server.py` runs it with the bounds and the shutdown of the contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from frontdesk import __version__
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.metrics.route_patterns import RoutePatterns
from frontdesk.gateway.middleware import GatewayMiddleware
from frontdesk.gateway.openapi import describe
from frontdesk.gateway.paths import path_of
from frontdesk.gateway.problems import Problem, no_such_route, problem_of, wrong_method
from frontdesk.gateway.request_context import SCOPE_KEY, RequestContext
from frontdesk.gateway.routes import (
    answers,
    dashboard,
    description,
    feeds,
    health,
    last_ends,
    offers,
    operations,
    operator_sessions,
    portable_sessions,
    reading,
    session_checkpoints,
    sessions,
    streams,
    tokens,
    tools,
    turns,
    usage,
    usage_of_all,
)

ROUTERS = (
    sessions,
    portable_sessions,
    turns,
    answers,
    reading,
    session_checkpoints,
    streams,
    tokens,
    tools,
    offers,
    usage,
    usage_of_all,
    last_ends,
    feeds,
    health,
    operations,
    operator_sessions,
    dashboard,
    description,
)


def create_app(gateway: Gateway, *, log: AccessLog | None = None) -> GatewayMiddleware:
    """Return the ASGI application of a gateway; its lifespan opens and closes the gateway."""
    return GatewayMiddleware(make_routes(gateway), gateway=gateway, log=log or AccessLog(None))


def make_routes(gateway: Gateway) -> FastAPI:
    """Return the routes without the middleware; nobody gets past them without one."""
    app = FastAPI(
        title="Frontdesk",
        version=__version__,
        summary=health.CARD.description,
        lifespan=_lifespan,
        openapi_url=None,
        redirect_slashes=False,
        # Its newer versions have spans, metrics and logs of their own: spans twice, and the texts
        # of errors and of bodies that are wrong. Older ones keep this and do nothing with it.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        exception_handlers={
            FrontdeskError: _on_error,
            RequestValidationError: _on_error,
            HTTPException: _on_http_exception,
        },
    )
    app.state.gateway = gateway
    # As they are, not by `include_router`: that would have every request try each router.
    app.router.routes[:0] = [route for module in ROUTERS for route in module.router.routes]
    describe(app)
    paths = (each.path for each in app.routes if isinstance(each, Route))
    gateway.metrics.requests.routes = RoutePatterns(paths)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if app.state.gateway.open:
        # Our own server has opened it already, and closes it.
        yield
        return
    async with app.state.gateway:
        yield


async def _on_error(request: Request, error: Exception) -> Response:
    return _refused(request, problem_of(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _refused(request, no_such_route(request.method, path_of(request.scope)))
    if error.status_code == 405:
        response = _refused(request, wrong_method(request.method, path_of(request.scope)))
        # The framework names the verbs of the first route of a path only; a path may have several.
        routes = [route for module in ROUTERS for route in module.router.routes]
        methods: set[str] = set()
        for route in (*request.app.routes, *routes):
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
                methods |= route.methods or set()
        if "GET" in methods:
            methods.add("HEAD")
        response.headers["Allow"] = ", ".join(sorted(methods))
        return response
    return _refused(request, problem_of(error))


def _refused(request: Request, problem: Problem) -> Response:
    """Return the answer; the request's context takes note of what it was refused with."""
    context = request.scope.get(SCOPE_KEY)
    if isinstance(context, RequestContext):
        context.refused = problem.refusal.error
    return problem.response
