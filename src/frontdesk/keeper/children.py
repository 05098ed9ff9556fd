"""The wards: their lives and deaths, and what happens to those whom they leave behind.

Runs in the keeper, below `house.py`. Every process that an agent leaves behind becomes a child of
the keeper (it is a child subreaper), in one step with its parent's death. So a child of the keeper
that is neither a ward nor a template is an orphan: it may live while its ward does, and is killed
after. It knows nothing of orders and templates.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from frontdesk.keeper.child import Child, Stage
from frontdesk.keeper.journal import Journal, Known
from frontdesk.keeper.messages import Exited, Gone, KeeperEvent, Refused, Started
from frontdesk.keeper.procfs import children_of, state_of, tag_for, tag_of, untag


class Children:
    """Hold the wards of one gateway. `tell` reports to it; nothing here waits for anything."""

    def __init__(self, tell: Callable[[KeeperEvent], None], *, run: int, ledger: Journal) -> None:
        self._tell = tell
        self._run = run
        self._ledger = ledger
        self._by_number: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self._owners: dict[int, int | None] = {}
        self._asked: set[int] = set()

    # -- from the order to the run -------------------------------------------------------------

    def open(self, number: int) -> Child:
        """Make the record of a ward that was ordered."""
        ward = self._by_number[number] = Child(number, tag_for(self._run, number))
        return ward

    def forked(self, number: int, pid: int) -> None:
        """Note which process a ward is."""
        ward = self._by_number[number]
        ward.stage, ward.pid = Stage.HARNESSING, pid
        self._by_pid[pid] = ward

    def begin(self, number: int) -> None:
        """Report a ward as running, and end it where that was asked for meanwhile."""
        ward = self._by_number[number]
        ward.stage = Stage.RUNNING
        # It is our child and not reaped, so the pid is its own, be it dead already.
        state = state_of(ward.pid)
        ward.start_time = state.start_time if state is not None else 0
        self._ledger.note(Known(ward.pid, ward.start_time))
        self._tell(Started(ward.number, ward.pid, ward.start_time))
        if ward.deadline is not None:
            self._ask(ward)

    def refuse(self, number: int, stage: str, text: str) -> None:
        """Report that a ward never ran. Its process, where there is one, has still to be reaped."""
        ward = self._by_number[number]
        self._tell(Refused(number, stage, text))
        ward.refused = True
        if ward.stage is Stage.FORKING:
            del self._by_number[number]

    # -- ending --------------------------------------------------------------------------------

    def end(self, number: int, grace_s: float) -> None:
        """Ask a ward to end; `expire` and `sweep` do the rest. Of two graces the earlier counts."""
        ward = self._by_number.get(number)
        if ward is None:
            self._tell(Gone(number))
            return
        deadline = time.monotonic() + grace_s
        ward.deadline = deadline if ward.deadline is None else min(deadline, ward.deadline)
        if ward.stage is Stage.RUNNING:
            self._ask(ward)

    def next_deadline(self) -> float | None:
        """Return when the next polite ending is over, None where none is under way."""
        deadlines = [
            ward.deadline
            for ward in self._by_number.values()
            if ward.deadline is not None and _can_be_killed(ward)
        ]
        return min(deadlines, default=None)

    def expire(self, now: float) -> bool:
        """Kill the wards whose grace is over; tell whether there were any."""
        over = [ward for ward in self._by_number.values() if _is_over(ward, now)]
        for ward in over:
            ward.killed = True
            if ward.stage is not Stage.EXITED:
                _signal_group(ward, signal.SIGKILL)
        return bool(over)

    def _ask(self, ward: Child) -> None:
        if not ward.asked:
            ward.asked = True
            _signal_group(ward, signal.SIGTERM)

    # -- deaths --------------------------------------------------------------------------------

    def reap(self, *, hear: Callable[[], None]) -> set[int]:
        """Reap every dead child, and return which they were.

        `hear` takes in what the templates have said: a ward is announced before it can be reaped,
        but the announcement may still wait to be read.
        """
        dead = set()
        while (pid := _dead_child()) is not None:
            dead.add(pid)
            if self._settle(pid) is None:
                hear()
            ward = self._by_pid.pop(pid, None)
            if ward is not None and not ward.spared(time.monotonic()):
                # Before it is reaped: until then the number of its group is surely its own.
                _signal_group(ward, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            self._owners.pop(pid, None)
            self._asked.discard(pid)
            if ward is not None:
                self._exited(ward, os.waitstatus_to_exitcode(status))
        return dead

    def _settle(self, pid: int) -> Child | None:
        ward = self._by_pid.get(pid)
        return ward if ward is not None and ward.stage is Stage.RUNNING else None

    def _exited(self, ward: Child, returncode: int) -> None:
        if ward.stage is Stage.RUNNING:
            self._tell(Exited(ward.number, returncode))
        elif not ward.refused:
            self.refuse(ward.number, "fork", f"ended with {returncode} before it ran")
        ward.stage = Stage.EXITED

    def sweep(self, *, hear: Callable[[], None], known: Callable[[], Collection[int]]) -> None:
        """Look after the orphans: kill those whose ward is over, report wards that left none.

        Costs one read for all children and one for each orphan not seen before.
        """
        children = children_of(os.getpid())
        hear()  # whoever is announced is no orphan, however fresh
        left = set(children) - self._by_pid.keys() - set(known())
        now = time.monotonic()
        alive = {self._owner_of(pid) for pid in left if self._treat(pid, now)}
        for ward in [w for w in self._by_number.values() if w.stage is Stage.EXITED]:
            if ward.number not in alive:
                self._gone(ward)

    def _treat(self, pid: int, now: float) -> bool:
        ward = self._by_number.get(self._owner_of(pid) or -1)
        if ward is not None and ward.stage is not Stage.EXITED:
            return True
        if ward is None or not ward.spared(now):
            return _signal(pid, signal.SIGKILL)
        if pid not in self._asked:
            self._asked.add(pid)
            self._ask_orphan(pid, of=ward)
        return True

    def _ask_orphan(self, pid: int, *, of: Child) -> None:
        state = state_of(pid)
        # Who is still in the ward's group has been asked with it; asked twice, many end at once.
        if not (of.asked and state is not None and state.group == of.pid):
            _signal(pid, signal.SIGTERM)

    def _owner_of(self, pid: int) -> int | None:
        # An orphan is our child, so until we reap it the answer holds.
        if pid not in self._owners:
            run, number = untag(tag_of(pid) or 0)
            self._owners[pid] = number if run == self._run else None
        return self._owners[pid]

    def _gone(self, ward: Child) -> None:
        del self._by_number[ward.number]
        self._ledger.strike(Known(ward.pid, ward.start_time))
        if not ward.refused:
            self._tell(Gone(ward.number))

    def clear(self) -> None:
        """Kill every child, and every child that they leave, until there is none. May block."""
        with suppress(ChildProcessError):
            while True:
                for pid in children_of(os.getpid()):
                    _signal(pid, signal.SIGKILL)
                os.waitpid(-1, 0)
        self._ledger.close()


def _is_over(ward: Child, now: float) -> bool:
    return ward.deadline is not None and ward.deadline <= now and _can_be_killed(ward)


def _can_be_killed(ward: Child) -> bool:
    # While its template has not said which process it is, there is nobody to kill.
    return not ward.killed and ward.stage is not Stage.FORKING


def _dead_child() -> int | None:
    try:
        result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if result is None else result.si_pid


def _signal_group(ward: Child, number: int) -> None:
    # A ward that is not harnessed yet still has its template's group, which is not ours to end.
    send = os.killpg if ward.stage is Stage.RUNNING else os.kill
    with suppress(ProcessLookupError, PermissionError):
        send(ward.pid, number)


def _signal(pid: int, number: int) -> bool:
    # Whoever has become another account's is out of reach, and is not waited for either.
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
