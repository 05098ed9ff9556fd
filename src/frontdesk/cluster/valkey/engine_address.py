"""Where the engine is, and as whom it is asked: from a URL and files. No secret is in its text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from frontdesk.cluster.valkey.keys import check_prefix
from frontdesk.errors import InvalidArgument

__all__ = ["EngineAddress", "Place"]

Place = tuple[str, int]
"""A host and a port."""

ENGINE_PORT = 6379
SENTINEL_PORT = 26379

_URL = re.compile(
    r"(?:valkey|redis)(?P<tls>s)?(?P<sentinel>\+sentinel)?://"
    r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<places>[^@/?#]+)(?:/(?P<name>[A-Za-z0-9_.-]*))?"
)
_PLACE = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?")
_FORM = (
    "valkey://host:port (valkeys:// with TLS; redis:// and rediss:// as well), or "
    "valkey+sentinel://host:port,host:port/name"
)


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where an engine is, and what is needed to be let in.

    Attributes:
        places (tuple[Place, ...]): The server, or the sentinels that know it.
        service (str | None): What the sentinels call it; None without them.
        secured (bool): Whether it is spoken to with TLS, the sentinels too.
        database (int): The number of its database.
        user (str | None): The account; None is the default one.
        password (str | None): The account's. In no repr.
        sentinel_user (str | None): The sentinels' account, which is their own.
        sentinel_password (str | None): That account's; None where they ask for none. In no repr.
        ca (Path | None): Who signs the server's certificate; None is the system's.
        certificate, key (Path | None): What is shown to a server that asks for one.
        prefix (str): What the names of all keys begin with.
    """

    places: tuple[Place, ...]
    service: str | None = None
    secured: bool = False
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    prefix: str = "frontdesk"

    @classmethod
    def parse(cls, url: str, *, password: str | None = None, **options: Any) -> Self:
        """Read a URL; what it has not is given as it is here. `InvalidArgument` if it is none.

        A password belongs into a file, whose content is given here. One in the URL is taken too.

        >>> EngineAddress.parse("valkeys://desk@engine.example").places
        (('engine.example', 6379),)
        """
        found = _URL.fullmatch(url)
        if found is None:
            raise InvalidArgument("cluster.url", expected=_FORM, got=_without_secrets(url))
        name, port = found["name"] or "", ENGINE_PORT
        if found["sentinel"]:
            port = SENTINEL_PORT
        places = tuple(_place(text, port, url) for text in found["places"].split(","))
        if not (name if found["sentinel"] else len(places) == 1 and (name or "0").isdigit()):
            raise InvalidArgument("cluster.url", expected=_FORM, got=_without_secrets(url))
        return cls(
            places,
            name if found["sentinel"] else None,
            secured=bool(found["tls"]),
            database=0 if found["sentinel"] else int(name or "0"),
            user=unquote(found["user"] or "") or None,
            password=password or unquote(found["password"] or "") or None,
            prefix=check_prefix(options.pop("prefix", "frontdesk")),
            **options,
        )

    def __str__(self) -> str:
        """Return it for people: without account, password and files."""
        places = ",".join(f"{host}:{port}" for host, port in self.places)
        sentinel = "" if self.service is None else "+sentinel"
        name = "" if self.service is None else f"/{self.service}"
        return f"valkey{'s' if self.secured else ''}{sentinel}://{places}{name}"


def _place(text: str, port: int, url: str) -> Place:
    found = _PLACE.fullmatch(text)
    number = port if found is None or found["port"] is None else int(found["port"])
    if found is None or not 0 < number < 65_536:
        raise InvalidArgument("cluster.url", expected=_FORM, got=_without_secrets(url))
    return found["ipv6"] or found["host"], number


def _without_secrets(url: str) -> str:
    return repr(re.sub(r"//.*@", "//…@", url))[:200]
