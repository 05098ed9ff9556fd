"""What an index over several engines would be like: the plan past one engine, in numbers.

Ids are spread by their hash slot, as a cluster of Valkey does it, each range of slots is one real
index, and every node has a lease in each. `python -m cluster.simulation.partitions` (in `tests/`)
prints the table that the documents have.
"""

import binascii
import random
import sys
from dataclasses import dataclass

from frontdesk.cluster.index import ClusterIndex, Moment
from frontdesk.cluster.records import IndexLimits, NewEntry, NodeRecord, Selection
from frontdesk.cluster.terms import LeaseTerms

SLOTS = 16_384
NODES = 10
SESSIONS = 10_000
TENANTS = 20
PAGE = 100
PARTS = (1, 2, 4, 8, 16)
TERMS = LeaseTerms()
AT = Moment(1_750_000_000_000_000, "run")
NO_LIMITS = IndexLimits()


def slot_of(text):
    """Return the hash slot of a text, as a cluster of Valkey or Redis has it."""
    return binascii.crc_hqx(text.encode(), 0) % SLOTS


@dataclass(frozen=True)
class Figures:
    """What so many parts come to.

    `fullest` is the entries of the fullest part, of the mean one; `renewals_s` those of ten nodes
    in a second, all together; `page_calls` and `page_entries` what a page of a tenant's list asks
    for and is answered, for a hundred that are shown; `burial_calls` the calls that end a dead
    node's sessions one after the other, where the parts do it at the same time; `lost` the share of
    ids that are unknown for a while where one part has lost everything.
    """

    parts: int
    fullest: float
    renewals_s: float
    page_calls: int
    page_entries: int
    burial_calls: int
    lost: float


def figures_of(parts):
    """Fill so many indexes with the same sessions, and count."""
    draw = random.Random(1)
    indexes = [ClusterIndex(recovers=False) for _ in range(parts)]
    nodes = [f"{draw.getrandbits(128):032x}" for _ in range(NODES)]
    for index in indexes:
        for number, node in enumerate(nodes):
            record = NodeRecord(node, f"n{number}", "sim:", 1, "0", "")
            index.join(AT, record, terms=TERMS)
    for _ in range(SESSIONS):
        session_id = f"{draw.getrandbits(128):032x}"
        entry = _entry(session_id, draw.choice(nodes), f"t{draw.randrange(TENANTS)}")
        indexes[slot_of(session_id) * parts // SLOTS].create(AT, entry, limits=NO_LIMITS)
    counts = [index.count(AT, Selection()) for index in indexes]
    pages = [index.list(AT, Selection(tenant_id="t0"), limit=PAGE) for index in indexes]
    return Figures(
        parts,
        fullest=max(counts) * parts / SESSIONS,
        renewals_s=NODES * parts / TERMS.renew_s,
        page_calls=len(pages),
        page_entries=sum(len(page.entries) for page in pages),
        burial_calls=max(_burial_calls(index, nodes[0]) for index in indexes),
        lost=max(counts) / SESSIONS,
    )


def _burial_calls(index, node):
    calls = 1
    while not index.bury(AT, node, proven=True).done:
        calls += 1
    return calls


def _entry(session_id, node, tenant):
    token = f"{slot_of(session_id):016x}"
    return NewEntry(session_id, node, token, tenant, None, 0, None, None, 1, minted=True)


def rows():
    """Return the table's rows, as the documents have them."""
    return [
        f"| {one.parts} | {one.fullest:.2f} | {one.renewals_s:.0f} | {one.page_calls} | "
        f"{one.page_entries} | {one.burial_calls} | {one.lost:.0%} |"
        for one in map(figures_of, PARTS)
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows()) + "\n")
