"""What a law is checked on: an engine's server, whose time and whose losses the law decides."""

from typing import Protocol

from frontdesk.cluster.engine import Engine


class ClusterUnderTest(Protocol):
    """One engine's server. What it is made with it ends."""

    async def engine(self) -> Engine:
        """Return another engine over it, as another node would open one."""
        ...

    async def jump(self, duration_s: float) -> None:
        """Move the server's clock, forward or back, and nothing else: no verb is called."""
        ...

    async def restart(self) -> None:
        """Start the server anew with all that it had: its run id is another one."""
        ...

    async def wipe(self) -> None:
        """Start the server anew, with nothing."""
        ...
