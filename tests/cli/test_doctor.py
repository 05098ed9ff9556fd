"""`frontdesk doctor`: each fault is planted, found, and comes with what to do about it."""

import asyncio
import json
import resource
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.commanding import run
from frontdesk import __version__
from frontdesk.cli import checks_here, checks_there
from frontdesk.cli.certificates import certificate_finding, certificate_findings
from frontdesk.cli.checks_here import (
    check_clock,
    check_configuration,
    check_descriptors,
    check_keeper,
    check_kernel,
    check_state,
)
from frontdesk.cli.checks_there import (
    check_engine,
    check_gateway,
    check_nodes,
    clock_against,
    findings_of_engine,
    findings_of_health,
    round_trip_finding,
)
from frontdesk.cli.findings import Examined, Finding, finding_out
from frontdesk.cli.options import loaded
from frontdesk.cli.storage_checks import storage_findings
from frontdesk.client import Health, ListedNode
from frontdesk.cluster.valkey.server_status import ServerStatus
from frontdesk.gateway.cluster_settings import ClusterSettings
from frontdesk.gateway.settings import Config
from frontdesk.gateway.state_dir import StateDir
from frontdesk.keeper import landlock, platform_needs
from frontdesk.persistence import sqlite_file
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from frontdesk.schemas.operator_schemas import (
    ActiveSessions,
    ClusterHealth,
    MeterState,
    NodesByState,
)
from gateway.cluster_running import cluster
from gateway.running import OPERATOR
from support.engines import VALKEY, EngineServer, free_port

NOW_S = 1_795_000_000.0


def the_only(findings):
    """Return the one finding that there is, which says what to do unless all is well."""
    (finding,) = list(findings)
    assert finding.advice or finding.result == "ok", finding
    return finding


def results(findings):
    return [each.result for each in findings]


# -- here ------------------------------------------------------------------------------------------


def test_each_mistake_of_the_configuration_is_a_line_with_its_place(tmp_path):
    file = tmp_path / "frontdesk.toml"
    file.write_text('[log]\nlevel = "loud"\n[server]\nport = -1\n')
    examined = Examined(config_file=file)
    found = list(check_configuration(examined, loaded))
    assert [each.result for each in found] == ["wrong", "wrong"]
    assert "line 2: log.level" in found[0].found
    assert str(file) in found[0].advice
    assert examined.config is None


def test_a_configuration_that_is_right_is_read_with_its_blueprints(tmp_path):
    file = tmp_path / "frontdesk.toml"
    file.write_text('[blueprints.mine]\nkind = "pydantic-ai"\nmodels = ["test"]\n')
    examined = Examined(config_file=file)
    assert "mine" in the_only(check_configuration(examined, loaded)).found
    assert examined.config is not None


def test_a_state_directory_that_is_well_is_found_to_be(tmp_path):
    state = StateDir.make(tmp_path / "state")
    state.master_secret()
    assert the_only(check_state(state.path)).result == "ok"
    assert "is not there yet" in the_only(check_state(tmp_path / "later")).found
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("name", ["", "master.secret"])
def test_a_state_that_is_open_to_other_accounts_is_wrong(tmp_path, name):
    state = StateDir.make(tmp_path / "state")
    state.master_secret()
    (state.path / name).chmod(0o755)
    found = the_only(check_state(state.path))
    assert found.result == "wrong"
    assert found.advice.startswith("chmod ")


def test_a_state_directory_of_another_account_is_wrong(tmp_path, monkeypatch):
    state = StateDir.make(tmp_path / "state")
    monkeypatch.setattr(checks_here.os, "geteuid", lambda: 4711)
    assert "another account's" in the_only(check_state(state.path)).found


def test_a_state_directory_that_cannot_be_made_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(checks_here.os, "access", lambda *_: False)
    assert the_only(check_state(tmp_path / "later")).result == "wrong"


def test_a_file_of_a_newer_version_and_one_that_is_broken_are_wrong(tmp_path):
    state = StateDir.make(tmp_path / "state")
    with closing(sqlite3.connect(state.keys)) as file, file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    assert "is of a newer Frontdesk" in the_only(check_state(state.path)).found
    state.keys.write_bytes(b"this is no database at all, whatever it is called" * 40)
    assert "not a database" in the_only(check_state(state.path)).found


def test_a_disk_without_room_is_wrong(tmp_path, monkeypatch):
    full = SimpleNamespace(free=10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert "room for 10 MiB" in the_only(check_state(StateDir.make(tmp_path / "s").path)).found


@pytest.mark.parametrize(
    ("limit", "result"),
    # None is a number too: which one depends on the version of Python.
    [(4096, "wrong"), (20_000, "note"), (1 << 20, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_descriptors_are_held_against_what_the_configuration_allows(limit, result):
    config = Config(limits={"sessions_total": 10_000})
    found = check_descriptors(config, limit)
    assert found.result == result
    assert (found.advice is None) is (result == "ok")


def test_sessions_without_a_limit_are_told_how_many_there_is_room_for():
    config = Config(limits={"sessions_total": None})
    assert check_descriptors(config, 4096).result == "ok"


def test_a_clock_that_was_never_set_is_wrong_and_one_that_nobody_keeps_is_a_note(monkeypatch):
    assert check_clock(0.0).result == "wrong"
    monkeypatch.setattr(checks_here, "is_synchronised", lambda: False)
    assert check_clock(NOW_S).result == "note"
    monkeypatch.setattr(checks_here, "is_synchronised", lambda: True)
    assert check_clock(NOW_S).result == "ok"


def test_the_kernel_is_asked_whether_the_clock_is_right():
    assert checks_here.is_synchronised() in (True, False, None)


def test_a_system_without_what_processes_need_is_wrong_where_blueprints_want_them(monkeypatch):
    monkeypatch.setattr(platform_needs, "lacking", lambda: "this system has no prctl")
    table = {"kind": "process", "models": ["test"]}
    assert the_only(check_kernel(Config(blueprints={"apart": table}))).result == "wrong"
    in_tasks = {"kind": "pydantic-ai", "models": ["test"]}
    assert the_only(check_kernel(Config(blueprints={"here": in_tasks}))).result == "note"
    assert asyncio.run(check_keeper()).result == "note"


@pytest.mark.parametrize(("abi", "result"), [(0, "note"), (4, "note"), (6, "ok")])
def test_what_a_kernel_cannot_keep_agents_from_is_a_note(monkeypatch, abi, result):
    monkeypatch.setattr(platform_needs, "lacking", lambda: None)
    monkeypatch.setattr(landlock, "abi", lambda: abi)
    assert the_only(check_kernel(Config())).result == result


@pytest.mark.slow
def test_a_keeper_that_starts_processes_is_well_and_one_that_cannot_is_wrong(monkeypatch):
    assert asyncio.run(check_keeper()).result == "ok"
    monkeypatch.setattr(checks_here, "sys", SimpleNamespace(executable="/bin/false"))
    assert "ended with 1" in asyncio.run(check_keeper()).found
    monkeypatch.setattr(checks_here, "sys", SimpleNamespace(executable="/no/such/program"))
    assert asyncio.run(check_keeper()).result == "wrong"


def test_a_check_that_fails_itself_is_a_finding_and_the_others_go_on():
    found = []
    with finding_out(found, "kernel"):
        raise OSError("it is\nbroken")
    assert found == [Finding("kernel", "wrong", "it is broken", "look at what it names")]


def test_a_check_whose_packages_are_not_installed_is_a_note_that_names_the_extra():
    found = []
    with finding_out(found, "configuration"):
        raise ModuleNotFoundError("no", name="pydantic_settings")
    assert (the_only(found).result, "frontdesk[gateway]" in found[0].advice) == ("note", True)


# -- certificates ----------------------------------------------------------------------------------


def certificate(path, *, until):
    """Write a certificate that ends then, and nothing else."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "desk")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(2**100)
        .not_valid_before(datetime(1999, 1, 1, tzinfo=UTC))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("left", "result"), [(-1, "wrong"), (3, "wrong"), (20, "note"), (90, "ok"), (365 * 60, "ok")]
)
def test_a_certificate_is_told_by_how_long_it_still_counts(tmp_path, left, result):
    until = datetime.fromtimestamp(NOW_S, UTC) + timedelta(days=left)
    path = certificate(tmp_path / "desk.pem", until=until)
    found = certificate_finding("server.tls_certificate", path, now_s=NOW_S)
    assert found.result == result
    assert f"{until:%Y-%m-%d %H:%M}" in found.found
    assert (found.advice is None) is (result == "ok")


def test_of_several_certificates_in_a_file_the_first_to_end_counts(tmp_path):
    soon, late = (datetime.fromtimestamp(NOW_S + days * 86_400, UTC) for days in (3, 300))
    texts = [certificate(tmp_path / "c.pem", until=each).read_text() for each in (late, soon)]
    (tmp_path / "all.pem").write_text("".join(texts))
    assert certificate_finding("x", tmp_path / "all.pem", now_s=NOW_S).result == "wrong"


@pytest.mark.parametrize(
    "content",
    [None, "", "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n",
     "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"],
    ids=["missing", "empty", "short", "no base64"],
)  # fmt: skip
def test_what_is_no_certificate_is_wrong(tmp_path, content):
    path = tmp_path / "desk.pem"
    if content is not None:
        path.write_text(content)
    found = certificate_finding("cluster.ca", path, now_s=NOW_S)
    assert (found.result, str(path) in found.found) == ("wrong", True)


def test_every_certificate_that_is_configured_is_looked_at(tmp_path):
    path = certificate(tmp_path / "c.pem", until=datetime.fromtimestamp(NOW_S + 1e8, UTC))
    config = Config(server={"tls_certificate": path, "tls_key": path})
    found = list(certificate_findings(config, now_s=NOW_S))
    assert [each.found.split(":")[0] for each in found] == ["server.tls_certificate"]
    assert list(certificate_findings(Config(), now_s=NOW_S)) == []


# -- the gateway -----------------------------------------------------------------------------------


def health(*, version=__version__, timestamp=None, **in_cluster):
    at = timestamp or datetime.fromtimestamp(NOW_S, UTC).isoformat()
    joined = None
    if in_cluster:
        states = NodesByState(alive=2, stalled=0, suspect=0, leaving=0)
        fields = {"node": "desk-1", "condition": "joined", "engine": "valkey", "nodes": states,
                  "config_differs": ()}  # fmt: skip
        joined = ClusterHealth(**fields | in_cluster)
    return Health(
        status="ok", version=version, sessions=ActiveSessions(active=1),
        meter=MeterState(tracked_keys=0), timestamp=at, cluster=joined, storage=None,
    )  # fmt: skip


def test_a_gateway_of_another_version_is_a_note():
    assert results(findings_of_health(health(), "url")) == ["ok"]
    assert the_only(findings_of_health(health(version="0.0.1"), "url")).result == "note"


def test_a_node_that_is_cut_off_and_configurations_that_differ_are_wrong():
    _, cut = findings_of_health(health(condition="cut_off"), "url")
    assert (cut.result, "cut off" in cut.found) == ("wrong", True)
    _, other = findings_of_health(health(config_differs=("desk-2",)), "url")
    assert (other.result, "desk-2" in other.found) == ("wrong", True)


@pytest.mark.parametrize(("apart_s", "result"), [(0, "ok"), (5, "note"), (-60, "wrong")])
def test_clocks_that_are_apart_are_found(apart_s, result):
    assert clock_against(health(), NOW_S + apart_s).result == result


def test_a_gateway_that_does_not_answer_is_wrong_where_it_was_named(monkeypatch):
    monkeypatch.delenv("FRONTDESK_URL", raising=False)
    url = f"http://127.0.0.1:{free_port()}"
    findings, nodes = check_gateway(Examined(url=url))
    assert (the_only(findings).result, nodes) == ("wrong", None)
    monkeypatch.setattr(checks_there, "check_port", lambda _: (_ for _ in ()).throw(OSError("no")))
    findings, _ = check_gateway(Examined())
    assert the_only(findings).result == "note"


def test_a_gateway_is_asked_where_the_configuration_has_it_listen(monkeypatch):
    monkeypatch.delenv("FRONTDESK_URL", raising=False)
    port = free_port()
    config = Config(server={"host": "0.0.0.0", "port": port})
    findings, _ = check_gateway(Examined(config=config))
    found = the_only(findings)
    assert (found.result, f"http://127.0.0.1:{port}" in found.found) == ("note", True)


# -- the engine ------------------------------------------------------------------------------------


def engine_status(**values):
    return ServerStatus(
        "run", {"valkey_version": "9.1.0", "maxmemory_policy": "noeviction", **values}
    )


def test_an_engine_is_told_with_version_eviction_and_replicas():
    settings = ClusterSettings(url=None)
    ok, alone = findings_of_engine(engine_status(), settings)
    assert "Valkey 9.1.0" in ok.found
    assert "noeviction" in ok.found
    assert (alone.result, bool(alone.advice)) == ("note", True)
    _, unsafe = findings_of_engine(engine_status(connected_slaves="2"), settings)
    assert (unsafe.result, unsafe.advice) == ("wrong", "set min-replicas-to-write 1 there")
    safe = engine_status(connected_slaves="2", min_slaves_good_slaves="2")
    assert results(findings_of_engine(safe, settings)) == ["ok", "ok"]


@pytest.mark.parametrize(("took_ms", "result"), [(0.3, "ok"), (50, "note"), (900, "wrong")])
def test_an_engine_that_is_far_away_is_found(took_ms, result):
    assert round_trip_finding(took_ms).result == result


def settings_of(url, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    return ClusterSettings(url=url, secret_file=secret)


@pytest.mark.slow
def test_a_real_engine_is_asked_and_one_that_forgets_keys_is_wrong(tmp_path):
    with EngineServer(VALKEY) as server:
        findings, nodes = asyncio.run(check_engine(settings_of(server.url, tmp_path)))
        assert results(findings) == ["ok", "note", "ok"]
        assert list(nodes) == []
    with EngineServer(VALKEY, maxmemory_policy="allkeys-lru") as server:
        findings, nodes = asyncio.run(check_engine(settings_of(server.url, tmp_path)))
        assert "maxmemory-policy allkeys-lru" in the_only(findings).found
        assert nodes is None


def test_an_engine_that_is_not_there_is_wrong(tmp_path):
    settings = settings_of(f"valkey://127.0.0.1:{free_port()}", tmp_path)
    findings, nodes = asyncio.run(check_engine(settings))
    assert (the_only(findings).result, nodes) == ("wrong", None)


# -- the nodes -------------------------------------------------------------------------------------


def node(name, **more):
    fields = {
        "incarnation": name * 8, "state": "alive", "lease_left_ms": 8000, "sessions": 1,
        "draining": False, "version": __version__, "config_digest": "d", "answering": False,
    }  # fmt: skip
    return ListedNode(name=name, **fields | more)


def test_nodes_that_are_alike_are_well():
    assert the_only(check_nodes([node("a"), node("b")])).result == "ok"


@pytest.mark.parametrize(
    ("more", "result"),
    [
        ({"state": "suspect", "lease_left_ms": -4000}, "wrong"),
        ({"state": "stalled"}, "wrong"),
        ({"config_digest": "other"}, "wrong"),
        ({"version": "0.0.1"}, "note"),
    ],
    ids=["lease", "stalled", "configuration", "version"],
)
def test_a_node_that_is_not_as_the_others_is_named(more, result):
    found = the_only(check_nodes([node("a"), node("b"), node("odd", **more)]))
    assert (found.result, "odd" in found.found) == (result, True)


# -- the whole of it -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_run_ends_with_0_where_all_is_well_and_with_1_where_something_is_not(tmp_path):
    with cluster("desk-1", "desk-2") as nodes:
        asked = {"url": nodes[0].url, "key": OPERATOR, "cwd": tmp_path}
        well = run("doctor", "--json", **asked)
        assert well.code == 0, well.out + well.err
        told = json.loads(well.out)
        assert told["ok"] is True
        checks = [each["check"] for each in told["findings"]]
        assert list(dict.fromkeys(checks)) == [
            "configuration", "state directory", "conversations", "descriptors", "clock", "kernel",
            "keeper", "gateway", "nodes",
        ]  # fmt: skip
        (tmp_path / "frontdesk.toml").write_text("[server]\nport = -1\n")
        sick = run("doctor", **asked)
        assert sick.code == 1
        first = sick.out.splitlines()[0].split("\t")
        assert first[:2] == ["configuration", "wrong"]
        assert len(first) == 4


# -- conversations ---------------------------------------------------------------------------------


def config_with(tmp_path, **conversations):
    return Config(server={"state_dir": tmp_path / "state"}, conversations=conversations)


def stored_file(tmp_path):
    state = StateDir.make(tmp_path / "state")
    sealing = Sealing(b"m" * 32, state.conversation_keys)
    SqliteConversations(state.conversations, owner="", sealing=sealing).close()
    return state


def test_conversations_that_are_stored_well_are_found_to_be(tmp_path):
    assert the_only(storage_findings(config_with(tmp_path))).result == "ok"
    state = stored_file(tmp_path)
    found = the_only(storage_findings(config_with(tmp_path)))
    assert (found.result, str(state.conversations) in found.found) == ("ok", True)
    assert "in memory" in the_only(storage_findings(config_with(tmp_path, store="memory"))).found


def test_conversations_of_a_newer_version_and_of_another_program_are_wrong(tmp_path):
    state = stored_file(tmp_path)
    with closing(sqlite3.connect(state.conversations)) as file, file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    assert "of a newer Frontdesk" in the_only(storage_findings(config_with(tmp_path))).found
    with closing(sqlite3.connect(state.conversations)) as file, file:
        file.execute("PRAGMA application_id = 1")
    file.close()
    assert "another program's" in the_only(storage_findings(config_with(tmp_path))).found


def test_conversations_that_are_damaged_are_wrong_and_the_doctor_says_how_to_look(tmp_path):
    state = stored_file(tmp_path)
    with closing(sqlite3.connect(state.conversations)) as file:
        (page,) = file.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'turn'").fetchone()
    whole = state.conversations.read_bytes()
    start = (page - 1) * 4096
    torn = whole[:start] + b"\xa5" * 4096 + whole[start + 4096 :]
    for content in (torn, b"not what it was" * 1000):
        state.conversations.write_bytes(content)
        found = the_only(storage_findings(config_with(tmp_path)))
        assert found.result == "wrong"
        assert "***" not in found.found
        assert "\n" not in found.found
        assert "conversations check" in found.advice
        assert "conversations recover" in found.advice


@pytest.mark.parametrize("left", [None, b""])
def test_conversations_whose_keys_are_there_and_whose_file_is_not_are_wrong(tmp_path, left):
    state = stored_file(tmp_path)
    (state.conversation_keys / "4711.key").write_bytes(b"k" * 32)
    state.conversations.unlink()
    if left is not None:
        state.conversations.write_bytes(left)
        state.conversations.chmod(0o600)
    found = the_only(storage_findings(config_with(tmp_path)))
    assert (found.result, "put it back" in found.advice) == ("wrong", True)
    assert "and the keys of its conversations are there" in found.found


def test_of_conversations_that_were_never_there_nothing_is_said_but_that(tmp_path):
    found = the_only(storage_findings(config_with(tmp_path)))
    assert (found.result, "nothing is stored there yet" in found.found) == ("ok", True)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["conversations.sqlite3", "conversations.sqlite3-wal"])
def test_conversations_that_are_open_to_other_accounts_are_wrong(tmp_path, name):
    state = stored_file(tmp_path)
    (state.path / name).touch()
    (state.path / name).chmod(0o644)
    found = the_only(storage_findings(config_with(tmp_path)))
    assert (found.result, found.advice) == ("wrong", f"chmod 600 {state.path / name}")


def test_a_state_directory_that_is_not_there_beside_one_of_development_runs_names_that(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (found,) = check_state(Path(".frontdesk"))
    assert found.advice is None
    Path(".frontdesk-dev").mkdir()
    (found,) = check_state(Path(".frontdesk"))
    assert "--state-dir .frontdesk-dev" in found.advice


def test_conversations_whose_tenants_key_is_lost_are_wrong(tmp_path):
    state = stored_file(tmp_path)
    with closing(sqlite3.connect(state.conversations)) as file, file:
        file.execute("INSERT INTO tenant_key VALUES ('acme', 'gone')")
    file.close()
    found = the_only(storage_findings(config_with(tmp_path)))
    assert (found.result, found.found[-5:]) == ("wrong", " acme")


def test_keys_of_conversations_that_are_open_to_other_accounts_are_wrong(tmp_path):
    stored_file(tmp_path).conversation_keys.chmod(0o755)
    found = the_only(storage_findings(config_with(tmp_path)))
    assert (found.result, found.advice[:9]) == ("wrong", "chmod 700")


def test_conversations_on_a_network_or_a_full_disk_are_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "_file_system", lambda _: "nfs4")
    assert "network file system" in the_only(storage_findings(config_with(tmp_path))).found
    monkeypatch.setattr(sqlite_file, "_file_system", lambda _: "ext4")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20 * 2**20))
    found = the_only(storage_findings(config_with(tmp_path, reserve_mb=16)))
    assert "room for 20 MiB, of which 16 MiB are a reserve" in found.found


def test_a_database_that_does_not_answer_is_wrong_and_its_password_is_not_said(tmp_path):
    password = tmp_path / "password"
    password.write_text("planted")
    store = f"postgresql://desk@127.0.0.1:{free_port()}/frontdesk"
    config = config_with(tmp_path, store=store, password_file=password)
    found = the_only(storage_findings(config))
    assert (found.result, "planted" in repr(found)) == ("wrong", False)
