"""The files that the cluster's settings name: the secret of all nodes, the engine's password.

Below the gateway, beside `tls.py`. They are read where they are used and kept nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from frontdesk.gateway.cluster_settings import ClusterSettings
from frontdesk.gateway.errors import ConfigurationWrong

MIN_SECRET_BYTES = 32
MAX_FILE_BYTES = 4096


def secret_in(path: Path) -> bytes:
    """Return the secret of all nodes; raises `ConfigurationWrong` where it cannot be used."""
    secret = _content(path, "secret_file")
    if len(secret) < MIN_SECRET_BYTES:
        raise _wrong("secret_file", f"has {len(secret)} bytes, and needs at least 32 bytes")
    return secret


def password_of(settings: ClusterSettings) -> str | None:
    """Return the password of the engine's account, None where there is none."""
    if settings.password_file is None:
        return None
    try:
        password = _content(settings.password_file, "password_file").decode().strip()
    except UnicodeDecodeError:
        raise _wrong("password_file", "is not UTF-8") from None
    if not password:
        raise _wrong("password_file", "is empty")
    return password


def mistakes_in_files(settings: ClusterSettings) -> Iterator[str]:
    """Yield what is wrong with the files of a cluster that is used."""
    if settings.url is None:
        return
    if settings.secret_file is not None:
        try:
            secret_in(settings.secret_file)
        except ConfigurationWrong as error:
            yield error.mistakes[0]
    try:
        password_of(settings)
    except ConfigurationWrong as error:
        yield error.mistakes[0]


def _content(path: Path, setting: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise _wrong(setting, f"cannot be read: {error.strerror}") from None


def _wrong(setting: str, problem: str) -> ConfigurationWrong:
    return ConfigurationWrong("the configuration", mistakes=(f"cluster.{setting}: {problem}",))
