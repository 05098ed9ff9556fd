"""What an event crosses can be measured: the recorder is heard by the server and by its keeper."""

from pathlib import Path

import pytest
from bench.structure.paths import crossings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="this checkout has no .venv")
def test_what_events_cross_is_found_in_each_process():
    crossed = crossings(ROOT, times=1)
    assert len(crossed) == 4
    for event, by_role in crossed.items():
        assert by_role["gateway"].depth > 1, event
        assert any(file.startswith("sessions/") for file in by_role["gateway"].files), event
        # Only an agent that is a process concerns the keeper.
        assert bool(by_role["keeper"].files) == event.startswith("kill"), event
