"""An HTTP client that connects only where the guard lets it, to the very address it judged.

Between the guard (`ssrf.py`) and whoever calls URLs that clients named: the callback tools,
and models at a client's own `baseUrl`. It follows no redirect, takes nothing from the environment,
and uses no connection twice: one that was opened for one name must not serve another that shares
its address.
"""

from __future__ import annotations

import ssl

import httpx2

from frontdesk.gateway.ssrf import AddressGuard


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Send each request to an address that the guard has just judged; `AddressRefused`.

    TLS is verified against the name, by `tls` or else by the usual authorities.
    """

    def __init__(self, guard: AddressGuard, *, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._inner = httpx2.AsyncHTTPTransport(
            verify=tls or True,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = await self._guard.target(str(request.url), field="the URL")
        # `Host` was set from the URL before; TLS is to be with the name as well.
        host = target.url.raw_host.decode()
        request.url = target.url.copy_with(host=target.address)
        request.extensions = {**request.extensions, "sni_hostname": host}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(guard: AddressGuard) -> httpx2.AsyncClient:
    """Return a client for URLs that come from outside."""
    return httpx2.AsyncClient(
        transport=GuardedTransport(guard), trust_env=False, follow_redirects=False
    )
