"""Interpreters of an operator's: how a fork server begins in one, and what it has to have.

An agent's framework may need packages that do not agree with ours, so its fork server may be
another Python: of a virtual environment, of another version. It has its own search path and nothing
of ours: a finder knows the one name `frontdesk`, and beyond that only msgspec has to be there. The
keeper starts such fork servers (`forkservers.py`), and they tell it what they lack.
"""

from __future__ import annotations

from pathlib import Path

OLDEST_PYTHON = (3, 11)
OLDEST_MSGSPEC = (0, 20)

_PYTHON = "{}.{}".format(*OLDEST_PYTHON)
_MSGSPEC = "msgspec>={}.{}".format(*OLDEST_MSGSPEC)
_PLACE = str(Path(__file__).parents[2])

_ENTER = f"""
import sys
sys.path[:] = [each for each in sys.path if each]
def refuse(problem):
    import json, os
    error = {{"type": "prepared", "error": problem}}
    os.write(int(sys.argv[1]), json.dumps(error).encode("ascii"))
    sys.exit(1)
if sys.version_info < {OLDEST_PYTHON!r}:
    version = "%d.%d.%d" % tuple(sys.version_info[:3])
    refuse("Python %s cannot serve agents: it takes {_PYTHON} or newer" % version)
from importlib.machinery import PathFinder
class Frontdesk:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{_PLACE!r}]) if name == "frontdesk" else None
sys.meta_path.insert(0, Frontdesk)
install = "install it there: %s -m pip install '{_MSGSPEC}'" % sys.executable
try:
    import msgspec
    version = tuple(map(int, msgspec.__version__.split(".")[:2]))
except Exception as error:
    refuse("msgspec cannot be imported (%s); %s" % (error, install))
if version < {OLDEST_MSGSPEC!r}:
    refuse("its msgspec is %s, which is too old; %s" % (msgspec.__version__, install))
import runpy
runpy.run_module("frontdesk.keeper.forkserver", run_name="__main__", alter_sys=True)
"""
"""What another interpreter runs as a fork server, with the number of its channel. Up to where its
version is known to do, it is written so that any Python can say that it does not."""


def command_of(interpreter: str, *, channel: int) -> tuple[str, ...]:
    """Return the command line of another interpreter that is to be a fork server."""
    return (interpreter, "-c", _ENTER, str(channel))
