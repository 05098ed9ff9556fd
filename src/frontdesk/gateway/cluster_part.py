"""The part that a gateway takes in a cluster, as the gateway asks for it.

Below the gateway; `cluster_member.py` has it. Without one, nothing of a cluster is imported.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from frontdesk.cluster.engine import Engine
from frontdesk.cluster.node import Node
from frontdesk.cluster.timed_calls import OnCall


class OpenedEngine(Engine, Protocol):
    """An engine that is opened by `async with`, as all are, and tells of its calls."""

    on_call: OnCall | None

    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class ClusterPart(Protocol):
    """What a gateway that is given one opens, and how it joins."""

    @property
    def engine(self) -> OpenedEngine: ...

    @property
    def storage(self) -> Path | None:
        """Where a supervisor serves the storage of conversations; None where there is none."""
        ...

    def joined(self, gateway: Any, config_digest: str) -> AbstractAsyncContextManager[Node]: ...
