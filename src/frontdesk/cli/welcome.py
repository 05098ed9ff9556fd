"""What a development run says when it has started: the first five minutes, on one screen.

All of it can be typed as it stands: it names the blueprints that are open here, and a model that
the first of them takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from frontdesk import __version__
from frontdesk.agents.blueprints import Blueprints
from frontdesk.cli.check import model_for, of_providers
from frontdesk.cli.dev import DevKeys

WELCOME = """
Frontdesk {version} is at {url}. The dashboard, logged in:

  {dashboard}

A key of tenant {tenant}, which stays:

  {secret}

Open a session, ask it something, read the answer:

  curl -sS {url}/v1/sessions {headers} -d '{create}'
  curl -sS {url}/v1/sessions/hello/prompt {headers} -d '{{"text":"Who is in the building?"}}'
  curl -sSN {url}/v1/sessions/hello/events -H 'X-API-Key: {secret}'

What next: every route is described at {url}/docs. {more}
An operator sees all sessions: curl -sS {url}/ops/sessions -H 'X-API-Key: {operator}'
An operator's dashboard: {operators_dashboard}
For keys that stay: frontdesk keys create --tenant acme.
Ctrl-C ends it.
"""


def welcome(url: str, keys: DevKeys, blueprints: Blueprints) -> str:
    """Return what a development run says when it has started."""
    new = keys.tenant
    default = blueprints.get(blueprints.default or "")
    model = (default and model_for(default)) or "MODEL"
    of_tenant, of_operator = (f"{url}/#code={code}" for code in keys.codes)
    return WELCOME.format(
        dashboard=of_tenant,
        operators_dashboard=of_operator,
        version=__version__,
        url=url,
        tenant=new.key.tenant_id,
        secret=new.secret,
        operator=keys.operator.secret,
        headers=f"-H 'X-API-Key: {new.secret}' -H 'Content-Type: application/json'",
        create=msgspec.json.encode({"sessionId": "hello", "model": model}).decode(),
        more="\n".join(_advice(url, blueprints, model)),
    )


def _advice(url: str, blueprints: Blueprints, model: str) -> Iterator[str]:
    names = ", ".join(f'"{name}"' for name in blueprints)
    yield f'Sessions have "blueprint":"{blueprints.default}" unless they name another of: {names}.'
    default = blueprints.get(blueprints.default or "")
    if model == "MODEL" and default is not None:
        yield f"For MODEL name one of: {', '.join(default.models)}."
    if default is not None and of_providers(default):
        yield (
            'The model "test" needs no network; for a real one set its provider\'s variable\n'
            "(ANTHROPIC_API_KEY, OPENAI_API_KEY, ...) and name it, as in "
            '"anthropic:claude-sonnet-4-5".'
        )
    for each in blueprints.values():
        if each.tools | each.plugins:
            fields = [
                f'"{field}":{msgspec.json.encode(sorted(names)).decode()}'
                for field, names in (("tools", each.tools), ("plugins", each.plugins))
                if names
            ]
            yield f'Sessions of "{each.name}" may choose: {", ".join(fields)}.'
    apart = [each.name for each in blueprints.values() if each.isolation == "process"]
    if apart:
        yield (
            f'With "blueprint":"{apart[0]}" a session is a process of its own:\n'
            f"GET {url}/v1/sessions/ID says its pid; kill -9 it, and see the session gone."
        )
