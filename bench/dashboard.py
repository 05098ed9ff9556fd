"""The dashboard's budgets: rows painted, input answered while rows change, what a page loads.

Beside `gateway`. The bounds are the contract's, for a quiet machine with two cores.
"""

from __future__ import annotations

import statistics

from bench import dashboard_page, servers
from bench.plan import Plan
from bench.table import Bound, Row, Section
from bench.wire import HOST
from frontdesk.gateway.dashboard_files import dashboard_files

MS = 1e6
TYPED = "s-12s-9"
TYPING_MS = 150
BLUEPRINTS = '[blueprints.demo]\nkind = "python"\ntarget = "frontdesk.agents.demo:demo"\n'
KIB = 1024


def measure(plan: Plan) -> Section:
    """Paint rows, type while they change, and weigh the files."""
    files = dashboard_files().values()
    sizes = (
        Row("files of the dashboard", sum(len(each.content) for each in files), None, "",
            Bound("within", 100 * KIB), "B"),
        Row("files, compressed", sum(len(each.compressed) for each in files), None, "",
            Bound("within", 35 * KIB), "B"),
    )  # fmt: skip
    few, many, keys = painted(plan) if dashboard_page.installed() else (None, None, [])
    times = (
        Row("1,000 rows painted", few, None, "", Bound("within", 1000 * MS)),
        Row("10,000 rows painted", many, None, "", Bound("within", 3000 * MS)),
        Row("a key pressed, until it is painted, while 1,000 rows a second change, median",
            statistics.median(keys) if keys else None),
        Row("the same, the slowest", max(keys, default=None), None, "", Bound("within", 100 * MS)),
    )  # fmt: skip
    notes = (
        f"Rows: the median of {plan.servers.rounds} paints. Input: {len(TYPED)} keys, "
        "as often, with 10,000 rows known. In headless Chromium, the stream made up.",
    )
    return Section("dashboard", (*sizes, *times), (), notes)


def painted(plan: Plan) -> tuple[float, float, list[float]]:
    """Return what 1,000 and 10,000 rows take, and every key, in nanoseconds."""
    rounds = plan.servers.rounds
    with (
        servers.gateway(BLUEPRINTS) as server,
        dashboard_page.opened(f"http://{HOST}:{server.port}/", servers.SECRET) as page,
    ):
        few, many = (
            statistics.median(page.evaluate(f"rowsPainted({size})") for _ in range(rounds))
            for size in (1_000, 10_000)
        )
        page.evaluate("changeRows(4, 250)")
        search = page.get_by_role("searchbox")
        for _ in range(rounds):
            search.fill("")
            search.focus()
            for letter in TYPED:
                page.keyboard.press(letter)
                page.wait_for_timeout(TYPING_MS)
        keys = [each * MS for each in page.evaluate("answered")]
    return few * MS, many * MS, keys
