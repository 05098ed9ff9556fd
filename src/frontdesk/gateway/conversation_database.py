"""A database that several gateways store conversations in: as which of them, and who else lives.

Beside `conversation_storage.py`, which asks for it late: it comes with an extra.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from frontdesk.gateway.conversation_settings import ConversationSettings
from frontdesk.gateway.secret_file import password_in
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import STORAGE_PATIENCE_S
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable
from frontdesk.persistence.postgres_connections import DatabaseAddress, check_database
from frontdesk.persistence.postgres_conversations import PostgresConversations
from frontdesk.persistence.postgres_lock import DatabaseLock
from frontdesk.persistence.sealing import Sealing

if TYPE_CHECKING:
    from frontdesk.cluster.node import Node
    from frontdesk.persistence.postgres_claims import OwnerStanding


def database_conversations(
    settings: ConversationSettings, state: StateDir, *, owner: str, node: Node | None
) -> PostgresConversations:
    """Open the database that the settings name, as one of its nodes.

    `StorageUnavailable` where it cannot be reached, `StorageRefused` where it cannot be used.
    Whoever is alone takes everybody else for dead.
    """
    secret = state.master_secret()
    return PostgresConversations(
        database_address(settings),
        owner=owner,
        sealing=lambda keys: Sealing(secret, settings.keys or keys, encrypt=settings.encrypt),
        sync=settings.sync,
        standing_of=(lambda _: "dead") if node is None else standing_in(node),
        hold_s=0.0 if node is None else node.terms.hold_s,
    )


def database_lock(
    settings: ConversationSettings, *, on_lost: Callable[[StorageBroken], None]
) -> DatabaseLock:
    """Return what keeps other gateways without a cluster out of the database."""
    address = database_address(settings)
    return DatabaseLock(address, patience_s=STORAGE_PATIENCE_S, on_lost=on_lost)


def database_address(settings: ConversationSettings) -> DatabaseAddress:
    """Return where the database is; `ConfigurationWrong`, `InvalidArgument`."""
    password = password_in(settings.password_file, "conversations.password_file")
    return DatabaseAddress.parse(settings.store, password=password)


def database_problem(settings: ConversationSettings) -> tuple[DatabaseAddress, str | None]:
    """Return where the database is, and why it cannot be used; it is asked, and not changed.

    `ConfigurationWrong`, `InvalidArgument`.
    """
    address = database_address(settings)
    try:
        check_database(address)
    except (StorageUnavailable, StorageRefused) as error:
        return address, str(error)
    return address, None


def standing_in(node: Node) -> Callable[[str], OwnerStanding]:
    """Return what says how an owner of conversations stands in a node's cluster.

    An owner is a process by its node's name. Another process of this node's own name, if it is not
    in the cluster, is the one before this, which has its lock. While the engine may have lost some,
    whoever is not heard of is held to live.
    """

    def standing_of(owner: str) -> OwnerStanding:
        name, _, incarnation = owner.rpartition("/")
        here = (node.record.name, node.incarnation)
        others = [each.node for each in node.nodes() if each.node.incarnation != here[1]]
        if any(each.name == name for each in others):
            return "lives"
        if name == here[0]:
            return "dead"
        if node.is_dead(incarnation):
            return "buried"
        return "unknown" if node.knows_all_nodes else "lives"

    return standing_of
