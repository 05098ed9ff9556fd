"""Reading the configuration: `frontdesk.toml`, the environment over it, the command line over both.

Above `settings.py`, which says what there is to set; below the command line and the reload. What it
adds is where: every mistake in a file is listed in one go, each with its line.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, SettingsError

from frontdesk.gateway.config_mistakes import Location, sentence_of
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.settings import Config

DEFAULT_FILE = Path("frontdesk.toml")

Table = dict[str, Any]
Placed = tuple[int, str]
"""The line of a mistake, 0 where it is in no file, and its sentence."""

Around = Callable[[Config], Iterable[tuple[Location, str]]]
"""Says what is wrong around a configuration: the place of each mistake, and what it is."""

PREFIX = "FRONTDESK_"
OTHER_VARIABLES = ("INSECURE", "KEY", "KEYS", "NO_PIDFD", "URL")
"""Ours, too, and no settings."""


def load_config(
    *,
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    around: Around = lambda _: (),
) -> Config:
    """Return the configuration, or raise `ConfigurationWrong` with every mistake in it.

    `path` None reads `frontdesk.toml` in the working directory where there is one. `overrides` are
    the command line's, in the shape of the file. `around` says what else is wrong, by its place: it
    is asked about what is right by itself, also where something else is not.
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
    _find_interpreters(file, Path(source).parent)
    try:
        environment = _Environment(Config)()
    except SettingsError as error:
        raise ConfigurationWrong("the environment", mistakes=(str(error),)) from None
    sources = _Sources(dict(overrides or {}), environment, file, text)
    config, mistakes = sources.config()
    mistakes += [sources.placed(location, problem) for location, problem in around(config)]
    mistakes += misspelt_variables()
    if mistakes:
        sentences = tuple(sentence for _, sentence in sorted(mistakes, key=itemgetter(0)))
        raise ConfigurationWrong(source, mistakes=sentences)
    return config


class _Environment(EnvSettingsSource):
    """The environment, where the variable of the cluster's table may be its URL alone."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if field_name == "cluster" and isinstance(value, str) and not value.startswith("{"):
            return {"url": value}
        return super().decode_complex_value(field_name, field, value)


def _find_interpreters(file: Table, directory: Path) -> None:
    """Make the interpreters that a file names by a relative path those beside it."""
    tables = file.get("blueprints")
    for table in tables.values() if isinstance(tables, dict) else ():
        python = table.get("python") if isinstance(table, dict) else None
        # A bare name is not beside anything: it is looked for in PATH.
        if isinstance(python, str) and os.sep in python:
            table["python"] = os.path.abspath(directory / python)


def _merge(below: Table, above: Table) -> Table:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        both = isinstance(under, dict) and isinstance(value, dict)
        merged[name] = _merge(under, value) if both else value  # type: ignore[arg-type]
    return merged


def misspelt_variables() -> list[Placed]:
    """Return the variables of the environment that look like ours and set nothing."""
    tables = [name.upper() for name in Config.model_fields]
    found: list[Placed] = []
    for variable in os.environ:
        table, *names = variable.upper().removeprefix(PREFIX).split("__")
        if not variable.upper().startswith(PREFIX) or table in (*tables, *OTHER_VARIABLES):
            continue
        near = difflib.get_close_matches(table, (*tables, *OTHER_VARIABLES), n=1)
        hint = f"; is {PREFIX}{'__'.join((near[0], *names))} meant?" if near else ""
        found.append((0, f"{variable}: there is no such setting{hint}"))
    return found


# -- where a mistake is --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where each value came from. Later ones lie below earlier ones."""

    command_line: Table
    environment: Table
    file: Table
    text: str

    def config(self) -> tuple[Config, list[Placed]]:
        """Return what the sources say, without what is wrong in them, and what that is."""
        tables = _merge(_merge(self.file, self.environment), self.command_line)
        mistakes: list[Placed] = []
        while True:
            try:
                return Config(**tables), mistakes
            except ValidationError as error:
                for each in error.errors(include_url=False):
                    location = _as_written(each["loc"])
                    mistakes.append(self.placed(location, sentence_of(each, location), named=True))
                    tables = _without(tables, location)

    def placed(self, location: Location, problem: str, *, named: bool = False) -> Placed:
        """Return a mistake's line, 0 where it is in no file, and its sentence with its place."""
        # The source that has the longest part of the location wrote what is wrong there. Where
        # several have it: of a value the topmost one, as it is that one's value that counts; of a
        # table the lowest, as the others have only added to it.
        sources = (self.command_line, self.environment, self.file)
        depths = [_depth(table, location) for table in sources]
        owners = [each for each, depth in zip(sources, depths, strict=True) if depth == max(depths)]
        is_value = max(depths) > 0 and not isinstance(_value_at(owners[0], location), dict)
        origin = owners[0] if is_value else owners[-1]
        # The nearest that is written: a mistake inside an inline table or array is on its line.
        lines = dict(lines_of(self.text))
        prefixes = [location[:length] for length in range(len(location), 0, -1)]
        line = next((lines[prefix] for prefix in prefixes if prefix in lines), 0)
        line = line if origin is self.file else 0
        name = ".".join(str(part) for part in location)
        sentence = problem if named else f"{name}: {problem}"
        if line:
            return line, f"line {line}: {sentence}"
        if origin is self.environment:
            variable = PREFIX + "__".join(str(part).upper() for part in location)
            return 0, f"{variable}: {sentence}"
        return 0, f"the command line: {sentence}" if origin is self.command_line else sentence


def _as_written(location: Location) -> Location:
    """Return a place as the file has it: the validator adds the kind of a blueprint to its path."""
    location = tuple(part for part in location if part != "[key]")
    return (*location[:2], *location[3:]) if location[:1] == ("blueprints",) else location


def _without(tables: Table, location: Location) -> Table:
    """Return the tables without what is wrong in them: a setting, or a blueprint's whole table."""
    kept = location[: 2 if location[:1] in (("blueprints",), ("tenants",)) else None]
    if not kept or kept[0] not in tables:
        return {name: table for name, table in tables.items() if name != "default_blueprint"}
    inner = tables[kept[0]]
    if len(kept) == 1 or not isinstance(inner, dict) or kept[1] not in inner:
        return {name: table for name, table in tables.items() if name != kept[0]}
    return {**tables, kept[0]: {name: each for name, each in inner.items() if name != kept[1]}}


def _depth(table: Any, location: Location) -> int:
    """Return how much of a location a table has."""
    for depth, part in enumerate(location):
        if not isinstance(table, dict) or part not in table:
            return depth
        table = table[part]
    return len(location)


def _value_at(table: Any, location: Location) -> Any:
    for part in location[: _depth(table, location)]:
        table = table[part]
    return table


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
