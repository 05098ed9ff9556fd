"""What stands where in the server. All keys share a prefix, which is one hash tag.

With the prefix `frontdesk`, and behind `{frontdesk}:` each:

| key | type | what |
|---|---|---|
| `meta` | hash | schema, revision, era, the server's run id, engine time and the server's clock then, the lease's length, recovery, how many entries, when the next reservation runs out |
| `entry:<sid>` | hash | an entry: incarnation, token, fence, version, tenant, key id, created, blueprint, model, pid, minted; or a reservation: no fence, but `until` |
| `tenant:<t>`, `key:<k>`, `node:<incarnation>` | sorted set | ids by fence, oldest first |
| `used` | hash | reservations of a tenant and a key, reservations and entries of a blueprint: what limits are held against, with the sets |
| `reserved` | sorted set | reserved ids by deadline |
| `reserved:<incarnation>` | sorted set | a node's reserved ids |
| `lease:<incarnation>` | hash | what the node said, its deadline and hold, its tokens exclusive-ored, what became of it |
| `leases` | sorted set | incarnations by deadline |
| `log` | stream | changes: an entry holds consecutive ones, its id is the last one's revision |
| `rate:<counted>`, `rates` | sorted set | times in a window; windows by their end |
| `claim:<slot>` | hash | who answers a request; `claims`: slots by deadline |
| `totals:<topic>` | hash | what each node published last, by its name |

No key has an expiry: all that ends does so in engine time. No secret is in any of them.
"""  # noqa: E501 - a table has its rows on a line each

from __future__ import annotations

import re

from frontdesk.errors import InvalidArgument

__all__ = ["COMMANDS", "account_rules", "check_prefix", "key"]

COMMANDS: tuple[str, ...] = (
    "del",
    "evalsha",
    "exists",
    "hdel",
    "hget",
    "hgetall",
    "hincrby",
    "hmget",
    "hset",
    "hsetnx",
    "info",
    "script|load",
    "time",
    "xadd",
    "xrange",
    "xread",
    "zadd",
    "zcard",
    "zcount",
    "zrange",
    "zrangebyscore",
    "zrem",
    "zremrangebyscore",
)
"""All commands that are asked of a server, those within scripts too, but for `select`."""

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_prefix(prefix: str) -> str:
    """Return a prefix that can be one; a brace or a colon would take it apart."""
    if _PREFIX.fullmatch(prefix) is None:
        raise InvalidArgument("key_prefix", expected="1 to 64 of A-Z a-z 0-9 _ -", got=prefix[:80])
    return prefix


def key(prefix: str, name: str) -> str:
    """Return the whole name of a key.

    >>> key("frontdesk", "meta")
    '{frontdesk}:meta'
    """
    return f"{{{prefix}}}:{name}"


def account_rules(prefix: str) -> tuple[str, ...]:
    """Return the rules of an account that is allowed what is needed, and nothing else.

    >>> " ".join(account_rules("frontdesk"))[:42]
    'resetkeys ~{frontdesk}:* -@all +del +evals'
    """
    return (
        "resetkeys",
        f"~{key(prefix, '*')}",
        "-@all",
        *(f"+{command}" for command in COMMANDS),
    )
