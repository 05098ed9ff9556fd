"""The errors of the client: what the gateway answers by its code, and what goes wrong on the way.

One class for each code of the gateway's (`bad_request`: `BadRequestError`), so that a program can
catch the one it can do something about; all are a `ClientError`. Beside them are the client's own,
which no gateway answers: they have no status.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from frontdesk.errors import FrontdeskError

__all__ = [
    "ClientError",
    "RefusedError",
    "BadRequestError",
    "UnauthorizedError",
    "ForbiddenError",
    "LoginUnsafeError",
    "NotFoundError",
    "SessionDeadError",
    "MethodNotAllowedError",
    "AlreadyExistsError",
    "IdempotencyMismatchError",
    "QueueFullError",
    "CheckpointRefusedError",
    "ConversationFullError",
    "NotResumableError",
    "NotStoredError",
    "TooLargeError",
    "CreateFailedError",
    "RegistrationFailedError",
    "GuardrailError",
    "AttachmentRefusedError",
    "ImportRefusedError",
    "RateLimitedError",
    "PromptQueueFullError",
    "SessionLimitError",
    "BudgetExceededError",
    "InternalError",
    "UnavailableError",
    "UnreachableError",
    "MalformedAnswerError",
    "TurnAbortedError",
    "TurnLostError",
    "ClientClosedError",
    "NoEventLoopError",
    "CLASS_OF_CODE",
]


class ClientError(FrontdeskError):
    """The root of what a client raises.

    `code` is what a program acts on: the gateway's, or one of the client's own. `status` is the
    HTTP status, None where no answer came. `facts` are the gateway's, by their names on the wire
    (`retryAfter`, `reason`, `scope`, `limit`), read-only. Wrong arguments are `InvalidArgument`, as
    everywhere in Frontdesk.
    """

    code: str = "error"
    status: int | None = None
    message: str
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


# -- what the gateway answers ----------------------------------------------------------------------


class RefusedError(ClientError):
    """The gateway refused; of this very class where this client is too old for the code.

    `retry_after_s` is when to come again, where the gateway says so.
    """

    code: str
    status: int | None
    facts: Mapping[str, Any]

    def __init__(
        self, code: str, message: str, *, status: int, facts: Mapping[str, Any] | None = None
    ) -> None:
        self.code, self.status = code, status
        self.facts = dict(facts or {})
        super().__init__(message)

    @property
    def retry_after_s(self) -> int | None:
        """Return the whole seconds after which to come again, None where the gateway says none."""
        value = self.facts.get("retryAfter")
        return value if isinstance(value, int) else None

    @property
    def reason(self) -> str | None:
        """Return how a session ended, or which budget is used up."""
        value = self.facts.get("reason")
        return value if isinstance(value, str) else None


class BadRequestError(RefusedError):
    """A field is missing or wrong (named); nothing waits under that approval or question."""


class UnauthorizedError(RefusedError):
    """No key, or one that opens nothing there."""


class ForbiddenError(RefusedError):
    """The key is good and lacks a scope: `facts["scope"]`."""


class LoginUnsafeError(RefusedError):
    """A browser logs in neither with TLS nor on the same machine."""


class NotFoundError(RefusedError):
    """No such session, tool or node."""


class SessionDeadError(NotFoundError):
    """The session existed, and its agent ended recently: `reason` says how."""


class MethodNotAllowedError(RefusedError):
    """The gateway knows the path, and not what was asked of it: another version, perhaps."""


class AlreadyExistsError(RefusedError):
    """The tenant has a live session of that id."""


class IdempotencyMismatchError(RefusedError):
    """An `Idempotency-Key` came again with another body."""


class QueueFullError(RefusedError):
    """As many steering texts wait as may."""


class CheckpointRefusedError(RefusedError):
    """No turn has ended yet, the name is another turn's, or there are too many."""


class ConversationFullError(RefusedError):
    """As much is stored of the session as may be: it can be read, and takes no more prompts."""


class NotResumableError(RefusedError):
    """The session can be read and has no agent, nor can it have one now; the message says why."""


class NotStoredError(RefusedError):
    """The session is in memory only, and was asked for what needs a stored one."""


class TooLargeError(RefusedError):
    """What was sent is over a limit."""


class CreateFailedError(RefusedError):
    """The agent cannot be built: unknown blueprint, model, option or tool."""


class RegistrationFailedError(RefusedError):
    """A callback tool cannot be attached."""


class GuardrailError(RefusedError):
    """A filter of the operator's refused the text."""


class AttachmentRefusedError(RefusedError):
    """An attachment that this agent does not take, or that cannot be fetched."""


class ImportRefusedError(RefusedError):
    """Lines of an import are wrong, each of them is named; nothing was imported."""


class RateLimitedError(RefusedError):
    """Too much from one key or address, even after the client had come again."""


class PromptQueueFullError(RefusedError):
    """As many prompts wait in the session as may."""


class SessionLimitError(RefusedError):
    """Too many live sessions: `facts["scope"]` and `facts["limit"]`."""


class BudgetExceededError(RefusedError):
    """A budget is used up: `reason` is its name, `retry_after_s` when it begins again."""


class InternalError(RefusedError):
    """A fault of the gateway's; its log says more."""


class UnavailableError(RefusedError):
    """It starts, drains, is full, or its cluster cannot answer now."""


# -- what no gateway answers -----------------------------------------------------------------------


class UnreachableError(ClientError):
    """No answer came: no connection, one that broke, or nothing in time, as often as was tried."""

    code: str = "unreachable"


class MalformedAnswerError(ClientError):
    """What came is no answer of a gateway's: too long, no JSON, or with other fields."""

    code: str = "malformed_answer"


class TurnAbortedError(ClientError):
    """The turn ended before its agent was done. `reason` says why, `error` what explains it.

    `text` is what its last message was by then.
    """

    code: str = "turn_aborted"
    facts: Mapping[str, Any]
    reason: str
    error: str | None
    text: str

    def __init__(self, reason: str, *, error: str | None, text: str) -> None:
        self.reason, self.error, self.text = reason, error, text
        self.facts = {"reason": reason, "error": error}
        why = reason if error is None else f"{reason} ({error})"
        super().__init__(f"the turn ended before its agent was done: {why}")


class TurnLostError(ClientError):
    """The turn has ended, and how is no more held: its client was away for too long."""

    code: str = "turn_lost"
    request_id: str

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(f"turn {request_id!r} has ended, and how it ended is no more held")


class ClientClosedError(ClientError):
    """The client was closed, by leaving its `with` or by `close()`."""

    code: str = "client_closed"

    def __init__(self) -> None:
        super().__init__("the client is closed")


class NoEventLoopError(ClientError):
    """An `AsyncClient` is used where no event loop of asyncio runs."""

    code: str = "no_event_loop"

    def __init__(self) -> None:
        super().__init__(
            "AsyncClient needs a running event loop of asyncio (trio is not supported): "
            "call it in what asyncio.run() runs, or use Client"
        )


CLASS_OF_CODE: Mapping[str, type[RefusedError]] = MappingProxyType(
    {
        "bad_request": BadRequestError,
        "unauthorized": UnauthorizedError,
        "forbidden": ForbiddenError,
        "login_unsafe": LoginUnsafeError,
        "not_found": NotFoundError,
        "session_dead": SessionDeadError,
        "method_not_allowed": MethodNotAllowedError,
        "already_exists": AlreadyExistsError,
        "idempotency_mismatch": IdempotencyMismatchError,
        "queue_full": QueueFullError,
        "checkpoint_refused": CheckpointRefusedError,
        "conversation_full": ConversationFullError,
        "not_resumable": NotResumableError,
        "not_stored": NotStoredError,
        "too_large": TooLargeError,
        "create_failed": CreateFailedError,
        "registration_failed": RegistrationFailedError,
        "guardrail": GuardrailError,
        "attachment_refused": AttachmentRefusedError,
        "import_refused": ImportRefusedError,
        "rate_limited": RateLimitedError,
        "prompt_queue_full": PromptQueueFullError,
        "session_limit": SessionLimitError,
        "budget_exceeded": BudgetExceededError,
        "internal": InternalError,
        "unavailable": UnavailableError,
    }
)
"""The class of each code of the gateway's."""
