"""The checks of `frontdesk doctor` on this machine: what a gateway needs before it starts."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from frontdesk.cli.certificates import certificate_findings
from frontdesk.cli.findings import Examined, Finding, finding_out
from frontdesk.cli.options import beside, other_state
from frontdesk.cli.storage_checks import storage_findings
from frontdesk.errors import FrontdeskError

if TYPE_CHECKING:
    from frontdesk.gateway.settings import Config

MIN_FREE_BYTES = 256 * 1024 * 1024
RESERVED_DESCRIPTORS = 256
"""For files, the keeper, other nodes, and what Python has open."""
PROCESS_DESCRIPTORS = 4
"""Of a session whose agent is a process: its pipes, its pidfd, and a client's stream."""
FIRST_RELEASE_S = 1_767_225_600
"""The beginning of 2026: no clock that goes is before it."""
KEEPER_S = 20.0
TIME_ERROR = 5
"""What adjtimex(2) returns where nobody keeps the clock right."""


def findings(examined: Examined, *, load: Callable[..., Config]) -> list[Finding]:
    """Return what is found on this machine; sets `examined.config`."""
    found: list[Finding] = []
    with finding_out(found, "configuration"):
        found += check_configuration(examined, load)
    config = examined.config
    if config is not None:
        with finding_out(found, "state directory"):
            found += check_state(config.server.state_dir)
        with finding_out(found, "conversations"):
            found += storage_findings(config)
        with finding_out(found, "descriptors"):
            found.append(check_descriptors(config, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with finding_out(found, "clock"):
        found.append(check_clock(time.time()))
    with finding_out(found, "kernel"):
        found += check_kernel(config)
    with finding_out(found, "keeper"):
        found.append(asyncio.run(check_keeper()))
    if config is not None:
        with finding_out(found, "certificates"):
            found += certificate_findings(config, now_s=time.time())
    return found


def check_configuration(examined: Examined, load: Callable[..., Config]) -> Iterator[Finding]:
    """Read the configuration as `serve` does."""
    from frontdesk.gateway.blueprint_config import tables_of
    from frontdesk.gateway.config import DEFAULT_FILE
    from frontdesk.gateway.errors import ConfigurationWrong
    from frontdesk.gateway.surroundings import mistakes_around
    from frontdesk.keeper.modules_behind import find_behind

    file, state_dir = examined.config_file, examined.state_dir
    find_behind([beside(file)])
    try:
        examined.config = load(file, around=mistakes_around, state_dir=state_dir)
    except ConfigurationWrong as error:
        for mistake in error.mistakes:
            yield Finding("configuration", "wrong", mistake, f"correct it in {error.source}")
        return
    source = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else "no file")
    names = ", ".join(tables_of(examined.config))
    yield Finding("configuration", "ok", f"{source}; blueprints: {names}")


def check_state(directory: Path) -> Iterator[Finding]:
    """Look at the state directory: whose it is, what it holds, and how much room there is."""
    check = "state directory"
    if not directory.exists():
        parent = next(each for each in directory.absolute().parents if each.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            text = f"{directory} is not there yet: the start makes it"
            yield Finding(check, "ok", text, other_state(directory))
        else:
            advice = f"let this account write {parent}, or name another with --state-dir"
            yield Finding(check, "wrong", f"{directory} cannot be made", advice)
        return
    before = list(problems_of_state(directory))
    yield from before
    free = shutil.disk_usage(directory).free
    if free < MIN_FREE_BYTES:
        text = f"{directory} has room for {free // 2**20} MiB"
        yield Finding(
            check, "wrong", text, "make room: keys, the meter and conversations are written there"
        )
    elif not before:
        yield Finding(check, "ok", f"{directory}, {free // 2**30} GiB free")


def problems_of_state(directory: Path) -> Iterator[Finding]:
    """Give what is wrong with a state directory and the files in it."""
    from frontdesk.gateway import key_file, usage_table

    check, about = "state directory", directory.stat()
    if about.st_uid != os.geteuid():
        advice = f"run as its owner, or chown {directory}"
        yield Finding(check, "wrong", f"{directory} is another account's", advice)
    elif not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(check, "wrong", f"{directory} cannot be written", f"chmod 700 {directory}")
    secret = directory / "master.secret"
    for path in (directory, secret):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            advice = f"chmod {'700' if path is directory else '600'} {path}"
            yield Finding(check, "wrong", f"{path} is open to other accounts", advice)
    for name, schema in (("keys", key_file.SCHEMA), ("usage", usage_table.SCHEMA)):
        path = directory / f"{name}.sqlite3"
        if path.exists() and (problem := problem_of_database(path, len(schema))) is not None:
            yield Finding(check, "wrong", *problem)


def problem_of_database(path: Path, known: int) -> tuple[str, str] | None:
    """Return what is wrong with a file of SQLite's, and what to do; None for nothing."""
    try:
        # Read only, and beside whoever writes.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            (version,) = file.execute("PRAGMA user_version").fetchone()
            (state,) = file.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return f"{path}: {error}", "put it back from a copy, or move it away"
    if state != "ok":
        return f"{path}: {state}", "put it back from a copy, or move it away"
    if version > known:
        return f"{path} is of a newer Frontdesk", "upgrade this one"
    return None


def check_descriptors(config: Config, hard_limit: int) -> Finding:
    """Hold the limit of open files against what the configuration allows."""
    limits, check = config.limits, "descriptors"
    if hard_limit == resource.RLIM_INFINITY:
        return Finding(check, "ok", "as many as are wanted")
    keyless = min(limits.keyless_connections, hard_limit // 4)
    room = hard_limit - keyless - RESERVED_DESCRIPTORS
    apart, sessions = in_processes(config), limits.sessions_total
    text = f"{hard_limit} at most; room for {max(0, room)} sessions with a stream each"
    if apart:
        text += f", or {max(0, room // PROCESS_DESCRIPTORS)} in processes"
    advice = "raise LimitNOFILE= of the unit, or ulimit -Hn; or lower limits.sessions_total"
    if sessions is not None and room < sessions:
        return Finding(check, "wrong", f"{text}, and limits.sessions_total is {sessions}", advice)
    if sessions is not None and apart and room // PROCESS_DESCRIPTORS < sessions:
        return Finding(check, "note", f"{text}, and limits.sessions_total is {sessions}", advice)
    return Finding(check, "ok", text)


def in_processes(config: Config) -> bool:
    """Say whether agents of a configuration are processes."""
    from frontdesk.gateway.blueprint_config import tables_of

    return any(each.isolation == "process" for each in tables_of(config).values())


def check_clock(now_s: float) -> Finding:
    """Look whether the clock goes, and whether something keeps it right."""
    if now_s < FIRST_RELEASE_S:
        text = f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now_s))}"
        return Finding("clock", "wrong", text, "set it: keys, tokens and certificates go by it")
    if is_synchronised() is False:
        advice = "run chrony or systemd-timesyncd, unless the host does"
        return Finding("clock", "note", "nobody says that the clock is kept right", advice)
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)))


def is_synchronised() -> bool | None:
    """Say whether the kernel is told that the clock is synchronised; None where it says nothing."""
    if sys.platform != "linux":
        return None
    # Of `struct timex` nothing is read or set: `modes` is 0. It has 208 bytes.
    state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))
    return None if state < 0 else state != TIME_ERROR


def check_kernel(config: Config | None) -> Iterator[Finding]:
    """Look at what the kernel has for agents in processes, and what it keeps them from."""
    from frontdesk.keeper.landlock import abi, not_enforced
    from frontdesk.keeper.platform_needs import lacking

    system = f"{os.uname().sysname} {os.uname().release}"
    if (missing := lacking()) is not None:
        wanted = config is not None and in_processes(config)
        advice = "run agents in tasks, or on a newer Linux"
        yield Finding("kernel", "wrong" if wanted else "note", f"{system}: {missing}", advice)
        return
    if (weak := not_enforced(abi())) is not None:
        advice = "give blueprints accounts of their own, or run Linux 6.12 or newer"
        yield Finding("kernel", "note", f"{system}: {weak}", advice)
        return
    yield Finding("kernel", "ok", f"{system}, Landlock {abi()}")


async def check_keeper() -> Finding:
    """Start a process by a keeper, as an agent would be, and see it end."""
    from frontdesk.keeper.client import Keeper
    from frontdesk.keeper.messages import Command, SpawnRequest
    from frontdesk.keeper.platform_needs import lacking

    if (missing := lacking()) is not None:
        return Finding("keeper", "note", missing, "agents are tasks here")
    began = time.monotonic()
    try:
        async with asyncio.timeout(KEEPER_S), Keeper() as keeper:
            request = SpawnRequest(run=Command(argv=(sys.executable, "-I", "-c", "")))
            code = await (await keeper.spawn(request)).wait()
    except (FrontdeskError, OSError, TimeoutError) as error:
        text = str(error) or f"nothing within {KEEPER_S:g} s"
        return Finding("keeper", "wrong", text, "without it no agent is a process: see the message")
    took_ms = (time.monotonic() - began) * 1000
    if code != 0:
        return Finding("keeper", "wrong", f"a process ended with {code}", "look at its interpreter")
    return Finding("keeper", "ok", f"a process ran and ended, in {took_ms:.0f} ms")
