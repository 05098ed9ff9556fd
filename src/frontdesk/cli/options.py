"""Options that several commands share, and the configuration that they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    # Late: most commands answer without it.
    from frontdesk.gateway.config import Around
    from frontdesk.gateway.settings import Config

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file; frontdesk.toml if there is one."),
]
StateDirectory = Annotated[
    Path | None,
    typer.Option("--state-dir", help="Where keys, the meter and conversations are kept."),
]
DEVELOPMENT_STATE: Path = Path(".frontdesk-dev")
"""Where development runs have theirs, without that option."""

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON; an error is one object on standard error."),
]


def beside(path: Path | None) -> Path:
    """Return the directory of a configuration: what it names as the operator's own lies there."""
    return path.parent if path is not None else Path()


def other_state(directory: Path) -> str | None:
    """Return a hint where a development run has its state here, and another directory is meant."""
    if not DEVELOPMENT_STATE.is_dir() or directory.absolute() == DEVELOPMENT_STATE.absolute():
        return None
    return f"that of development runs is named with --state-dir {DEVELOPMENT_STATE}"


def loaded(
    path: Path | None, *, around: Around = lambda _: (), cluster: str | None = None, **server: Any
) -> Config:
    """Return the configuration with the command line's options over it."""
    from frontdesk.gateway.config import load_config

    given: dict[str, Any] = {name: value for name, value in server.items() if value is not None}
    overrides: dict[str, Any] = {"server": given} if given else {}
    if cluster is not None:
        overrides["cluster"] = {"url": cluster}
    return load_config(path=path, overrides=overrides, around=around)
