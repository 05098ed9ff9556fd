"""A managed process: what the gateway holds of an agent process.

It carries the streams to the process (which do not lead through the keeper),
what the keeper reports of it, and the one way to end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from frontdesk.keeper.streams import Channel
from frontdesk.monitors import ProcessRef

ANSWER_SLACK_S = 5.0
"""How much longer than the grace period the end of a process, once killed, is waited for."""


@dataclass(frozen=True, slots=True)
class ManagedProcessRef(ProcessRef):
    """Name a managed process; where the kernel does not report how it ended, its keeper does."""

    owner: ManagedProcess = field(repr=False, compare=False)

    @property
    def returncode(self) -> int | None:
        """Return what the keeper has reported, as in `Popen`; None where it has not."""
        return self.owner.returncode

    @property
    def killed_for(self) -> str | None:
        """Return why it was killed, where its own doing was the reason; else None."""
        return self.owner.killed_for


class ManagedProcess:
    """One agent process, in the keeper's care.

    `ref` is what the registry watches. `reader` and `writer` lead to the channel of a fork, or to
    the standard output and input of a command. All of it belongs to one event loop.
    """

    def __init__(
        self,
        *,
        pid: int,
        start_time: int,
        channel: Channel,
        end: Callable[[float], None],
    ) -> None:
        self.ref: ManagedProcessRef = ManagedProcessRef(pid, start_time, self)
        self._channel = channel
        self._request_end = end
        self._exited = asyncio.Event()
        self._gone = asyncio.Event()
        self._returncode: int | None = None
        self.killed_for: str | None = None

    @property
    def pid(self) -> int:
        return self.ref.pid

    @property
    def start_time(self) -> int:
        """Return field 22 of `/proc/<pid>/stat`: with the pid it names this one process."""
        return self.ref.start_time

    @property
    def reader(self) -> asyncio.StreamReader:
        """Return the stream of what the process sends; it ends when the process does."""
        return self._channel.reader

    @property
    def writer(self) -> asyncio.StreamWriter:
        """Return the stream to the process."""
        return self._channel.writer

    @property
    def returncode(self) -> int | None:
        """Return how it ended as in `Popen` (negative is a signal), as the keeper reported it.

        None while it runs, and for ever where keeper and process died together.
        """
        return self._returncode

    @property
    def exited(self) -> bool:
        """Say whether the process itself is known to have ended."""
        return self._exited.is_set()

    async def wait(self) -> int | None:
        """Wait until the process itself has ended, and return its `returncode`."""
        await self._exited.wait()
        return self._returncode

    async def wait_gone(self) -> None:
        """Wait until neither the process nor anything that descended from it is alive."""
        await self._gone.wait()

    def kill(self, why: str | None = None) -> None:
        """Kill the process and all that descended from it, without waiting.

        `why` is what it has done for that; the first reason is kept, unless it has ended before.
        """
        if not self._exited.is_set():
            self.killed_for = self.killed_for or why
        if not self._gone.is_set():
            self._request_end(0.0)

    async def end(self, grace_s: float, *, close: bool = True) -> bool:
        """End the process with all that descended from it: SIGTERM, `grace_s`, SIGKILL.

        Returns true once nothing of it is alive; false where something could not be killed within
        ANSWER_SLACK_S after the grace period (it hangs in the kernel, or has become another
        account's). Idempotent; of several graces the one that is over first counts. Closes the
        streams, unless `close` is false: what the process wrote last can then still be read.
        """
        try:
            if not self._gone.is_set():
                self._request_end(grace_s)
                async with asyncio.timeout(grace_s + ANSWER_SLACK_S):
                    await self._gone.wait()
        except TimeoutError:
            return False
        finally:
            if close:
                self.close()
        return True

    def close(self) -> None:
        """Close the streams; the process, where it still runs, sees the end of its input."""
        self._channel.close()

    # -- called by the client ------------------------------------------------------------------

    def on_exited(self, returncode: int | None) -> None:
        """Keep how the process itself ended; the first report counts."""
        if not self._exited.is_set():
            self._returncode = returncode
            self._exited.set()

    def on_gone(self) -> None:
        """Wake whoever waits: nothing of it is alive."""
        self._exited.set()
        self._gone.set()
        self._channel.on_gone()

    def __repr__(self) -> str:
        return f"<ManagedProcess {self.pid} returncode={self._returncode}>"
