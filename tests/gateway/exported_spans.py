"""Spans of real gateway processes: `opentelemetry-instrument` with an exporter into a file.

The exporter is a distribution of its own, made in the test's directory and found by its entry
point, as those that one installs are. Each span is a line, written at once, so that several
processes may write to one file.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from support.waiting import eventually

EXPORTER = """
import os
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

class FileExporter(SpanExporter):
    def __init__(self):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.file = os.open(os.environ["SPANS_FILE"], flags, 0o600)

    def export(self, spans):
        for span in spans:
            os.write(self.file, span.to_json(indent=None).encode() + b"\\n")
        return SpanExportResult.SUCCESS
"""

SAMPLED_AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRICS_EXPORTER": "none",
                   "OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "spans_file"}  # fmt: skip


class ExportedSpans:
    """What processes that are started by `command` export."""

    def __init__(self, directory):
        self.file, self._modules = directory / "spans.jsonl", directory / "exporter"
        found = self._modules / "spans_file-0.dist-info"
        found.mkdir(parents=True)
        (self._modules / "spans_file.py").write_text(EXPORTER)
        (found / "METADATA").write_text("Metadata-Version: 2.1\nName: spans-file\nVersion: 0\n")
        (found / "entry_points.txt").write_text(
            "[opentelemetry_traces_exporter]\nspans_file = spans_file:FileExporter\n"
        )

    @property
    def command(self):
        """What stands before the command of a gateway that is traced."""
        program = Path(sys.executable).with_name("opentelemetry-instrument")
        return (
            str(program) if program.exists() else shutil.which("opentelemetry-instrument"),
            "--",
        )

    def environment(self, python_path):
        return {
            **SAMPLED_AT_ONCE,
            "SPANS_FILE": str(self.file),
            "PYTHONPATH": os.pathsep.join((str(self._modules), str(python_path))),
        }

    @property
    def text(self):
        return self.file.read_text() if self.file.exists() else ""

    def named(self, name):
        lines = self.text.split("\n")[:-1]
        return [span for span in map(json.loads, lines) if span["name"] == name]

    def one(self, name, within_s=30):
        """Wait for the one span of this name."""
        (span,) = eventually(lambda: self.named(name), within_s=within_s)
        return span
