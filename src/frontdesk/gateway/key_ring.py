"""The ring of keys: all that open the gateway now, wherever they come from.

Above the keys and their file, below `auth.py`, which asks it for every request. It follows what
other processes do to the file, and says there, sparingly, when each key was used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.key_file import KeyFile
from frontdesk.gateway.keys import KEY_PREFIX, Key, conflicts, digest_of

USE_WRITTEN_EVERY_MS = 60_000


class KeyRing:
    """All keys that open the gateway now: of the file, the environment, and of this run.

    Raises `ConfigurationWrong` where two of them have one secret or one id.
    `find` costs one hash and one dict lookup. The ring is replaced as a whole, so that a look-up
    sees either the old keys or the new ones.
    """

    __slots__ = (
        "_by_digest",
        "_by_id",
        "_changed",
        "_file",
        "_fixed",
        "_unwritten",
        "_version",
        "_written",
    )

    def __init__(self, *, file: KeyFile | None, fixed: Iterable[Key] = ()) -> None:
        self._file = file
        self._fixed = tuple(fixed)
        self._version = file.version() if file else None
        self._changed = False
        self._by_digest: Mapping[bytes, Key] = {}
        self._by_id: Mapping[str, Key] = {}
        self._unwritten: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self.check(self._fixed)
        self.reload()

    def find(self, secret: str, *, now_ms: int) -> Key | None:
        """Return the key of this secret, None where there is none or it has expired.

        One that was made a moment ago is there: the file is looked at before a secret of our form
        is held to be wrong.
        """
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        if key is None and secret.startswith(KEY_PREFIX) and self._read_changes():
            self._changed = True
            key = self._by_digest.get(digest)
        return key if key is not None and digest in key.digests(now_ms) else None

    def named(self, key_id: str) -> Key | None:
        """Return the key of this id, also one that has expired; None where there is none."""
        return self._by_id.get(key_id)

    def replace_fixed(self, keys: Iterable[Key]) -> None:
        """Take other keys from the environment; `check` them before."""
        self._fixed = tuple(keys)
        self.reload()

    def check(self, fixed: Iterable[Key]) -> None:
        """Raise `ConfigurationWrong` where keys of the environment do not go with the file's."""
        kept = self._file.all() if self._file else []
        # Of two keys with one secret, only one would be found: whose, nobody could tell.
        if found := conflicts((*kept, *fixed)):
            raise ConfigurationWrong("the set of keys", mistakes=tuple(found))

    def reload(self) -> None:
        """Read the file again."""
        keys = (*(self._file.all() if self._file else []), *self._fixed)
        self._by_digest = MappingProxyType({d: key for key in keys for d in key.digests(0)})
        self._by_id = MappingProxyType({key.key_id: key for key in keys})

    def refresh(self) -> bool:
        """Follow changes that other processes made to the file; say whether the keys differ.

        Costs one PRAGMA where nothing changed. A file that is locked for the moment is looked at
        again the next time. What `find` has read since the last time counts.
        """
        changed, self._changed = self._read_changes() or self._changed, False
        return changed

    def _read_changes(self) -> bool:
        if self._file is None:
            return False
        before = self._by_id
        try:
            version = self._file.version()
            if version == self._version:
                return False
            self.reload()
        except sqlite3.OperationalError:
            return False
        self._version = version
        return self._by_id != before

    # -- last uses -------------------------------------------------------------------------------

    def on_used(self, key_id: str, *, now_ms: int) -> None:
        """Remember that a key was used; once a minute that is worth a write."""
        known = key_id in self._by_id
        if known and now_ms - self._written.get(key_id, 0) >= USE_WRITTEN_EVERY_MS:
            self._unwritten[key_id] = self._written[key_id] = now_ms

    def write_uses(self) -> None:
        """Write what there is of it to the file, which may be locked: then the next time."""
        if self._file is None or not self._unwritten:
            return
        try:
            self._file.write_last_uses(self._unwritten)
        except sqlite3.OperationalError:
            return
        self._unwritten.clear()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)
