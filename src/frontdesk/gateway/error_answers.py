"""How a client is answered whose request cannot be done: every status with its code.

Beside `error_table.py`, which says of each error which of these it is. What answers a client
(`problems.py`), the API description (`openapi.py`) and a table in the documents are made from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from frontdesk import errors as library
from frontdesk.agents import errors as agents
from frontdesk.errors import FrontdeskError
from frontdesk.gateway import errors as gateway
from frontdesk.records import ExitReason
from frontdesk.sessions import errors as sessions


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What a client is answered: status and code, in which cases, and one of them or its sentence.

    `when` is for the documents.
    """

    status: int
    code: str
    when: str
    example: FrontdeskError | str


BAD_REQUEST = ErrorAnswer(
    400,
    "bad_request",
    "malformed JSON; a field that is missing or wrong (named); an unknown approval, "
    "option or question",
    gateway.MalformedRequest("Field required", field="text"),
)
UNAUTHORIZED = ErrorAnswer(
    401,
    "unauthorized",
    "no key, or one that opens nothing here; also on routes under `/v1` that do not exist",
    gateway.Unauthorized(),
)
FORBIDDEN = ErrorAnswer(
    403,
    "forbidden",
    "the credential is good, and lacks the scope that `scope` names; or it is a session token, and "
    "no session is named; or an operator asks for what is said in a session",
    gateway.ScopeMissing("prompt"),
)
LOGIN_UNSAFE = ErrorAnswer(
    403,
    "login_unsafe",
    "a browser logs in neither with TLS nor on this machine",
    gateway.LoginUnsafe(),
)
NOT_FOUND = ErrorAnswer(
    404,
    "not_found",
    "no such session, tool or node; no such route (method and path named)",
    library.SessionNotFound("support-42"),
)
SESSION_DEAD = ErrorAnswer(
    404,
    "session_dead",
    "the session existed, and its agent ended recently: `reason` says how",
    sessions.SessionDead("support-42", reason=ExitReason.signalled(9)),
)
METHOD_NOT_ALLOWED = ErrorAnswer(
    405,
    "method_not_allowed",
    "a wrong verb; `Allow` names the right ones",
    "PUT is not allowed on /v1/sessions",
)
TOO_SLOW = ErrorAnswer(
    408,
    "bad_request",
    "the head or the body took too long to arrive",
    "the request took too long to arrive",
)
ALREADY_EXISTS = ErrorAnswer(
    409,
    "already_exists",
    "your tenant has a live session of that id",
    library.SessionAlreadyExists("support-42", holder=None),
)
IDEMPOTENCY_MISMATCH = ErrorAnswer(
    409,
    "idempotency_mismatch",
    "an `Idempotency-Key` came again with another body",
    gateway.IdempotencyMismatch("7f3c"),
)
CONVERSATION_FULL = ErrorAnswer(
    409,
    "conversation_full",
    "as much is stored of this conversation as may be (`max_mb`), without its oldest events "
    "already; it can be read",
    sessions.ConversationFull("support-42", max_bytes=64 * 1024 * 1024),
)
NOT_RESUMABLE = ErrorAnswer(
    409,
    "not_resumable",
    "no agent can be started for this conversation now, or it cannot be decrypted; `blocked` of "
    "the session says why",
    sessions.NotResumable("support-42", problem="there is no blueprint 'support' any more"),
)
QUEUE_FULL = ErrorAnswer(
    409,
    "queue_full",
    "three steering texts wait already",
    sessions.SteeringQueueFull("support-42", limit=3),
)
CHECKPOINT_REFUSED = ErrorAnswer(
    409,
    "checkpoint_refused",
    "no turn has ended yet; the name is another turn's; a session has 100 checkpoints",
    sessions.CheckpointRefused("draft", problem="no turn has ended yet"),
)
NOT_STORED = ErrorAnswer(
    409,
    "not_stored",
    "the session is in memory only, and was asked for what needs a stored one: to be forked, "
    "closed, exported, to have a checkpoint",
    sessions.NotStored("support-42"),
)
TOO_LARGE = ErrorAnswer(
    413,
    "too_large",
    "the body, or a text in it, is over the limit, or it has more than 20,000 values; a body is "
    "refused before it is read whole",
    gateway.TooLarge("body", limit=1024 * 1024),
)
CREATE_FAILED = ErrorAnswer(
    422,
    "create_failed",
    "the agent cannot be built: unknown blueprint, model, option, tool; a missing key of the "
    "provider (its variable is named)",
    agents.ModelRefused("nope:1", problem="no provider is known by that name"),
)
REGISTRATION_FAILED = ErrorAnswer(
    422,
    "registration_failed",
    "a callback tool cannot be attached; its URL may not be called",
    gateway.AddressRefused("callbackUrl", problem="leads to an address that may not be called"),
)
GUARDRAIL = ErrorAnswer(
    422,
    "guardrail",
    "a filter refused the text",
    sessions.GuardrailRefused("it is longer than 4000 characters"),
)
ATTACHMENT_REFUSED = ErrorAnswer(
    422,
    "attachment_refused",
    "an attachment that this agent does not take, or that cannot be fetched",
    sessions.AttachmentRefused("image/png", problem="blueprint 'support' takes no attachments"),
)
IMPORT_REFUSED = ErrorAnswer(
    422,
    "import_refused",
    "lines of an import are wrong: each is named, and nothing was imported",
    sessions.ImportRefused(problems=[(3, "index is 7, not 6")]),
)
UPGRADE_REQUIRED = ErrorAnswer(
    426,
    "bad_request",
    "a WebSocket of another version than 13",
    "version 13 is spoken here",
)
RATE_LIMITED = ErrorAnswer(
    429,
    "rate_limited",
    "too many requests, open streams, bodies at once or wrong keys; `retryAfter` and the header "
    "`Retry-After`, in seconds",
    gateway.RateLimited("requests a minute", limit=600, retry_after_s=12),
)
PROMPT_QUEUE_FULL = ErrorAnswer(
    429,
    "prompt_queue_full",
    "too many prompts wait in this session, or too many bytes of attachments with prompts of the "
    "tenant's",
    sessions.PromptQueueFull("support-42", limit=16),
)
BUDGET_EXCEEDED = ErrorAnswer(
    429,
    "budget_exceeded",
    "a budget of this tenant or key is used up: `scope`, `limit`, `reason` (its name), and "
    "`retryAfter`, until it begins again",
    sessions.BudgetExceeded(
        "tokens_per_day", scope="per_tenant", limit=1_000_000, retry_after_s=5400
    ),
)
SESSION_LIMIT = ErrorAnswer(
    429,
    "session_limit",
    "too many live sessions of this tenant or key: `scope` and `limit`",
    library.SessionLimitExceeded(scope="per_tenant", limit=1000),
)
HEAD_TOO_LARGE = ErrorAnswer(
    431, "too_large", "the head is over the limit", "the head of the request is over the limit"
)
INTERNAL = ErrorAnswer(
    500,
    "internal",
    "a fault of ours. It says nothing more; the log does",
    "something went wrong here; it was logged",
)
UNAVAILABLE = ErrorAnswer(
    503,
    "unavailable",
    "starting, draining, full in total, out of descriptors; or the cluster cannot answer now, or "
    "nothing can be stored (then the outcome is unknown: repeat it with the same "
    "`Idempotency-Key`); `retryAfter`",
    sessions.Draining(),
)
ANSWERS = (
    BAD_REQUEST,
    UNAUTHORIZED,
    FORBIDDEN,
    LOGIN_UNSAFE,
    NOT_FOUND,
    SESSION_DEAD,
    METHOD_NOT_ALLOWED,
    TOO_SLOW,
    ALREADY_EXISTS,
    IDEMPOTENCY_MISMATCH,
    NOT_RESUMABLE,
    CHECKPOINT_REFUSED,
    CONVERSATION_FULL,
    NOT_STORED,
    QUEUE_FULL,
    TOO_LARGE,
    CREATE_FAILED,
    REGISTRATION_FAILED,
    GUARDRAIL,
    ATTACHMENT_REFUSED,
    IMPORT_REFUSED,
    UPGRADE_REQUIRED,
    RATE_LIMITED,
    PROMPT_QUEUE_FULL,
    SESSION_LIMIT,
    BUDGET_EXCEEDED,
    HEAD_TOO_LARGE,
    INTERNAL,
    UNAVAILABLE,
)
"""Every answer that is an error, in the order of the documents."""
