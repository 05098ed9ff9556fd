"""What a development run says when it has started: the first five minutes, on one screen."""

from __future__ import annotations

from frontdesk import __version__
from frontdesk.gateway.keys import NewKey

WELCOME = """
Frontdesk {version} is at {url}, with a key for this run only (tenant {tenant}):

  {secret}

Open a session, ask it something, read the answer:

  curl -sS {url}/v1/sessions {headers} -d '{{"sessionId":"hello","model":"test"}}'
  curl -sS {url}/v1/sessions/hello/prompt {headers} -d '{{"text":"Who is in the building?"}}'
  curl -sSN {url}/v1/sessions/hello/events -H 'X-API-Key: {secret}'

What next: every route is described at {url}/docs. The model "test" needs no network;
for a real one set its provider's variable (ANTHROPIC_API_KEY, OPENAI_API_KEY, ...) and name it,
as in "anthropic:claude-sonnet-4-5". With "blueprint":"process" a session is a process of its own:
GET {url}/v1/sessions/ID says its pid; kill -9 it, and see the session gone.
For keys that stay: frontdesk keys create --tenant acme.
Ctrl-C ends it.
"""


def welcome(url: str, new: NewKey) -> str:
    """Return what a development run says when it has started."""
    return WELCOME.format(
        version=__version__,
        url=url,
        tenant=new.key.tenant_id,
        secret=new.secret,
        headers=f"-H 'X-API-Key: {new.secret}' -H 'Content-Type: application/json'",
    )
