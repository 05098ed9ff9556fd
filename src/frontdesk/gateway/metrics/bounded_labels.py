"""What labels may be: everything that callers or time can make more of has a bound.

Two hundred tenants, the first that come, have their names; the blueprints and models of the
configuration have theirs; the rest is `_other`. Workers agree on the tenants through a file, for
they are counted together.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from frontdesk.agents.blueprints import Blueprint

OTHER = "_other"
MAX_TENANTS = 200
MAX_MODEL_NAMES = 1000
"""Names of models, as clients write them, whose label is remembered."""


class TenantNames:
    """The tenants that have a label of their own; with a `file`, of all workers."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._names: dict[str, str] = {}

    def label(self, tenant_id: str) -> str:
        """Return what a tenant is called."""
        name = self._names.get(tenant_id)
        if name is not None:
            return name
        if len(self._names) < MAX_TENANTS:
            self._add(tenant_id)
        return self._names.get(tenant_id, OTHER)

    def _add(self, tenant_id: str) -> None:
        if self._file is None:
            self._names[tenant_id] = tenant_id
            return
        try:
            names = _with_name(self._file, tenant_id)
        except OSError:
            return  # a disk that is full makes nobody's name; it is tried again
        self._names = {each: each for each in names}


def _with_name(file: Path, name: str) -> list[str]:
    """Add a name to a file that several processes write, if there is room; return all."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # Held while one line is read and written; it goes with its holder.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        *names, torn = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().split("\n")
        if torn:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(torn.encode()))
        if name not in names and len(names) < MAX_TENANTS:
            os.write(descriptor, f"{name}\n".encode())
            names.append(name)
        return names
    finally:
        os.close(descriptor)


class OfferedNames:
    """The blueprints and models of the configuration, as it is now."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._patterns: frozenset[str] = frozenset()
        self._models: dict[str, str] = {}

    def follow(self, blueprints: Collection[Blueprint]) -> None:
        """Go by these from now on."""
        self._known = {each.name: each.name for each in blueprints}
        self._patterns = frozenset(each for one in blueprints for each in one.models) - {"*"}
        self._models.clear()

    def blueprint(self, name: str) -> str:
        """Return what a blueprint is called."""
        return self._known.get(name, OTHER)

    def model(self, name: str) -> str:
        """Return what a model is called: its name, or the pattern of the configuration for it."""
        label = self._models.get(name)
        if label is None:
            if len(self._models) >= MAX_MODEL_NAMES:
                self._models.clear()
            label = self._models[name] = self._label_of_model(name)
        return label

    def _label_of_model(self, name: str) -> str:
        if name in self._patterns:
            return name
        # The longest is the one that says most.
        matching = [each for each in self._patterns if fnmatchcase(name, each)]
        return max(matching, key=lambda each: (len(each), each), default=OTHER)
