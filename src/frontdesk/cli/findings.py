"""What checks of `frontdesk doctor` share: a finding, and what was examined so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frontdesk.errors import MissingExtra

if TYPE_CHECKING:
    from frontdesk.gateway.settings import Config

Result = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `advice` says what to do about it, where there is something to do."""

    check: str
    result: Result
    found: str
    advice: str | None = None


@dataclass(slots=True, kw_only=True)
class Examined:
    """What is looked at, and what of it is known by now.

    `config` is None where the configuration cannot be used.
    """

    config_file: Path | None = None
    state_dir: Path | None = None
    url: str | None = None
    key_file: Path | None = None
    config: Config | None = None


@contextmanager
def finding_out(findings: list[Finding], check: str) -> Iterator[None]:
    """Make a finding of whatever a check fails with: the others still go on."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = MissingExtra("gateway", part=check, missing=error.name or "one of its own")
        findings.append(Finding(check, "note", "not looked at", str(missing)))
    except Exception as error:  # noqa: BLE001 - a doctor that dies of a finding finds nothing
        sentence = " ".join(str(error).split()) or type(error).__name__
        findings.append(Finding(check, "wrong", sentence, "look at what it names"))
