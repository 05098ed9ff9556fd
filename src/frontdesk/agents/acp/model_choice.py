"""Which model an ACP agent answers with: the choice that it offers, by the names of clients.

Agents offer their models as one of the session's options, or, as the protocol had it before, beside
the options; some offer none. What was asked for is what answers, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from acp.meta import AGENT_METHODS
from acp.schema import (
    SessionConfigOptionSelect,
    SessionConfigSelectGroup,
    SetSessionConfigOptionSelectRequest,
)
from pydantic import BaseModel

from frontdesk.agents.acp.agent_answers import (
    Option,
    ReopenedSession,
    SetModel,
    options_in,
)

DEFAULT = "default"
"""The name by which clients ask for whatever model the agent has chosen itself."""

SET_MODEL = "session/set_model"
"""The method by which a model is chosen where it is no option; the SDK no longer has it."""

_CATEGORY = "model"


class ModelChoice:
    """What an agent offers. `option_id` is the option that the choice is, None where it is none.

    `current` is the agent's own value for the model that answers. Where it offers nothing, only
    `default` can be asked for.
    """

    __slots__ = ("_first", "_named", "current", "option_id")
    current: str | None
    option_id: str | None

    def __init__(
        self, named: dict[str, str], *, current: str | None = None, option_id: str | None = None
    ) -> None:
        self._named, self._first = named, current
        self.current, self.option_id = current, option_id

    @classmethod
    def of(cls, session: ReopenedSession) -> ModelChoice:
        """Return the choice that a session comes with."""
        option = _model_option(options_in(session.config_options) or ())
        if option is not None:
            return cls(named_in(option), current=option.current_value, option_id=option.id)
        models = session.models if isinstance(session.models, dict) else {}
        available, current = models.get("availableModels"), models.get("currentModelId")
        named = {}
        for each in available if isinstance(available, list) else ():
            if isinstance(each, dict) and isinstance(value := each.get("modelId"), str):
                named[value] = str(each.get("name") or value)
        return cls(named, current=current if isinstance(current, str) else None)

    @property
    def offered(self) -> bool:
        """Say whether there is anything to choose from."""
        return bool(self._named)

    def value_of(self, model: str) -> str | None:
        """Return the agent's own value for a model: by value, by name, or by its last part.

        None where it has no such model, or more than one of that last part.
        """
        if model == DEFAULT:
            return self._first
        if model in self._named or model == self.current:
            return model
        found = {value for value, name in self._named.items() if model == name} or {
            value for value in self._named if value.rpartition("/")[2] == model
        }
        return found.pop() if len(found) == 1 else None

    def request(self, session_id: str, value: str) -> tuple[str, BaseModel]:
        """Return the method and the parameters that have the agent change its model."""
        if self.option_id is None:
            return SET_MODEL, SetModel(session_id=session_id, model_id=value)
        return AGENT_METHODS["session_set_config_option"], SetSessionConfigOptionSelectRequest(
            session_id=session_id, config_id=self.option_id, value=value
        )

    def current_in(self, options: Iterable[Any]) -> str | None:
        """Return the current value among the session's options, as they are now; keep the list."""
        option = _model_option(options)
        if option is None or option.id != self.option_id:
            return None
        self._named = named_in(option)
        return option.current_value

    def __str__(self) -> str:
        if not self._named:
            return "no choice of models: ask for default"
        named = ", ".join(list(self._named)[:10])
        return f"{named}, ..." if len(self._named) > 10 else named


def _model_option(options: Iterable[Any]) -> SessionConfigOptionSelect | None:
    for option in options:
        if isinstance(option, SessionConfigOptionSelect) and is_model(option):
            return option
    return None


def is_model(option: Option) -> bool:
    """Say whether an option of a session is the choice of its model."""
    return _CATEGORY in (option.category, option.id)


def named_in(option: SessionConfigOptionSelect) -> dict[str, str]:
    """Return the values of an option, each with the name that it has."""
    named: dict[str, str] = {}
    for each in option.options:
        alike = each.options if isinstance(each, SessionConfigSelectGroup) else [each]
        named |= {one.value: one.name for one in alike}
    return named
