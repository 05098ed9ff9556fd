"""Several nodes with one registry between them: the settings under `[cluster]`.

Beside `settings.py`, which has the other tables. Workers of one machine need none of them.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from frontdesk.cluster.terms import LeaseTerms
from frontdesk.gateway.auth_settings import is_loopback
from frontdesk.gateway.setting_types import Setting, Table, matching

PLACE = r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
"""A host: a name, an address, or one of IPv6 in brackets."""

LISTEN_FORM = "must be host:port"
ENGINE_URL = re.compile(
    rf"(?:valkey|redis)s?(?P<sentinel>\+sentinel)?://"
    rf"(?:(?P<user>[^/?#\s@:]{{1,128}})@)?"
    rf"(?P<places>{PLACE}(?::\d{{1,5}})?(?:,{PLACE}(?::\d{{1,5}})?){{0,15}})"
    rf"(?:/(?P<name>[A-Za-z0-9_.-]{{0,128}}))?"
)
URL_FORM = (
    "must be valkey://host:port (valkeys:// with TLS; redis:// and rediss:// as well), or "
    "valkey+sentinel://host:port,host:port/name"
)
DEFAULTS = LeaseTerms()


def _leads_to_an_engine(url: str) -> str:
    if re.match(r"[^/]*://[^/@]*:[^/@]*@", url):
        raise ValueError("has a password in it, which belongs into a file: password_file")
    found = ENGINE_URL.fullmatch(url)
    if found is None:
        raise ValueError(URL_FORM)
    if found["sentinel"]:
        if not found["name"]:
            raise ValueError("needs the name that the sentinels know: …/name")
    elif "," in found["places"] or not (found["name"] or "0").isdigit():
        raise ValueError(URL_FORM)
    ports = re.findall(r":(\d{1,5})(?=,|$)", found["places"])
    if not all(0 < int(port) < 65_536 for port in ports):
        raise ValueError("has a port that is none: 1 to 65535")
    return url


def place_of(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`; an address of IPv6 without its brackets."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_a_place(text: str) -> str:
    if not re.fullmatch(rf"{PLACE}:\d{{1,5}}", text) or place_of(text)[1] > 65_535:
        raise ValueError(LISTEN_FORM)
    return text


Place = Annotated[str, AfterValidator(_is_a_place)]
EngineUrl = Annotated[str, Field(max_length=2048), AfterValidator(_leads_to_an_engine)]


class ClusterSettings(Table):
    """Several machines with one registry between them. Without `url`, this gateway is alone."""

    url: Annotated[
        EngineUrl | None,
        Setting(
            "the engine, as `valkey://host:port`; also `--cluster` and `FRONTDESK_CLUSTER`. "
            "`valkeys` with TLS, `valkey+sentinel://host:port,host:port/name` by sentinels; "
            "`redis` as well"
        ),
    ] = None
    password_file: Annotated[
        Path | None, Setting("a file with the password of the engine's account, and nothing else")
    ] = None
    sentinel_user: Annotated[
        str | None,
        matching(r"[^/?#\s@:]{1,128}", "is 1 to 128 characters without blanks and / ? # @ :"),
        Setting("the account that sentinels are asked as, which is their own; else their default"),
    ] = None
    sentinel_password_file: Annotated[
        Path | None,
        Setting("a file with its password; without it, sentinels are asked without an account"),
    ] = None
    ca: Annotated[
        Path | None, Setting("a PEM file: who signs the engine's certificate; else the system's")
    ] = None
    certificate: Annotated[
        Path | None,
        Setting("a PEM file: what is shown to an engine that asks for one; with `certificate_key`"),
    ] = None
    certificate_key: Annotated[Path | None, Setting("a PEM file: its private key")] = None
    key_prefix: Annotated[
        str,
        matching(r"[A-Za-z0-9_-]{1,64}", "is 1 to 64 of A-Z a-z 0-9 _ -"),
        Setting("what the names of all keys in the engine begin with: two clusters share one"),
    ] = "frontdesk"
    name: Annotated[
        str | None,
        matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,126}", "is 1 to 127 of A-Z a-z 0-9 _ . -"),
        Setting("what this node is called, over its restarts; else the machine's name"),
    ] = None
    secret_file: Annotated[
        Path | None,
        Setting(
            "a file with at least 32 bytes, the same for all nodes: it signs what one node passes "
            "to another, and session tokens"
        ),
    ] = None
    listen: Annotated[
        Place | None,
        Setting(
            "`host:port` where other nodes reach this one, a private network; port 0 takes a free "
            "one, and of several workers each takes the next. Where the engine is on this machine, "
            "`127.0.0.1:0` if left out"
        ),
    ] = None
    advertise: Annotated[
        Place | None,
        Setting("`host:port` under which others reach `listen`, where that is another"),
    ] = None
    tls_certificate: Annotated[
        Path | None,
        Setting(
            "a PEM file: what this node shows to other nodes; with `tls_key` and `tls_ca`. What "
            "these files hold is read again at a reload"
        ),
    ] = None
    tls_key: Annotated[Path | None, Setting("a PEM file")] = None
    tls_ca: Annotated[
        Path | None, Setting("a PEM file: who signs the nodes' certificates, on both sides")
    ] = None
    lease_s: Annotated[
        float,
        Field(ge=1, le=300),
        Setting("a node that has not been heard of for so long is suspect"),
    ] = DEFAULTS.lease_s
    isolation_grace_s: Annotated[
        float,
        Field(ge=1, le=3600),
        Setting("a node that is cut off stops agents under ids that callers chose after so long"),
    ] = DEFAULTS.isolation_grace_s
    kill_grace_s: Annotated[
        float,
        Field(ge=0.1, le=3600),
        Setting("an agent that is being stopped is gone after so long; not under `end_grace_s`"),
    ] = DEFAULTS.kill_grace_s

    @model_validator(mode="after")
    def _is_safe(self) -> ClusterSettings:
        if len({each is None for each in (self.tls_certificate, self.tls_key, self.tls_ca)}) > 1:
            raise ValueError("tls_certificate, tls_key and tls_ca belong together")
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key belong together")
        if self.sentinel_user is not None and self.sentinel_password_file is None:
            raise ValueError("sentinel_user needs sentinel_password_file")
        if self.url is None:
            return self
        if self.sentinel_password_file is not None and "+sentinel" not in self.url:
            raise ValueError("sentinel_password_file is for a url that leads to sentinels")
        if self.secret_file is None:
            raise ValueError(
                "secret_file is missing: without it, whoever reaches a node could say who asks"
            )
        if self.listen is None and not is_here(self.url):
            raise ValueError("listen is missing: the other machines reach this node there")
        if self.advertise is None and place_of(self.listening)[0] in ("0.0.0.0", "::"):  # noqa: S104 - refused
            raise ValueError("advertise is missing: nobody reaches a node at an address for all")
        return self

    @property
    def listening(self) -> str:
        """Where the private listener is to be."""
        return self.listen or "127.0.0.1:0"

    def listening_of(self, number: int | None) -> str:
        """Return where the private listener of a worker is to be: each has the next port."""
        return _nth(self.listening, number)

    def advertised_of(self, number: int | None) -> str | None:
        """Return under which place others reach the private listener of a worker."""
        return None if self.advertise is None else _nth(self.advertise, number)

    def node_name(self, number: int | None) -> str:
        """Return what a node is called over its restarts, as one of several workers or alone."""
        machine = self.name or socket.gethostname()
        return machine if number is None else f"{machine}/{number}"

    @property
    def terms(self) -> LeaseTerms:
        """The terms of leases that a node joins with."""
        return LeaseTerms(
            lease_s=self.lease_s,
            isolation_grace_s=self.isolation_grace_s,
            kill_grace_s=self.kill_grace_s,
        )


def _nth(place: str, number: int | None) -> str:
    host, _, port = place.rpartition(":")
    return place if number is None or port == "0" else f"{host}:{int(port) + number - 1}"


def is_here(url: str) -> bool:
    """Say whether all that a URL of an engine leads to is on this machine, by its own words."""
    found = ENGINE_URL.fullmatch(url)
    places = found["places"].split(",") if found else []
    return all(is_loopback(f"//{each}") for each in places)
