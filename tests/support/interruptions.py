"""A store in the middle of its life, and code that comes in between two lines of its own writes.

A signal handler does, and so does a finalizer that the garbage collector runs, in the very thread
that writes. `Interruption` puts it at every single line, or instruction, that one of `OPERATIONS`
runs through in a `Scene`; `frontdesk`'s own code alone counts.
"""

import asyncio
import concurrent.futures
import os
import sys

import pytest

import frontdesk
from frontdesk import Limits, SessionStore, StoreClosed
from frontdesk.testing import FakeAgent
from support.agents import StillWatcher
from support.control_c import TOOL

PACKAGE = os.path.dirname(frontdesk.__file__)


def of_the_library(code):
    name = code.co_filename
    return name.startswith(PACKAGE) and not name.startswith(f"{PACKAGE}/testing/")


class Interruption:
    """Run something in the middle of an operation: at its n-th line, or instruction, inside."""

    def __init__(self, at, what, event="line"):
        self._left, self._what, self._event = at, what, event
        self.happened = False
        self.place = self.error = None
        # Held here: CPython 3.11 calls a trace function that it has let go of, if the collector
        # runs a finalizer in which the function takes itself off (a TypeError at a `def`).
        self._on_frame, self._on_line = self._enter_frame, self._line

    def __enter__(self):
        if self._event == "opcode" and sys.version_info >= (3, 12):
            # From 3.12 on, not every frame that is asked for its instructions tells of them.
            monitoring, instruction = sys.monitoring, sys.monitoring.events.INSTRUCTION
            monitoring.use_tool_id(TOOL, "interruption")
            monitoring.register_callback(TOOL, instruction, self._instruction)
            monitoring.set_events(TOOL, instruction)
        else:
            sys.settrace(self._on_frame)
        return self

    def __exit__(self, *_):
        self._stop()

    def _stop(self):
        sys.settrace(None)
        if sys.version_info >= (3, 12) and sys.monitoring.get_tool(TOOL):
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.free_tool_id(TOOL)

    def _instruction(self, code, offset):
        if of_the_library(code):
            self._count(f"{code.co_filename}:{code.co_qualname}, {offset}")

    def _enter_frame(self, frame, event, argument):
        if not of_the_library(frame.f_code):
            return None
        frame.f_trace_opcodes = self._event == "opcode"
        return self._on_line

    def _line(self, frame, event, argument):
        if event == self._event:
            self._count(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return self._on_line

    def _count(self, place):
        if not self.happened:
            self._left -= 1
            if self._left == 0:
                self.happened, self.place = True, place
                self._interrupt()

    def _interrupt(self):
        self._stop()
        try:
            self._what()
        except StoreClosed:
            return  # the operation is a close(), and almost done
        except BaseException as error:
            self.error = error


class Scene:
    """A store in the middle of its life, with one of everything for an operation to touch."""

    def __init__(self):
        self.store = SessionStore(
            limits=Limits(per_tenant=50), feed_capacity=1000, watcher=StillWatcher()
        )
        self.loop = asyncio.new_event_loop()
        self.mine, self.victim = FakeAgent("mine"), FakeAgent("victim")
        self.shared, self.finished = self.loop.create_future(), self.loop.create_future()
        self.idle = self.loop.create_future()
        for name, agent in (
            ("mine", self.mine),
            ("victim", self.victim),
            ("shared-1", self.shared),
            ("shared-2", self.shared),
            ("finished", self.finished),
            ("idle", self.idle),
        ):
            self.store.create(name, agent, tenant_id="t", api_key="k")
        self.store.delete("idle")
        self.log = self.store.watch()
        self.log.next(timeout_s=0)
        self.slow = self.store.watch()
        self.finished.set_result(None)

    def close(self):
        self.log.close()
        self.slow.close()
        self.store.close()
        self.loop.close()


OPERATIONS = {
    "create": lambda scene: scene.store.create("new", FakeAgent(), api_key="k"),
    "create a future": lambda scene: scene.store.create("new", scene.loop.create_future()),
    "create a pool's future": lambda scene: scene.store.create("new", concurrent.futures.Future()),
    "create with a registered future": lambda scene: scene.store.create("new", scene.shared),
    "create with an idle agent": lambda scene: scene.store.create("new", scene.idle),
    "create with a registered agent": lambda scene: scene.store.create("new", scene.mine),
    "create with a dead agent": lambda scene: scene.store.create("new", FakeAgent(dead=True)),
    "create in the place of the finished": lambda scene: scene.store.create(
        "finished", FakeAgent()
    ),
    "create a held id": lambda scene: scene.store.create("mine", FakeAgent()),
    "create what nobody knows": lambda scene: scene.store.create("finished", object()),
    "get or create": lambda scene: scene.store.get_or_create("new", FakeAgent),
    "delete": lambda scene: scene.store.delete("mine"),
    "delete a future's": lambda scene: scene.store.delete("shared-1"),
    "delete the finished": lambda scene: scene.store.delete("finished"),
    "delete a missing id": lambda scene: scene.store.delete("nobody"),
    "delete with another fence": lambda scene: scene.store.delete("mine", fence=999),
    "update": lambda scene: scene.store.update("mine", model="m"),
    "update a missing id": lambda scene: scene.store.update("nobody", model="m"),
    "ended": lambda scene: scene.store.ended("finished"),
    "list": lambda scene: scene.store.list(),
    "count": lambda scene: scene.store.count(),
    "count after a loop was closed": lambda scene: (scene.loop.close(), scene.store.count()),
    "watch": lambda scene: scene.store.watch().close(),
    "read": lambda scene: scene.slow.next(timeout_s=0),
    "the end of an agent": lambda scene: scene.mine.end(),
    "the end of a future": lambda scene: (
        scene.shared.cancel(),
        scene.loop.run_until_complete(asyncio.sleep(0)),
    ),
    "close": lambda scene: scene.store.close(),
}


every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
