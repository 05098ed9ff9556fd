"""Monitors of operating-system processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """Name a process of anyone's: its pid and its start time in clock ticks since the boot."""

    pid: int
    start_time: int
