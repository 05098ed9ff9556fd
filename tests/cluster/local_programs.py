"""Programs with a local engine in them, for tests in which one of them dies; bounds of waits."""

import asyncio
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager

from support.programs import local_cluster as programs

PATIENCE_S = 60
PROGRAM = programs.__file__


@contextmanager
def program(*arguments):
    """Run a program of the local cluster; give it and the first line that it prints."""
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def program_in_thread(*arguments):
    """Run a program beside an event loop, which it needs to become ready."""
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        reader = threading.Thread(target=lambda: lines.append(process.stdout.readline().strip()))
        reader.start()
        try:
            yield process, lambda: lines and lines[0]
        finally:
            process.kill()
            reader.join()


@asynccontextmanager
async def bound():
    async with asyncio.timeout(PATIENCE_S):
        yield
