"""Which of the answers that an agent offers an approval stands for: the client's, or the likeliest.

Pure: the conversation asks it, so that what the event tells is what the agent is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from frontdesk.agents.records import Approval, ApprovalDetails, ApprovalOption

_ENDS_THE_TURN = re.compile(
    r"(?<![a-z])(?:abort|cancel|cancell?ed|stop|interrupt|quit|exit|end)(?![a-z])"
    r"|tell \w+ what|(?<![a-z])and (?:stop|provide feedback)",
    re.IGNORECASE,
)

_ORDER = {True: ("allow_once", "allow_always"), False: ("reject_once", "reject_always")}


def with_option(answer: Approval, details: ApprovalDetails | None) -> Approval:
    """Return an answer with the option that it stands for; a yes that is not offered is none.

    An option that the client has chosen stays as it is. What comes too late is a no.
    """
    chosen = answer.option_id is not None or answer.status == "cancelled"
    if chosen or details is None or not details.options:
        return answer
    option_id = option_for(answer.approved, details.options)
    if answer.approved and option_id is None:
        return Approval("cancelled", answer.reason)
    return msgspec.structs.replace(answer, option_id=option_id)


def problem_of_choice(
    option_id: str, *, approved: bool, details: ApprovalDetails | None
) -> str | None:
    """Return why an option cannot be chosen by who approves or rejects; None where it can.

    >>> offered = ApprovalDetails(options=(ApprovalOption("a", "Always", "allow_always"),))
    >>> problem_of_choice("a", approved=True, details=offered)
    >>> problem_of_choice("a", approved=False, details=offered)
    'does not reject'
    >>> problem_of_choice("b", approved=True, details=offered)
    'is none of those that are offered: a'
    >>> problem_of_choice("b", approved=True, details=None)
    'is not offered: this approval has no options'
    """
    options = () if details is None else details.options
    if not options:
        return "is not offered: this approval has no options"
    for each in options:
        if each.option_id == option_id:
            other = "reject" if approved else "allow"
            deed = "approve" if approved else "reject"
            return f"does not {deed}" if each.kind.startswith(other) else None
    return f"is none of those that are offered: {', '.join(each.option_id for each in options)}"


def option_for(approved: bool, options: Sequence[ApprovalOption]) -> str | None:
    """Return the option that an answer stands for; None if there is none.

    Once rather than always. Of several ways to say no, one that lets the agent go on with its turn
    rather than one that ends it, as its name tells: the protocol has no word for that.

    >>> option_for(True, [ApprovalOption("a", "A", "allow_always")])
    'a'
    >>> stop = ApprovalOption("abort", "No, and stop", "reject_once")
    >>> option_for(False, [stop, ApprovalOption("deny", "No", "reject_once")])
    'deny'
    """
    found = [each for kind in _ORDER[approved] for each in options if each.kind == kind]
    if not approved:
        found.sort(key=ends_the_turn)
    return found[0].option_id if found else None


def ends_the_turn(option: ApprovalOption) -> bool:
    """Say whether an option to say no also ends the turn, as far as its name and id tell.

    >>> ends_the_turn(ApprovalOption("reject", "No, and tell Codex what to do", "reject_once"))
    True
    >>> ends_the_turn(ApprovalOption("reject", "No, continue without", "reject_once"))
    False
    """
    return any(_ENDS_THE_TURN.search(text) for text in (option.option_id, option.name))
