"""How a command ends: every exit code, which error has which, and what to do about it.

The one list. `main` and the processes of workers run under `exiting`, which prints what was raised:
a sentence on standard error, or with `--json` one object. Errors of the gateway's and the client's
are found by their code, others by the name of their class, as their modules come with extras.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import typer

from frontdesk.errors import FrontdeskError, MissingExtra

UsageProblem: type[Exception] = typer.BadParameter.__bases__[0]
"""What is raised for a command line that cannot be understood."""


class ExitCode(IntEnum):
    """Every number that a command ends with."""

    OK = 0
    WRONG = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNAVAILABLE = 5
    LIMIT = 6
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.WRONG: "checked, and found wrong; a turn that was not finished",
    ExitCode.USAGE: "the command line or the configuration is wrong",
    ExitCode.NOT_FOUND: "no such session, or no such node",
    ExitCode.NOT_ALLOWED: "not allowed: the key, its scopes, or a filter",
    ExitCode.UNAVAILABLE: "the gateway or the engine is unreachable, or cannot do it now",
    ExitCode.LIMIT: "a limit or a budget is reached",
    ExitCode.INTERRUPTED: "interrupted",
}
"""What each of them means, for the documents."""


class CommandFailed(Exception):
    """What a command itself has to say: `error` for a program, `message` for who reads it."""

    error: str
    message: str
    exit_code: ExitCode

    def __init__(self, error: str, message: str, *, exit_code: ExitCode) -> None:
        self.error, self.message, self.exit_code = error, message, exit_code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Failure:
    """What of an error is shown: a code, a sentence with what to do, and how the command ends."""

    error: str
    message: str
    exit_code: ExitCode


SEE_SESSIONS = "`frontdesk sessions ls` lists those that there are"
COME_AGAIN = "try again later"
BY_CODE: Mapping[str, tuple[ExitCode, str]] = {
    "bad_request": (ExitCode.USAGE, "the command's --help says what it takes"),
    "unauthorized": (
        ExitCode.NOT_ALLOWED,
        "set FRONTDESK_KEY or --key-file to a key of this gateway, an operator's for what "
        "operators do: `frontdesk keys create` makes one",
    ),
    "forbidden": (
        ExitCode.NOT_ALLOWED,
        "take a key with that scope: `frontdesk keys create --scope` makes one",
    ),
    "login_unsafe": (ExitCode.NOT_ALLOWED, "use https"),
    "not_found": (ExitCode.NOT_FOUND, f"{SEE_SESSIONS}, `frontdesk nodes ls` the nodes"),
    "session_dead": (ExitCode.NOT_FOUND, SEE_SESSIONS),
    "method_not_allowed": (
        ExitCode.USAGE,
        "the gateway is of another version: `frontdesk doctor` compares",
    ),
    "already_exists": (ExitCode.USAGE, "choose another id"),
    "idempotency_mismatch": (ExitCode.USAGE, "run the command again"),
    "queue_full": (ExitCode.LIMIT, COME_AGAIN),
    "checkpoint_refused": (ExitCode.USAGE, "choose another name"),
    "conversation_full": (ExitCode.LIMIT, "open another session"),
    "not_resumable": (ExitCode.UNAVAILABLE, "`frontdesk doctor` says what is missing"),
    "not_stored": (ExitCode.USAGE, "name a session that is stored"),
    "too_large": (ExitCode.LIMIT, "send less, or have the operator raise the limit"),
    "create_failed": (ExitCode.USAGE, "name what the blueprint offers: GET /v1/blueprints"),
    "registration_failed": (ExitCode.USAGE, "correct it"),
    "guardrail": (ExitCode.NOT_ALLOWED, "change the text, or ask the operator"),
    "attachment_refused": (ExitCode.NOT_ALLOWED, "leave it out, or send another type"),
    "import_refused": (ExitCode.USAGE, "correct the lines that are named"),
    "rate_limited": (ExitCode.LIMIT, COME_AGAIN),
    "prompt_queue_full": (ExitCode.LIMIT, "wait until a turn of this session has ended"),
    "session_limit": (
        ExitCode.LIMIT,
        "close some (`POST …/close`), or have `frontdesk sessions stop` erase some",
    ),
    "budget_exceeded": (ExitCode.LIMIT, "`frontdesk usage` shows what is used and when it resets"),
    "internal": (ExitCode.UNAVAILABLE, "the gateway's log says more"),
    "unavailable": (ExitCode.UNAVAILABLE, COME_AGAIN),
    "unreachable": (
        ExitCode.UNAVAILABLE,
        "start it with `frontdesk serve`, or say where it is with --url or FRONTDESK_URL",
    ),
    "malformed_answer": (
        ExitCode.UNAVAILABLE,
        "look whether --url leads to a gateway, and to one of this version: `frontdesk doctor`",
    ),
    "turn_aborted": (ExitCode.WRONG, "`frontdesk sessions show` says how the session is doing"),
    "turn_lost": (ExitCode.WRONG, "`frontdesk sessions show` says how the session is doing"),
}
"""Of each code of the gateway's and the client's: how the command ends, and what to do next."""

BY_STATUS: Mapping[int | None, ExitCode] = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    413: ExitCode.LIMIT,
    429: ExitCode.LIMIT,
    **dict.fromkeys(range(500, 600), ExitCode.UNAVAILABLE),
}
"""Of a code that a newer gateway has, and this command line does not know."""

BY_NAME: Mapping[str, tuple[ExitCode, str]] = {
    "ConfigurationWrong": (ExitCode.USAGE, "correct it, then look: `frontdesk config check`"),
    "KeyNotFound": (ExitCode.USAGE, "`frontdesk keys list` shows them"),
    "EngineUnavailable": (
        ExitCode.UNAVAILABLE,
        "look whether it runs and whether cluster.url leads there: `frontdesk doctor`",
    ),
    "StorageUnavailable": (
        ExitCode.UNAVAILABLE,
        "look whether conversations.store leads where something takes them",
    ),
    "StorageBroken": (
        ExitCode.USAGE,
        "`frontdesk conversations check` says what cannot be read, `recover` copies the rest",
    ),
    "StateUnusable": (ExitCode.USAGE, "--state-dir names another"),
    "SchemaRefused": (ExitCode.USAGE, "upgrade the older nodes, or this one, first"),
}
"""The same of other errors whose message does not say it already. All others are usage."""


def failure_of(error: BaseException) -> Failure | None:
    """Return what is shown of an error, None where it is not for whoever runs the command."""
    if isinstance(error, CommandFailed):
        return Failure(error.error, error.message, error.exit_code)
    if isinstance(error, UsageProblem):
        text = error.format_message()  # type: ignore[attr-defined]  # all of typer's have it
        sentence = " ".join(text.split()).rstrip(".")
        command = getattr(getattr(error, "ctx", None), "command_path", None) or "frontdesk"
        between = "" if sentence.endswith("?") else ":"
        message = f"{sentence}{between} `{command} --help` shows what it takes"
        return Failure("usage", message, ExitCode.USAGE)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "frontdesk").startswith(
        "frontdesk"
    ):
        error = MissingExtra("gateway", part="this command", missing=str(error.name))
    if not isinstance(error, FrontdeskError):
        return None
    name = type(error).__name__
    code = getattr(error, "code", None) or re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    otherwise = (BY_STATUS.get(getattr(error, "status", None), ExitCode.USAGE), "")
    exit_code, advice = BY_NAME.get(name) or BY_CODE.get(code) or otherwise
    separator = "\n" if "\n" in str(error) else ": "
    return Failure(code, f"{error}{separator}{advice}" if advice else str(error), exit_code)


def wants_json() -> bool:
    """Say whether this command line asks for JSON, even where it cannot be understood."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def print_failure(failure: Failure) -> None:
    """Print what is shown of an error, on standard error: without anybody's control characters."""
    if wants_json():
        shown = {
            "error": failure.error,
            "message": failure.message,
            "exitCode": int(failure.exit_code),
        }
        text = json.dumps(shown)
    else:
        text = f"frontdesk: {printable_text(failure.message)}"
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is where errors are told


@contextmanager
def exiting() -> Iterator[None]:
    """Exit as a command does: what is raised is told, and becomes the exit code."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except typer.Exit as ended:
        raise SystemExit(ended.exit_code) from None
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise SystemExit(ExitCode.USAGE) from None  # the help has been shown
        failure = failure_of(error)
        if failure is None:
            raise
        print_failure(failure)
        raise SystemExit(failure.exit_code) from None


CONTROL = re.compile(
    r"[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""What moves a terminal's cursor, changes its colours, or turns the direction of what is read."""


def printable_text(text: str) -> str:
    """Return a text as a terminal may get it: lines and tabs stay, other controls are named."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
