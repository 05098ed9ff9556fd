"""Tenants' keys in small files of a directory, apart from what they seal."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from frontdesk.persistence.errors import ConversationUnreadable


class KeyFiles:
    """Store keys in a directory, which is made. What is removed is overwritten before."""

    __slots__ = ("_directory",)

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory

    def add(self, key_id: str, wrapped: bytes) -> None:
        """Store a key, synced to the disk."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(self._file(key_id), flags, 0o600), "wb") as file:
            file.write(wrapped)
            file.flush()
            os.fsync(file.fileno())
        self._sync_directory()

    def read(self, key_id: str) -> bytes:
        """Return a key; `ConversationUnreadable` where its file cannot be read."""
        try:
            return self._file(key_id).read_bytes()
        except OSError as error:
            raise ConversationUnreadable(f"its tenant's key: {error.strerror}") from None

    def remove(self, key_id: str) -> None:
        """Overwrite a key and remove it, synced to the disk."""
        place = self._file(key_id)
        with suppress(FileNotFoundError):
            with place.open("r+b") as file:
                file.write(bytes(place.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            place.unlink()
        self._sync_directory()

    def _file(self, key_id: str) -> Path:
        return self._directory / f"{key_id}.key"

    def _sync_directory(self) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(self._directory, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
