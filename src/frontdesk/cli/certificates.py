"""When certificates end, for `frontdesk doctor`: read from the files that the configuration names.

The standard library tells a certificate's end only over a connection; what is read here is the
second field of a certificate's validity (RFC 5280, 4.1), of each one in a PEM file.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from frontdesk.cli.findings import Finding

if TYPE_CHECKING:
    from frontdesk.gateway.settings import Config

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
DAY_S = 86_400
NEAR_S, NOW_S = 30 * DAY_S, 7 * DAY_S
UTC_TIME, VERSION_TAG, MULTI_BYTE = 0x17, 0xA0, 0x80


def certificate_findings(config: Config, *, now_s: float) -> Iterator[Finding]:
    """Give when each certificate of a configuration ends."""
    server, cluster = config.server, config.cluster
    named = {
        "server.tls_certificate": server.tls_certificate,
        "cluster.tls_certificate": cluster.tls_certificate,
        "cluster.tls_ca": cluster.tls_ca,
        "cluster.certificate": cluster.certificate,
        "cluster.ca": cluster.ca,
    }
    for setting, path in named.items():
        if path is not None:
            yield certificate_finding(setting, path, now_s=now_s)


def certificate_finding(setting: str, path: Path, *, now_s: float) -> Finding:
    """Say when the first of a file's certificates ends."""
    try:
        ends = [end_of(ssl.PEM_cert_to_DER_cert(each)) for each in PEM.findall(path.read_text())]
    except (OSError, ValueError, IndexError) as error:
        text = f"{setting}: {path}: {getattr(error, 'strerror', None) or 'is no certificate'}"
        return Finding("certificates", "wrong", text, "put a PEM file there")
    if not ends:
        text = f"{setting}: {path} has no certificate"
        return Finding("certificates", "wrong", text, "put a PEM file there")
    end = min(ends)
    left_s = end.timestamp() - now_s
    text = f"{setting}: {path} ends {end:%Y-%m-%d %H:%M} UTC"
    advice = "renew it, then send the gateway a SIGHUP"
    if left_s < 0:
        return Finding("certificates", "wrong", text.replace(" ends ", " ended "), advice)
    if left_s < NEAR_S:
        return Finding("certificates", "wrong" if left_s < NOW_S else "note", text, advice)
    return Finding("certificates", "ok", text)


def end_of(certificate: bytes) -> datetime:
    """Return when a certificate ends; `ValueError` or `IndexError` where it is none."""
    _, body, _ = element(certificate, 0)
    _, signed, _ = element(certificate, body)
    at = signed
    if certificate[at] == VERSION_TAG:
        at = element(certificate, at)[2]
    for _ in ("serial number", "signature algorithm", "issuer"):
        at = element(certificate, at)[2]
    _, validity, _ = element(certificate, at)
    not_after = element(certificate, validity)[2]
    tag, start, end = element(certificate, not_after)
    form = "%y%m%d%H%M%SZ" if tag == UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(certificate[start:end].decode("ascii"), form).replace(tzinfo=UTC)


def element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of an element, where its content begins, and where it ends (X.690, 8.1)."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & MULTI_BYTE:
        size = length & ~MULTI_BYTE
        length, start = int.from_bytes(der[start : start + size]), start + size
    return tag, start, start + length
