"""The checks of `frontdesk doctor` on where conversations are stored. They change nothing."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from frontdesk.cli.findings import Finding

if TYPE_CHECKING:
    from frontdesk.gateway.conversation_settings import ConversationSettings
    from frontdesk.gateway.settings import Config

CHECK = "conversations"
ROOM_BYTES = 256 * 1024 * 1024
"""How much room there is to be beside the reserve."""


def storage_findings(config: Config) -> Iterator[Finding]:
    """Look at where conversations are stored, and whether they can be."""
    from frontdesk.gateway.conversation_settings import MEMORY, SQLITE

    store = config.conversations.store
    if store == MEMORY:
        yield Finding(CHECK, "ok", "in memory: a restart ends every one of them")
    elif store == SQLITE:
        yield from _sqlite_findings(config)
    else:
        yield from _postgres_findings(config.conversations)


def _sqlite_findings(config: Config) -> Iterator[Finding]:
    from frontdesk.gateway.conversation_storage import LOST, advice_of_lost_file
    from frontdesk.gateway.state_dir import StateDir

    directory = config.server.state_dir
    there = next(each for each in (directory, *directory.absolute().parents) if each.exists())
    state = StateDir(directory)
    file, keys = state.conversations, config.conversations.keys or state.conversation_keys
    size = file.stat().st_size if file.exists() else 0
    problems = [
        *_problems_of_place(there, reserve_mb=config.conversations.reserve_mb),
        *_problems_of_rights(file, keys),
        *(problems_of_file(file, keys) if size else ()),
    ]
    if (advice := advice_of_lost_file(config.conversations, state)) is not None:
        problems.append(Finding(CHECK, "wrong", f"{file}: {LOST}", advice))
    yield from problems
    if not problems:
        found = (
            f"{file}, {-(-size // 2**20)} MiB" if size else f"{file}: nothing is stored there yet"
        )
        yield Finding(CHECK, "ok", found)


def _problems_of_place(directory: Path, *, reserve_mb: int) -> Iterator[Finding]:
    from frontdesk.persistence.errors import StorageRefused
    from frontdesk.persistence.sqlite_file import refuse_network

    try:
        refuse_network(directory)
    except StorageRefused as error:
        advice = "put the state directory on a disk of this machine, or use PostgreSQL"
        yield Finding(CHECK, "wrong", str(error), advice)
    free = shutil.disk_usage(directory).free
    if free < reserve_mb * 2**20 + ROOM_BYTES:
        text = f"room for {free // 2**20} MiB, of which {reserve_mb} MiB are a reserve"
        yield Finding(CHECK, "wrong", text, "make room: a full disk ends turns")


def _problems_of_rights(file: Path, keys: Path) -> Iterator[Finding]:
    beside = (file.with_name(f"{file.name}{end}") for end in ("", "-wal", "-shm"))
    for path in (keys, *beside):
        with suppress(FileNotFoundError):  # what is written beside it goes when that is closed
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                text = f"{path} is open to other accounts"
                mode = "700" if path is keys else "600"
                yield Finding(CHECK, "wrong", text, f"chmod {mode} {path}")


def problems_of_file(file: Path, keys: Path) -> Iterator[Finding]:
    """Give what is wrong with SQLite's file of conversations, and with the keys to it."""
    from frontdesk.persistence import schema
    from frontdesk.persistence.sqlite_file import APPLICATION_ID

    recover = (
        "put back a copy of it; or see what cannot be read with frontdesk conversations check, and"
        " copy the rest with frontdesk conversations recover"
    )
    try:
        # Read only, and beside whoever writes.
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            (version,) = opened.execute("PRAGMA user_version").fetchone()
            (owner,) = opened.execute("PRAGMA application_id").fetchone()
            (state,) = opened.execute("PRAGMA quick_check(1)").fetchone()
            if owner != APPLICATION_ID:
                advice = "move it away: it is not Frontdesk's"
                yield Finding(CHECK, "wrong", f"{file} is another program's", advice)
            elif version > schema.VERSION:
                text = f"{file} is of a newer Frontdesk"
                yield Finding(CHECK, "wrong", text, "upgrade this one")
            elif state != "ok":
                damage = " ".join(state.replace("*** in database main ***", "").split())
                yield Finding(CHECK, "wrong", f"{file} is damaged: {damage}", recover)
            else:
                named = opened.execute("SELECT tenant_id, key_id FROM tenant_key").fetchall()
                lost = sorted(name for name, key in named if not (keys / f"{key}.key").exists())
                if lost:
                    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
                    text = f"keys of tenants are not in {keys}: {', '.join(lost[:3])}{more}"
                    advice = "put them back: what they sealed cannot be read or resumed without"
                    yield Finding(CHECK, "wrong", text, advice)
    except sqlite3.Error as error:
        yield Finding(CHECK, "wrong", f"{file}: {error}", recover)


def _postgres_findings(settings: ConversationSettings) -> Iterator[Finding]:
    from frontdesk.errors import MissingExtra
    from frontdesk.gateway.errors import ConfigurationWrong

    try:
        from frontdesk.gateway.conversation_database import database_problem

        address, problem = database_problem(settings)
    except (MissingExtra, ConfigurationWrong) as error:
        yield Finding(CHECK, "wrong", str(error), "install it, or correct the setting")
        return
    if problem is None:
        yield Finding(CHECK, "ok", f"{address} can be used")
    else:
        advice = "look at the server, the network and the account"
        yield Finding(CHECK, "wrong", problem, advice)
