"""The cells that numbers are in: one for each series, in memory or in a file of a worker.

Below the instruments. A file is mapped into memory and made whole before it is used: adding to a
cell is a store to memory, which no full disk can break, and what a process has stored there
outlives it, however it ends. Its successor of the same number goes on with the same cells. Which
cell is which series is in the file too, as one line of JSON each, written before they are counted.

    0         what kind of file it is
    64        how many bytes of lines there are
    128       the lines, MAX_TEXT_BYTES of room
    ...       the cells, MAX_CELLS doubles

One process writes; any number read, without a lock. While it lives, the writer holds a lock on the
file, of which the kernel lets go when it dies: so readers know whether its gauges count.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

MAX_CELLS = 65_536
MAX_TEXT_BYTES = 4 * 1024 * 1024
RESERVED_CELLS, RESERVED_BYTES = 2048, 256 * 1024
"""Room that only what stands for all the rest (`_other`) may take."""
MAGIC = b"frontdesk metrics 1\n"
LENGTH_AT, TEXT_AT = 64, 128
CELLS_AT = TEXT_AT + MAX_TEXT_BYTES
FILE_BYTES = CELLS_AT + 8 * MAX_CELLS
LOCK_S = 0.5

SeriesKey = tuple[str, ...]
"""A metric's name, which of its cells it is (of a counter or gauge the empty one), its labels."""

logger: logging.Logger = logging.getLogger("frontdesk.gateway")


@dataclass(frozen=True, slots=True)
class CountedCells:
    """What one process has counted until now, or until it died."""

    alive: bool
    values: dict[SeriesKey, float]


class MetricCells:
    """The cells of this process. Belongs to one event loop; others read the file.

    Without a file, or where it cannot be made, they are in memory alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._descriptor: int | None = None
        self._map: mmap.mmap | None = None
        if file is not None:
            try:
                self._map = self._mapped(file)
            except OSError as error:
                problem = "the metrics of this worker are not in those of the others"
                logger.warning("%s cannot be used, %s: %s", file, problem, error.strerror)
        if self._map is None:
            self._map = mmap.mmap(-1, FILE_BYTES)
            self._map[: len(MAGIC)] = MAGIC
        view = memoryview(self._map)
        self.values: memoryview[float] = view[CELLS_AT:].cast("d")
        self._length = view[LENGTH_AT : LENGTH_AT + 8].cast("Q")
        keys = keys_in(self._map)
        self._cells: dict[SeriesKey, int] = {key: at for at, key in enumerate(keys)}

    def _mapped(self, file: Path) -> mmap.mmap:
        """Map the file; what is none of ours, or too short, begins anew."""
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size != FILE_BYTES or not _is_ours(self._descriptor):
            # Written, not only made longer: a page that the disk has no room for would be a SIGBUS
            # when it is first stored to.
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, bytes(FILE_BYTES), 0)
            os.pwrite(self._descriptor, MAGIC, 0)
        return mmap.mmap(self._descriptor, FILE_BYTES)

    def begin(self) -> None:
        """Have the gauges count from now on: for as long as this process lives."""
        if self._descriptor is None:
            return
        until_s = time.monotonic() + LOCK_S
        while time.monotonic() < until_s:
            with suppress(BlockingIOError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            # Somebody is just looking whether it is held, which takes no time.
            time.sleep(0.001)

    def close(self) -> None:
        """Have the gauges count no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def cells(self, *keys: SeriesKey, reserved: bool = False) -> int | None:
        """Return the first of the cells of these keys, which lie side by side.

        None where there is no room for them. `reserved` may use what is kept for `_other`.
        """
        if (found := self._cells.get(keys[0])) is not None:
            return found
        lines = b"".join(msgspec.json.encode(key) + b"\n" for key in keys)
        at, length = len(self._cells), self._length[0]
        cells_left = MAX_CELLS - at - (0 if reserved else RESERVED_CELLS)
        bytes_left = MAX_TEXT_BYTES - length - (0 if reserved else RESERVED_BYTES)
        if len(keys) > cells_left or len(lines) > bytes_left:
            return None
        assert self._map is not None
        self._map[TEXT_AT + length : TEXT_AT + length + len(lines)] = lines
        # Last, and in one store: killed before it, the lines were never there.
        self._length[0] = length + len(lines)
        for number, key in enumerate(keys):
            self._cells[key] = at + number
        return at

    def counted(self) -> CountedCells:
        """Return all numbers of this process."""
        return CountedCells(True, {key: self.values[at] for key, at in self._cells.items()})


def read_cells(file: Path) -> CountedCells | None:
    """Return what another process has counted, None where there is no such file, or none yet."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_size != FILE_BYTES:
            return None
        # Before the numbers are read: one that dies meanwhile has gauges of just now.
        alive = _is_locked(descriptor)
        with mmap.mmap(descriptor, FILE_BYTES, prot=mmap.PROT_READ) as mapped:
            if mapped[: len(MAGIC)] != MAGIC:
                return None
            keys = keys_in(mapped)
            with _cells_of(mapped) as values:
                return CountedCells(alive, dict(zip(keys, values, strict=False)))
    finally:
        os.close(descriptor)


def remove_cells(directory: Path) -> None:
    """Begin anew: a service that starts has counted nothing, and no worker writes yet."""
    for file in directory.iterdir():
        file.unlink(missing_ok=True)


def keys_in(mapped: mmap.mmap) -> list[SeriesKey]:
    """Return the series that a file has, in the order of their cells."""
    length = int.from_bytes(mapped[LENGTH_AT : LENGTH_AT + 8], "little")
    text = mapped[TEXT_AT : TEXT_AT + min(length, MAX_TEXT_BYTES)]
    return [_decoder.decode(line) for line in text.splitlines()]


_decoder = msgspec.json.Decoder(tuple[str, ...])


@contextmanager
def _cells_of(mapped: mmap.mmap) -> Iterator[memoryview[float]]:
    with memoryview(mapped) as whole, whole[CELLS_AT:] as part, part.cast("d") as values:
        yield values


def _is_ours(descriptor: int) -> bool:
    return os.pread(descriptor, len(MAGIC), 0) == MAGIC


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
