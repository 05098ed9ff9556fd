"""Several see what sessions do: all of it, whatever becomes of one of them."""

import logging
from types import SimpleNamespace

from frontdesk.gateway.observers import Observers


class Seeing:
    def __init__(self, error=None):
        self.seen, self.error = [], error

    def on_started(self, conversation):
        self.seen.append(conversation)
        if self.error:
            raise self.error

    def on_event(self, conversation, event, logged):
        self.on_started(event)

    def on_changed(self, conversation):
        self.on_started(conversation)

    def on_published(self, conversation):
        """See nothing new: it was seen as it happened."""

    def on_dormant(self, conversation, reason):
        self.on_started(reason)

    def on_loaded(self, conversation):
        self.on_started(conversation)

    def on_unloaded(self, conversation):
        self.on_started(conversation)

    def on_recovered(self, *, conversations, turns):
        self.on_started((conversations, turns))


def test_one_that_fails_keeps_nothing_from_the_others_and_is_logged_once(caplog):
    observers, failing, seeing = Observers(), Seeing(ValueError("on purpose")), Seeing()
    observers.add(failing)
    observers.add(seeing)
    with caplog.at_level(logging.ERROR):
        observers.on_started("s")
        observers.on_event("s", "event", SimpleNamespace())
        observers.on_changed("s")
        observers.on_dormant("s", "reason")
        observers.on_loaded("loaded")
        observers.on_unloaded("unloaded")
        observers.on_recovered(conversations=2, turns=1)
    seen = ["s", "event", "s", "reason", "loaded", "unloaded", (2, 1)]
    assert seeing.seen == failing.seen == seen
    assert [each.message for each in caplog.records] == ["Seeing failed, and goes on"]


def test_one_that_was_removed_sees_nothing_more():
    observers, seeing = Observers(), Seeing()
    observers.add(seeing)
    observers.remove(seeing)
    observers.on_started("s")
    assert seeing.seen == []
