"""What a development run has of its own: a state directory that stays, two keys from it, a demo.

The keys are derived from the directory's master secret, so that they are the same at the next start
(what was pasted into a client still works), and no secret more is kept for it.
"""

from __future__ import annotations

import hashlib
import hmac
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from frontdesk.cli.options import DEVELOPMENT_STATE
from frontdesk.clock import SystemClock
from frontdesk.gateway.blueprint_config import tables_of
from frontdesk.gateway.blueprint_settings import PythonSettings
from frontdesk.gateway.errors import StateUnusable
from frontdesk.gateway.keys import Key, NewKey, digest_of, signing_secret_of
from frontdesk.gateway.settings import Config
from frontdesk.gateway.state_dir import StateDir

TENANT = "dev"
DEMO = "demo"


@dataclass(frozen=True, slots=True)
class DevKeys:
    """The keys of a development run: its tenant's, and an operator's."""

    tenant: NewKey
    operator: NewKey
    codes: Mapping[str, Key] = field(repr=False)
    """What the links of a run have in place of a key, and the key that each opens for."""


def dev_keys(state: StateDir) -> DevKeys:
    """Return the keys of a state directory, the same ones each time."""
    tenant = _derived(state, key_id="dev", tenant_id=TENANT)
    operator = _derived(state, key_id="dev-operator", tenant_id=None)
    codes = {_login_code(state, each.key.key_id): each.key for each in (tenant, operator)}
    return DevKeys(tenant, operator, codes)


def with_demo(config: Config) -> Config:
    """Return a configuration with the demonstration open, first, where it opens nothing itself.

    What comes built in is beside it where its packages are there.
    """
    if config.blueprints:
        return config
    demo = PythonSettings(kind="python", target="frontdesk.agents.demo:demo")
    built_in = tables_of(config) if find_spec("pydantic_ai") is not None else {}
    return config.model_copy(update={"blueprints": {DEMO: demo, **built_in}})


def _derived(state: StateDir, *, key_id: str, tenant_id: str | None) -> NewKey:
    master = state.master_secret()
    mac = hmac.new(master, b"development-key:" + key_id.encode(), hashlib.sha256)
    secret = "fd_dev_" + urlsafe_b64encode(mac.digest()).decode().rstrip("=")
    key = Key(key_id, tenant_id, "dev", digest_of(secret), SystemClock().wall_ms())
    return NewKey(key, secret, signing_secret_of(master, key_id))


def _login_code(state: StateDir, key_id: str) -> str:
    """Return what opens the dashboard for a key of a development run, and nothing else."""
    mac = hmac.digest(state.master_secret(), b"login-code:" + key_id.encode(), hashlib.sha256)
    return urlsafe_b64encode(mac[:24]).decode()


@contextmanager
def dev_state() -> Iterator[Path]:
    """Yield the state directory of development runs here; one for this run where none can be."""
    try:
        StateDir.make(DEVELOPMENT_STATE)
        # It holds a secret, and lies where somebody may commit all that there is.
        (DEVELOPMENT_STATE / ".gitignore").write_text("*\n", encoding="utf-8")
    except (StateUnusable, OSError):
        with tempfile.TemporaryDirectory(prefix="frontdesk-") as directory:
            yield Path(directory) / "state"
    else:
        yield DEVELOPMENT_STATE
