"""Where conversations are stored: what is written, what is read back, and the stores that do it.

Beside the agents and below the session service; it knows neither. One thread writes what all
conversations of a process have said, in their order, many in one transaction.

    operations              what is written: one record for each thing that happened
    stored                  what is read back
    frames                  how one event is stored
    conversations           what a store can do, whichever it is
    commit_queue            what waits to be written, on the event loop
    writer                  the thread that writes it
    fair_reads              who reads when: a few at a time, tenants by turns
    schema                  the tables
    sealing, segments       encryption of what is stored, and compression of events
    sqlite_conversations    a store in an SQLite file: over sqlite_database, which has it open,
                            sqlite_batch and sqlite_log, which write, and stored_reader
    sqlite_snapshot     the file as it is at one moment, and what is wrong with it
    sqlite_salvage      what can be read of a damaged one
    postgres_conversations  a store in PostgreSQL, of one node of several
    postgres_lock           what keeps a second gateway out of there, where there is no cluster
    remote_conversations    the store that one of several workers has: its supervisor's
    conversation_server     the supervisor's side of it
    storage_wire            calls and answers between them
    group_commit            the batches of all workers that wait, as one transaction
"""

from __future__ import annotations

from frontdesk.persistence import errors as _errors
from frontdesk.persistence.errors import *  # noqa: F403 - each is public

__all__ = _errors.__all__
