"""A real Prometheus scrapes a service of four workers, of which one is killed meanwhile."""

import itertools
import os
import signal
from contextlib import ExitStack

import httpx
import pytest

from frontdesk.gateway.metrics.gateway_metrics import LIVES
from gateway.command import CONFIG, frontdesk
from gateway.exposition import Scraped
from gateway.running import create
from gateway.worker_processes import workers
from ops.expressions import of_alerts, of_choices, of_dashboard
from ops.prometheus import prometheus, promtool
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MORE = """
[blueprints.careful]
kind = "python"
target = "gateway.agents:careful"
[blueprints.dying]
kind = "python"
target = "ops.agents:dying"
[blueprints.isolated]
kind = "python"
target = "gateway.agents:patient"
isolation = "process"
[limits]
requests_per_minute = 1_000_000
"""
PLANTED = "the-prompt-is-the-secret-4711"
WITHIN_S = 60


class Traffic:
    """Clients of four workers that keep all of it busy, and scrape what each of them says."""

    def __init__(self, clients, operator_key):
        self.clients, self._key = clients, {"X-API-Key": operator_key}
        self._numbers = itertools.count()
        self._last = {}

    def go_on(self):
        """Open sessions at each worker, use them through another one, scrape both."""
        for number, client in enumerate(self.clients):
            other = self.clients[(number + 1) % len(self.clients)]
            sid = f"{PLANTED}-{next(self._numbers)}"
            create(client, sid)
            self._turn(other, sid)
            if number % 2:
                other.post(f"/v1/sessions/{sid}/close")
            other.delete(f"/v1/sessions/{sid}")
            self._turn(client, create(client, f"{sid}-d", blueprint="dying")["sessionId"])
            self._approve(client, create(client, f"{sid}-c", blueprint="careful")["sessionId"])
            self.scrape(client)

    def _turn(self, client, session_id):
        body = {"text": PLANTED, "wait": 20}
        client.post(f"/v1/sessions/{session_id}/prompt", json=body)

    def resume(self, client, session_id):
        """Give a session that is dormant an agent."""
        path, body = f"/v1/sessions/{session_id}/prompt", {"text": PLANTED}
        eventually(lambda: client.post(path, json=body).status_code == 202, within_s=WITHIN_S)

    def _approve(self, client, session_id):
        path = f"/v1/sessions/{session_id}"
        client.post(f"{path}/prompt", json={"text": PLANTED})
        asked = eventually(lambda: client.get(f"{path}/status").json()["pendingApprovals"])
        client.post(f"{path}/approve", json={"approvalId": asked[0]["approvalId"]})
        client.delete(path)

    def scrape(self, client):
        """Scrape a worker: no counter is below what any worker said before."""
        answer = client.get("/metrics", headers=self._key)
        assert answer.status_code == 200, answer.text
        scraped = Scraped(answer.text)
        counters = scraped.counters()
        fallen = {
            series: (value, counters.get(series))
            for series, value in self._last.items()
            if counters.get(series, -1) < value
        }
        assert fallen == {}
        self._last = counters
        return scraped


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    directory = tmp_path_factory.mktemp("service")
    made = frontdesk(directory, "keys", "create", "--operator", "--state-dir", "state").stdout
    key = next(line.split()[1] for line in made.splitlines() if line.startswith("secret"))
    with workers(directory, 4, config=CONFIG + MORE) as running:
        running.operator_key, running.directory = key, directory
        yield running


def balance(scraped):
    """Return by how much live sessions are not those that got an agent and still have it."""
    lives = sum(sign * scraped.sum(name) for name, sign in LIVES.items())
    return lives - scraped.sum("frontdesk_sessions")


def settled(scraped):
    """Return a scrape in which all has been looked at, and every worker is well; else None."""
    well = scraped.sum("frontdesk_nodes", state="alive") == 4
    return scraped if well and balance(scraped) == 0 else None


def check_samples(running, scraped):
    """Check what Prometheus has: no counter fell, no expression is empty, all rules are well."""
    names = {name for name, *_ in scraped.counters()}
    falls = {name: found for name in names if (found := running.query(f"resets({name}[1h]) > 0"))}
    assert falls == {}
    for each in (*of_alerts(), *of_dashboard()):
        # Not at once: a scrape that took too long leaves none until the next.
        eventually(lambda each=each: running.query(each), within_s=WITHIN_S)
    for name, label in of_choices():
        assert all(label in each["metric"] for each in running.query(name))
    loaded = running.ask("/rules")["groups"][0]["rules"]
    assert [each["health"] for each in loaded] == ["ok"] * len(loaded)


def test_no_counter_falls_when_a_worker_is_killed_and_every_expression_has_samples(service):
    target = service.server.url.removeprefix("http://")
    with ExitStack() as stack:
        clients = [stack.enter_context(service.client_of(each)) for each in (1, 3, 4)]
        second = stack.enter_context(service.client_of(2))
        running = stack.enter_context(
            prometheus(service.directory / "prometheus", target=target, key=service.operator_key)
        )
        traffic = Traffic([*clients, second], service.operator_key)
        for _ in range(2):
            traffic.go_on()
            running.await_scrapes(1)
        create(second, "lost-1", blueprint="patient")
        started = {"event": "session_started", "session_id": "lost-1"}
        (line,) = eventually(lambda: service.lines(**started))
        assert line["node"].endswith("/2")
        create(clients[0], "stays", blueprint="patient")
        eventually(lambda: balance(traffic.scrape(clients[0])) == 0, within_s=WITHIN_S)

        life = service.life(2)
        life.kill()
        life.await_end()
        scraped = traffic.scrape(clients[0])
        assert "2" not in scraped.series("process_open_fds", "worker")
        del traffic.clients[-1]
        traffic.go_on()
        service.await_another(2, life)
        traffic.clients.append(stack.enter_context(service.client_of(2)))
        traffic.resume(clients[0], "lost-1")
        traffic.go_on()
        running.await_scrapes(3)

        for client in traffic.clients:
            scraped = eventually(lambda client=client: settled(traffic.scrape(client)))
            # It is stored: without its worker it is dormant, and has not ended.
            assert scraped.sum("frontdesk_session_dormant_total", reason="lost") == 1
            assert scraped.sum("frontdesk_session_ends_total", reason="lost") == 0
            assert set(scraped.series("process_open_fds", "worker")) == set("1234")
        assert PLANTED not in scraped.text
        assert "k-" not in scraped.text
        promtool("check", "metrics", told=scraped.text)

        check_samples(running, scraped)
        for each in ("stays", "lost-1"):
            clients[0].delete(f"/v1/sessions/{each}")


def test_an_agents_process_that_is_killed_is_counted_with_how_long_its_clean_up_took(service):
    with service.client_of(1) as client:
        traffic = Traffic([client], service.operator_key)
        create(client, "isolated", blueprint="isolated")
        before = traffic.scrape(client)
        assert before.sum("frontdesk_agent_processes") == 1
        rows = client.get("/ops/sessions", headers={"X-API-Key": service.operator_key}).json()
        (pid,) = [each["pid"] for each in rows["sessions"] if each["sessionId"] == "isolated"]
        os.kill(pid, signal.SIGKILL)
        ended = {"reason": "signalled", "blueprint": "isolated"}

        def cleaned_up():
            scraped = traffic.scrape(client)
            return scraped if scraped.sum("frontdesk_session_ends_total", **ended) else None

        after = eventually(cleaned_up)
        name = "frontdesk_cleanup_seconds_count"
        assert after.sum(name) - before.sum(name) == 1
        assert after.sum("frontdesk_agent_processes") == 0


def test_whoever_has_no_operators_key_gets_no_metrics(service):
    for headers in ({}, {"X-API-Key": "wrong-key-0123456789"}):
        url = f"{service.server.url}/metrics"
        assert httpx.get(url, headers=headers, trust_env=False, timeout=30).status_code == 401
    with service.server.client() as tenant:
        assert tenant.get("/metrics").status_code == 401


def test_a_rolling_restart_takes_nothing_back(service):
    with service.server.client() as client:
        traffic = Traffic([client], service.operator_key)
        traffic.scrape(client)
    lives = [service.life(each) for each in (1, 2, 3, 4)]
    service.server.signal(signal.SIGUSR2)
    eventually(lambda: service.says("all workers are restarted"), within_s=4 * WITHIN_S)
    for number, life in enumerate(lives, start=1):
        assert service.pid(number) != life.pid
        with service.client_of(number) as client:
            scraped = traffic.scrape(client)
            eventually(lambda client=client: balance(traffic.scrape(client)) == 0)
    assert scraped.sum("frontdesk_session_dormant_total", reason="lost") <= 1
    assert scraped.sum("frontdesk_session_ends_total", reason="lost") == 0
