"""What both clients have in common and neither asks nor waits: where they go, what they are of.

A class for each pair, above the one for programs without an event loop and the one for asyncio.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, Generic, Protocol, TypeVar

from frontdesk.agents.events import AgentAbort, AgentEnd
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.client.turn_progress import TurnProgress
from frontdesk.schemas.answer_schemas import PromptAccepted


class WithAddress(Protocol):
    """A transport, as far as it is not asked for anything: of either client."""

    @property
    def address(self) -> GatewayAddress:
        """Where it goes."""
        ...


X = TypeVar("X", bound=WithAddress)
S = TypeVar("S", bound="AnySession[Any]")
Q = TypeVar("Q")
P = TypeVar("P")


class AnyClient(ABC, Generic[X]):
    """A client of one gateway."""

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        insecure: bool = False,
    ) -> None:
        address = GatewayAddress.of(url, key=key, key_file=key_file, insecure=insecure)
        self._transport: X = self._transport_to(address, timeout_s=timeout_s)

    @abstractmethod
    def _transport_to(self, address: GatewayAddress, *, timeout_s: float) -> X:
        """Return what opens connections."""

    @property
    def url(self) -> str:
        """Return the gateway's address."""
        return self._transport.address.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


class AnySession(Generic[X]):
    """One session of a gateway's."""

    session_id: str

    def __init__(self, transport: X, session_id: str) -> None:
        self._transport, self.session_id = transport, session_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r})"


class AnyTurn(Generic[S, X, P, Q]):
    """One turn of a session's, with the callbacks for its approvals and questions."""

    session: S
    request_id: str
    queued: bool

    def __init__(
        self,
        session: S,
        transport: X,
        accepted: PromptAccepted,
        *,
        on_approval: P | None,
        on_question: Q | None,
    ) -> None:
        self.session, self._transport = session, transport
        self.request_id, self.queued = accepted.request_id, accepted.queued
        self._on_approval, self._on_question = on_approval, on_question
        self._progress = TurnProgress(accepted)

    @property
    def end(self) -> AgentEnd | AgentAbort | None:
        """Return the event that ended the turn, once it was given."""
        return self._progress.end

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session.session_id!r}, {self.request_id!r})"
