"""The stores of conversations; one PostgreSQL for all tests, started when the first asks for it."""

from contextlib import closing

import pytest

from support import persistence
from support.postgres import PostgresServer
from support.postgres_stores import Stores


@pytest.fixture(scope="session")
def postgres_server():
    with PostgresServer() as server:
        yield server


@pytest.fixture
def stores(postgres_server, tmp_path):
    """Open stores in PostgreSQL, in a schema of this test's own; the test may kill the server."""
    if postgres_server.process is None:
        postgres_server.start()
    with Stores(postgres_server, tmp_path / "keys") as stores:
        yield stores


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store_in(request, tmp_path):
    """Open what keeps this test's conversations, again and again."""
    if request.param == "sqlite":
        return lambda **options: persistence.store_in(tmp_path, **options)
    stores = request.getfixturevalue("stores")
    return lambda **options: closing(stores.open(**options))


@pytest.fixture
def store(store_in):
    with store_in() as store:
        yield store
