"""Budgets: how many tokens, and how much money, a tenant and each of its keys may use.

Between the meter, which knows what was used in this day and month, and the session service, which
asks before it accepts a prompt (it is its `Budgets`). What a turn uses is known when it says so, at
its end for most: turns that are under way, and prompts that wait already, go on past a budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from frontdesk.clock import Clock
from frontdesk.gateway.metering import UsageMeter
from frontdesk.gateway.settings import BudgetSettings, Config
from frontdesk.gateway.spending import PERIODS, Period, next_first_day
from frontdesk.gateway.usage_table import DAY_MS
from frontdesk.sessions.errors import BudgetExceeded

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.gateway.cluster_usage import ClusterUsage

BudgetScope = Literal["per_tenant", "per_api_key"]

SECOND_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One budget, and where it stands: `name` is that of its setting. Times are wall clock."""

    name: str
    scope: BudgetScope
    limit: float
    used: float
    resets_at_ms: int

    @property
    def left(self) -> float:
        return max(0, self.limit - self.used)


class TenantBudgets:
    """The budgets of all tenants. `change` them when the configuration is reloaded."""

    __slots__ = ("_clock", "_config", "_meter")

    def __init__(self, config: Config, *, meter: UsageMeter | ClusterUsage, clock: Clock) -> None:
        self._config, self._meter, self._clock = config, meter, clock

    def change(self, config: Config) -> None:
        """Follow another configuration; what was used so far still counts."""
        self._config = config

    def check(self, tenant_id: str, api_key: str | None) -> None:
        """Raise `BudgetExceeded` where a budget of the tenant, or of this key, is used up."""
        for each in self.of(tenant_id, api_key):
            if each.used >= each.limit:
                left_ms = each.resets_at_ms - self._clock.wall_ms()
                raise BudgetExceeded(
                    each.name,
                    scope=each.scope,
                    limit=each.limit,
                    retry_after_s=max(1, -(-left_ms // SECOND_MS)),
                )

    def of(self, tenant_id: str, api_key: str | None) -> Iterator[Budget]:
        """Yield the budgets that a key's prompts count for, its tenant's first."""
        settings = self._config.budgets_of(tenant_id)
        for period in PERIODS:
            yield from self._budgets(settings, tenant_id, None, period)
        for period in PERIODS:
            yield from self._budgets(settings, tenant_id, api_key or "", period)

    def _budgets(
        self, settings: BudgetSettings, tenant_id: str, api_key: str | None, period: Period
    ) -> Iterator[Budget]:
        of_key = api_key is not None
        used = self._meter.spent(tenant_id, api_key, period=period)
        resets_at_ms = next_first_day(self._meter.today, period) * DAY_MS
        for what, amount in (("tokens", used.total), ("cost_usd", used.cost_usd)):
            name = f"{'key_' if of_key else ''}{what}_per_{period}"
            limit = getattr(settings, name)
            if limit is not None:
                yield Budget(
                    name=name,
                    scope="per_api_key" if of_key else "per_tenant",
                    limit=limit,
                    used=amount,
                    resets_at_ms=resets_at_ms,
                )
