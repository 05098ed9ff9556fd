"""Who sees what sessions do: metrics, logs, traces, the lists that follow. Each sees all of it.

The gateway gives it to the session service, and whoever wants to see adds itself. An error of one
keeps it from nobody else, and from no session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from frontdesk.agents.events import Event
from frontdesk.records import ExitReason
from frontdesk.sessions.event_log import LoggedEvent
from frontdesk.sessions.hooks import SessionObserver

logger: logging.Logger = logging.getLogger("frontdesk.gateway")


class Observers:
    """A `SessionObserver` that is several. Belongs to one event loop."""

    __slots__ = ("_all", "_failed")

    def __init__(self) -> None:
        self._all: tuple[SessionObserver, ...] = ()
        self._failed: set[SessionObserver] = set()

    def add(self, observer: SessionObserver) -> None:
        """Show it everything from now on."""
        self._all = (*self._all, observer)

    def remove(self, observer: SessionObserver) -> None:
        """Show it nothing more."""
        self._all = tuple(each for each in self._all if each is not observer)
        self._failed.discard(observer)

    def on_started(self, conversation: Any) -> None:
        """Show a session that lives from now on."""
        for each in self._all:
            self._show(each, each.on_started, conversation)

    def on_event(self, conversation: Any, event: Event, logged: LoggedEvent) -> None:
        """Show an event."""
        for each in self._all:
            self._show(each, each.on_event, conversation, event, logged)

    def on_changed(self, conversation: Any) -> None:
        """Show a change of state."""
        for each in self._all:
            self._show(each, each.on_changed, conversation)

    def on_published(self, conversation: Any) -> None:
        """Show that more of a session is stored now."""
        for each in self._all:
            self._show(each, each.on_published, conversation)

    def on_dormant(self, conversation: Any, reason: ExitReason) -> None:
        """Show that a session's agent went, and none follows now."""
        for each in self._all:
            self._show(each, each.on_dormant, conversation, reason)

    def on_loaded(self, conversation: Any) -> None:
        """Show a dormant session that is held from now on."""
        for each in self._all:
            self._show(each, each.on_loaded, conversation)

    def on_unloaded(self, conversation: Any) -> None:
        """Show that a dormant session is held no longer."""
        for each in self._all:
            self._show(each, each.on_unloaded, conversation)

    def on_recovered(self, *, conversations: int, turns: int) -> None:
        """Show how much was brought to rest that another process had left."""
        for each in self._all:
            self._show(each, partial(each.on_recovered, conversations=conversations, turns=turns))

    def _show(self, observer: SessionObserver, show: Callable[..., None], *what: Any) -> None:
        try:
            show(*what)
        except Exception:
            # Once each: it may fail at every event.
            if observer not in self._failed:
                self._failed.add(observer)
                logger.exception("%s failed, and goes on", type(observer).__name__)
