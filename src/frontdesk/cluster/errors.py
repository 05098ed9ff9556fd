"""What can go wrong between nodes and their engine. Most can be tried again, and say when.

Each error carries its facts as attributes and writes its own message from them.
"""

from __future__ import annotations

from frontdesk.errors import FrontdeskError

__all__ = [
    "EngineRefused",
    "EngineUnavailable",
    "LeaseLost",
    "OwnerSuspect",
    "OwnerUnreachable",
    "Recovering",
    "SchemaRefused",
]


class EngineUnavailable(FrontdeskError):
    """The engine cannot do it now: it is unreachable, loading, read-only or full.

    Nothing was done, or it is known to be undone. `retry_after_s` says when to ask again.
    """

    problem: str
    retry_after_s: float

    def __init__(self, problem: str, *, retry_after_s: float = 1.0) -> None:
        self.problem, self.retry_after_s = problem, retry_after_s
        super().__init__(f"the cluster's engine cannot do this now: {problem}")


class EngineRefused(FrontdeskError):
    """An engine that Frontdesk cannot run on, or that does not let it in; `problem` says why."""

    problem: str

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"this engine cannot hold the cluster's index: {problem}")


class SchemaRefused(FrontdeskError):
    """The cluster's records are of a schema that this version does not know."""

    found: int
    known: tuple[int, ...]

    def __init__(self, found: int, *, known: tuple[int, ...]) -> None:
        self.found, self.known = found, known
        versions = " or ".join(map(str, known))
        super().__init__(f"the cluster has schema {found}, this version joins one of {versions}")


class LeaseLost(FrontdeskError):
    """The engine does not hold this node to be alive: it may create nothing until it joins anew."""

    incarnation: str

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        super().__init__(f"node {incarnation} has no lease")


class OwnerSuspect(FrontdeskError):
    """The session's node has not renewed its lease: the id is neither found nor given away yet."""

    session_id: str
    retry_after_s: float

    def __init__(self, session_id: str, *, retry_after_s: float) -> None:
        self.session_id, self.retry_after_s = session_id, retry_after_s
        super().__init__(f"the node of session {session_id!r} is not heard of; ask again")


class OwnerUnreachable(FrontdeskError):
    """The session's node did not answer, or says that it cannot.

    `session_id` is empty where another node was asked for something else.
    """

    session_id: str
    problem: str
    retry_after_s: float

    def __init__(self, session_id: str, *, problem: str, retry_after_s: float = 1.0) -> None:
        self.session_id, self.problem, self.retry_after_s = session_id, problem, retry_after_s
        node = f"the node of session {session_id!r}" if session_id else "the node that is asked"
        super().__init__(f"{node} does not answer: {problem}")


class Recovering(FrontdeskError):
    """The engine has lost what it knew, and the nodes are telling it: nothing is known to be gone.

    Raised for ids that it does not know, until every node has told.
    """

    retry_after_s: float

    def __init__(self, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("the cluster's index is being rebuilt; ask again")
