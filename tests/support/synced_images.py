"""What a disk would have after a power loss: images of files, from the system calls that made them.

`strace` writes down what a process does with the files of a directory. `Disk` plays it back, and
knows of each file what was synced, and what was written since: some of that may be on the disk, in
sectors of 512 bytes, and some not. A name is there once its directory was synced.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field

import pytest

SECTOR = 512
CALLS = "openat,mkdir,write,pwrite64,fsync,fdatasync,ftruncate,unlink,close,rename,link"
LINE = re.compile(r"^(\d+) +(.*)$")
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)(?:<.*>)?(?: .*)?$")
UNFINISHED = re.compile(r"^(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(.*)$")


def strace():
    """Return the command that records calls, of all threads."""
    program = shutil.which("strace")
    if program is None:
        assert "CI" not in os.environ, "strace is needed here"
        pytest.skip("no strace")
    return [program, "-f"]


def traced(command, *, directory, log, env):
    """Run a command, and return its calls on files of a directory, in order."""
    subprocess.run(
        [*strace(), "-y", "-xx", "-s", "4000000", "-e", f"trace={CALLS}", "-o", log, *command],
        env=env,
        check=True,
        timeout=100,
    )
    return list(calls_in(log.read_text(), directory=directory))


def calls_in(text, *, directory):
    """Return the calls on files of a directory, and on standard output: (when, name, ...)."""
    begun = {}
    for line in text.splitlines():
        process, rest = LINE.match(line).groups()
        if cut := UNFINISHED.match(rest):
            begun[process] = cut[1]
            if begun[process].startswith(("fsync", "fdatasync")):
                yield ("sync begins", path_of(cut[1]))
            continue
        if resumed := RESUMED.match(rest):
            rest = begun.pop(process) + resumed[1]
            late = True
        else:
            late = False
        if (call := CALL.match(rest)) and int(call[3]) >= 0:
            name, arguments, result = call[1], call[2], int(call[3])
            if name in {"fsync", "fdatasync"} and not late:
                yield ("sync begins", path_of(arguments))
            yield from event_of(name, arguments, result, directory=directory)


def event_of(name, arguments, result, *, directory):
    path = path_of(arguments)
    if name == "write" and arguments.startswith("1<"):
        yield ("said", quoted(arguments)[0].decode())
    elif name == "openat" and "O_CREAT" in arguments:
        yield ("created", os.fsdecode(quoted(arguments)[-1]))
    elif name == "mkdir":
        yield ("made", os.fsdecode(quoted(arguments)[0]))
    elif name == "unlink":
        yield ("removed", os.fsdecode(quoted(arguments)[0]))
    elif path is None or not path.startswith(str(directory)):
        return
    elif name == "pwrite64":
        offset = int(arguments.rsplit(", ", 1)[1])
        yield ("written", path, offset, quoted(arguments)[-1][:result])
    elif name == "write":
        yield ("appended", path, quoted(arguments)[-1][:result])
    elif name == "ftruncate":
        yield ("truncated", path, int(arguments.rsplit(", ", 1)[1]))
    elif name in {"fsync", "fdatasync"}:
        yield ("synced", path)


def path_of(arguments):
    """Return the path of the descriptor that a call begins with."""
    found = re.search(r"^(?:\w+\()?\d+<((?:\\x[0-9a-f]{2})+)>", arguments)
    return os.fsdecode(unescaped(found[1])) if found else None


def quoted(arguments):
    return [unescaped(each) for each in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments)]


def unescaped(text):
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass
class File:
    """What is synced of a file, and what was done to it since."""

    synced: bytearray = field(default_factory=bytearray)
    since: list = field(default_factory=list)
    syncing: int = 0
    size: int = 0


class Disk:
    """Files below a directory as a disk has them, while calls are played back."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.files = {}
        self.names = {}
        """Names that a synced directory has, each with its file."""
        self.durable_names = {}
        self.made = {self.directory}
        self.durable_directories = {self.directory}

    def play(self, event):
        """Carry out one call."""
        kind, path = event[0], event[1]
        if kind == "said" or path is None or not path.startswith(self.directory):
            return
        if kind == "created":
            self.names.setdefault(path, File())
        elif kind == "made":
            self.made.add(path)
        elif kind == "removed":
            self.names.pop(path, None)
        elif path in self.made:
            if kind == "synced":
                self._sync_directory(path)
        elif kind == "sync begins":
            self.names[path].syncing = len(self.names[path].since)
        elif kind == "synced":
            self._sync(self.names[path])
        else:
            self._change(self.names[path], event)

    def _change(self, file, event):
        if event[0] == "appended":
            event = ("written", event[1], file.size, event[2])
        if event[0] == "written":
            file.size = max(file.size, event[2] + len(event[3]))
        else:
            file.size = event[2]
        file.since.append((event[0], *event[2:]))

    def _sync(self, file):
        done, file.since = file.since[: file.syncing], file.since[file.syncing :]
        for change in done:
            carry_out(file.synced, change)
        file.syncing = 0

    def _sync_directory(self, directory):
        for names in (self.names, self.durable_names):
            for path in [each for each in names if os.path.dirname(each) == directory]:
                if path in self.names:
                    self.durable_names[path] = self.names[path]
                else:
                    self.durable_names.pop(path, None)
        self.durable_directories |= {
            each for each in self.made if os.path.dirname(each) == directory
        }

    def image(self, into, *, lands):
        """Make the files as they may be: `lands` says which of the unsynced sectors are written."""
        for directory in sorted(self.durable_directories):
            (into / os.path.relpath(directory, self.directory)).mkdir(parents=True, exist_ok=True)
        for path, file in self.durable_names.items():
            if os.path.dirname(path) not in self.durable_directories:
                continue
            content = bytearray(file.synced)
            for change in file.since:
                for part in sectors_of(change):
                    if lands():
                        carry_out(content, part)
            (into / os.path.relpath(path, self.directory)).write_bytes(content)


def sectors_of(change):
    """Return a write in parts, as they may get to the disk one by one; a truncation is one."""
    if change[0] != "written":
        yield change
        return
    _, offset, content = change
    start = offset
    while start < offset + len(content):
        end = min(start - start % SECTOR + SECTOR, offset + len(content))
        yield ("written", start, content[start - offset : end - offset])
        start = end


def carry_out(content, change):
    """Do to the bytes of a file what was done to it."""
    if change[0] == "truncated":
        size = change[1]
        content.extend(bytes(max(0, size - len(content))))
        del content[size:]
        return
    _, offset, written = change
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(written)] = written
