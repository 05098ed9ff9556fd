"""Reading the configuration: `frontdesk.toml`, the environment over it, the command line over both.

Above `settings.py`, which says what there is to set; below the command line and the reload. What it
adds is where: every mistake in a file is listed in one go, each with its line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.settings import Config

DEFAULT_FILE = Path("frontdesk.toml")

Location = tuple[str | int, ...]
Table = dict[str, Any]


def load_config(*, path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration, or raise `ConfigurationWrong` with every mistake in it.

    `path` None reads `frontdesk.toml` in the working directory where there is one. `overrides` are
    the command line's, in the shape of the file.
    """
    text, source = "", "the configuration"
    if path is not None or DEFAULT_FILE.exists():
        source = str(path or DEFAULT_FILE)
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or "is not UTF-8"
            raise ConfigurationWrong(source, mistakes=(f"cannot be read: {problem}",)) from None
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationWrong(source, mistakes=(str(error),)) from None
    try:
        environment = EnvSettingsSource(Config)()
    except SettingsError as error:
        raise ConfigurationWrong("the environment", mistakes=(str(error),)) from None
    sources = _Sources(dict(overrides or {}), environment, file, text)
    try:
        return Config(**_merge(_merge(file, environment), sources.command_line))
    except ValidationError as error:
        raise ConfigurationWrong(source, mistakes=sources.mistakes(error)) from None


def _merge(below: Table, above: Table) -> Table:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        both = isinstance(under, dict) and isinstance(value, dict)
        merged[name] = _merge(under, value) if both else value  # type: ignore[arg-type]
    return merged


# -- where a mistake is --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where each value came from. Later ones lie below earlier ones."""

    command_line: Table
    environment: Table
    file: Table
    text: str

    def mistakes(self, error: ValidationError) -> tuple[str, ...]:
        lines = dict(lines_of(self.text))
        found = [self._placed(each, lines) for each in error.errors(include_url=False)]
        return tuple(sentence for _, sentence in sorted(found, key=itemgetter(0)))

    def _placed(self, mistake: Mapping[str, Any], lines: Mapping[Location, int]) -> tuple[int, str]:
        """Return a mistake's line, 0 where it is in no file, and its sentence with its place."""
        location: Location = tuple(part for part in mistake["loc"] if part != "[key]")
        if location[:1] == ("blueprints",):
            # As the file has it: Pydantic adds the kind of a blueprint to its path.
            location = (*location[:2], *location[3:])
        # The source that has the longest part of the location wrote what is wrong there; where
        # several have it, the topmost one, as it is that one's value that counts.
        sources = (self.command_line, self.environment, self.file)
        origin = max(sources, key=lambda table: _depth(table, location))
        # The nearest that is written: a mistake inside an inline table or array is on its line.
        prefixes = [location[:length] for length in range(len(location), 0, -1)]
        line = next((lines[prefix] for prefix in prefixes if prefix in lines), 0)
        line = line if origin is self.file else 0
        if line:
            place = f"line {line}"
        elif origin is self.environment:
            place = "FRONTDESK_" + "__".join(str(part).upper() for part in location)
        else:
            place = "the command line" if origin is self.command_line else "the file"
        unknown = mistake["type"] == "extra_forbidden"
        problem = "there is no such setting" if unknown else str(mistake["msg"])
        name = ".".join(str(part) for part in location)
        return line, f"{place}: {name}: {problem.removeprefix('Value error, ')}"


def _depth(table: Any, location: Location) -> int:
    """Return how much of a location a table has."""
    for depth, part in enumerate(location):
        if not isinstance(table, dict) or part not in table:
            return depth
        table = table[part]
    return len(location)


HEADER = re.compile(r"\s*\[\[?\s*(?P<name>[^\[\]]+?)\s*\]\]?\s*(#.*)?$")
ASSIGNMENT = re.compile(r"\s*(?P<name>(\"[^\"]*\"|'[^']*'|[A-Za-z0-9_.\- ])+?)\s*=(?P<value>.*)$")
PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
QUOTES = ('"""', "'''")


def lines_of(text: str) -> Iterator[tuple[Location, int]]:
    """Yield each table and key of a TOML text with its line. The text is known to be valid."""
    table: Location = ()
    closing: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            closing = None if closing in line else closing
            continue
        if header := HEADER.match(line):
            table = _parts(header["name"])
            yield table, number
        elif assignment := ASSIGNMENT.match(line):
            yield (*table, *_parts(assignment["name"])), number
            value = assignment["value"]
            closing = next((quotes for quotes in QUOTES if value.count(quotes) % 2), None)


def _parts(name: str) -> Location:
    return tuple(next(filter(None, match.groups()), "") for match in PART.finditer(name))
