"""The keeper's children: how each begins and ends, and what happens to the orphans that it leaves.

Every process that an agent leaves behind becomes a child of the keeper (it is a child subreaper),
in one step with its parent's death. So a child process of the keeper that is neither an agent nor a
fork server is an orphan: it may live while the agent that it descends from does, and is killed
after.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from frontdesk.keeper.journal import Journal, Known
from frontdesk.keeper.messages import Exited, Gone, KeeperEvent, Refused, Started
from frontdesk.keeper.procfs import (
    children_of,
    counter_tag_for,
    counter_tag_of,
    stat_of,
    tag_for,
    tag_of,
    untag,
)


class ChildState(Enum):
    """How far the life of a child has come: each state is followed by the next, none comes back."""

    FORKING = auto()
    """Asked of a fork server, which has not reported yet which process it is."""
    CONFINING = auto()
    """There is a process, not yet bounded and not yet running the agent."""
    RUNNING = auto()
    """It runs."""
    EXITED = auto()
    """Its own process is reaped, descendants may be left."""


@dataclass(slots=True)
class Child:
    """What the keeper knows of one agent process, from the request to the last descendant's end.

    `deadline` is when its ending stops being polite; `asked` and `killed` say what was sent to its
    group; `refused` that the gateway has the report that it never ran.
    """

    child_id: int
    tag: int
    counter_tag: int
    state: ChildState = ChildState.FORKING
    pid: int = 0
    start_time: int = 0
    deadline: float | None = None
    asked: bool = False
    killed: bool = False
    refused: bool = False

    def in_grace(self, now: float) -> bool:
        """Say whether what is left of it may still end by itself."""
        return self.deadline is not None and now < self.deadline

    @property
    def can_be_killed(self) -> bool:
        # While its fork server has not reported which process it is, there is nobody to kill.
        return not self.killed and self.state is not ChildState.FORKING

    def signal(self, number: int) -> None:
        # One that is not confined yet still has its fork server's group, which is not ours to end.
        send = os.killpg if self.state is ChildState.RUNNING else os.kill
        with suppress(ProcessLookupError, PermissionError):
            send(self.pid, number)


class Children:
    """Hold the children of one gateway; `send_event` reports to it. Nothing here waits."""

    def __init__(
        self, send_event: Callable[[KeeperEvent], None], *, run: int, journal: Journal
    ) -> None:
        self._send_event = send_event
        self._run = run
        self._journal = journal
        self._by_id: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self._owners: dict[int, int | None] = {}
        self._asked: set[int] = set()

    # -- from the request to the run -----------------------------------------------------------

    def open(self, child_id: int) -> Child:
        """Make the record of a child that was asked for."""
        child = self._by_id[child_id] = Child(
            child_id, tag_for(self._run, child_id), counter_tag_for(child_id)
        )
        return child

    def on_forked(self, child_id: int, pid: int) -> None:
        """Keep which process a child is."""
        child = self._by_id[child_id]
        child.state, child.pid = ChildState.CONFINING, pid
        self._by_pid[pid] = child

    def on_running(self, child_id: int) -> None:
        """Report a child as running, and end it where that was asked for meanwhile."""
        child = self._by_id[child_id]
        child.state = ChildState.RUNNING
        # It is our child and not reaped, so the pid is its own, be it dead already.
        stat = stat_of(child.pid)
        child.start_time = stat.start_time if stat is not None else 0
        self._journal.add(Known(child.pid, child.start_time))
        self._send_event(Started(child_id, child.pid, child.start_time))
        if child.deadline is not None:
            self._ask_to_end(child)

    def refuse(self, child_id: int, stage: str, text: str) -> None:
        """Report that a child never ran. Its process, where there is one, has yet to be reaped."""
        child = self._by_id[child_id]
        self._send_event(Refused(child_id, stage, text))
        child.refused = True
        if child.state is ChildState.FORKING:
            del self._by_id[child_id]

    # -- ending --------------------------------------------------------------------------------

    def end(self, child_id: int, grace_s: float) -> None:
        """Ask a child to end; `expire` and `sweep` do the rest. The earlier grace counts."""
        child = self._by_id.get(child_id)
        if child is None:
            self._send_event(Gone(child_id))
            return
        deadline = time.monotonic() + grace_s
        child.deadline = deadline if child.deadline is None else min(deadline, child.deadline)
        if child.state is ChildState.RUNNING:
            self._ask_to_end(child)

    def next_deadline(self) -> float | None:
        """Return when the next polite ending is over, None where none is under way."""
        killable = (child for child in self._by_id.values() if child.can_be_killed)
        return min((each.deadline for each in killable if each.deadline is not None), default=None)

    def expire(self, now: float) -> bool:
        """Kill the children whose grace is over; return whether there were any."""
        expired = [
            child
            for child in self._by_id.values()
            if child.can_be_killed and child.deadline is not None and child.deadline <= now
        ]
        for child in expired:
            child.killed = True
            if child.state is not ChildState.EXITED:
                child.signal(signal.SIGKILL)
        return bool(expired)

    def _ask_to_end(self, child: Child) -> None:
        if not child.asked:
            child.asked = True
            child.signal(signal.SIGTERM)

    # -- deaths --------------------------------------------------------------------------------

    def reap(self, *, read_fork_servers: Callable[[], None]) -> set[int]:
        """Reap every dead child process, and return which they were.

        `read_fork_servers` handles what the fork servers have sent: a child is announced before it
        can be reaped, but the announcement may still wait to be read.
        """
        dead = set()
        while (pid := _dead_child()) is not None:
            dead.add(pid)
            known = self._by_pid.get(pid)
            if known is None or known.state is not ChildState.RUNNING:
                read_fork_servers()
            child = self._by_pid.pop(pid, None)
            if child is not None and not child.in_grace(time.monotonic()):
                # Before it is reaped: until then the number of its group is surely its own.
                child.signal(signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            self._owners.pop(pid, None)
            self._asked.discard(pid)
            if child is not None:
                self._on_exit(child, os.waitstatus_to_exitcode(status))
        return dead

    def _on_exit(self, child: Child, returncode: int) -> None:
        if child.state is ChildState.RUNNING:
            self._send_event(Exited(child.child_id, returncode))
        elif not child.refused:
            self.refuse(child.child_id, "fork", f"ended with {returncode} before it ran")
        child.state = ChildState.EXITED

    # -- orphans -------------------------------------------------------------------------------

    def sweep(
        self,
        *,
        read_fork_servers: Callable[[], None],
        fork_server_pids: Callable[[], Collection[int]],
    ) -> None:
        """Kill the orphans whose agent has ended, and report the children that left none.

        Costs one read for all child processes and one for each orphan not seen before.
        """
        found = children_of(os.getpid())
        read_fork_servers()  # whoever is announced is no orphan, however fresh
        orphans = set(found) - self._by_pid.keys() - set(fork_server_pids())
        now = time.monotonic()
        alive = {self._owner_of(pid) for pid in orphans if self._may_live_on(pid, now)}
        for child in [each for each in self._by_id.values() if each.state is ChildState.EXITED]:
            if child.child_id not in alive:
                del self._by_id[child.child_id]
                self._journal.remove(Known(child.pid, child.start_time))
                if not child.refused:
                    self._send_event(Gone(child.child_id))

    def _may_live_on(self, pid: int, now: float) -> bool:
        """Ask or force an orphan to end, as its agent's state has it; say whether it lives on."""
        child = self._by_id.get(self._owner_of(pid) or -1)
        if child is not None and child.state is not ChildState.EXITED:
            return True
        if child is None or not child.in_grace(now):
            return _signal(pid, signal.SIGKILL)
        if pid not in self._asked:
            self._asked.add(pid)
            stat = stat_of(pid)
            # Who is still in the agent's group was asked with it; asked twice, many end at once.
            if not (child.asked and stat is not None and stat.group == child.pid):
                _signal(pid, signal.SIGTERM)
        return True

    def _owner_of(self, pid: int) -> int | None:
        # An orphan is our child process, so until we reap it the answer holds.
        if pid not in self._owners:
            run, child_id = untag(tag_of(pid) or 0)
            own = run == self._run and counter_tag_of(pid) == counter_tag_for(child_id)
            self._owners[pid] = child_id if own else None
        return self._owners[pid]

    def kill_all(self) -> None:
        """Kill every child process, and all that they leave, until there is none. May block."""
        with suppress(ChildProcessError):
            while True:
                for pid in children_of(os.getpid()):
                    _signal(pid, signal.SIGKILL)
                os.waitpid(-1, 0)
        self._journal.close()


def _dead_child() -> int | None:
    try:
        result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if result is None else result.si_pid


def _signal(pid: int, number: int) -> bool:
    # Whoever has become another account's is out of reach, and is not waited for either.
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
