"""The tables in the documents that are made from the code: errors, settings, metrics, the log.

`make format` runs this and writes them into the pages; a test holds the pages to it. Of an error
its name, further base classes and facts come from its class, everything else from
`gateway/error_table.py`. Settings are as `gateway/settings.py` defines them, and what the agents of
each framework can do, and each coding agent, is in the records of the suite that tries them.
"""

from __future__ import annotations

import ast
import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from adapters.frameworks import BEHAVIOURS, FRAMEWORKS
from cluster.checker import LAWS
from docs.pages import Page, page
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.auth_settings import JwtSettings
from frontdesk.gateway.error_answers import ANSWERS, INTERNAL
from frontdesk.gateway.error_table import ERRORS, Fault
from frontdesk.gateway.log_events import DESCRIPTIONS
from frontdesk.gateway.metrics.definitions import GROUPS
from frontdesk.gateway.setting_types import setting_of
from frontdesk.gateway.settings import Config
from support.coding_agents import CODING_AGENTS

ERRORS_PAGE = page("docs/reference/errors.md")
GATEWAY_PAGE = page("docs/reference/gateway.md")
AGENTS_PAGE = page("docs/reference/agents.md")
CODING_AGENTS_PAGE = page("docs/how-to/coding-agents.md")
CONFIGURATION_PAGE = page("docs/reference/configuration.md")
CLUSTER_PAGE = page("docs/explanation/cluster.md")
METRICS_PAGE = page("docs/reference/metrics.md")
LOG_EVENTS_PAGE = page("docs/reference/log-events.md")
STORE = "frontdesk.errors"


def facts_of(kind: type[FrontdeskError]) -> list[str]:
    """Return the attributes that an error of this kind sets, inherited ones first."""
    ours = [one for one in reversed(kind.__mro__) if one in ERRORS]
    nodes = [node for one in ours for node in ast.walk(ast.parse(inspect.getsource(one)))]
    return list(
        dict.fromkeys(
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        )
    )


def _row(*cells: str) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _errors(chosen: Callable[[type[FrontdeskError]], bool]) -> list[str]:
    rows = [_row("error", "also", "facts", "when, and what to do"), "|---|---|---|---|"]
    for kind, row in ERRORS.items():
        if chosen(kind):
            also = [base.__name__ for base in kind.__bases__]
            further = [name for name in also if name not in ("FrontdeskError", "Exception")]
            cells = (_code([kind.__name__]), _code(further), _code(facts_of(kind)), row.when)
            rows.append(_row(*cells))
    return rows


def _of(fault: Fault, *, store: bool | None = None) -> Callable[[type[FrontdeskError]], bool]:
    def chosen(kind: type[FrontdeskError]) -> bool:
        place = store is None or (kind.__module__ == STORE) is store
        return kind is not FrontdeskError and ERRORS[kind].fault is fault and place

    return chosen


def _answers() -> list[str]:
    rows = [_row("status", "error", "when", "from"), "|---|---|---|---|"]
    for answer in ANSWERS:
        raised = [kind.__name__ for kind, row in ERRORS.items() if row.answer is answer]
        raised = [] if answer is INTERNAL else raised  # every other one
        rows.append(_row(str(answer.status), _code([answer.code]), answer.when, _code(raised)))
    return rows


def _coding_agents() -> list[str]:
    heads = ("program", "version", "what to set", "models", "options", "tokens", "after a restart")
    rows = [_row(*heads), "|---" * len(heads) + "|"]
    for agent in CODING_AGENTS:
        models = "a choice" if agent.models else "`default` only"
        cells = (agent.shown, agent.version, agent.set, models, _code(list(agent.options)))
        rows.append(_row(*cells, agent.tokens, agent.restart))
    return rows


def default_of(default: Any) -> str:
    """Return a default as the page writes it."""
    if default in (None, ""):
        return "(none)"
    plain = json.dumps(list(default)) if isinstance(default, tuple) else str(default)
    return f"`{plain}`"


SETTINGS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
"""The tables of the configuration that are always there, by name."""


def _settings(table: type[BaseModel]) -> list[str]:
    rows = [_row("name", "default", "reload", "meaning"), "|---|---|---|---|"]
    for name, field in table.model_fields.items():
        setting = setting_of(field)
        assert setting is not None, f"{table.__name__}.{name} does not say what it means"
        reload = "yes" if setting.reload else ""
        default = "required" if field.is_required() else default_of(field.default)
        rows.append(_row(f"`{name}`", default, reload, setting.meaning))
    return rows


def _frameworks() -> list[str]:
    rows = [
        _row("", *(each.name for each in FRAMEWORKS)),
        _row("---", *("---" for _ in FRAMEWORKS)),
    ]
    for behaviour, words in BEHAVIOURS.items():
        cells = (each.cannot.get(behaviour) for each in FRAMEWORKS)
        rows.append(_row(words, *(less or "yes" for less in cells)))
    return [row.replace(" --- ", "---") for row in rows]


def _laws() -> list[str]:
    rows = [_row("finding", "law"), "|---|---|"]
    for name, law in LAWS.items():
        rows.append(_row(f"`{name}`", (law.__doc__ or "").splitlines()[0]))
    return rows


def _log_events() -> list[str]:
    rows = [_row("event", "level", "facts", "meaning"), "|---|---|---|---|"]
    for event, description in DESCRIPTIONS.items():
        level = logging.getLevelName(description.level).lower()
        facts = _code(list(description.fields))
        rows.append(_row(f"`{event.value}`", level, facts, description.meaning))
    return rows


def _metrics(group: str) -> list[str]:
    rows = [_row("metric", "kind", "labels", "meaning"), "|---|---|---|---|"]
    return rows + [
        _row(f"`{each.name}`", each.kind.value, _code(list(each.labels)), each.meaning)
        for each in GROUPS[group]
    ]


TABLES: list[tuple[Page, str, list[str]]] = [
    (ERRORS_PAGE, "The root", _errors(lambda kind: kind is FrontdeskError)),
    (ERRORS_PAGE, "The caller's: of the store", _errors(_of(Fault.CALLER, store=True))),
    (
        ERRORS_PAGE,
        "The caller's: of sessions and the gateway",
        _errors(_of(Fault.CALLER, store=False)),
    ),
    (ERRORS_PAGE, "The world's", _errors(_of(Fault.WORLD))),
    (GATEWAY_PAGE, "Errors", _answers()),
    (AGENTS_PAGE, "What each framework can do", _frameworks()),
    (CODING_AGENTS_PAGE, "Programs that were tried", _coding_agents()),
    (CLUSTER_PAGE, "What is promised", _laws()),
    *((CONFIGURATION_PAGE, name, _settings(table)) for name, table in SETTINGS.items()),
    (CONFIGURATION_PAGE, "auth.jwt", _settings(JwtSettings)),
    (LOG_EVENTS_PAGE, "Events", _log_events()),
    *((METRICS_PAGE, group, _metrics(group)) for group in GROUPS),
]
"""Page, heading, and the lines of the first table below the heading."""


def table_below(text: str, heading: str) -> tuple[int, int]:
    """Return where the lines of the first table below a heading begin and end."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip("# ") == heading)
    first = next(i for i in range(start, len(lines)) if lines[i].startswith("|"))
    last = next(i for i in range(first, len(lines) + 1) if not "".join(lines[i : i + 1]))
    return first, last


def main() -> None:
    """Write every table into its page."""
    for one, heading, rows in TABLES:
        text = one.path.read_text(encoding="utf-8")
        first, last = table_below(text, heading)
        lines = text.splitlines()
        lines[first:last] = rows
        one.path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
