"""Secrets that lie in files which a setting names: read where they are used, kept nowhere else.

At the bottom, below the state directory, which reads the secret of all nodes in place of its own.
"""

from __future__ import annotations

from pathlib import Path

from frontdesk.gateway.errors import ConfigurationWrong

MIN_SECRET_BYTES = 32
MAX_FILE_BYTES = 4096


def cluster_secret_in(path: Path) -> bytes:
    """Return the secret of all nodes; raises `ConfigurationWrong` where it cannot be used."""
    secret = content_of(path, "cluster.secret_file")
    if len(secret) < MIN_SECRET_BYTES:
        raise wrong("cluster.secret_file", f"has {len(secret)} bytes, and needs at least 32 bytes")
    return secret


def password_in(path: Path | None, setting: str) -> str | None:
    """Return the password that is in the file of a setting, None where there is no file."""
    if path is None:
        return None
    try:
        password = content_of(path, setting).decode().strip()
    except UnicodeDecodeError:
        raise wrong(setting, "is not UTF-8") from None
    if not password:
        raise wrong(setting, "is empty")
    return password


def content_of(path: Path, setting: str) -> bytes:
    """Return what is in the file of a setting; of a long one the beginning."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise wrong(setting, f"cannot be read: {error.strerror}") from None


def wrong(setting: str, problem: str) -> ConfigurationWrong:
    """Return what is raised where the file of a setting cannot be used."""
    return ConfigurationWrong("the configuration", mistakes=(f"{setting}: {problem}",))
