"""Import what a configuration names as `module:name`: programs, tools, filters.

One place, so that every setting that names something takes the same notation. Only an operator's
words come here; a client can never make the gateway import anything.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def import_target(target: str) -> Any:
    """Return what a target names; a name may have dots.

    Raises what the import raises, which an operator's module decides (`SystemExit` included).

    Examples:
        >>> import_target("collections:OrderedDict.fromkeys").__name__
        'fromkeys'
    """
    module, _, path = target.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found
