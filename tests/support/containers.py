"""A container of this machine's own root, read only, run as `ops/Containerfile` says.

The image is not built: what it is made from lies in a registry. Its user, its directories, its
environment, its init, its command and its health check are those of the file.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from support.installed import missing

ROOT = Path(__file__).parents[2]
FILE = ROOT / "ops/Containerfile"
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
WITHIN_S = 120


def instructions():
    """Return the instructions of the last stage: (name, rest), lines that go on joined."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    last = max(at for at, (name, _) in enumerate(lines) if name == "FROM")
    return [(name, " ".join(rest.split())) for name, rest in lines[last:]]


def said(name):
    """Return what the last instruction of this name says."""
    return [rest for each, rest in instructions() if each == name][-1]


def command_of(name):
    """Return the words of an instruction that has them as JSON."""
    text = said(name)
    return json.loads(text[text.index("[") :])


class Container:
    """One that runs."""

    def __init__(self, name):
        self.name = name

    def podman(self, *words, check=True):
        return podman(*words, check=check)

    @property
    def log(self):
        ran = self.podman("logs", self.name)
        return ran.stdout + ran.stderr

    def run(self, *words):
        """Run something inside."""
        return self.podman("exec", self.name, *words, check=False)

    def healthy(self):
        return self.podman("healthcheck", "run", self.name, check=False).returncode == 0

    def stop(self):
        """End it as an operator does; return its exit code."""
        self.podman("stop", "--time", "60", self.name)
        return int(self.podman("wait", self.name).stdout)


def podman(*words, check=True):
    program = shutil.which("podman") or missing("podman")
    runtime = shutil.which("runc") or missing("runc")
    return subprocess.run(
        [program, "--runtime", runtime, *words],
        capture_output=True, text=True, timeout=WITHIN_S, check=check,
    )  # fmt: skip


@contextmanager
def container(directory, *, port, **environment):
    """Run it on a port of this machine, with a state directory that stays."""
    name = f"frontdesk-test-{secrets.token_hex(4)}"
    user = int(said("USER"))
    state = directory / "state"
    state.mkdir()
    os.chown(state, user, user)
    variables = dict(each.split("=", 1) for each in shlex.split(said("ENV")))
    variables |= {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **environment}
    serve = ["127.0.0.1" if word == "0.0.0.0" else word for word in command_of("CMD")]
    config = serve.index("--config") + 1
    serve[config] = "/state/frontdesk.toml"
    (state / "frontdesk.toml").write_text("")
    check = [word.replace(":4000", f":{port}") for word in command_of("HEALTHCHECK")]
    podman(
        *("run", "--detach", "--name", name, "--network", "host", *LIMITS),
        *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:notmpcopyup"),
        *("--cap-drop=all", "--security-opt", "no-new-privileges", "--user", str(user)),
        *("--workdir", said("WORKDIR"), "--volume", f"{state}:{said('VOLUME')}"),
        *readable(directory, sys.base_prefix, str(ROOT)),
        *(word for each in variables.items() for word in ("--env", "=".join(each))),
        *("--health-cmd", json.dumps(check), "--health-interval=disable"),
        *("--stop-signal", said("STOPSIGNAL"), "--rootfs", "/:O"),
        *command_of("ENTRYPOINT"), *serve, "--port", str(port),
    )  # fmt: skip
    try:
        yield Container(name)
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


def readable(directory, *places):
    """Give volumes by which the user gets to places that lie in a home of root's."""
    hidden = [place for place in places if place.startswith("/root/")]
    if not hidden:
        return
    cover = directory / "root"
    for place in hidden:
        (cover / Path(place).relative_to("/root")).mkdir(parents=True, exist_ok=True)
    yield from ("--volume", f"{cover}:/root:ro")
    for place in hidden:
        yield from ("--volume", f"{place}:{place}:ro")
