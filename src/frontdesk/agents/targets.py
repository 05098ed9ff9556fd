"""Import what a configuration names as `module:name`: programs, tools, filters.

One place, so that every setting that names something takes the same notation. Only an operator's
words come here; a client can never make the gateway import anything.
"""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from frontdesk.agents.errors import CreateFailed
from frontdesk.keeper.modules_behind import directories_behind

_log = logging.getLogger("frontdesk.agents")


def import_target(target: str) -> Any:
    """Return what a target names; a name may have dots.

    Raises what the import raises, which an operator's module decides (`SystemExit` included). Where
    another module of this name comes before the one that was meant, the `ImportError` says so.

    Examples:
        >>> import_target("collections:OrderedDict.fromkeys").__name__
        'fromkeys'
    """
    module, _, path = target.partition(":")
    found: Any = None
    try:
        found = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (AttributeError, ModuleNotFoundError) as error:
        if (reason := why_another(module.partition(".")[0])) is not None:
            raise ImportError(f"{error}; {reason}") from error
        if (
            isinstance(error, AttributeError)
            and (near := closest_name(found, error.name)) is not None
        ):
            raise AttributeError(f"{error}; is {near!r} meant?", name=error.name) from error
        raise
    return found


@contextmanager
def building(what: str, *, target: str) -> Iterator[None]:
    """Let an operator's function build what a session runs; what goes wrong is `CreateFailed`.

    One that the function raises itself is for the client, as it is; of anything else the client
    reads the type, and the log the rest.
    """
    try:
        yield
    except CreateFailed:
        raise
    except Exception as error:
        _log.exception("%s returned no %s", target, what)
        raise CreateFailed(f"the {what} cannot be built ({type(error).__name__})") from error


def closest_name(found: Any, name: str | None) -> str | None:
    """Return the name that was perhaps meant for one that is not there."""
    return next(iter(difflib.get_close_matches(name or "", dir(found), n=1)), None)


def require_module(target: str) -> None:
    """Raise `ModuleNotFoundError` where a target's module is not there; it is not run."""
    package = target.partition(":")[0].partition(".")[0]
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"no module named {package!r}")


def why_another(name: str) -> str | None:
    """Say which file of a module's name was not imported, as another came before it."""
    module = sys.modules.get(name)
    if module is None:
        return None  # it is not another one's: it failed by itself
    file = getattr(module, "__file__", None) or "another module"
    for place in (*sys.path, *directories_behind()):
        spec = PathFinder.find_spec(name, [place])
        if spec is not None and spec.origin not in (None, file):
            return f"{spec.origin} is behind {file}: rename it"
    return None
