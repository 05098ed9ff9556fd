"""Modules of a directory that never stand in for others: found when nobody else has the name.

An operator's modules lie beside the configuration, where a file may have the name of a package
(anthropic, say). In the search path, even as its last entry, such a file would be taken for a
package that is installed as parts (`google`, `opentelemetry`: packages without an `__init__.py`).
So the directory is in a finder of its own, behind all others; used by the gateway and by fork
servers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class ModulesBehind(MetaPathFinder):
    """Find the modules of a directory that no other finder knows."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # With a path it is about a part of a package, which knows where its parts are.
        return PathFinder.find_spec(fullname, [self.directory], target) if path is None else None


def directories_behind() -> tuple[str, ...]:
    """Return the directories whose modules are found behind all others."""
    return tuple(each.directory for each in sys.meta_path if isinstance(each, ModulesBehind))


def find_behind(directories: Iterable[str | Path]) -> None:
    """Find the modules of directories too, from now on.

    Also where the search path has them, as that of another interpreter has not.
    """
    for each in directories:
        directory = str(Path(each).resolve())
        if directory not in directories_behind():
            sys.meta_path.append(ModulesBehind(directory))
