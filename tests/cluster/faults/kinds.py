"""Which engines a test of faults is for: `@on(EVERY)`."""

import pytest

from cluster.faults.engines import EITHER, EVERY, LOCAL, REDIS_7, SERVERS, VALKEY_9

__all__ = ["EITHER", "EVERY", "LOCAL", "REDIS_7", "SERVERS", "VALKEY_9", "on"]


def on(kinds):
    """Run a test on these engines, one after another."""
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    return pytest.mark.parametrize("engine", kinds, indirect=True)
