"""Holds 8 and 12 at their hardest: code that comes in between two lines of the store's own writes,
in the same thread, as a signal handler or finalizer does. It comes at every one of them.
"""

import contextlib
import itertools

import pytest

from frontdesk import (
    Change,
    FrontdeskError,
    ReentrantWrite,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.testing import FakeAgent
from support.interruptions import OPERATIONS, Interruption, Scene, every_operation
from support.leftovers import assert_indexes_agree, leftovers


def interrupt_everywhere(operation, interrupt, check=lambda scene: None, *, event="line"):
    """Interrupt an operation at each of its lines in turn, and check the scene after each."""
    for at in itertools.count(1):
        with contextlib.closing(Scene()) as scene:
            interruption = Interruption(at, lambda scene=scene: interrupt(scene), event)
            try:
                with contextlib.suppress(FrontdeskError), interruption:
                    operation(scene)
                if not interruption.happened:
                    assert at > 1, "the operation was never inside the store"
                    return
                if interruption.error is not None:
                    raise interruption.error
                assert_in_order(scene)
                check(scene)
            except BaseException as error:
                error.add_note(f"interrupted at {interruption.place}")
                raise


def assert_in_order(scene):
    """Check that the indexes agree, and that the feed tells one whole and possible story."""
    assert leftovers(scene.store)["deferred"] == 0
    assert_indexes_agree(scene.store)
    living = {"mine", "victim", "shared-1", "shared-2", "finished"}
    revision = 7
    for change in heard(scene.log):
        assert change.revision == (revision := revision + 1)
        name = change.session.session_id
        assert (name in living) == (change.kind != "created"), change
        (living.discard if change.kind == "ended" else living.add)(name)
    assert revision == scene.store.revision
    assert living == set(scene.store._core.entries)


def heard(watch):
    while True:
        try:
            item = watch.next(timeout_s=0)
        except (TimeoutError, StopIteration):
            return
        assert isinstance(item, Change)
        yield item


@every_operation
def test_a_delete_that_interrupts_is_carried_out(operation):
    def check(scene):
        assert scene.victim.watched_by == 0
        if not scene.store.closed:
            assert "victim" not in scene.store
            assert str(scene.store.ended("victim").reason) == "deleted"

    interrupt_everywhere(operation, lambda scene: scene.store.delete("victim"), check)


@every_operation
def test_deletes_and_ends_that_interrupt_between_two_instructions_are_carried_out(operation):
    def interrupt(scene):
        scene.store.delete("victim")
        scene.mine.end()

    def check(scene):
        assert "victim" not in scene.store._core.entries
        assert all(one.agent is not scene.mine for one in scene.store._core.entries.values())

    interrupt_everywhere(operation, interrupt, check, event="opcode")


@every_operation
def test_a_delete_of_the_very_session_is_carried_out_before_or_after(operation):
    def delete_all(scene):
        for name in ("mine", "new", "shared-1", "finished"):
            scene.store.delete(name)

    interrupt_everywhere(operation, delete_all)


@every_operation
def test_an_end_that_interrupts_is_taken(operation):
    def check(scene):
        assert "victim" not in scene.store._core.entries

    interrupt_everywhere(operation, lambda scene: scene.victim.end(), check)


@every_operation
def test_the_end_of_the_very_agent_is_taken(operation):
    def check(scene):
        assert all(one.agent is not scene.mine for one in scene.store._core.entries.values())

    interrupt_everywhere(operation, lambda scene: scene.mine.end(), check)


@every_operation
def test_a_close_that_interrupts_is_carried_out(operation):
    def check(scene):
        assert scene.store.closed
        assert scene.mine.watched_by == scene.victim.watched_by == 0
        with pytest.raises(StoreClosed):
            scene.store.list()

    interrupt_everywhere(operation, lambda scene: scene.store.close(), check)


@every_operation
def test_a_question_that_interrupts_is_answered(operation):
    def ask(scene):
        with contextlib.suppress(StoreClosed):
            assert scene.store.count() >= 0
            assert str(scene.store.ended("idle").reason) == "deleted"
            for one in (*scene.store.list(), *scene.store.list_by_tenant("t")):
                assert one.session_id
            assert scene.store.get("victim").agent is scene.victim
            assert "victim" in scene.store
            with pytest.raises(SessionNotFound):
                scene.store.get("nobody")

    def ask_politely(scene):
        with contextlib.suppress(SessionNotFound):  # in the middle of close(), it is gone
            ask(scene)

    closing = operation is OPERATIONS["close"]
    interrupt_everywhere(operation, ask_politely if closing else ask)


@every_operation
def test_a_write_that_has_to_answer_is_answered_or_refused(operation):
    def write(scene):
        agent = FakeAgent("interrupting")
        for asking in (
            lambda: scene.store.create("interrupting", agent),
            lambda: scene.store.update("victim", model="m"),
            lambda: scene.store.get_or_create("victim", FakeAgent),
            lambda: scene.store.watch().close(),
        ):
            try:
                asking()
            except (ReentrantWrite, StoreClosed):
                assert agent.watched_by <= 1

    interrupt_everywhere(operation, write)


def test_an_interruption_is_refused_only_where_a_write_is_under_way(store):
    """ReentrantWrite is for interruptions: no callback, watcher or thread ever sees it."""
    agent = FakeAgent()
    agent.add_exit_callback(lambda _: store.create("a", FakeAgent()))
    store.create("s", agent)
    agent.add_exit_callback(lambda _: store.create("b", FakeAgent()))
    agent.end()
    assert {one.session_id for one in store.list()} == {"a", "b"}
