"""`frontdesk serve --workers`: real processes, one address, one registry."""

import pytest

from gateway.command import serving
from gateway.running import create, events, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def nodes_of(server, count):
    """Return clients whose connections lie with different workers, by what each of them says."""


def test_a_session_of_one_worker_is_prompted_and_streamed_through_every_other(tmp_path):
    with serving(tmp_path, "--workers", "2") as server:
        with server.client() as client:
            create(client, "s")
        # Each client has a connection of its own: the kernel gives it to either worker.
        for number in range(12):
            with server.client() as client:
                prompt = client.post("/v1/sessions/s/prompt", json={"text": f"word {number}"})
                assert prompt.status_code == 202, prompt.text
            with server.client() as client, events(client, "s") as stream:
                seen = until(stream, "agent_end")
                assert f"word {number}" in str(seen)
        assert server.terminate() == 0
