"""Which blueprints are open: the operator's `[blueprints]` tables, or the ones that come built in.

Between the configuration and the agents' layer, which knows what is in a table.
"""

from __future__ import annotations

from frontdesk.agents.blueprints import Blueprints
from frontdesk.gateway.settings import Config


def blueprints_of(config: Config) -> Blueprints:
    """Return the blueprints of a configuration; `ConfigurationWrong` with every mistake."""
    raise NotImplementedError
