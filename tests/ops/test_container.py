"""The container file: what it says, and a container that is run as it says."""

import os
import re

import httpx
import pytest
from typer.main import get_command

from frontdesk.cli.commands import app
from gateway.running import ACME, create
from support.containers import command_of, container, instructions, said
from support.engines import free_port
from support.waiting import eventually

WITHIN_S = 90


def test_the_container_has_an_init_a_user_without_rights_a_volume_and_a_health_check():
    assert command_of("ENTRYPOINT")[:2] == ["tini", "--"]
    assert "tini" in " ".join(rest for name, rest in instructions() if name == "RUN")
    assert int(said("USER")) > 0
    assert said("VOLUME") == "/state"
    assert "/readyz" in command_of("HEALTHCHECK")[-1]
    assert said("STOPSIGNAL") == "SIGTERM"


def test_nobody_writes_beside_the_state():
    assert said("WORKDIR") == "/tmp"
    assert "HOME=/tmp" in said("ENV")


def test_its_command_is_one_that_there_is():
    (program, *_), words = command_of("ENTRYPOINT")[2:], command_of("CMD")
    assert program == "frontdesk"
    serve = get_command(app).commands[words[0]]
    assert serve.make_context("serve", words[1:]).params["state_dir"].as_posix() == "/state"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_it_serves_with_a_read_only_root_and_no_rights_and_leaves_its_state(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root runs a container of this machine's own root")
    port = free_port()
    with container(tmp_path, port=port, FRONTDESK_KEYS=f"acme/ci:{ACME}") as running:
        eventually(running.healthy, within_s=WITHIN_S)
        assert running.run("sh", "-c", "id -u; cat /proc/1/comm").stdout.split() == [
            said("USER"), "tini",
        ]  # fmt: skip
        assert "Read-only" in running.run("touch", "/x").stderr
        status = running.run("cat", "/proc/self/status").stdout
        assert re.search(r"CapEff:\s+0+$", status, re.MULTILINE)
        assert "not kept apart" not in running.log, "agents cannot get at the state"

        headers = {"X-API-Key": ACME}
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
            pid = create(client, "apart", blueprint="process")["pid"]
            running.run("kill", "-KILL", str(pid))
            eventually(lambda: client.get("/v1/sessions/apart").status_code == 404)

            def reaped():
                return running.run("test", "-e", f"/proc/{pid}").returncode != 0

            eventually(reaped, within_s=WITHIN_S)
        assert running.stop() == 0
    left = {each.name for each in (tmp_path / "state").iterdir()}
    assert {"keys.sqlite3", "usage.sqlite3", "master.secret"} <= left
