"""A supervisor's storage, and workers that write into it until they are killed.

serve <directory> <socket>              serves; "serving" is printed once it does
write <socket> <owner> <number>         opens a conversation and adds to it for ever; what was
                                        answered is printed, a number a line
"""

import sys
import threading
from pathlib import Path

from frontdesk.persistence.conversation_server import ConversationServer
from frontdesk.persistence.operations import ConversationOpened, FramesAppended, MessageAdded
from frontdesk.persistence.remote_conversations import RemoteConversations
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations

SECRET = b"m" * 32
TEXT = b"x" * 3000


def say(what):
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def opened_store(directory):
    sealing = Sealing(SECRET, directory / "keys")
    return SqliteConversations(directory / "c.sqlite3", owner="supervisor", sealing=sealing)


def serve(directory, socket):
    store = opened_store(Path(directory))
    with ConversationServer(Path(socket), store, is_worker=bool, on_broken=say):
        say("serving")
        threading.Event().wait()


def write(socket, owner, number):
    number = int(number)
    store = RemoteConversations(Path(socket), owner=owner, place=owner)
    opening = ConversationOpened(
        number=number,
        tenant_id="acme",
        session_id=f"s{number}",
        blueprint="b",
        model="m",
        api_key=None,
        created_at_ms=1,
        fence=number,
        options=b"{}",
    )
    assert not store.apply([opening]).lost
    at = 0
    while True:
        at += 1
        frames = FramesAppended(number=number, fence=number, first_index=at, frames=(TEXT,))
        assert not store.apply(
            [frames, MessageAdded(number=number, position=at, message=TEXT)]
        ).lost
        say(at)


if __name__ == "__main__":
    {"serve": serve, "write": write}[sys.argv[1]](*sys.argv[2:])
