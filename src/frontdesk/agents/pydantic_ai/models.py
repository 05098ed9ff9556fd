"""Which model answers: names and a client's provider options become Pydantic AI models.

It turns Pydantic AI's own complaints (unknown name, missing key, missing package) into sentences
for the client, and sees to it that an operator's key goes to no server of a client's choosing.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import msgspec
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.settings import ModelSettings

from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.records import SessionContext

HTTPClient = Any
"""An `httpx2.AsyncClient`, for servers that clients name."""

_COMPATIBLE = ("openai", "openai-chat")
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_ADDRESS = re.compile(r"(?P<scheme>[a-z*]+)://(?P<host>[^/@\\?#%\s]+)(?P<path>/[^@\\?#%\s]*)", re.I)
_SLASHES = 2
_NO_KEY = "none"
_SENT_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    }
)
"""What a request to a client's own server carries, beside the key that the client gave."""
_MAX_CACHED = 256


class ProviderOptions(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What a client may set in `providerOpts`."""

    base_url: str | None = None
    api_key: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    @classmethod
    def of(cls, context: SessionContext) -> ProviderOptions:
        """Read a session's options; `CreateFailed` names what is wrong with them."""
        try:
            return msgspec.convert(context.provider_opts, cls)
        except msgspec.ValidationError as error:
            raise CreateFailed(f"providerOpts: {error}") from None

    def settings(self, max_tokens: int | None) -> ModelSettings:
        """Return the settings of a model call."""
        wanted = {
            "max_tokens": max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return cast("ModelSettings", given)

    def __repr__(self) -> str:
        return "ProviderOptions(...)"


class Models:
    """Find models by name, from any thread. Those of the operator's providers are shared.

    `named` are models of the operator's own. `base_urls` are the patterns of the addresses that
    clients may name in `providerOpts.baseUrl` (`https://*.example.com/*`: no `*` reaches beyond
    the host, or the path); `http_client` makes the client that calls them for a tenant.
    """

    def __init__(
        self,
        *,
        named: Mapping[str, Model] | None = None,
        base_urls: tuple[str, ...] = (),
        http_client: Callable[[str], HTTPClient] | None = None,
    ) -> None:
        self._named = dict(named or {})
        self._base_urls = base_urls
        self._http_client = http_client
        self._cached: dict[str, Model] = {}
        self._lock = threading.Lock()

    def ready(self, name: str, options: ProviderOptions) -> bool:
        """Say whether finding this model is quick; a new provider is imported, for seconds."""
        if options.base_url is not None:
            return "pydantic_ai.models.openai" in sys.modules
        return name in self._named or name in self._cached

    def find(self, name: str, options: ProviderOptions, *, tenant_id: str = "") -> Model:
        """Return the model of a name; `ModelRefused` says why there is none."""
        if options.base_url is not None:
            return self._at(options.base_url, name, options, tenant_id=tenant_id)
        if options.api_key is not None:
            raise CreateFailed("providerOpts: apiKey goes with baseUrl")
        if name in self._named:
            return self._named[name]
        found = self._cached.get(name)
        if found is None:
            found = _inferred(name)
            with self._lock:
                if len(self._cached) >= _MAX_CACHED:
                    self._cached.pop(next(iter(self._cached)))
                self._cached[name] = found
        return found

    def _at(self, base_url: str, name: str, options: ProviderOptions, *, tenant_id: str) -> Model:
        """Return a model behind an OpenAI-compatible server of the client's own."""
        if not any(_matches(base_url, pattern) for pattern in self._base_urls):
            raise CreateFailed("providerOpts: this baseUrl is not allowed here")
        provider_name, colon, model_name = name.partition(":")
        if not colon or provider_name not in _COMPATIBLE:
            raise ModelRefused(name, problem="with baseUrl, models are named openai:<model>")
        try:
            from pydantic_ai.models.openai import OpenAIChatModel
            from pydantic_ai.providers.openai import OpenAIProvider
        except ImportError as error:
            raise ModelRefused(name, problem="this server has no OpenAI client") from error
        # A key must be given, or Pydantic AI would send the operator's own to this address.
        key = options.api_key or _NO_KEY
        client = private_client() if self._http_client is None else self._http_client(tenant_id)
        client.event_hooks["request"].append(partial(_send_only_the_clients, key))
        client.event_hooks["response"].append(_refuse_compressed)
        provider = OpenAIProvider(base_url=base_url, api_key=key, http_client=client)
        return OpenAIChatModel(model_name, provider=provider)


class SessionModels:
    """Find the models of one session; a client's own server keeps one client for all its turns."""

    __slots__ = ("_found", "_models", "_options", "_tenant_id")

    def __init__(self, models: Models, options: ProviderOptions, *, tenant_id: str) -> None:
        self._models, self._options, self._tenant_id = models, options, tenant_id
        self._found: dict[str, Model] = {}

    def find(self, name: str) -> Model:
        """Return the model to call; `ModelRefused`."""
        if self._options.base_url is None:
            return self._models.find(name, self._options)
        if name not in self._found:
            found = self._models.find(name, self._options, tenant_id=self._tenant_id)
            self._found = {name: found}
        return self._found[name]


def private_client() -> HTTPClient:
    """Return a client that takes nothing from its environment, and keeps no cookies."""
    import httpx2

    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx2.AsyncClient(trust_env=False, follow_redirects=False, cookies=no_cookies)


async def _send_only_the_clients(key: str, request: Any) -> None:
    """Keep what the environment says to OpenAI's library from a server that a client named."""
    for name in set(request.headers) - _SENT_HEADERS:
        del request.headers[name]
    request.headers["authorization"] = f"Bearer {key}"
    request.headers["accept-encoding"] = "identity"


async def _refuse_compressed(response: Any) -> None:
    """Refuse what a few bytes of it could unpack to, without an end: it was not asked for."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        import httpx2

        raise httpx2.DecodingError(f"a compressed answer ({encoding[:20]})")


def _matches(url: str, pattern: str) -> bool:
    """Say whether a pattern allows an address: scheme, host with port, and path, each by itself.

    No part can reach into the next, and what a URL may hide a host behind is no address.
    """
    # Brackets belong to IPv6 addresses here, not to a set of characters.
    pattern = "*://*/*" if pattern == "*" else pattern.replace("[", "[[]")
    wanted = _ADDRESS.fullmatch(pattern if pattern.count("/") > _SLASHES else f"{pattern}/")
    given = _ADDRESS.fullmatch(url if url.count("/") > _SLASHES else f"{url}/")
    if wanted is None or given is None or ".." in given["path"]:
        return False
    return (
        given["scheme"].lower() in ("http", "https")
        and all(
            fnmatchcase(given[part].lower(), wanted[part].lower()) for part in ("scheme", "host")
        )
        and fnmatchcase(given["path"], wanted["path"])
    )


def _inferred(name: str) -> Model:
    try:
        return infer_model(name)
    except ImportError as error:
        provider = name.partition(":")[0]
        problem = f"the package for provider {provider!r} is not installed on this server"
        raise ModelRefused(name, problem=problem) from error
    except (UserError, ValueError) as error:
        raise ModelRefused(name, problem=_problem(str(error))) from error
    except Exception as error:
        # A provider's own client complains in its own way about what it misses.
        raise ModelRefused(name, problem=_problem(str(error))) from error


def _problem(text: str) -> str:
    variables = list(dict.fromkeys(_VARIABLE.findall(text)))
    if variables:
        return f"the server needs the environment variable {' or '.join(variables[:3])}"
    suggestion = re.search(r"Did you mean '([^']+)'", text)
    meant = f"; did you mean {suggestion[1]!r}?" if suggestion else ""
    return f"no provider knows it{meant}"
