"""The machine under the figures, and the control measure that shows how steady it was.

Read by `scene` (a control before and after every scene) and by `report`. Imports nothing of ours.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns

SPARE_DESCRIPTORS = 200
"""Kept for everything that is not counted."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when the figures were taken."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    elixir: str
    date: str

    def lines(self) -> list[str]:
        """Return one line for each fact."""
        return [f"{name.replace('_', ' ')}: {fact}" for name, fact in asdict(self).items()]


def this_machine(*, elixir: str) -> Machine:
    """Look at the machine that this runs on."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        elixir=elixir,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def control_ns() -> float:
    """Measure a fixed piece of work: nanoseconds a step, the least of five passes.

    Whatever this varies by within a run is the noise of the machine.
    """
    known = {str(number): number for number in range(1_000)}
    names = list(known) * 20
    return min(_control_pass(known, names) for _ in range(5))


def _control_pass(known: dict[str, int], names: list[str]) -> float:
    total = 0
    start = perf_counter_ns()
    for name in names:
        total += known[name]
    return (perf_counter_ns() - start) / len(names)


def noise_line(controls: Sequence[float]) -> str:
    """Say what the control measure said over the run."""
    if not controls:
        return "control measure: not taken"
    least, most = min(controls), max(controls)
    return (
        f"control measure, taken {len(controls)} times: least {least:.1f}, median "
        f"{statistics.median(controls):.1f}, greatest {most:.1f} ns a step "
        f"(spread {100 * (most - least) / least:.0f} %)"
    )


def load_line() -> str:
    """Say how busy the machine is, ourselves included."""
    return "load average: " + ", ".join(f"{load:.2f}" for load in os.getloadavg())


def resident_bytes() -> int | None:
    """Return the resident set of this process, or None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def room_for_descriptors(wanted: int) -> int:
    """Raise the limit of open descriptors as far as it goes; return how many of these there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted + SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return min(wanted, max(soft, limit) - SPARE_DESCRIPTORS)
