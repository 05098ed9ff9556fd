"""What a development run says when it has started: the first five minutes, on one screen.

All of it can be typed as it stands: it names the blueprints that are open here, and a model that
the first of them takes.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from frontdesk import __version__
from frontdesk.agents.blueprints import Blueprints
from frontdesk.cli.check import model_for, of_providers
from frontdesk.cli.dev import DEMO, DevKeys

WELCOME = """
Frontdesk {version} is at {url}. {opened}

1. Look. The dashboard, logged in:

  {dashboard}

2. Talk. For curl and the command line, in another terminal:

  export FRONTDESK_URL={url} FRONTDESK_KEY={secret}

Open a session, ask it something, read the answer. (hello stays: opened a second time, it is 409.)

  curl -sS {url}/v1/sessions {headers} -d '{create}'
  curl -sS {url}/v1/sessions/hello/prompt {headers} -d '{{"text":"Who is in the building?"}}'
  curl -sSN {url}/v1/sessions/hello/events -H "X-API-Key: $FRONTDESK_KEY"

or, with the command line, which asks at the terminal where the agent asks:

  {program} sessions prompt hello {words}

3. {third}

What next: every route is described at {url}/docs. {more}
An operator sees all sessions: {operators_dashboard}
or with the key {operator}
Both keys stay. For keys of your own: {program} keys create --tenant acme.
Ctrl-C ends it.
"""
HEADERS = '-H "X-API-Key: $FRONTDESK_KEY" -H "Content-Type: application/json"'
DEMONSTRATION = """It has an agent to try that needs no model
and no network. Three things, two minutes:"""
OWN = "Three things to try:"
DIRECTED = """Decide. Say to it in the dashboard: tour. It asks for an approval and asks a question.
Then end this gateway, by Ctrl-C or kill -9, and start it again: what was said is there, and the
session goes on. At last say: crash. Its session has left the list at once, and Ends says why."""
SEEN = """Decide. Prompt, abort and stop it in the dashboard: a session that has ended is gone from
the list at once, and Ends says why. Then end this gateway, by Ctrl-C or kill -9, and start it
again: what was said is there, and the others go on."""


def welcome(url: str, keys: DevKeys, blueprints: Blueprints) -> str:
    """Return what a development run says when it has started."""
    default = blueprints.get(blueprints.default or "")
    model = (default and model_for(default)) or "MODEL"
    of_tenant, of_operator = (f"{url}/#code={code}" for code in keys.codes)
    demonstrated = DEMO in blueprints and blueprints.default == DEMO
    return WELCOME.format(
        version=__version__,
        url=url,
        opened=DEMONSTRATION if demonstrated else OWN,
        third=DIRECTED if demonstrated else SEEN,
        dashboard=of_tenant,
        operators_dashboard=of_operator,
        secret=keys.tenant.secret,
        operator=keys.operator.secret,
        program=program_here(),
        words="tour" if demonstrated else '"Who is in the building?"',
        headers=HEADERS,
        create=msgspec.json.encode({"sessionId": "hello", "model": model}).decode(),
        more="\n".join(_advice(url, blueprints, model)),
    )


def program_here() -> str:
    """Return how the command is typed here: by its place, where it is on no path."""
    beside = Path(sys.executable).with_name("frontdesk")
    if shutil.which("frontdesk") is not None or not beside.exists():
        return "frontdesk"
    near = os.path.relpath(beside)
    return str(beside) if near.startswith(os.pardir) else near


def _advice(url: str, blueprints: Blueprints, model: str) -> Iterator[str]:
    names = ", ".join(f'"{name}"' for name in blueprints)
    yield f'Sessions have "blueprint":"{blueprints.default}" unless they name another of: {names}.'
    default = blueprints.get(blueprints.default or "")
    if model == "MODEL" and default is not None:
        yield f"For MODEL name one of: {', '.join(default.models)}."
    if real := next((each for each in blueprints.values() if of_providers(each)), None):
        yield (
            f'The model "test" of "{real.name}" needs no network; for a real one set its variable\n'
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
            f"GET {url}/v1/sessions/ID says its pid; kill -9 it, and see the session end."
        )
