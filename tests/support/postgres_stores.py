"""Conversations in a PostgreSQL of the tests, each test in a schema of its own."""

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from support.persistence import SECRET

_NUMBERS = itertools.count(1)


@dataclass
class Stores:
    """Open stores on one server, as whichever node; all are closed at the end."""

    server: object
    keys: Path | None
    schema: str = field(default_factory=lambda: f"test_{next(_NUMBERS)}")
    stack: ExitStack = field(default_factory=ExitStack)

    def address(self, *, port=None):
        from frontdesk.persistence.postgres_connections import DatabaseAddress

        return DatabaseAddress.parse(self.server.url(port=port))

    def open(self, owner="n1", *, secret=SECRET, encrypt=False, port=None, **options):
        from frontdesk.persistence.postgres_conversations import PostgresConversations
        from frontdesk.persistence.sealing import Sealing

        def sealing(keys):
            return Sealing(secret, self.keys or keys, encrypt=encrypt)

        store = PostgresConversations(
            self.address(port=port), owner=owner, sealing=sealing, schema=self.schema, **options
        )
        self.stack.callback(store.close)
        return store

    def ask(self, statement, *values):
        """Carry out a statement as the administrator, in the schema."""
        with self.server.connect() as connection:
            connection.execute(f"SET search_path = {self.schema}")
            asked = connection.execute(statement, values)
            return asked.fetchall() if asked.description else []

    def sequence(self, node="n1"):
        """Return how many batches of a node are committed."""
        return self.ask("SELECT sequence FROM node WHERE incarnation = %s", node)[0][0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()
        if self.server.process is not None:
            self.server.ask(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
