"""What a server says of itself, and whether Frontdesk can run on it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Self

from frontdesk.cluster.errors import EngineRefused, EngineUnavailable

__all__ = ["SECTIONS", "ServerStatus"]

SECTIONS = ("server", "memory", "cluster", "replication", "persistence")
"""What of `INFO` is asked for."""

LEAST_VALKEY = 8
LEAST_REDIS = 7

_log = logging.getLogger("frontdesk")


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server, as its `INFO` has it.

    Attributes:
        run_id (str): Of this start of it: another one may have lost something.
        values (dict[str, str]): All that it says.
    """

    run_id: str
    values: dict[str, str]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read the answer to `INFO`."""
        lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
        values = {name: value for name, colon, value in lines if colon}
        return cls(values.get("run_id", ""), values)

    def check(self) -> None:
        """Raise `EngineRefused` where it cannot hold an index, and say what to do.

        `EngineUnavailable` where it will soon be one: it is loading, or a replica as yet.
        """
        self._check_version()
        if self.values.get("cluster_enabled") == "1":
            raise EngineRefused(
                "it is in cluster mode, which is not supported: start it with cluster-enabled no"
            )
        policy = self.values.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise EngineRefused(
                f"it forgets keys when it is full (maxmemory-policy {policy}): "
                "set maxmemory-policy noeviction"
            )
        if self.values.get("loading", "0") != "0":
            raise EngineUnavailable("it is loading its data")
        if self.values.get("role") == "slave":
            raise EngineUnavailable("the server is a replica, and takes no writes")

    def _check_version(self) -> None:
        valkey = self.values.get("valkey_version")
        name, version = ("Redis", self.values.get("redis_version", "0"))
        least = LEAST_REDIS
        if valkey is not None:
            name, version, least = "Valkey", valkey, LEAST_VALKEY
        major = version.partition(".")[0]
        if not major.isdigit() or int(major) < least:
            raise EngineRefused(
                f"it is {name} {version}, which is too old: "
                f"use Valkey {LEAST_VALKEY} or newer, or Redis {LEAST_REDIS} or newer"
            )

    def warn(self, where: str) -> None:
        """Log what it can do, but should not."""
        replicas = int(self.values.get("connected_slaves", "0"))
        if replicas and "min_slaves_good_slaves" not in self.values:
            _log.warning(
                "the engine at %s has replicas and goes on without them: a failover can lose what "
                "it acknowledged, which the nodes then tell again; set min-replicas-to-write 1",
                where,
            )
