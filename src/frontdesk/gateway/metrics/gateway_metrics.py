"""The metrics of one gateway: who counts what, and the answer to a scrape.

Above everything here; the gateway makes one when it opens. Once a second it is looked at what only
can be looked at. With several workers, whichever is asked reads what the others have in their
files; what they look at themselves is at most a second old there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from frontdesk.background import OwnThreads
from frontdesk.clock import Clock
from frontdesk.gateway.metrics.bounded_labels import OfferedNames, TenantNames
from frontdesk.gateway.metrics.cluster_metrics import ClusterMetrics
from frontdesk.gateway.metrics.definitions import METRICS
from frontdesk.gateway.metrics.exposition import exposed
from frontdesk.gateway.metrics.instruments import Tally
from frontdesk.gateway.metrics.metric_cells import CountedCells, MetricCells, read_cells
from frontdesk.gateway.metrics.process_metrics import ProcessMetrics
from frontdesk.gateway.metrics.request_metrics import RequestMetrics
from frontdesk.gateway.metrics.session_metrics import CountedMeter, SessionMetrics
from frontdesk.gateway.metrics.storage_metrics import StorageMetrics
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.state_dir import StateDir
from frontdesk.records import ExitKind
from frontdesk.sessions.hooks import Meter

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node

PERIOD_S = 1.0
STARTS, ENDS = "frontdesk_session_starts_total", "frontdesk_session_ends_total"
DORMANT, RESUMES = "frontdesk_session_dormant_total", "frontdesk_session_resumes_total"
DORMANT_ENDS = "frontdesk_session_dormant_ends_total"
LIVES = {STARTS: 1, RESUMES: 1, ENDS: -1, DORMANT: -1, DORMANT_ENDS: 1}
"""What makes one session more that lives, and one fewer."""
FORM = hashlib.sha256(repr(METRICS).encode()).hexdigest()[:8]
"""Tells files of these metrics from those of another version, which lie beside them."""


class GatewayMetrics:
    """Count what a gateway does. Belongs to one event loop.

    `stored` says whether sessions are, and so outlive a worker. Of a worker (`state.worker_path`)
    what it counts is in a file, and it answers for all workers.
    """

    def __init__(self, state: StateDir | None, *, clock: Clock, stored: bool = False) -> None:
        number, self._directory, self._file = 1, None, None
        if state is not None and state.worker_path is not None:
            number, self._directory = int(state.worker_path.name), state.metrics()
            self._file = self._directory / f"{number}-{FORM}.cells"
        cells = self._cells = MetricCells(self._file)
        tenants = TenantNames(self._directory and self._directory / "tenants")
        self.offered: OfferedNames = OfferedNames()
        _forget_gauges(cells)
        _end_lost_sessions(cells, name=DORMANT if stored else ENDS)
        self.sessions: SessionMetrics = SessionMetrics(
            cells, clock=clock, tenants=tenants, offered=self.offered
        )
        self._tenants = tenants
        self.requests: RequestMetrics = RequestMetrics(cells)
        self.cluster: ClusterMetrics = ClusterMetrics(cells)
        self.storage: StorageMetrics = StorageMetrics(cells)
        self.process: ProcessMetrics = ProcessMetrics(cells, worker=number)
        self._streams = Tally("frontdesk_streams", cells)
        self._stuck = Tally("frontdesk_agents_stuck", cells)
        self._poll: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None
        self._threads = OwnThreads(1, name="metrics")

    @contextmanager
    def polling(
        self,
        *,
        streams: Callable[[], Mapping[StreamKind, int]],
        stuck: Callable[[], int],
        dormant: Callable[[], int],
        node: Node | None,
    ) -> Iterator[None]:
        """Look at this once a second, for as long as the block lasts; the gauges count then."""
        self._poll = lambda: self._refresh(streams(), stuck(), dormant(), node)
        self._poll()
        self._cells.begin()
        self._tick_at(asyncio.get_running_loop().time() + PERIOD_S)
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._cells.close()

    def meter(self, meter: Meter) -> CountedMeter:
        """Return a meter that counts here too."""
        return CountedMeter(meter, self._cells, tenants=self._tenants, offered=self.offered)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the text of a scrape, of all workers, and its media type.

        Written in a thread: with many series it takes longer than a turn of the loop may.
        """
        self._poll()
        own = self._cells.counted()
        writing = self._threads.submit(lambda: exposed(self._processes(own), accept=accept))
        return await asyncio.wrap_future(writing)

    def _processes(self, own: CountedCells) -> Iterable[CountedCells]:
        yield own
        if self._directory is None:
            return
        for file in sorted(self._directory.glob("*.cells")):
            if file != self._file and (counted := read_cells(file)) is not None:
                yield counted

    # -- once a second ---------------------------------------------------------------------------

    def _tick_at(self, due_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(due_s, self._tick, due_s)

    def _tick(self, due_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self.process.on_tick(now_s - due_s)
        self._poll()
        # From now on: a loop that stood still is late once, not once for each second of it.
        self._tick_at(now_s + PERIOD_S)

    def _refresh(
        self, streams: Mapping[StreamKind, int], stuck: int, dormant: int, node: Node | None
    ) -> None:
        self.sessions.refresh()
        self.process.refresh()
        self.cluster.refresh(node)
        self.storage.refresh(dormant)
        for kind in StreamKind:
            self._streams.set(kind.value, value=streams.get(kind, 0))
        self._stuck.set(value=stuck)


def _forget_gauges(cells: MetricCells) -> None:
    """Begin with what there is: the gauges of a worker that died are not those of its successor."""
    for key in cells.counted().values:
        if METRICS[key[0]].is_gauge and (cell := cells.cells(key)) is not None:
            cells.values[cell] = 0.0


def _end_lost_sessions(cells: MetricCells, *, name: str) -> None:
    """Count the sessions of a worker that was killed as lost: those that it had not seen end.

    As ends, or where sessions are stored, as dormant from then on.
    """
    live: Counter[tuple[str, str]] = Counter()
    for (counted, _, *labels), value in cells.counted().values.items():
        if counted in LIVES:
            live[labels[0], labels[1]] += LIVES[counted] * round(value)
    ends = Tally(name, cells)
    for (tenant, blueprint), lost in live.items():
        if lost > 0:
            ends.add(tenant, blueprint, ExitKind.LOST.value, amount=lost)
