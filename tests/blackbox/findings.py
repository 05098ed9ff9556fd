"""What a black box holds a gateway to, whoever asks what: the rules, and answers against them.

A broken one is `Found`, with the rule that it broke. `expected.py` knows what must be there;
`api_machine.py` and `campaigns.py` ask.
"""

import json
import re
from enum import Enum

from blackbox.served import Answer


class Rule(Enum):
    """What must hold whatever is asked; each is shown to be looked after (`planted.py`)."""

    NO_FAILURE = "no answer says that the gateway failed"
    FORM = "every error is in the one form"
    STAYS = "no session disappears"
    ENDS = "every accepted prompt has its one end, where its client can see it"
    NUMBERED = "events have numbers without gaps"
    FOREIGN = "a foreign session is as if it did not exist"
    OWN_LIST = "a list shows the sessions of its tenant, and no others"
    ONE_ANSWER = "every request gets one answer, in its order, and nothing else is a request"
    ANSWERED = "whatever else goes on, requests are answered"
    SOCKET = "a WebSocket's messages are answered, and its close is never for a failure"
    QUIET = "the log tells of no failure but those of agents"
    DESCRIBED = "answers are as the API description says"


class Found(BaseException):
    """A rule that was broken, and by what.

    No `Exception`: hypothesis lets it through at once. It would repeat what it takes for a failed
    example, and a gateway is not as it was before.
    """

    def __init__(self, rule, detail):
        super().__init__(f"{rule.value}: {detail}")
        self.rule = rule


CHANGES = frozenset({"date", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"})
"""Headers that differ between any two answers."""


def check(answer, asked, *, method="GET"):
    """Hold one answer to what holds for all."""
    if answer.status >= 500:
        patient = answer.headers.get("retry-after", "").isdigit()
        if not (answer.status == 503 and patient):
            raise Found(Rule.NO_FAILURE, f"{asked}: {answer.status} {answer.body[:200]!r}")
    if answer.status >= 400 and method != "HEAD":
        try:
            refusal = json.loads(answer.body)
        except ValueError:
            refusal = None
        right = isinstance(refusal, dict) and refusal.get("error") and refusal.get("message")
        if not right or b"Traceback" in answer.body:
            raise Found(Rule.FORM, f"{asked}: {answer.status} {answer.body[:200]!r}")


def check_same(foreign, never, *, asked, ids):
    """Hold the answer for a foreign session to that for one that never was.

    `ids` are the two session ids, of one length: an answer may name the one that was asked for.
    """
    real, unknown = (each.encode() for each in ids)
    seen = (foreign.status, told(foreign), foreign.body.replace(real, b"*" * len(real)))
    wanted = (never.status, told(never), never.body.replace(unknown, b"*" * len(unknown)))
    if seen != wanted:
        raise Found(Rule.FOREIGN, f"{asked}: {seen}, and of one that never was: {wanted}")


def told(answer):
    """Return the headers that tell something."""
    return {name: value for name, value in answer.headers.items() if name not in CHANGES}


def check_log(log):
    """Hold a log to telling of no failure but those of agents, which fail as they please."""
    for line in log.splitlines():
        entry = json.loads(line) if line.startswith("{") else {"event": line, "level": "error"}
        # Many of one kind are told of by their number.
        of_turns = entry["event"] == "repeated" and "turn %s failed" in entry["error"]
        of_turns = of_turns or entry["event"] == "turn_failed"
        if entry["level"] in ("error", "critical") and not of_turns:
            raise Found(Rule.QUIET, line[:2000])


STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def statuses_in(received):
    """Return every status in what came on a connection, however it is framed."""
    return [int(each) for each in STATUS_LINE.findall(received)]


def answers_in(received):
    """Take apart what came on a connection as answers; `Found` where they are none."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        if STATUS_LINE.match(received) is None:
            raise Found(Rule.ONE_ANSWER, f"no answer begins like this: {received[:100]!r}")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        status, size = int(first.split()[1]), int(headers.get("content-length", "0"))
        if status != 100:
            found.append(Answer(status, headers, rest[:size]))
        received = rest[size:]
    return found
