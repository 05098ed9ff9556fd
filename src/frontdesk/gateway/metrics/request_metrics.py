"""Requests, counted when they are over: by route, method and status, and by error where refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from frontdesk.errors import FrontdeskError
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.error_answers import ANSWERS, UNAVAILABLE
from frontdesk.gateway.error_table import row_of
from frontdesk.gateway.metrics.bounded_labels import OTHER
from frontdesk.gateway.metrics.instruments import Distribution, Tally
from frontdesk.gateway.metrics.metric_cells import MetricCells
from frontdesk.gateway.metrics.route_patterns import RoutePatterns
from frontdesk.gateway.paths import Endpoint
from frontdesk.gateway.request_context import RequestContext

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ANSWERED, UNREACHABLE, REFUSED = "answered", "unreachable", "refused"
LEFT = "left"
"""In place of a status: the client left before an answer."""


class RequestMetrics:
    """Count requests. `routes` are known once there is an application."""

    def __init__(self, cells: MetricCells) -> None:
        self.routes: RoutePatterns = RoutePatterns(())
        self._requests = Tally("frontdesk_http_requests_total", cells)
        self._seconds = Distribution("frontdesk_http_request_seconds", cells)
        self._refusals = Tally("frontdesk_refusals_total", cells)
        self._passed_on = Tally("frontdesk_forwards_total", cells)
        self._passed_s = Distribution("frontdesk_forward_seconds", cells)
        self._gaps = Tally("frontdesk_stream_gaps_total", cells)
        self._slow = Tally("frontdesk_slow_readers_total", cells)
        for outcome in (ANSWERED, UNREACHABLE, REFUSED, LEFT):
            self._passed_on.begin(outcome)
        for answer in ANSWERS:
            self._refusals.begin(answer.code)

    def route_of(self, path: str) -> str:
        """Return the route that a path is of, `_other` for none; once there is an application."""
        return self.routes.pattern(path)

    def on_request(self, context: RequestContext) -> None:
        """Count a request that is over."""
        route = self.route_of(context.path)
        method = context.method
        self._requests.add(
            route, method if method in METHODS else OTHER, str(context.status or LEFT)
        )
        if not _stays_open(context):
            self._seconds.observe(perf_counter() - context.started_at, route)
        elif (connection := connection_of(context.scope)) is not None:
            self._slow.add(amount=connection.read_too_slowly)
        if context.refused is not None:
            self._refusals.add(context.refused)

    def on_refused(self, error: str) -> None:
        """Count what was refused, by its error's code."""
        self._refusals.add(error)

    @contextmanager
    def passing_on(self, context: RequestContext) -> Iterator[None]:
        """Count a request that another node is asked to answer, with what comes of it."""
        begun_s, outcome = perf_counter(), ANSWERED
        try:
            yield
        except BaseException as error:
            outcome = _outcome(error)
            raise
        finally:
            self._passed_on.add(outcome)
            if not _stays_open(context):
                self._passed_s.observe(perf_counter() - begun_s)

    def on_gap(self) -> None:
        """Count a stream that could not go on where its client had got to."""
        self._gaps.add()

    def on_slow_reader(self) -> None:
        """Count a stream whose client was so slow that what comes next is not held any more."""
        self._slow.add()


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return LEFT
    refused = isinstance(error, FrontdeskError) and row_of(error).answer is not UNAVAILABLE
    return REFUSED if refused else UNREACHABLE


def _stays_open(context: RequestContext) -> bool:
    if context.websocket:
        return True
    return context.rule.endpoint in (Endpoint.EVENT_STREAM, Endpoint.ROW_STREAM)
