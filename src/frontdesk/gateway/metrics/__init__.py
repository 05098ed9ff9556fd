"""Metrics: what goes on here as numbers, for Prometheus and whatever reads its format.

    gateway_metrics     what the gateway has: all of it, and the answer to a scrape
    definitions     the one list of metrics; the documents' table is made of it
    session_metrics, request_metrics, cluster_metrics, process_metrics     who counts what
    instruments     counters, gauges and histograms over cells
    metric_cells     where the numbers are: in memory, or in a file that outlives its worker
    bounded_labels, route_patterns     what a label may be
    exposition     what several workers have counted, as one text

Counting is an addition to a cell of memory; nothing is locked, sent or written for it. With several
workers these cells are a file of each in the state directory, mapped into memory: a worker that is
killed loses nothing of what it had counted, its successor goes on from there, and whichever worker
is asked reads all of them.
"""

from __future__ import annotations

__all__: list[str] = []
