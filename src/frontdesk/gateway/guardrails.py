"""Filters on what goes into agents and what comes out, for each tenant.

The session service asks them (they are its `Guardrails`); the configuration says what they refuse.
A filter of the operator's own that raises refuses: what cannot be checked does not pass.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from frontdesk.agents.targets import import_target
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.settings import Config, GuardrailSettings

Direction = Literal["input", "output"]
Filter = Callable[[str, str, Direction], str | None]
"""An operator's filter: tenant, text and direction in; why it is refused, or None, out."""

logger = logging.getLogger("frontdesk.guardrails")


@dataclass(frozen=True, slots=True)
class Rules:
    """What one tenant's texts are held to."""

    max_input: int | None
    max_output: int | None
    denied: re.Pattern[str] | None
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
                mistake = f"{place} cannot be imported: {type(error).__name__}: {error}"
                raise ConfigurationWrong("the configuration", mistakes=(mistake,)) from None
            if not callable(custom):
                mistake = f"{place} is not callable"
                raise ConfigurationWrong("the configuration", mistakes=(mistake,))
        patterns = [rf"\b{re.escape(word)}\b" for word in settings.denied_words]
        patterns += [f"(?:{pattern})" for pattern in settings.denied_patterns]
        return cls(
            settings.max_input_characters,
            settings.max_output_characters,
            re.compile("|".join(patterns), re.IGNORECASE) if patterns else None,
            custom,
        )

    def refuse(
        self, tenant_id: str, text: str, direction: Direction, *, bounded: bool = True
    ) -> str | None:
        """Return why the text is refused, None where it is not."""
        limit = self.max_input if direction == "input" else self.max_output
        if bounded and limit is not None and len(text) > limit:
            return f"it is longer than {limit} characters"
        if self.denied is not None and self.denied.search(text):
            return "it holds something that is denied here"
        if self.custom is None:
            return None
        try:
            return self.custom(tenant_id, text, direction)
        except Exception:
            logger.exception("the operator's filter failed; the text is refused")
            return "it could not be checked"


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
        return self._rules(tenant_id).refuse(tenant_id, text, "input")

    def refuse_tool_result(self, tenant_id: str, text: str) -> str | None:
        return self._rules(tenant_id).refuse(tenant_id, text, "input", bounded=False)

    def refuse_output(self, tenant_id: str, text: str) -> str | None:
        return self._rules(tenant_id).refuse(tenant_id, text, "output")

    def _rules(self, tenant_id: str) -> Rules:
        return self._by_tenant.get(tenant_id, self._default)
