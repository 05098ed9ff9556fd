"""Keys: made once, kept as hashes, followed when others change the file."""

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import ConfigurationWrong, KeyNotFound, StateUnusable
from frontdesk.gateway.key_file import SCHEMA, KeyFile
from frontdesk.gateway.key_ring import KeyRing
from frontdesk.gateway.keys import keys_from_text, signing_secret_of
from frontdesk.gateway.scopes import ALL_SCOPES, KeyScope
from frontdesk.gateway.state_dir import StateDir, open_database
from gateway.requirements import covers
from gateway.running import RunningGateway, create, events, turn_of, until
from support.waiting import eventually


@pytest.fixture
def file(state, clock):
    with KeyFile(state, clock=clock) as file:
        yield file


@covers("keys.hashes-only")
def test_no_secret_is_in_any_file_or_repr(state, file):
    new = file.create(tenant_id="acme", name="ci")
    for path in state.path.iterdir():
        assert new.secret.encode() not in path.read_bytes()
    assert new.secret not in repr(new)
    assert new.key.digest.hex() not in repr(new.key)


def test_the_files_are_readable_by_this_account_only(state, file):
    file.create(tenant_id="acme", name="ci")
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.path.iterdir())
    assert state.path.stat().st_mode & 0o077 == 0


def test_a_secret_finds_its_key_and_a_wrong_one_finds_none(file, clock):
    new = file.create(tenant_id="acme", name="ci")
    ring = KeyRing(file=file)
    assert ring.find(new.secret, now_ms=clock.wall_ms()) == new.key
    assert ring.find(new.secret + "x", now_ms=clock.wall_ms()) is None
    assert ring.find("\ud800", now_ms=clock.wall_ms()) is None


@covers("keys.expiry")
def test_an_expired_key_opens_nothing(file, clock):
    new = file.create(tenant_id="acme", name="ci", expires_in_ms=1000)
    ring = KeyRing(file=file)
    assert ring.find(new.secret, now_ms=clock.wall_ms() + 999) is not None
    assert ring.find(new.secret, now_ms=clock.wall_ms() + 1000) is None
    assert ring.named(new.key.key_id).digests(clock.wall_ms() + 1000) == ()


def test_the_ring_follows_what_another_process_does_to_the_file(state, file, clock):
    ring = KeyRing(file=file)
    ring.refresh()
    assert not ring.refresh()
    with KeyFile(state, clock=clock) as other:
        new = other.create(tenant_id="acme", name="ci")
        assert ring.refresh()
        assert ring.named(new.key.key_id) == new.key
        other.revoke(new.key.key_id)
    assert ring.refresh()
    assert ring.named(new.key.key_id) is None


@covers("keys.scopes")
def test_a_key_has_the_scopes_that_it_was_made_with_and_all_by_default(file):
    some = frozenset({KeyScope.READ, KeyScope.APPROVE})
    made = [file.create(tenant_id="acme", name="a", scopes=some),
            file.create(tenant_id="acme", name="b")]  # fmt: skip
    assert [key.scopes for key in file.all()] == [some, ALL_SCOPES]
    assert file.all() == [each.key for each in made]


@covers("keys.rotation")
def test_two_secrets_of_a_key_open_until_the_overlap_is_over(file, clock):
    old = file.create(tenant_id="acme", name="ci")
    new = file.rotate(old.key.key_id, overlap_ms=1000)
    ring = KeyRing(file=file)

    def found(secret, after_ms):
        key = ring.find(secret, now_ms=clock.wall_ms() + after_ms)
        return key and key.key_id

    assert found(old.secret, 999) == found(new.secret, 999) == old.key.key_id
    assert found(old.secret, 1000) is None
    assert found(new.secret, 1000) == old.key.key_id
    assert new.signing_secret == old.signing_secret
    assert len(ring) == 1
    third = file.rotate(old.key.key_id, overlap_ms=1000)
    ring.reload()
    assert [found(each.secret, 0) for each in (old, new, third)] == [
        None, old.key.key_id, old.key.key_id,
    ]  # fmt: skip


def test_a_rotated_key_expires_with_both_its_secrets(file, clock):
    old = file.create(tenant_id="acme", name="ci", expires_in_ms=500)
    new = file.rotate(old.key.key_id, overlap_ms=1000)
    ring = KeyRing(file=file)
    for each in (old, new):
        assert ring.find(each.secret, now_ms=clock.wall_ms() + 499) is not None
        assert ring.find(each.secret, now_ms=clock.wall_ms() + 500) is None


@covers("keys.rotation")
def test_a_stream_goes_on_when_its_key_is_rotated_and_ends_with_the_overlap(tmp_path, clock):
    with KeyFile(StateDir.make(tmp_path), clock=clock) as file:
        old = file.create(tenant_id="acme", name="ci")
        with (
            RunningGateway(tmp_path, keys=(), clock=clock) as gateway,
            gateway.client(old.secret) as client,
        ):
            create(client, "s")
            with events(client, "s") as stream:
                new = file.rotate(old.key.key_id, overlap_ms=60_000)
                with gateway.client(new.secret) as renewed:
                    eventually(lambda: renewed.get("/v1/sessions").status_code == 200)
                    assert turn_of(renewed, "s", "still")[-1][1] == "agent_end"
                assert until(stream, "agent_end")[-1][1] == "agent_end"
                clock.advance(61)
                assert list(stream) == []
            assert client.get("/v1/sessions").status_code == 401


@covers("keys.last-use")
def test_the_last_use_of_a_key_is_written_once_a_minute_at_most(file, clock):
    new = file.create(tenant_id="acme", name="ci")
    ring = KeyRing(file=file, fixed=keys_from_text(f"acme:{SECRET}"))
    key_id, start = new.key.key_id, clock.wall_ms()
    assert file.last_uses() == {}
    seen = []
    for after_ms in (0, 1, 59_999, 60_000, 100_000, 119_999, 120_001):
        for each in (key_id, "env:default", "jwt:acme/nobody"):
            ring.on_used(each, now_ms=start + after_ms)
        ring.write_uses()
        seen.append({each: at - start for each, at in file.last_uses().items()})
    at = [0, 0, 0, 60_000, 60_000, 60_000, 120_001]
    assert seen == [{key_id: each} for each in at]
    file.revoke(key_id)
    assert file.last_uses() == {}


def test_a_last_use_is_written_later_where_the_file_is_locked(state, file, clock):
    new = file.create(tenant_id="acme", name="ci")
    with KeyFile(state, clock=clock, timeout_s=0) as ours:
        ring = KeyRing(file=ours)
        ring.on_used(new.key.key_id, now_ms=clock.wall_ms())
        other = sqlite3.connect(state.keys, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ring.write_uses()
        assert ours.last_uses() == {}
        other.execute("ROLLBACK")
        other.close()
        ring.write_uses()
        assert ours.last_uses() == {new.key.key_id: clock.wall_ms()}


def test_uses_that_another_gateway_writes_are_no_change_of_the_keys(state, file, clock):
    new = file.create(tenant_id="acme", name="ci")
    ring = KeyRing(file=file)
    with KeyFile(state, clock=clock) as other:
        other.write_last_uses({new.key.key_id: clock.wall_ms()})
    assert not ring.refresh()


def test_a_key_opens_as_soon_as_it_is_made_and_the_change_is_told_all_the_same(state, file, clock):
    ring = KeyRing(file=file)
    with KeyFile(state, clock=clock) as other:
        new = other.create(tenant_id="acme", name="ci")
    assert ring.find("fd_wrong", now_ms=clock.wall_ms()) is None
    assert ring.find(new.secret, now_ms=clock.wall_ms()) == new.key
    assert [ring.refresh(), ring.refresh()] == [True, False]


def test_a_file_from_before_scopes_has_keys_that_may_do_everything(tmp_path, clock):
    state = StateDir.make(tmp_path)
    open_database(state.keys, schema=SCHEMA[:1]).close()
    older = sqlite3.connect(state.keys, isolation_level=None)
    older.execute("INSERT INTO keys VALUES ('key_1', 'acme', 'ci', x'00', 1, NULL)")
    older.close()
    with KeyFile(state, clock=clock) as file:
        (key,) = file.all()
    assert (key.key_id, key.scopes, key.previous) == ("key_1", ALL_SCOPES, None)


def test_a_key_that_is_not_there_cannot_be_revoked(file):
    with pytest.raises(KeyNotFound):
        file.revoke("key_none")


@pytest.mark.parametrize("tenant", ["", "Acme", "a/b", "a" * 65, "ä", "a\n"])
def test_what_cannot_be_a_tenant_gets_no_key(file, tenant):
    with pytest.raises(InvalidArgument):
        file.create(tenant_id=tenant, name="ci")


def test_a_state_directory_that_cannot_be_used_is_one_clear_sentence(tmp_path, clock):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateUnusable, match="file"):
        StateDir.make(tmp_path / "file" / "state")
    state = StateDir.make(tmp_path / "state")
    state.keys.write_text("this is no database, and long enough to be taken for none at all")
    with pytest.raises(StateUnusable, match=r"keys\.sqlite3"):
        KeyFile(state, clock=clock)


@covers("callbacks.secret-derived")
def test_the_signing_secret_depends_on_the_master_secret_and_the_key_id_only(state, file):
    new = file.create(tenant_id="acme", name="ci")
    assert new.signing_secret == signing_secret_of(state.master_secret(), new.key.key_id)
    assert new.signing_secret != signing_secret_of(b"other", new.key.key_id)
    assert new.signing_secret != signing_secret_of(state.master_secret(), "key_other")


@covers("keys.environment")
def test_keys_come_from_the_environment():
    secret = "s" * 24
    first, second = keys_from_text(f"acme/ci:{secret}, umbrella:{secret}2")
    assert (first.key_id, first.tenant_id, first.name) == ("env:ci", "acme", "ci")
    assert (second.key_id, second.tenant_id, second.name) == ("env:default", "umbrella", "default")


@covers("keys.environment")
def test_every_mistake_in_the_environments_keys_is_listed():
    with pytest.raises(ConfigurationWrong) as caught:
        keys_from_text(f"acme:short,Bad:{'s' * 24},nothing,a:{'s' * 24},b:{'s' * 24}")
    assert len(caught.value.mistakes) == 4
    assert "s" * 24 not in str(caught.value)


SECRET = "s" * 24


@covers("keys.environment")
def test_keys_without_a_name_work_for_as_many_tenants_as_there_are():
    keys = keys_from_text(f"acme:{SECRET}1,globex:{SECRET}2,initech/ci:{SECRET}3")
    assert [(key.key_id, key.tenant_id, key.name) for key in keys] == [
        ("env:acme/default", "acme", "default"),
        ("env:globex/default", "globex", "default"),
        ("env:ci", "initech", "ci"),
    ]
    assert len(KeyRing(file=None, fixed=keys)) == 3


def test_a_name_that_two_tenants_use_tells_their_keys_apart_by_tenant():
    keys = keys_from_text(f"acme/ci:{SECRET}1,globex/ci:{SECRET}2,acme/cd:{SECRET}3")
    assert [key.key_id for key in keys] == ["env:acme/ci", "env:globex/ci", "env:cd"]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (f"acme/a:{SECRET},globex/b:{SECRET}", "same secret"),
        (f"acme:{SECRET},globex:{SECRET}", "same secret"),
        (f"acme/a:{SECRET},acme/b:{SECRET}", "same secret"),
        (f"acme/a:{SECRET}1,acme/a:{SECRET}2", "two keys have this id"),
        (f"acme:{SECRET}1,acme:{SECRET}2", "two keys have this id"),
        (f"acme:{SECRET},acme:{SECRET}", "two keys have this id"),
        (f"acme: {SECRET}", "blank"),
        (f"acme:{SECRET}\tx", "ASCII"),
        (f"acme:{SECRET}\nx", "ASCII"),
        (f"acme:{SECRET}\x7f", "ASCII"),
        (f"acme:{SECRET}ü", "ASCII"),
        (f"acme:{SECRET}\U0001f600", "ASCII"),
        (f"acme:{SECRET}\udcff", "ASCII"),
        (f"acme:{SECRET}\0", "ASCII"),
        ("acme:" + "s" * 23, "24 to 512"),
        ("acme:" + "s" * 513, "24 to 512"),
        ("acme:", "24 to 512"),
        (f":{SECRET}", "tenant"),
        (f"/ci:{SECRET}", "tenant"),
        (f"acme/:{SECRET}", "name"),
        (f"acme/a/b:{SECRET}", "name"),
        (f"acme:{SECRET},", "no colon"),
        (SECRET, "no colon"),
        (f"S3CR3T{SECRET}:acme", "tenant"),
        (f"acme/{SECRET}/S3CR3T:acme", "name"),
        (f"acme:{SECRET},S3CR3T{SECRET}", "no colon"),
    ],
)
def test_keys_that_cannot_work_are_refused_and_nothing_of_them_is_shown(text, mistake):
    with pytest.raises(ConfigurationWrong, match=mistake) as caught:
        keys_from_text(text)
    shown = str(caught.value)
    assert SECRET not in shown
    assert "S3CR3T" not in shown


@given(st.text(min_size=24, max_size=60))
def test_every_secret_that_is_taken_is_found_as_the_wire_carries_it(secret):
    try:
        (key,) = keys_from_text(f"acme:{secret}")
    except ConfigurationWrong:
        return
    # As every server gives a header to an application, and as we read it.
    carried = secret.encode("utf-8").strip(b" \t").decode("latin-1")
    assert KeyRing(file=None, fixed=[key]).find(carried, now_ms=0) == key


def test_a_secret_of_the_environment_that_is_one_of_the_files_stops_the_start(file, state, clock):
    new = file.create(tenant_id="acme", name="ci")
    same = keys_from_text(f"globex:{new.secret}")
    with pytest.raises(ConfigurationWrong, match=f"{new.key.key_id} .of acme. and env:default"):
        KeyRing(file=file, fixed=same)
    with pytest.raises(ConfigurationWrong, match="same secret"):
        KeyRing(file=file).check(same)
    with pytest.raises(ConfigurationWrong), RunningGateway(state.path, keys=same):
        pass


def test_a_reload_with_keys_that_cannot_work_leaves_the_old_ones(tmp_path):
    keys = keys_from_text(f"acme:{SECRET}1,globex:{SECRET}2")
    with RunningGateway(tmp_path, keys=keys) as gateway, gateway.client(f"{SECRET}1") as client:
        twice = (keys[0], replace(keys[0], key_id="env:other", tenant_id="globex"))
        with pytest.raises(ConfigurationWrong):
            gateway.call(lambda: gateway.gateway.reload(gateway.config, keys=twice))
        assert client.get("/v1/usage").json()["tenant"]["tenantId"] == "acme"
        gateway.call(lambda: gateway.gateway.reload(gateway.config, keys=keys[1:]))
        assert client.get("/v1/usage").status_code == 401


def test_two_tenants_with_keys_without_names_are_two_callers_in_all_that_counts(tmp_path):
    keys = keys_from_text(f"acme:{SECRET}1,globex:{SECRET}2")
    with RunningGateway(tmp_path, keys=keys) as gateway:
        for number, tenant in ((1, "acme"), (2, "globex")):
            with gateway.client(f"{SECRET}{number}") as client:
                again = {"Idempotency-Key": "the same"}
                body = {"model": "test", "blueprint": "parrot", "sessionId": f"of-{tenant}"}
                made = client.post("/v1/sessions", json=body, headers=again)
                assert (made.status_code, made.json()["tenantId"]) == (201, tenant)
                assert client.get("/v1/usage").json()["key"]["keyId"] == f"env:{tenant}/default"
        signing = {signing_secret_of(b"master", key.key_id) for key in keys}
        assert len(signing) == 2
