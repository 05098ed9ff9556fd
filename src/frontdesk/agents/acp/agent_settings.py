"""The settings of an ACP agent's session beside its model: modes, and whatever else it offers.

Agents offer them as the session's options, or, as the protocol had it before, modes beside the
options. An operator sets them by their ids; what the agent does not have, or does not change to, is
refused: a session that was to plan only and may write after all is a fault that nobody sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from acp.meta import AGENT_METHODS
from acp.schema import (
    SessionConfigOptionBoolean,
    SessionConfigOptionSelect,
    SetSessionConfigOptionBooleanRequest,
    SetSessionConfigOptionSelectRequest,
    SetSessionModeRequest,
)
from pydantic import BaseModel

from frontdesk.agents.acp.agent_answers import Option, ReopenedSession, options_in
from frontdesk.agents.acp.model_choice import is_model, named_in
from frontdesk.agents.acp.permissions import line_of
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.records import AgentOption, AgentOptionValue

MODE = "mode"
"""The id by which the modes of an agent are set that does not offer them as an option."""

MAX_OPTIONS = 50
"""Options of an agent that are listed, and values of each."""

OptionValue = str | bool


class AgentSettings:
    """What an agent offers, and how it is set now.

    `current` are the values by option.
    """

    __slots__ = ("_modes", "_options", "current")

    def __init__(self) -> None:
        self._options: dict[str, Option] = {}
        self._modes: dict[str, str] = {}
        self.current: dict[str, OptionValue] = {}

    def on_opened(self, session: ReopenedSession) -> None:
        """Take what a session comes with."""
        self.on_options(options_in(session.config_options) or [])
        modes = session.modes
        if MODE in self._options or not isinstance(modes, dict):
            return
        available, current = modes.get("availableModes"), modes.get("currentModeId")
        for each in available if isinstance(available, list) else ():
            if isinstance(each, dict) and isinstance(each.get("id"), str):
                self._modes[each["id"]] = str(each.get("name") or each["id"])
        if isinstance(current, str):
            self.current[MODE] = current

    def on_options(self, options: list[Option]) -> dict[str, OptionValue]:
        """Take the session's options as they are now; return what has changed."""
        found = {each.id: each for each in options if not is_model(each)}
        former, values = self.current, {name: each.current_value for name, each in found.items()}
        self._options = found
        self.current = former | values
        return {name: value for name, value in values.items() if former.get(name) != value}

    def on_mode(self, mode: Any) -> dict[str, OptionValue]:
        """Take the mode that the agent is in now; return what has changed."""
        name = self._mode_option or MODE
        if not isinstance(mode, str) or self.current.get(name) == mode:
            return {}
        self.current[name] = mode
        return {name: mode}

    def value_of(self, name: str, wanted: OptionValue) -> tuple[str, OptionValue]:
        """Return an option's id and the agent's own value for what is wanted; `CreateFailed`."""
        option = self._option(name)
        if option is None and not (name == MODE and self._modes):
            raise CreateFailed(f"the agent has no option {name!r}: it has {self._names()}")
        if isinstance(option, SessionConfigOptionBoolean):
            if not isinstance(wanted, bool):
                raise CreateFailed(f"the agent's option {name!r} is true or false")
            return option.id, wanted
        named = self._modes if option is None else named_in(option)
        for value, title in named.items():
            if wanted in (value, title):
                return (MODE if option is None else option.id), value
        raise CreateFailed(
            f"the agent's option {name!r} is never {wanted!r}: it is one of {', '.join(named)}"
        )

    def request(self, session_id: str, option_id: str, value: OptionValue) -> tuple[str, BaseModel]:
        """Return the method and the parameters that have the agent set an option."""
        if option_id not in self._options:
            return AGENT_METHODS["session_set_mode"], SetSessionModeRequest(
                session_id=session_id, mode_id=str(value)
            )
        names: dict[str, Any] = {"session_id": session_id, "config_id": option_id}
        return AGENT_METHODS["session_set_config_option"], (
            SetSessionConfigOptionBooleanRequest(**names, value=value, type="boolean")
            if isinstance(value, bool)
            else SetSessionConfigOptionSelectRequest(**names, value=value)
        )

    def listed(self) -> tuple[AgentOption, ...]:
        """Return what there is, as clients are listed it."""
        return tuple(self._listed())[:MAX_OPTIONS]

    # -- within --------------------------------------------------------------------------------

    def _listed(self) -> Iterator[AgentOption]:
        if self._modes:
            yield AgentOption(MODE, "Mode", self.current.get(MODE), values_of(self._modes))
        for option in self._options.values():
            named = named_in(option) if isinstance(option, SessionConfigOptionSelect) else {}
            name, now = line_of(option.name), self.current.get(option.id)
            yield AgentOption(line_of(option.id), name, now, values_of(named))

    @property
    def _mode_option(self) -> str | None:
        option = self._option(MODE)
        return None if option is None else option.id

    def _option(self, name: str) -> Option | None:
        """Return an option by its id, else the only one of this category."""
        if name in self._options:
            return self._options[name]
        alike = [each for each in self._options.values() if each.category == name]
        return alike[0] if len(alike) == 1 else None

    def _names(self) -> str:
        return ", ".join([*([MODE] if self._modes else []), *self._options]) or "none"


def values_of(named: Mapping[str, str]) -> tuple[AgentOptionValue, ...]:
    """Return the values of an option, with their names, as clients are listed them."""
    listed = [AgentOptionValue(line_of(value), line_of(name)) for value, name in named.items()]
    return tuple(listed[:MAX_OPTIONS])
