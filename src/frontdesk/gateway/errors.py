"""What is wrong with a request, a key, a configuration or the state on disk.

Which error becomes which answer is said in `error_table.py`.
"""

from __future__ import annotations

from frontdesk.errors import FrontdeskError

__all__ = [
    "AddressRefused",
    "AttachmentNotFetched",
    "AttachmentUnreachable",
    "ConfigurationWrong",
    "IdempotencyMismatch",
    "IdentityProviderUnavailable",
    "KeyNotFound",
    "LoginUnsafe",
    "MalformedRequest",
    "NodeNotFound",
    "OutsideSession",
    "RateLimited",
    "ScopeMissing",
    "StateUnusable",
    "TextNotForOperators",
    "TooLarge",
    "Unauthorized",
]


class Unauthorized(FrontdeskError):
    """No key, or one that opens nothing here. Says no more, so that it helps nobody guess."""

    def __init__(self) -> None:
        super().__init__("send a valid key in X-API-Key or as Authorization: Bearer <key>")


class ScopeMissing(FrontdeskError):
    """The credential is good and may not do this: it lacks `scope`."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(f"this needs the scope {scope}, which the credential does not have")


class IdentityProviderUnavailable(FrontdeskError):
    """A bearer token cannot be judged: the keys of the identity provider cannot be had now."""

    def __init__(self) -> None:
        super().__init__("the identity provider cannot be reached, so nobody can be told by it")


class OutsideSession(FrontdeskError):
    """A session token was shown where no session is named: it opens its own and nothing else."""

    def __init__(self) -> None:
        super().__init__("a session token opens its own session, and nothing else")


class RateLimited(FrontdeskError):
    """Too much of `what` from one key or address; `retry_after_s` says when to come again."""

    what: str
    limit: int
    retry_after_s: int

    def __init__(self, what: str, *, limit: int, retry_after_s: int) -> None:
        self.what, self.limit, self.retry_after_s = what, limit, retry_after_s
        super().__init__(f"the limit of {limit} {what} is reached; retry in {retry_after_s} s")


class TooLarge(FrontdeskError):
    """What was sent is over a limit. `what` names it, `limit` is in `unit`."""

    what: str
    limit: int
    unit: str

    def __init__(self, what: str, *, limit: int, unit: str = "bytes") -> None:
        self.what, self.limit, self.unit = what, limit, unit
        super().__init__(f"the {what} is over the limit of {limit} {unit}")


class MalformedRequest(FrontdeskError, ValueError):
    """A request or message that cannot be understood; `field` names the part, where one is."""

    problem: str
    field: str | None

    def __init__(self, problem: str, *, field: str | None = None) -> None:
        self.problem, self.field = problem, field
        super().__init__(f"{field}: {problem}" if field else problem)


class IdempotencyMismatch(FrontdeskError):
    """An idempotency key was used again with another body."""

    def __init__(self, idempotency_key: str) -> None:
        self.idempotency_key = idempotency_key
        super().__init__("this Idempotency-Key was used with another body before")


class AddressRefused(FrontdeskError):
    """A URL that the gateway will not call: `problem` says why, without naming an address."""

    field: str
    problem: str

    def __init__(self, field: str, *, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field} {problem}")


class AttachmentNotFetched(FrontdeskError):
    """What an attachment's URL leads to cannot be taken; `problem` says why."""

    name: str
    problem: str

    def __init__(self, name: str, *, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"attachment {name[:80]!r} cannot be fetched: {problem}")


class AttachmentUnreachable(FrontdeskError):
    """The server of an attachment's URL does not answer, or not now. It may pass."""

    name: str
    problem: str

    def __init__(self, name: str, *, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"attachment {name[:80]!r} cannot be fetched now: {problem}")


class ConfigurationWrong(FrontdeskError, ValueError):
    """The configuration cannot be used. `mistakes` lists all that is wrong, one sentence each."""

    source: str
    mistakes: tuple[str, ...]

    def __init__(self, source: str, *, mistakes: tuple[str, ...]) -> None:
        self.source, self.mistakes = source, mistakes
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        super().__init__(f"{source} has {len(mistakes)} mistake(s):\n{lines}")


class KeyNotFound(FrontdeskError, LookupError):
    """No key has this id."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"no key {key_id!r}")


class LoginUnsafe(FrontdeskError):
    """The login of a browser would travel in clear: it is neither with TLS nor on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "logging in needs HTTPS, or an address of this machine such as http://127.0.0.1: the "
            "login would travel in clear"
        )


class TextNotForOperators(FrontdeskError):
    """An operator asks for what is said in a session, and the configuration does not allow it."""

    def __init__(self) -> None:
        super().__init__(
            "what is said in sessions is their tenants': operators read it where "
            "operators_read_text is set in [server]"
        )


class NodeNotFound(FrontdeskError, LookupError):
    """No node of the cluster has this name or incarnation, as far as this one has heard."""

    node: str

    def __init__(self, node: str) -> None:
        self.node = node
        super().__init__(f"no node {node[:200]!r}; GET /ops/nodes lists those that there are")


class StateUnusable(FrontdeskError, OSError):
    """The state directory, or a file in it, cannot be used. `problem` is the system's own word."""

    path: str
    problem: str

    def __init__(self, path: str, *, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"the state directory cannot be used: {path}: {problem}")
