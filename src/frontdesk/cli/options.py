"""Options that several commands share, and how a command fails: one clear sentence, code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from frontdesk.errors import FrontdeskError
from frontdesk.gateway.config import Around, load_config
from frontdesk.gateway.settings import Config

WRONG_USE = 2

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file; frontdesk.toml if there is one."),
]
StateDirectory = Annotated[
    Path | None, typer.Option("--state-dir", help="Where keys and the meter are kept.")
]


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn our errors into their sentence on standard error and exit code 2."""
    try:
        yield
    except FrontdeskError as error:
        typer.echo(f"frontdesk: {error}", err=True)
        raise typer.Exit(WRONG_USE) from None


def beside(path: Path | None) -> Path:
    """Return the directory of a configuration: what it names as the operator's own lies there."""
    return path.parent if path is not None else Path()


def loaded(
    path: Path | None, *, around: Around = lambda _: (), cluster: str | None = None, **server: Any
) -> Config:
    """Return the configuration with the command line's options over it."""
    given: dict[str, Any] = {name: value for name, value in server.items() if value is not None}
    overrides: dict[str, Any] = {"server": given} if given else {}
    if cluster is not None:
        overrides["cluster"] = {"url": cluster}
    return load_config(path=path, overrides=overrides, around=around)
