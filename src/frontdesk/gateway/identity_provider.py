"""The operator's identity provider: which keys it signs with now, by a file or by a URL.

Above `signing_keys.py`, below `bearer_tokens.py`. Keys by a URL are fetched at the start and again
every while, beside the requests: no request of anybody waits for that. One that names a key that
is not known waits for one fetch, which all of them share; after it none is made for a while, so
that a flood of invented names is no flood of fetches. What was fetched last stays in force while
the URL does not answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from pathlib import Path

import httpx2

from frontdesk.clock import Clock
from frontdesk.gateway.auth_settings import JwtSettings, is_loopback
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.signing_keys import SigningKey, signing_keys_of

FETCH_S = 5.0
"""For one fetch, from its beginning to its end."""
PAUSE_S = 10.0
"""Between two fetches that requests ask for, and after one that failed."""
MAX_WAITING = 64
"""Requests that wait for a fetch; one more is answered by what is known."""
MAX_KEYS_BYTES = 256 * 1024

logger: logging.Logger = logging.getLogger("frontdesk.auth")


class IdentityProvider:
    """The provider's keys. An async context manager, for one event loop."""

    def __init__(self, settings: JwtSettings, *, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._keys: tuple[SigningKey, ...] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._fetched_at = -PAUSE_S
        self._failed = False
        self._waiting = 0

    async def __aenter__(self) -> IdentityProvider:
        self.reload()
        if self._settings.keys_url is not None:
            self._following = asyncio.create_task(self._follow(), name="frontdesk-signing-keys")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks = [each for each in (self._following, self._fetching) if each is not None]
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # -- what verifying asks ---------------------------------------------------------------------

    def keys_for(self, key_id: str | None, algorithm: str) -> list[SigningKey]:
        """Return the keys that a token with these words in its head may be signed by."""
        return [each for each in self._keys or () if each.fits(key_id, algorithm)]

    def knows(self, fingerprint: str) -> bool:
        """Say whether a key is one of the provider's now."""
        return any(each.fingerprint == fingerprint for each in self._keys or ())

    @property
    def unreachable(self) -> bool:
        """Say whether a key that is not known may be one that could not be fetched."""
        return self._keys is None or self._failed

    def fetch(self) -> Awaitable[object] | None:
        """Return what a request for an unknown key may wait for, None where that would not help."""
        if self._settings.keys_url is None or self._waiting >= MAX_WAITING:
            return None
        if self._fetching is None:
            if self._clock.monotonic() - self._fetched_at < PAUSE_S:
                return None
            self._begin(self._settings.keys_url)
        return self._wait_for_fetch()

    # -- where the keys come from ----------------------------------------------------------------

    def reload(self) -> None:
        """Read the file again, or begin to fetch; `ConfigurationWrong` leaves what there was."""
        if self._settings.keys_file is not None:
            self._keys = keys_of_file(self._settings.keys_file)
        if self._settings.keys_url is not None:
            self._begin(self._settings.keys_url)

    async def _follow(self) -> None:
        while True:
            self._begin(str(self._settings.keys_url))
            await self._wait_for_fetch()
            await asyncio.sleep(PAUSE_S if self._failed else self._settings.refresh_s)

    async def _wait_for_fetch(self) -> None:
        self._waiting += 1
        try:
            # Whoever leaves, or ends, does not take the fetch of the others along.
            if self._fetching is not None:
                await asyncio.wait([self._fetching])
        finally:
            self._waiting -= 1

    def _begin(self, url: str) -> None:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(url), name="frontdesk-keys-fetch")

    async def _fetch(self, url: str) -> None:
        try:
            async with asyncio.timeout(FETCH_S):
                self._keys = signing_keys_of(await _content_of(url))
            self._failed = False
        except (TimeoutError, ValueError, OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            self._failed = True
            problem = str(error) or type(error).__name__
            logger.warning("the keys of %s cannot be had: %s", url, problem)
        finally:
            self._fetched_at = self._clock.monotonic()
            self._fetching = None


def keys_of_file(path: Path) -> tuple[SigningKey, ...]:
    """Return the keys of a file; `ConfigurationWrong` where it has none that can be used."""
    try:
        if keys := signing_keys_of(path.read_bytes()):
            return keys
        problem = "it has no key that can verify a signature"
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
    mistake = f"auth.jwt.keys_file: {problem}"
    raise ConfigurationWrong("the configuration", mistakes=(mistake,))


async def _content_of(url: str) -> bytes:
    content = bytearray()
    client = httpx2.AsyncClient(
        follow_redirects=False, timeout=FETCH_S, trust_env=not is_loopback(url)
    )
    async with client, client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
        if answer.status_code != 200:
            raise ValueError(f"it answered with status {answer.status_code}")
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > MAX_KEYS_BYTES:
                raise ValueError(f"its answer is over {MAX_KEYS_BYTES} bytes")
    return bytes(content)
