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

_INTERPRETER = (
    "PATH",
    "LANG",
    "LC_*",
    "LD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONUTF8",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
)


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


def interpreter_environment(path: Iterable[str] | None = None) -> dict[str, str]:
    """Return what a Python process of ours needs to start with the modules of this one."""
    environment = _picked(_INTERPRETER, os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(search_path() if path is None else path)
    return environment


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
