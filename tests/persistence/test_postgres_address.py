"""The address of a database: what is read of a URL, and that nobody is shown its password."""

import sys

import pytest

from frontdesk.errors import InvalidArgument, MissingExtra
from frontdesk.persistence.postgres_connections import DatabaseAddress


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://a:pass@db.example:5433/x", "postgresql://db.example:5433/x"),
        ("postgres://a@db.example/x?sslmode=verify-full", "postgresql://db.example/x"),
        ("postgresql://a:pass@one:1,two:2/x", "postgresql://one:1,two:2/x"),
        ("postgresql://a:pass@one,two/x", "postgresql://one,two/x"),
        ("postgresql://a:pass@[::1]:5432/x", "postgresql://::1:5432/x"),
        ("postgresql:///x?host=/run/postgresql&user=a", "postgresql:///run/postgresql/x"),
    ],
)
def test_an_address_has_no_secret_in_its_text(url, text):
    address = DatabaseAddress.parse(url)
    assert str(address) == text
    assert "pass" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a:secret@h/x",
        "postgresql://a:secret@h:secret/x",
        "postgresql://a:secret/more@h/x",
        "postgresql://a:12/secret@h/x",
        "postgresql://a:secret@h/x?secret=1",
        "postgresql://a:%zzsecret@h/x",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(InvalidArgument) as refused:
        DatabaseAddress.parse(url)
    assert "secret" not in str(refused.value)


def test_a_password_of_a_file_takes_the_place_of_the_urls():
    address = DatabaseAddress.parse("postgresql://a:old@h/x", password="new")
    assert address.parameters["password"] == "new"
    assert address.without_secrets("it is new, not old") == "it is …, not old"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://a@one,two/x", "read-write"),
        ("postgresql://a@one/x", "primary"),
        ("postgresql://a@one/x?target_session_attrs=any", "any"),
    ],
)
def test_of_several_hosts_the_one_that_takes_writes_is_meant_and_never_a_standby(url, wanted):
    assert DatabaseAddress.parse(url).parameters["target_session_attrs"] == wanted


def test_without_its_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [each for each in sys.modules if each.startswith("frontdesk.persistence.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "frontdesk.gateway.conversation_database", raising=False)
    with pytest.raises(MissingExtra, match=r"frontdesk\[postgresql\]"):
        import frontdesk.gateway.conversation_database
    with pytest.raises(MissingExtra, match=r"frontdesk\[postgresql\]"):
        import frontdesk.persistence.postgres_connections  # noqa: F401
