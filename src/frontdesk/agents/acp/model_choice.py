"""Which model an ACP agent answers with: the choice that it offers, by the names of clients.

Agents offer their models as one of the session's options, or offer none.
"""

from __future__ import annotations

from typing import Any

from acp.schema import SessionConfigOptionSelect, SessionConfigSelectGroup

DEFAULT = "default"
"""The name by which clients ask for whatever model the agent has chosen itself."""

_CATEGORY = "model"


class ModelChoice:
    """What an agent offers. `option_id` is what the choice is called there."""

    __slots__ = ("_first", "_named", "current", "option_id")

    def __init__(self, option: SessionConfigOptionSelect) -> None:
        self.option_id = option.id
        self.current = self._first = option.current_value
        self._named: dict[str, str] = {}
        for each in option.options:
            alike = each.options if isinstance(each, SessionConfigSelectGroup) else [each]
            self._named |= {one.value: one.name for one in alike}

    @classmethod
    def among(cls, options: list[Any] | None) -> ModelChoice | None:
        """Return the choice of models among a session's options; None where there is none."""
        for option in options or ():
            if isinstance(option, SessionConfigOptionSelect) and (
                _CATEGORY in (option.category, option.id)
            ):
                return cls(option)
        return None

    def value_of(self, model: str) -> str | None:
        """Return the agent's own value for a model: by value, by name, or by its last part.

        None where it has no such model, or more than one of that last part.
        """
        if model == DEFAULT:
            return self._first
        if model in self._named:
            return model
        found = {value for value, name in self._named.items() if model == name} or {
            value for value in self._named if value.rpartition("/")[2] == model
        }
        return found.pop() if len(found) == 1 else None

    def __str__(self) -> str:
        named = ", ".join(list(self._named)[:10])
        return f"{named}, ..." if len(self._named) > 10 else named
