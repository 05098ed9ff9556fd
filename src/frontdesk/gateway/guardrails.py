"""Filters on what goes into agents and what comes out, for each tenant.

The session service asks them (they are its `Guardrails`); the configuration says what they refuse.
A filter of the operator's own that raises refuses: what cannot be checked does not pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from frontdesk.agents.targets import import_target
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.patterns import Denied, Found, TooSlow
from frontdesk.gateway.settings import Config, GuardrailSettings
from frontdesk.keeper.import_problems import problem_of
from frontdesk.sessions.hooks import PENDING, MessageSoFar, Pending

Direction = Literal["input", "output"]
Filter = Callable[[str, str, Direction], str | None]
"""An operator's filter: tenant, text and direction in; why it is refused, or None, out."""

DENIED = "it holds something that is denied here"
NOT_CHECKED = "it could not be checked"

logger: logging.Logger = logging.getLogger("frontdesk.guardrails")


@dataclass(frozen=True, slots=True)
class Rules:
    """What one tenant's texts are held to."""

    max_input: int | None
    max_output: int | None
    denied: Denied
    custom: Filter | None

    @classmethod
    def of(cls, settings: GuardrailSettings) -> Rules:
        """Compile what the operator set. `ConfigurationWrong` for a filter that cannot be found."""
        custom: Filter | None = None
        if settings.filter:
            place = f"guardrails.filter: {settings.filter!r}"
            try:
                custom = import_target(settings.filter)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - their module raises anything
                mistake = f"{place} cannot be imported: {problem_of(error)}"
                raise ConfigurationWrong("the configuration", mistakes=(mistake,)) from None
            if not callable(custom):
                mistake = f"{place} is not callable"
                raise ConfigurationWrong("the configuration", mistakes=(mistake,))
        try:
            denied = Denied(settings.denied_words, settings.denied_patterns)
        except ValueError as error:  # each is right by itself (`settings.py`)
            mistake = f"guardrails: denied_words or denied_patterns, all in one: {error}"
            raise ConfigurationWrong("the configuration", mistakes=(mistake,)) from None
        return cls(settings.max_input_characters, settings.max_output_characters, denied, custom)

    def refuse_input(self, tenant_id: str, text: str, *, limit: int | None) -> str | None:
        """Return why a text may not go in, None where it may."""
        if limit is not None and len(text) > limit:
            return f"it is longer than {limit} characters"
        try:
            if self.denied.search(text) is Found.DENIED:
                return DENIED
        except TooSlow:
            return NOT_CHECKED
        return self.ask_filter(tenant_id, text, "input")

    def refuse_output(
        self, tenant_id: str, message: MessageSoFar
    ) -> str | Literal[Pending.PENDING] | None:
        """Return why the next piece of a message may not go out, None where it may."""
        if self.max_output is not None and message.characters > self.max_output:
            return f"it is longer than {self.max_output} characters"
        try:
            found = self.denied.search(
                message.text, begins=message.begins, complete=message.complete
            )
        except TooSlow:
            return NOT_CHECKED
        if found is Found.DENIED:
            return DENIED
        why = self.ask_filter(tenant_id, message.text, "output")
        return why or (PENDING if found is Found.DEPENDS else None)

    def ask_filter(self, tenant_id: str, text: str, direction: Direction) -> str | None:
        """Return what the operator's own filter says, None where there is none."""
        if self.custom is None:
            return None
        try:
            return self.custom(tenant_id, text, direction)
        except Exception:
            logger.exception("the operator's filter failed; the text is refused")
            return NOT_CHECKED


class TenantGuardrails:
    """The rules of all tenants. Replaced as a whole when the configuration is reloaded."""

    __slots__ = ("_by_tenant", "_default")

    def __init__(self, config: Config) -> None:
        self.change(config)

    def change(self, config: Config) -> None:
        """Follow another configuration; where it is wrong, the old rules stay."""
        default = Rules.of(config.guardrails)
        by_tenant = {name: Rules.of(config.guardrails_of(name)) for name in config.tenants}
        self._default, self._by_tenant = default, by_tenant

    def refuse_input(self, tenant_id: str, text: str) -> str | None:
        rules = self._rules(tenant_id)
        return rules.refuse_input(tenant_id, text, limit=rules.max_input)

    def refuse_tool_result(self, tenant_id: str, text: str) -> str | None:
        return self._rules(tenant_id).refuse_input(tenant_id, text, limit=None)

    def refuse_output(
        self, tenant_id: str, message: MessageSoFar
    ) -> str | Literal[Pending.PENDING] | None:
        return self._rules(tenant_id).refuse_output(tenant_id, message)

    def refuse_message(self, tenant_id: str, text: str) -> str | None:
        """Ask the operator's own filter; words and patterns were found on the way out."""
        return self._rules(tenant_id).ask_filter(tenant_id, text, "output")

    def _rules(self, tenant_id: str) -> Rules:
        return self._by_tenant.get(tenant_id, self._default)
