"""TLS between nodes, where each shows the other a certificate.

Beside `tls.py`, which is for clients. A node that is called has to have a certificate of the CA for
the host that it is called by, and one that calls has to have any of that CA: whoever has none is
hung up on in the handshake, before anything that it says is read.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from frontdesk.gateway.cluster_settings import ClusterSettings
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.tls import refuse_passphrase


@dataclass(frozen=True, slots=True)
class NodeTls:
    """What a node takes connections of others with, and what it makes its own with."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def node_tls(settings: ClusterSettings) -> NodeTls | None:
    """Return the contexts of the files as they are now, None where there are none.

    Raises `ConfigurationWrong` where they cannot be used.
    """
    if settings.tls_certificate is None:
        return None
    contexts = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(
                settings.tls_certificate,
                settings.tls_key,
                password=lambda: refuse_passphrase("cluster.tls_key"),
            )
            context.load_verify_locations(settings.tls_ca)
        except OSError as error:  # what is wrong with the content is one as well
            names = "cluster.tls_certificate, cluster.tls_key, cluster.tls_ca"
            mistake = f"{names}: cannot be used: {error.strerror}"
            raise ConfigurationWrong("the configuration", mistakes=(mistake,)) from None
        contexts.append(context)
    return NodeTls(*contexts)
