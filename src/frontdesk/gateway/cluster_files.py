"""The files that the cluster's settings name: that they can be used, and the engine's passwords.

Beside `surroundings.py`, which asks for all that is wrong before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable

from frontdesk.gateway.cluster_settings import ClusterSettings
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.node_tls import node_tls
from frontdesk.gateway.secret_file import cluster_secret_in, password_in


def password_of(settings: ClusterSettings) -> str | None:
    """Return the password of the engine's account, None where there is none."""
    return password_in(settings.password_file, "cluster.password_file")


def sentinel_password_of(settings: ClusterSettings) -> str | None:
    """Return the password of the sentinels' account, None where they ask for none."""
    return password_in(settings.sentinel_password_file, "cluster.sentinel_password_file")


def check_files(settings: ClusterSettings) -> None:
    """Raise `ConfigurationWrong` with all that is wrong with the files of a cluster."""
    checks: list[Callable[[], object]] = [
        lambda: password_of(settings),
        lambda: sentinel_password_of(settings),
        lambda: node_tls(settings),
    ]
    if (secret_file := settings.secret_file) is not None:
        checks.insert(0, lambda: cluster_secret_in(secret_file))
    mistakes: list[str] = []
    for check in checks:
        try:
            check()
        except ConfigurationWrong as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigurationWrong("the configuration", mistakes=tuple(mistakes))
