"""Which environment variables go where: nothing is inherited that was not named.

The gateway's own environment holds secrets (keys, the master secret); an agent gets the harmless
ones and those that its blueprint names.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

HARMLESS = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""What every agent process gets, where it is set."""

_ANY_INTERPRETER = (
    "PATH",
    "LANG",
    "LC_*",
    "PYTHONUTF8",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
)
_OUR_INTERPRETER = (*_ANY_INTERPRETER, "LD_LIBRARY_PATH", "PYTHONHOME")


_OURS = sorted({str(Path(__file__).parents[2]), str(Path(msgspec.__file__).parents[1])})

_ENTER = f"""
import sys
needed = {_OURS!r}
sys.path += [each for each in needed if each not in sys.path]
"""
"""How an interpreter of ours finds what it runs: behind all that it finds by itself."""


def allowed_environment(
    names: Iterable[str] = (),
    *,
    source: Mapping[str, str] | None = None,
    account: str | None = None,
) -> dict[str, str]:
    """Return the variables that are harmless or match one of `names` (shell-style patterns).

    `source` is this process's environment unless given. For an account of the agent's own, `HOME`,
    `USER` and `LOGNAME` are that account's; `KeyError` where there is none of this name.

    >>> allowed_environment(["OPENAI_*"], source={"OPENAI_API_KEY": "k", "FRONTDESK_KEYS": "s"})
    {'OPENAI_API_KEY': 'k'}
    """
    environment = _picked((*HARMLESS, *names), os.environ if source is None else source)
    if account is not None:
        entry = pwd.getpwnam(account)
        environment |= {"HOME": entry.pw_dir, "USER": account, "LOGNAME": account}
    return environment


def interpreter_environment(*, ours: bool = True) -> dict[str, str]:
    """Return what a Python process of ours needs to start; its modules come with `python`.

    One that is not `ours` has its libraries elsewhere, and finds them by itself.
    """
    return _picked(_OUR_INTERPRETER if ours else _ANY_INTERPRETER, os.environ)


def python(program: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a Python that runs a program's text and can import this package.

    Nothing else of our search path is in its own. Not as `PYTHONPATH` either: an interpreter looks
    through that first, and for modules of its own, like `sitecustomize`.
    """
    return (sys.executable, "-P", "-c", _ENTER + program, *arguments)


def search_path() -> tuple[str, ...]:
    """Return this process's module search path, absolute, so that it means the same elsewhere."""
    return tuple(os.path.abspath(entry) for entry in sys.path)


def _picked(patterns: Iterable[str], source: Mapping[str, str]) -> dict[str, str]:
    patterns = tuple(patterns)
    return {
        name: value
        for name, value in source.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
