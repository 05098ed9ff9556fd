"""What a store of `support.programs.storage_writer` must have, whatever was cut."""

import sqlite3

from support.persistence import store_in
from support.programs.storage_writer import numbered


def problem_of(directory, said, *, apart=False):
    """Say what is wrong with the store in a directory, given all that the writer said before.

    None is: it opens, batches are whole, and what was said is there. `apart` is where a round is
    several transactions, the last of which may have only begun.
    """
    committed = {}
    erased = set()
    for line in "".join(said).splitlines():
        what, number, *rounds = line.split()
        if what == "committed":
            committed[int(number)] = int(rounds[0]) + 1
        else:
            erased.add(int(number))
    with store_in(directory) as store:
        for number in (1, 2):
            if problem := problem_of_one(
                store, number, at_least=committed.get(number, 0), apart=apart
            ):
                return problem
        for number in erased:
            if store.find(f"tenant-{number}", f"s{number}") or store.turns(number):
                return f"{number} was erased, and is there"
        keys = {each.stem for each in (directory / "keys").iterdir()}
    return integrity_problem(directory) or missing_keys(directory, keys)


def problem_of_one(store, number, *, at_least, apart):
    found = store.find("t", f"s{number}")
    turns = store.turns(number)
    begun = bool(turns and turns[-1].state != "completed")
    if begun and not apart:
        return f"{number} has a turn that is not whole"
    turns = turns[: len(turns) - begun]
    if len(turns) < at_least:
        return f"{number} has {len(turns)} turns of {at_least} that were committed"
    if found is None:
        return None
    if found.unreadable:
        return f"{number} is unreadable: {found.unreadable}"
    rounds = len(turns)
    frames = store.frames(number, after=0, limit=10_000, max_bytes=10**9)
    expected = [frame for each in range(rounds) for frame in numbered(number, each)]
    more = numbered(number, rounds)[: len(frames) - len(expected)] if begun else []
    if [each.frame for each in frames] != expected + more or found.last_index != len(frames):
        return f"{number} has {len(frames)} events of {rounds} turns"
    counts = (len(store.messages(number)), len(store.memories(number)), found.last_position)
    if counts != (rounds, rounds, rounds) or any(each.state != "completed" for each in turns):
        return f"{number} has {rounds} turns, with {counts} messages and memories"
    return None


def integrity_problem(directory):
    connection = sqlite3.connect(directory / "conversations.sqlite3")
    try:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    return None if said == "ok" else said


def missing_keys(directory, keys):
    connection = sqlite3.connect(directory / "conversations.sqlite3")
    try:
        used = {key for (key,) in connection.execute("SELECT key_id FROM conversation")}
    finally:
        connection.close()
    return None if used <= keys else "a key is missing"
