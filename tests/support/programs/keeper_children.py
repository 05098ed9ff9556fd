"""Programs and entries that the keeper's tests start: small, and each with one bad habit."""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import sys
import time

from frontdesk.keeper.environment import allowed_environment, search_path
from frontdesk.keeper.messages import Command, Fork, ForkServerSpec, ProcessLimits, SpawnRequest
from frontdesk.keeper.procfs import RLIMIT_LOCKS, RLIMIT_RSS


def shell(script, **request):
    """Order a shell that runs a script."""
    account = request.pop("account", None)
    env = {**allowed_environment(), **request.pop("env", {})}
    run = Command(argv=("/bin/sh", "-c", script), env=env, account=account)
    return SpawnRequest(run=run, label="shell", **request)


def fork_server(entry, **more):
    """Return a fork server whose forks enter a function of this module."""
    more.setdefault("env", allowed_environment())
    return ForkServerSpec(
        entry=f"{__name__}:entered", argument=entry, preload=(__name__,), path=search_path(), **more
    )


def fork(entry, *, limits=None, cwd=None, **more):
    """Order a fork that enters a function of this module."""
    run = Fork(server=fork_server(entry, **more))
    return SpawnRequest(run=run, label=entry, limits=limits or ProcessLimits(), cwd=cwd)


def entered(name):
    """Return what forks of a fork server are entered with."""
    function = globals()[name]

    def enter(channel):
        # Forks are deaf to it, as an agent's worker has to be: these end by it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        function(channel)

    return enter


def echo(channel: socket.socket):
    """Send back what comes, until nothing comes."""
    while data := channel.recv(65536):
        channel.sendall(data)


def tell_where(channel):
    """Say who the process is, then live until the channel ends."""
    facts = (os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0), os.getcwd(), len(os.environ))
    channel.sendall(repr(facts).encode())
    channel.recv(1)


def list_descriptors(channel):
    """Say what is open beyond the standard three and the channel.

    But for what libffi from 3.5 on, under ctypes, keeps open of itself: a file that anybody reads.
    """
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            if number not in (0, 1, 2, channel.fileno()):
                found.append(os.readlink(f"/proc/self/fd/{number}"))
    found = [each for each in found if not os.path.basename(each).startswith("libffi.so")]
    channel.sendall(repr(found).encode())


def exit_with_three(channel):
    """Exit with a code."""
    sys.exit(3)


def raise_something(channel):
    """End by an exception."""
    raise RuntimeError("the agent's own words")


def grow(channel):
    """Take memory until there is no more, and say so."""
    hoard = []
    try:
        while True:
            hoard.append(bytearray(8 << 20))
    except MemoryError:
        size = len(hoard) * 8
        del hoard
        channel.sendall(b"%d" % size)


def spin(channel):
    """Use the processor without end."""
    channel.sendall(b"spinning")
    while True:
        pass


def open_many(channel):
    """Open descriptors until there are no more, and say how many there were."""
    opened = []
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        os.close(opened.pop())
        channel.sendall(b"%d" % len(opened))


def leave_a_family(channel):
    """Leave, deaf to SIGTERM: a child, a child in a session of its own, and a daemon of both."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids = [os.getpid(), _descend(), _descend(os.setsid), _descend(os.setsid, again=True)]
    channel.sendall((" ".join(map(str, pids)) + "\n").encode())
    time.sleep(1000)


def leave_a_family_and_exit(channel):
    """Leave descendants behind and end without being asked."""
    pids = [_descend(), _descend(os.setsid), _descend(os.setsid, again=True)]
    channel.sendall((" ".join(map(str, pids)) + "\n").encode())
    channel.recv(1)
    sys.exit(0)


def _descend(*actions, again=False):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for action in actions:
            action()
        if not again or os.fork() == 0:
            os.write(writing, b"%d" % os.getpid())
            time.sleep(1000)
        os._exit(0)
    if again:
        os.waitpid(child, 0)
    os.close(writing)
    pid = int(os.read(reading, 20))
    os.close(reading)
    return pid


def read_a_file(channel):
    """Send what is in the file that the environment names, or why it cannot be read."""
    try:
        with open(os.environ["FILE_TO_READ"], "rb") as file:
            channel.sendall(file.read())
    except OSError as error:
        channel.sendall(f"errno {error.errno}".encode())


def leave_a_thief(channel):
    """Leave a daemon that takes what it can of the tags of a process, whose pid it is told."""
    victim = int(channel.recv(20))

    def take():
        limits = pathlib.Path(f"/proc/{victim}/limits").read_text().splitlines()
        for name, number in (("Max file locks", RLIMIT_LOCKS), ("Max resident set", RLIMIT_RSS)):
            (hard,) = (line.split()[-2] for line in limits if line.startswith(name))
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(number, (int(hard), int(hard)))

    channel.sendall(b"%d\n" % _descend(os.setsid, take, again=True))
    channel.recv(1)
