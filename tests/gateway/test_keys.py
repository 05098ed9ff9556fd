"""Keys: made once, kept as hashes, followed when others change the file."""

import pytest

from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import ConfigurationWrong, KeyNotFound, StateUnusable
from frontdesk.gateway.keys import KeyFile, KeyRing, keys_from_text, signing_secret_of
from frontdesk.gateway.state_dir import StateDir
from gateway.requirements import covers


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
    assert not ring.holds(new.key, now_ms=clock.wall_ms() + 1000)


def test_the_ring_follows_what_another_process_does_to_the_file(state, file, clock):
    ring = KeyRing(file=file)
    ring.refresh()
    assert not ring.refresh()
    with KeyFile(state, clock=clock) as other:
        new = other.create(tenant_id="acme", name="ci")
        assert ring.refresh()
        assert ring.holds(new.key, now_ms=0)
        other.revoke(new.key.key_id)
    assert ring.refresh()
    assert not ring.holds(new.key, now_ms=0)


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
        keys_from_text(f"acme:short,Bad:{'s' * 24},nothing,a:{'s' * 24},b:{'t' * 24}")
    assert len(caught.value.mistakes) == 4
    assert "s" * 24 not in str(caught.value)
