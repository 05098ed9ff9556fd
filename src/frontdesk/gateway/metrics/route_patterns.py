"""Which route a path is of, as the API description writes it: `/v1/sessions/{sessionId}`.

A tree of the segments of all routes, walked once for each request: what no route has is `_other`,
so that whoever tries paths makes no series of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from frontdesk.gateway.metrics.bounded_labels import OTHER

_PARAMETER = re.compile(r"{(\w+)(?::(\w+))?}")


class _Segment:
    __slots__ = ("fixed", "pattern", "rest", "variable")

    def __init__(self) -> None:
        self.fixed: dict[str, _Segment] = {}
        self.variable: _Segment | None = None
        self.pattern: str | None = None
        self.rest: str | None = None
        """The pattern of everything below."""


class RoutePatterns:
    """Find the pattern of a path among those of the application."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._root = _Segment()
        for path in paths:
            self._add(path)

    def _add(self, path: str) -> None:
        pattern = _PARAMETER.sub(lambda found: f"{{{_camel(found[1])}}}", path)
        at = self._root
        for segment in path.split("/")[1:]:
            parameter = _PARAMETER.fullmatch(segment)
            if parameter is None:
                at = at.fixed.setdefault(segment, _Segment())
            elif parameter[2] == "path":
                at.rest = pattern
                return
            else:
                at.variable = at = at.variable or _Segment()
        at.pattern = pattern

    def pattern(self, path: str) -> str:
        """Return it; `_other` for what no route has."""
        at, rest = self._root, None
        for segment in path.split("/")[1:]:
            rest = at.rest or rest
            below = at.fixed.get(segment) or at.variable
            if below is None:
                return rest or OTHER
            at = below
        return at.pattern or rest or OTHER


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.title() for each in others)
