"""Which blueprints can be opened, as far as it is known: what clients are listed.

Between the gateway and its blueprints. A program that runs in a process tells the rules that its
author wrote once its imports are done, and they may take seconds, or fail. That is done here,
beside the requests: at the start and after a reload. A list waits for that, for a while, and never
begins it: no client can make the gateway import anything by asking.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.process.factory import ProcessAgentFactory
from frontdesk.errors import FrontdeskError

LIST_WAIT_S = 5.0
"""How long a list waits for imports that are under way; then it goes without what they make."""

logger: logging.Logger = logging.getLogger("frontdesk.gateway")


class KnownBlueprints:
    """Warm the blueprints that are open now. An async context manager, for one event loop."""

    __slots__ = ("_blueprints", "_warming")

    def __init__(self, blueprints: Blueprints) -> None:
        self._blueprints = blueprints
        self._warming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.follow(self._blueprints)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])

    def follow(self, blueprints: Blueprints) -> None:
        """Go by these from now on: their imports begin before the first session asks for them."""
        if self._warming is not None:
            self._warming.cancel()
        self._blueprints = blueprints
        self._warming = asyncio.create_task(self._warm(blueprints), name="frontdesk-warming")

    async def all(self) -> list[Blueprint]:
        """Return those that can be opened, with all their rules, in the operator's order.

        One whose imports have failed is missing, until a session of it could be opened after all.
        """
        if self._warming is not None and not self._warming.done():
            await asyncio.wait([self._warming], timeout=LIST_WAIT_S)
        return [
            each if each.complete is None else await each.complete()
            for each in self._blueprints.values()
            if not isinstance(each.factory, ProcessAgentFactory) or each.factory.known
        ]

    @property
    def default(self) -> str | None:
        """Return what a client gets that names none."""
        return self._blueprints.default

    async def _warm(self, blueprints: Blueprints) -> None:
        for blueprint in blueprints.values():
            if isinstance(blueprint.factory, ProcessAgentFactory):
                try:
                    await blueprint.factory.warm()
                except FrontdeskError as error:
                    logger.error("blueprint %s: %s", blueprint.name, error)  # noqa: TRY400
