"""The words that no name of the package has, each with what the field says instead.

Private metaphors and literary verbs that stood here once, and words that say nothing. Local
variables and the laws, whose names are sentences, may have them; a reader meets the others without
an explanation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.structure.sources import Module, Name, names_in

INSTEAD: Mapping[str, str] = {
    # who and what
    "desk": "session service",
    "house": "context, server",
    "resident": "live session",
    "residents": "live sessions",
    "registrant": "supervised agent",
    "recipe": "agent factory",
    "facts": "context",
    "ward": "child",
    "wards": "children",
    "errand": "request id",
    "ledger": "journal",
    "harness": "confinement",
    "template": "fork server",
    "templates": "fork servers",
    "lookout": "watch loop",
    "foreign": "custom, of another",
    "passage": "request context",
    "door": "authenticator",
    "doors": "authenticators",
    "deed": "action",
    "deeds": "actions",
    "front": "middleware",
    "one_piece": "coalescing",
    "described": "openapi",
    "beat": "heartbeat",
    "ground": "workdir",
    "manners": "options",
    "telling": "updates, translator",
    "link": "connection",
    "rehearsal": "warm-up",
    "trial": "dry run",
    # what is done
    "attend": "watch",
    "attended": "watched",
    "bury": "on exit",
    "buried": "exited",
    "catch_up": "refresh",
    "conclude": "on exit",
    "concluded": "ended",
    "entered": "bind entry",
    "explain": "set reason",
    "explained": "reason set",
    "give_up": "abandon",
    "hear": "on message",
    "heard": "received",
    "hears": "receives",
    "hold": "guarantee, keep",
    "kept": "stored, managed",
    "known_over": "is finished",
    "let_go": "detached",
    "look": "poll",
    "looks": "polls",
    "most": "max, limit",
    "note": "add",
    "obey": "handle",
    "rehearse": "warm up, dry run",
    "said": "emitted, sent",
    "say": "append event, emit, print",
    "says": "emits, returns",
    "settle": "join",
    "settled": "done",
    "shown": "public",
    "spared": "in grace",
    "spend": "hit",
    "strike": "remove",
    "take_in": "on message",
    "tell": "notify",
    "tells": "notifies",
    "tidy": "reap",
    "told": "notified",
    "undecided": "pending",
    "wear": "apply",
    "worn": "confined",
}

EMPTY = frozenset(
    {"manager", "handler", "handlers", "helper", "helpers", "utils", "util", "common", "shared"}
    | {"base", "impl", "data", "info"}
)
"""Words that say nothing of a class or a module. In `base_url` and `data_received` they do."""

SENTENCES = "frontdesk.testing.laws"
"""The folder whose functions are named by whole sentences."""

ALLOWED: Mapping[str, str] = {
    "doors": "the glossary's: protocols' front ends over the session service",
    "door": "one of them",
    "bury": "the cluster's verb: what is done with the entries of a node that is dead",
    "Buried": "what came of it",
    "hold_s": "the cluster's: how long a dead node's ids are held back",
    "kept_events": "an operator's setting: how many events a session keeps",
    "facts": "the contract's: what an error of the client knows beside its code",
    "kept_per_tenant": "an operator's setting: how many conversations of a tenant are stored",
    "kept_bytes": "an operator's setting: how many bytes of them",
}
"""Names, whole, that have a banned word and may, with the reason."""


def banned_in(modules: Iterable[Module]) -> dict[str, str]:
    """Return each name that has a banned word, with where it is given and what to say instead."""
    return {
        name.text: f"{name.kind} of {name.module}: instead of {word!r}, {instead}"
        for module in modules
        for name in names_in(module)
        if name.text not in ALLOWED
        and not (name.kind == "function" and module.name.startswith(SENTENCES))
        for word, instead in _banned_words(name)
    }


def _banned_words(name: Name) -> Iterable[tuple[str, str]]:
    joined = f"_{'_'.join(name.words)}_"
    yield from ((word, said) for word, said in INSTEAD.items() if f"_{word}_" in joined)
    if name.kind in {"class", "module"}:
        yield from ((word, "what it is or does") for word in EMPTY.intersection(name.words))
