"""What imports leave open is not shared by the agents of all tenants: refused, by name."""

import pytest

from frontdesk.keeper.environment import search_path
from frontdesk.keeper.errors import ForkServerFailed, SpawnFailed
from frontdesk.keeper.messages import Fork, ForkServerSpec, SpawnRequest
from support.keeper import answer_of, with_keeper

OPENED_AT_IMPORT = {
    "a connection": (
        "import socket\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "kept = socket.create_connection(listener.getsockname())\n",
        r"a connection to 127\.0\.0\.1:\d+",
    ),
    "a listener": (
        "import socket\nkept = socket.create_server(('127.0.0.1', 0))\n",
        r"a socket at 127\.0\.0\.1:\d+",
    ),
    "a datagram socket": (
        "import socket\nkept = socket.socket(type=socket.SOCK_DGRAM)\n",
        r"a socket at 0\.0\.0\.0:0",
    ),
    "a UNIX socket": (
        "import socket\nkept = socket.socketpair()\n",
        r"a socket \(AF_UNIX\), a socket \(AF_UNIX\)",
    ),
    "a database": (
        "import sqlite3\n"
        "kept = sqlite3.connect(__file__ + '.db')\n"
        "kept.execute('create table if not exists t (x)')\n",
        r"the file /.*/opened\.py\.db, open for writing",
    ),
    "a file": (
        "kept = open(__file__ + '.out', 'w')\n",
        r"the file /.*/opened\.py\.out, open for writing",
    ),
    "a loop": (
        "import asyncio\nkept = asyncio.new_event_loop()\n",
        r"an event loop or the like \(anon_inode:\[eventpoll\]\)",
    ),
    "a pipe": ("import os\nkept = os.pipe()\n", r"a pipe, a pipe"),
    "a process": (
        "import subprocess\nkept = subprocess.Popen(['sleep', '1000'])\n",
        r"a child process \(\d+\)",
    ),
}


def opened(tmp_path, program):
    """Describe a fork server whose module runs a program at import."""
    (tmp_path / "opened.py").write_text(
        f"{program}\ndef prepare(argument):\n    return lambda channel: channel.send(b'up')\n"
    )
    return ForkServerSpec(entry="opened:prepare", path=(str(tmp_path), *search_path()))


@pytest.mark.parametrize("kind", OPENED_AT_IMPORT)
def test_what_was_opened_at_import_and_sessions_would_share_is_refused_by_name(tmp_path, kind):
    program, named = OPENED_AT_IMPORT[kind]
    spec = opened(tmp_path, program)

    async def scenario(keeper):
        with pytest.raises(ForkServerFailed, match=f"all sessions would share: .*{named}"):
            await keeper.warm(spec)
        with pytest.raises(SpawnFailed, match=named):
            await keeper.spawn(SpawnRequest(run=Fork(server=spec)))

    with_keeper(scenario)


@pytest.mark.parametrize(
    "program",
    [
        "kept = open(__file__)",
        "kept = open(__file__ + '.log', 'a')",
        "import sqlite3; kept = sqlite3.connect(':memory:')",
        "import mmap; file = open(__file__, 'rb'); kept = mmap.mmap(file.fileno(), 0, prot=1)",
        "import os; kept = os.memfd_create('code')",
        "import asyncio; asyncio.run(asyncio.sleep(0))",
        "import socket; kept = socket.socketpair(); [each.close() for each in kept]",
        "import subprocess; subprocess.run(['true'])",
    ],
)
def test_what_was_opened_at_import_and_cannot_mix_is_no_matter(tmp_path, program):
    assert answer_of(SpawnRequest(run=Fork(server=opened(tmp_path, program)))) == "up"
