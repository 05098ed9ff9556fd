"""The terminals of an ACP session: programs that its agent has the gateway run in its directory.

The keeper starts, bounds and ends them like agents. What a program prints is kept up to a limit,
the newest of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Mapping

from frontdesk.keeper.client import Keeper
from frontdesk.keeper.messages import Command, ProcessLimits, SpawnRequest
from frontdesk.keeper.process import ManagedProcess

MAX_TERMINALS = 16
"""Terminals of one session at a time, those included that have exited and are not released."""

MAX_OUTPUT_BYTES = 1024 * 1024
"""Bytes of output that are kept of a terminal, at the most, whatever its agent asks for."""

_TAIL_PATIENCE_S = 1.0
"""How long after a program's exit what it printed last is waited for."""

_READ_BYTES = 64 * 1024

MAX_RELEASED_BYTES = 64 * 1024
"""Bytes of output that are kept of a terminal that was released, of as many as there may be."""

_MERGED = 'exec "$0" "$@" </dev/null 2>&1'
"""Both outputs are one here; a missing program is reported in it, with exit code 127."""

_SHELL_LINE = 'exec /bin/sh -c "$0" </dev/null 2>&1'

_OF_A_SHELL = re.compile(r"[\s;&|<>()$`\"'*?~#]|^\w+=")


class TooManyTerminals(Exception):
    """The session has `MAX_TERMINALS` already."""


class NoTerminal(Exception):
    """The session has no terminal of this id."""


class Terminal:
    """One program and what it has printed."""

    truncated: bool

    def __init__(self, process: ManagedProcess, *, limit: int) -> None:
        self.process = process
        self.truncated = False
        self._limit = limit
        self._output = bytearray()
        self._reading = asyncio.create_task(self._read())

    @property
    def output(self) -> str:
        """Return what is kept of the output."""
        output = bytes(self._output)
        if self.truncated:
            # Cut between characters: what continues one is left out.
            begin = next((i for i, byte in enumerate(output[:4]) if byte & 0xC0 != 0x80), 0)
            output = output[begin:]
        return output.decode(errors="replace")

    async def wait(self) -> int | None:
        """Wait until the program has exited and its output is there; return its `returncode`."""
        returncode = await self.process.wait()
        # A grandchild may hold the output open for as long as it likes.
        await asyncio.wait({self._reading}, timeout=_TAIL_PATIENCE_S)
        return returncode

    async def end(self) -> None:
        """Kill the program and close its streams."""
        await self.process.end(0.0)
        self._reading.cancel()
        await asyncio.wait({self._reading})

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await self.process.reader.read(_READ_BYTES):
                self._output += piece
                if len(self._output) > self._limit:
                    del self._output[: len(self._output) - self._limit]
                    self.truncated = True


class Terminals:
    """The terminals of one session. `end` them when the session does."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        env: Mapping[str, str],
        account: str | None,
        limits: ProcessLimits,
        label: str,
    ) -> None:
        self._keeper, self._env, self._account = keeper, dict(env), account
        self._limits, self._label = limits, label
        self._open: dict[str, Terminal] = {}
        self._released: dict[str, str] = {}
        self._starting = 0

    def __len__(self) -> int:
        return len(self._open)

    def __getitem__(self, terminal_id: str) -> Terminal:
        try:
            return self._open[terminal_id]
        except KeyError:
            raise NoTerminal from None

    async def create(
        self, argv: tuple[str, ...], *, cwd: str, env: Mapping[str, str], limit: int | None
    ) -> str:
        """Start a program; return its terminal's id. `TooManyTerminals`, `SpawnFailed`.

        A command without arguments that only a shell understands is run by one.
        """
        if len(self._open) + self._starting >= MAX_TERMINALS:
            raise TooManyTerminals
        request = SpawnRequest(
            run=Command(
                argv=shell_argv(argv, cwd=cwd),
                env={**self._env, **env},
                account=self._account,
            ),
            label=f"{self._label} terminal",
            cwd=cwd,
            limits=self._limits,
        )
        self._starting += 1
        try:
            process = await self._keeper.spawn(request)
        finally:
            self._starting -= 1
        terminal_id = f"term_{secrets.token_hex(8)}"
        kept_bytes = MAX_OUTPUT_BYTES if limit is None else min(limit, MAX_OUTPUT_BYTES)
        self._open[terminal_id] = Terminal(process, limit=kept_bytes)
        return terminal_id

    async def release(self, terminal_id: str) -> None:
        """End a terminal and forget it. `NoTerminal`."""
        terminal = self[terminal_id]
        del self._open[terminal_id]
        self._released[terminal_id] = terminal.output[-MAX_RELEASED_BYTES:]
        if len(self._released) > MAX_TERMINALS:
            del self._released[next(iter(self._released))]
        await terminal.end()

    def output_of(self, terminal_id: str) -> str | None:
        """Return what a terminal has printed, also after its release; None where it is none."""
        terminal = self._open.get(terminal_id)
        return self._released.get(terminal_id) if terminal is None else terminal.output

    async def end(self) -> None:
        """End every terminal."""
        terminals, self._open = list(self._open.values()), {}
        await asyncio.gather(*(each.end() for each in terminals))


def shell_argv(argv: tuple[str, ...], *, cwd: str) -> tuple[str, ...]:
    """Return what runs a command with its two outputs merged.

    Agents are to name a program and its arguments apart; many send one line for a shell.

    >>> shell_argv(("ls", "-l"), cwd="/")[2:]
    ('exec "$0" "$@" </dev/null 2>&1', 'ls', '-l')
    >>> shell_argv(("ls -l | wc",), cwd="/")[2:]
    ('exec /bin/sh -c "$0" </dev/null 2>&1', 'ls -l | wc')
    """
    is_line = len(argv) == 1 and _OF_A_SHELL.search(argv[0]) is not None
    if is_line and not os.path.isfile(os.path.join(cwd, argv[0])):
        return ("/bin/sh", "-c", _SHELL_LINE, *argv)
    return ("/bin/sh", "-c", _MERGED, *argv)
